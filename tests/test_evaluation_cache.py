"""A score table is used again only if nothing changed that it depends on."""

import os
from dataclasses import replace

import pytest

import tiny
from gru_unlearn.data import Encoder, TextFormat, to_record
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import Entry, RowSet, ScoreTable, cache
from gru_unlearn.evaluation.cache import find_scores, keep_scores
from gru_unlearn.evaluation.score_key import cache_key
from gru_unlearn.evaluation.suites import own
from gru_unlearn.models.weights import hash_weights

ROWS = [row | {"paraphrased_answer": "p", "perturbed_answer": ["w"]} for row in tiny.rows(3)]


def suite(rows=ROWS, retain=()):
    return own([to_record(row, "row") for row in rows], [to_record(row, "row") for row in retain])


@pytest.fixture
def weights(tmp_path):
    return hash_weights(tiny.save(tmp_path / "model"))


def test_the_key_is_the_same_for_the_same(weights):
    assert cache_key(weights, suite(), Encoder(tiny.tokenizer())) == cache_key(
        weights, suite(), Encoder(tiny.tokenizer())
    )


def test_the_key_changes_with_everything_it_depends_on(weights, tmp_path):
    encoder = Encoder(tiny.tokenizer())
    spoken = tiny.tokenizer()
    spoken.chat_template += " "
    changed = [dict(ROWS[0], **{field: value}) for field, value in (
        ("answer", "x"), ("question", "x"), ("paraphrased_answer", "x"), ("perturbed_answer", ["x"])
    )]  # fmt: skip
    longer = replace(suite(), sets={"forget": RowSet(suite().sets["forget"].items, max_new_tokens=5)})
    keys = [
        cache_key(weights, suite(), encoder),
        cache_key(hash_weights(tiny.save(tmp_path / "other", seed=1)), suite(), encoder),
        *(cache_key(weights, suite([row, *ROWS[1:]]), encoder) for row in changed),
        cache_key(weights, suite(ROWS[::-1]), encoder),
        cache_key(weights, suite(retain=ROWS), encoder),
        cache_key(weights, longer, encoder),
        cache_key(weights, replace(suite(), metrics=suite().metrics[:1]), encoder),
        cache_key(weights, suite(), encoder, retain_model=True),
        cache_key(weights, suite(), encoder, settings={"dtype": "bfloat16"}),
        cache_key(weights, suite(), Encoder(tiny.tokenizer(chat=False))),
        cache_key(weights, suite(), Encoder(spoken)),
        cache_key(weights, suite(), Encoder(tiny.tokenizer(), max_length=64)),
        cache_key(weights, suite(), Encoder(tiny.tokenizer(), text_format=TextFormat(question_tag="Q: "))),
    ]
    assert len(set(keys)) == len(keys)


def test_rows_that_are_not_scored_do_not_count(weights):
    """A retain model is asked about forget and holdout rows only: its scores outlive a change of the retain rows."""
    encoder = Encoder(tiny.tokenizer())
    keys = {cache_key(weights, suite(retain=rows), encoder, retain_model=True) for rows in (ROWS, ROWS[:1])}
    assert len(keys) == 1


def test_weights_configuration_and_code_make_the_hash(tmp_path):
    folder = tiny.save(tmp_path / "model")
    hashes = [hash_weights(folder)]
    for name in ("modeling_own.py", "config.json", "model.safetensors"):
        with (folder / name).open("ab") as file:
            file.write(b" ")
        hashes.append(hash_weights(folder))
    (folder / "README.md").write_text("not part of the model")
    assert hash_weights(folder) == hashes[-1]
    assert len(set(hashes)) == 4


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match="safetensors"):
        hash_weights(tmp_path)


def test_the_hash_is_still_found_where_it_was():
    with pytest.warns(FutureWarning, match=r"models\.weights"):
        assert cache.hash_weights is hash_weights
    with pytest.raises(AttributeError, match="anything"):
        _ = cache.anything


def table(text="a"):
    return ScoreTable([Entry("prompt", text, logps=[-0.5], hits=[True], mu=[-1.0], sigma=[0.5])])


def test_scores_are_found_under_their_own_key_only(tmp_path):
    assert find_scores(tmp_path / "none yet", "key") is None
    keep_scores(tmp_path, "key", table("x"))
    found = find_scores(tmp_path, "key")
    assert found.entries[0].answer == "x"
    assert found.settings == {"cache_key": "key"}
    (tmp_path / "other.parquet").write_bytes((tmp_path / "key.parquet").read_bytes())
    assert find_scores(tmp_path, "other") is None
    (tmp_path / "key.parquet").write_text("broken")
    assert find_scores(tmp_path, "key") is None
    assert not list(tmp_path.glob("*.part"))


def test_tables_unused_for_longest_go_when_there_are_too_many(tmp_path):
    for age, key in ((30, "oldest"), (20, "older"), (10, "old")):
        keep_scores(tmp_path, key, table())
        then = os.stat(tmp_path / f"{key}.parquet").st_mtime - age
        os.utime(tmp_path / f"{key}.parquet", (then, then))
    size = (tmp_path / "old.parquet").stat().st_size
    assert find_scores(tmp_path, "oldest") is not None  # now it is the one used last
    keep_scores(tmp_path, "new", table(), most_bytes=int(2.5 * size))
    assert {file.stem for file in tmp_path.glob("*.parquet")} == {"oldest", "new"}
    keep_scores(tmp_path, "huge", table(), most_bytes=1)
    assert {file.stem for file in tmp_path.glob("*.parquet")} == {"huge"}
