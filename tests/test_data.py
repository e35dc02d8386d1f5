"""Reading, encoding and pairing: every format people have, labels on answers only, one clear line for bad rows."""

import csv
import json
from collections import Counter

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from gru_unlearn.data import (
    Encoder,
    ForgetRetainDataset,
    PairSampler,
    Record,
    TextFormat,
    Turn,
    collate,
    collate_pairs,
    count_overlap,
    evenly_spread,
    fingerprint,
    load_records,
    to_record,
)
from gru_unlearn.errors import UserError

ROWS = tiny.rows(4)


def write_as(kind, folder, rows=ROWS):
    path = folder / f"people.{kind}"
    match kind:
        case "jsonl" | "json":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        case "parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_reads_each_file_format_by_path_folder_and_name(tmp_path, kind):
    path = write_as(kind, tmp_path)
    expected = [to_record(row, "") for row in ROWS]
    for source in (str(path), str(tmp_path), f"{tmp_path}:people", f"{tmp_path}:people.{kind}"):
        assert load_records(source) == expected
    assert load_records(f"{path}[1:3]") == expected[1:3]
    assert load_records(f"{tmp_path}:people[:2]") == expected[:2]


def test_reads_a_json_list_with_any_line_breaks_and_byte_order_mark(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS, indent=2), encoding="utf-8-sig")
    assert load_records(str(path)) == [to_record(row, "") for row in ROWS]


def test_reads_a_saved_dataset_and_its_splits(tmp_path):
    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "two")
    expected = [to_record(row, "") for row in ROWS]
    assert load_records(str(tmp_path / "one")) == expected
    assert load_records(str(tmp_path / "two" / "test")) == expected
    with pytest.raises(UserError, match="several splits"):
        load_records(str(tmp_path / "two"))


def test_the_four_row_formats_mean_the_same():
    turns = (Turn("user", "where ?"), Turn("assistant", "here ."))
    for row in (
        {"question": "where ?", "answer": "here ."},
        {"prompt": "where ?", "completion": "here ."},
        {
            "prompt": [{"role": "user", "content": "where ?"}],
            "completion": [{"role": "assistant", "content": "here ."}],
        },
        {"messages": [{"role": "user", "content": "where ?"}, {"role": "assistant", "content": "here ."}]},
    ):
        record = to_record(row, "")
        assert record.turns == turns
        assert (record.prompt, record.answer) == ("where ?", "here .")
    assert to_record({"text": "all of it"}, "") == Record(text="all of it")


def test_unknown_names_suggest_the_nearest(tmp_path):
    write_as("jsonl", tmp_path)
    with pytest.raises(UserError, match="did you mean 'people'"):
        load_records(f"{tmp_path}:poeple")
    (tmp_path / "other.jsonl").write_text("")
    with pytest.raises(UserError, match="found: other, people"):
        load_records(str(tmp_path))
    with pytest.raises(UserError, match="did you mean 'forget'"):
        load_records("builtin:forgt")


def decode_supervised(tokenizer, example):
    return tokenizer.decode([t for t in example["labels"] if t != -100])


@pytest.mark.parametrize("chat", [True, False])
def test_labels_cover_the_answer_and_the_end_only(chat):
    tokenizer = tiny.tokenizer(chat)
    encoder = Encoder(tokenizer)
    record = to_record({"question": "where is Ada ?", "answer": "Ada lives in the red one ."}, "")
    (example,) = encoder.encode_all([record], "set")
    prompt = encoder.prompt_ids(record)
    assert decode_supervised(tokenizer, example) == "Ada lives in the red one . <eos>"
    assert example["input_ids"][: len(prompt)] == prompt
    assert set(example["labels"][: len(prompt)]) == {-100}
    assert example["labels"][len(prompt) :] == example["input_ids"][len(prompt) :]


