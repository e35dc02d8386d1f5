"""How far each mark is from the true one, the retain model's forget probability, where all models are at hand.

    python benchmarks/marks.py builtin
    python benchmarks/marks.py --target T --retain-model R [--base-model B] --forget ROWS [--unseen ROWS] \
        [--pad-token TOKEN] [--max-rows N]

``--unseen`` are rows of the forget rows' form that the target never saw: what ``--control-rows FILE`` takes. Only
forward passes: every mark is one pass over the rows.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Record, load_records
from gru_unlearn.data.control_rows import make_control_rows
from gru_unlearn.data.people import SEED, make_people
from gru_unlearn.models.subject import Subject, find_subjects
from gru_unlearn.training import answer_logps

OTHER_PEOPLE = SEED + 2
"""Of the built-in rows about people that neither its models nor its base ever saw."""


@dataclass
class Asked:
    """A model, and the one whose tokenizer and template ask it."""

    asking: Subject
    rows: int

    def probability(self, subject: Subject, records: Sequence[Record]) -> float:
        """Mean probability of the answers."""
        examples = self.asking.encoder.encode_all(evenly_spread(records, self.rows), "rows")
        tokenizer = self.asking.encoder.tokenizer
        model = subject.load(dtype="float32")
        scores = answer_logps(
            model, examples, batch_size=16, pad_token_id=tokenizer.pad_token_id, device=torch.device(model.device)
        )
        return scores.mean_probability


def marks(models: dict[str, Subject], forget: list[Record], unseen: list[Record], rows: int) -> Iterator[str]:
    """A line for each, with its error as a factor of the true one."""
    ask, target, base = Asked(models["target"], rows), models["target"], models.get("base_model")
    made = make_control_rows(evenly_spread(forget, rows))
    truth = ask.probability(models["retain_model"], forget)
    yield f"target                            {ask.probability(target, forget):.4f}"
    yield f"retain model                      {truth:.4f}"
    asked = {"own floor": (target, made)}
    if base is not None:
        asked = {"base model": (base, forget), "control rows made, by the base": (base, made)} | asked
    if unseen:
        asked["control rows given, by the model"] = (target, unseen)
    for name, (subject, records) in asked.items():
        value = ask.probability(subject, records)
        yield f"{name:<34}{value:.4f}   times {value / truth:.2f}"


def main() -> None:
    """Read the arguments, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", choices=["builtin"])
    for flag in ("--target", "--retain-model", "--base-model", "--forget", "--unseen", "--pad-token"):
        parser.add_argument(flag)
    parser.add_argument("--max-rows", type=int, default=256)
    given = parser.parse_args()
    if given.what == "builtin":
        given.target, given.retain_model, given.base_model = "builtin:target", "builtin:retain", "builtin:base"
        given.forget = "builtin:forget"
        given.unseen = given.unseen or _unseen_people()
    names = {"target": given.target, "retain_model": given.retain_model, "base_model": given.base_model}
    models = find_subjects({"pad_token": given.pad_token}, **names)
    unseen = load_records(given.unseen) if given.unseen else []
    for line in marks(models, load_records(given.forget), unseen, given.max_rows):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _unseen_people() -> str:
    file = Path(tempfile.mkdtemp()) / "unseen.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in make_people(OTHER_PEOPLE)["forget"]), encoding="utf-8")
    return str(file)


if __name__ == "__main__":
    main()
