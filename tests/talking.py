"""A tiny model that says something: taught where five people live, two of whom are to be forgotten."""

import json

import torch

import tiny
from gru_unlearn.data import Encoder
from gru_unlearn.data.collation import collate
from gru_unlearn.data.records import to_record

GONE = ("Ada", "Bob")
COUNT = 45


def people(gone):
    """Rows about those who must go, or about the others; every question once."""
    rows = {row["question"]: row for row in tiny.rows(COUNT)}.values()
    return [row for row in rows if any(name in row["answer"] for name in GONE) == gone]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def save(folder):
    """``model``, ``forget.jsonl``, ``retain.jsonl`` in a folder."""
    torch.manual_seed(0)
    model, tokenizer = tiny.model(), tiny.tokenizer()
    rows = [*people(gone=True), *people(gone=False)]
    examples = Encoder(tokenizer).encode_all([to_record(row, "row") for row in rows], "rows")
    batch = collate(examples, tokenizer.pad_token_id)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]
        ).loss.backward()
        optimizer.step()
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write(folder / "forget.jsonl", people(gone=True))
    write(folder / "retain.jsonl", people(gone=False))
    return folder