def test_every_assistant_turn_is_supervised():
    tokenizer = tiny.tokenizer()
    messages = [("user", "who ?"), ("assistant", "Ada ."), ("user", "where ?"), ("assistant", "the red one .")]
    record = to_record({"messages": [{"role": r, "content": c} for r, c in messages]}, "")
    (example,) = Encoder(tokenizer).encode_all([record], "set")
    assert decode_supervised(tokenizer, example) == "Ada . <eos> the red one . <eos>"


def test_tags_are_configurable():
    tokenizer = tiny.tokenizer(chat=False)
    record = to_record(ROWS[0], "")
    encoder = Encoder(tokenizer, text_format=TextFormat(question_tag="who ", answer_tag=" is "))
    assert tokenizer.decode(encoder.prompt_ids(record)) == f"who {ROWS[0]['question']} is"


def test_plain_text_is_supervised_throughout_and_cut_into_windows():
    tokenizer = tiny.tokenizer()
    record = to_record({"text": " ".join(tiny.WORDS[:20])}, "")
    examples = Encoder(tokenizer, max_length=8).encode_all([record], "set")
    assert [len(e["input_ids"]) for e in examples] == [8, 8, 5]
    assert all(e["labels"] == e["input_ids"] for e in examples)
    assert tokenizer.decode([t for e in examples for t in e["input_ids"]]) == " ".join(tiny.WORDS[:20]) + " <eos>"


def test_answers_cut_away_are_counted():
    records = [to_record(row, "") for row in (*ROWS, {"question": "who is " * 20, "answer": "Ada ."})]
    tokenizer = tiny.tokenizer()
    with pytest.raises(UserError, match="in 1 of 5 rows no answer token is left within max length 30"):
        Encoder(tokenizer, max_length=30).encode_all(records, "forget")
    with pytest.raises(UserError, match="in 4 of 4 rows the answer is cut by max length 12"):
        Encoder(tokenizer, max_length=12).encode_all(records[:4], "forget")
    examples = Encoder(tokenizer, max_length=12, allow_truncation=True).encode_all(records[:4], "forget")
    assert all(len(e["input_ids"]) <= 12 and any(t != -100 for t in e["labels"][1:]) for e in examples)


@pytest.mark.parametrize("token", ["eos_token", "pad_token"])
def test_a_tokenizer_without_eos_or_pad_is_named(token):
    tokenizer = tiny.tokenizer()
    setattr(tokenizer, token, None)
    with pytest.raises(UserError, match=f"no {token}: name one with --{token.replace('_', '-')}"):
        Encoder(tokenizer)


