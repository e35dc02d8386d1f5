"""A score table is used again only if nothing changed that it depends on."""

from dataclasses import replace

import pytest

import tiny
from gru_unlearn.data import Encoder, TextFormat, to_record
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import RowSet, ScoreTable
from gru_unlearn.evaluation.cache import cache_key, cached
from gru_unlearn.evaluation.suites import own

ROWS = [row | {"paraphrased_answer": "p", "perturbed_answer": ["w"]} for row in tiny.rows(3)]


def suite(rows=ROWS):
    return own([to_record(row, "row") for row in rows])


@pytest.fixture
def folder(tmp_path):
    return tiny.save(tmp_path / "model")


def test_the_key_is_the_same_for_the_same(folder):
    assert cache_key(folder, suite(), Encoder(tiny.tokenizer())) == cache_key(
        folder, suite(), Encoder(tiny.tokenizer())
    )


def test_the_key_changes_with_everything_it_depends_on(folder, tmp_path):
    encoder = Encoder(tiny.tokenizer())
    spoken = tiny.tokenizer()
    spoken.chat_template += " "
    changed = [dict(ROWS[0], **{field: value}) for field, value in (
        ("answer", "x"), ("question", "x"), ("paraphrased_answer", "x"), ("perturbed_answer", ["x"])
    )]  # fmt: skip
    longer = replace(suite(), sets={"forget": RowSet(suite().sets["forget"].items, max_new_tokens=5)})
    keys = [
        cache_key(folder, suite(), encoder),
        cache_key(tiny.save(tmp_path / "other", seed=1), suite(), encoder),
        *(cache_key(folder, suite([row, *ROWS[1:]]), encoder) for row in changed),
        cache_key(folder, suite(ROWS[::-1]), encoder),
        cache_key(folder, longer, encoder),
        cache_key(folder, replace(suite(), metrics=suite().metrics[:1]), encoder),
        cache_key(folder, suite(), encoder, retain_model=True),
        cache_key(folder, suite(), encoder, settings={"dtype": "bfloat16"}),
        cache_key(folder, suite(), Encoder(tiny.tokenizer(chat=False))),
        cache_key(folder, suite(), Encoder(spoken)),
        cache_key(folder, suite(), Encoder(tiny.tokenizer(), max_length=64)),
        cache_key(folder, suite(), Encoder(tiny.tokenizer(), text_format=TextFormat(question_tag="Q: "))),
    ]
    assert len(set(keys)) == len(keys)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match="safetensors"):
        cache_key(tmp_path, suite(), Encoder(tiny.tokenizer()))


def test_a_table_is_made_once_and_again_if_its_file_is_not_its_own(tmp_path):
    made = []

    def make():
        made.append(1)
        return ScoreTable([])

    for _ in range(2):
        assert cached(tmp_path, "key", make).settings == {"cache_key": "key"}
    assert len(made) == 1
    (tmp_path / "other.parquet").write_bytes((tmp_path / "key.parquet").read_bytes())
    cached(tmp_path, "other", make)
    (tmp_path / "key.parquet").write_text("broken")
    cached(tmp_path, "key", make)
    assert len(made) == 3