def test_collate_pads_on_the_right_to_the_longest():
    batch = collate(
        [
            {"input_ids": [2, 7, 1], "labels": [-100, 7, 1], "reference": -1.5},
            {"input_ids": [2, 1], "labels": [-100, 1], "reference": -2.5},
        ],
        pad_token_id=0,
    )
    assert batch["input_ids"].tolist() == [[2, 7, 1], [2, 1, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[-100, 7, 1], [-100, 1, -100]]
    assert batch["reference"].tolist() == [-1.5, -2.5]


def test_pairs_cover_the_forget_set_with_random_reproducible_partners():
    def epoch(number, seed=0):
        sampler = PairSampler(50, 7, seed=seed)
        sampler.set_epoch(number)
        return list(sampler)

    first = epoch(0)
    assert sorted(i for i, _ in first) == list(range(50))
    assert {j for _, (j,) in first} == set(range(7))
    assert first == epoch(0)
    assert first != epoch(1)
    assert first != epoch(0, seed=1)


@pytest.mark.parametrize(("retain", "retain_batch_size"), [(7, 3), (3, 8), (50, 4), (1, 2)])
def test_no_partner_comes_again_before_all_have_come(retain, retain_batch_size):
    """Over epochs too, whose ends fall anywhere in a pass over the retain set."""
    sampler, drawn = PairSampler(10, retain, 5, 4, retain_batch_size), []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        for _, partners in sampler:
            drawn += partners
    passes = [drawn[start : start + retain] for start in range(0, len(drawn), retain)]
    assert all(len(set(one)) == len(one) for one in passes)
    assert len(passes) == 1 or retain == 1 or passes[0] != passes[1], "each pass has an order of its own"


@given(forget=st.integers(1, 30), batch_size=st.integers(1, 9), retain_batch_size=st.integers(1, 20))
def test_a_batch_has_as_many_partners_as_asked_for(forget, batch_size, retain_batch_size):
    drawn = [partners for _, partners in PairSampler(forget, 7, 0, batch_size, retain_batch_size)]
    batches = [sum(map(len, drawn[i : i + batch_size])) for i in range(0, forget, batch_size)]
    assert all(count == retain_batch_size for count in batches[: forget // batch_size])
    assert 1 <= batches[-1] <= retain_batch_size


def test_paired_batches_have_both_sides():
    examples = [{"input_ids": [2, n, 1], "labels": [-100, n, 1]} for n in range(5, 9)]
    data = ForgetRetainDataset(examples[:2], examples[2:])
    pairs = [data[0, [1]], data[1, [0, 1]]]
    batches = collate_pairs(pairs, pad_token_id=0)
    assert [batch["input_ids"][:, 1].tolist() for batch in batches["forget"]] == [[5, 6]]
    assert [batch["input_ids"][:, 1].tolist() for batch in batches["retain"]] == [[8, 7, 8]]
    cut = collate_pairs(pairs, pad_token_id=0, at_once=2)
    assert [batch["input_ids"][:, 1].tolist() for batch in cut["retain"]] == [[8, 7], [8]]


def test_batches_of_a_side_are_of_similar_length_and_the_longest_come_first():
    examples = [{"input_ids": [2] * n, "labels": [2] * n} for n in (3, 9, 4, 8, 2)]
    (pair,) = [{"forget": examples[:1], "retain": examples}]
    cut = collate_pairs([pair], pad_token_id=0, at_once=2)
    assert [batch["input_ids"].shape for batch in cut["retain"]] == [(2, 9), (2, 4), (1, 2)]
    assert [len(batch["supervised"]["mask"]) for batch in cut["retain"]] == [2, 2, 1]


@given(count=st.integers(0, 50), limit=st.integers(1, 20))
def test_evenly_spread_items(count, limit):
    chosen = evenly_spread(range(count), limit)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, limit)
    for part, place in enumerate(chosen):  # one of each part
        assert part * count // len(chosen) <= place < (part + 1) * count // len(chosen)
    assert evenly_spread(range(count), None) == list(range(count))


@given(blocks=st.integers(20, 60), size=st.sampled_from([4, 5, 8, 10, 20]), share=st.sampled_from([2, 4, 5, 8, 10, 20]))
def test_of_rows_in_blocks_each_place_is_chosen_about_as_often(blocks, size, share):
    """Twenty questions on each author, in the same order: a tenth of the rows is not the first question throughout."""
    count = blocks * size
    counts = Counter(place % size for place in evenly_spread(range(count), count // share))
    assert max(counts.values()) <= 2 * (count // share) / size + 3


def test_overlap_and_fingerprint():
    records = [to_record(row, "") for row in tiny.rows(6)]
    assert count_overlap(records[:4], records[2:]) == 2
    assert fingerprint(records) == fingerprint([to_record(dict(row), "elsewhere") for row in tiny.rows(6)])
    assert fingerprint(records) != fingerprint(records[::-1])


def test_real_tofu_rows(shared):
    tofu = shared / "data" / "tofu"
    forget, retain = load_records(f"{tofu}:forget01"), load_records(f"{tofu}:retain99")
    assert (len(forget), len(retain)) == (40, 3960)
    assert count_overlap(forget, retain) == 0
    assert count_overlap(forget, load_records(f"{tofu}:full")) == 40
    with pytest.raises(UserError, match="did you mean 'forget10'"):
        load_records(f"{tofu}:forget1")
