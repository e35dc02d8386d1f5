"""Whatever stands in a data file, a recipe or a flag: it is read, or a UserError says in one line what is wrong."""

import json

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gru_unlearn.cli.unlearn import unlearn
from gru_unlearn.data import fingerprint, load_records
from gru_unlearn.errors import UserError
from gru_unlearn.runs.recipe import make_recipe, setting_names
from gru_unlearn.runs.recipe_file import read_recipe

bounded = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(call, argument):
    """What comes out, or the refusal, which must be one short line; any other error is passed on."""
    try:
        return call(argument)
    except UserError as error:
        refusal = error
    message = str(refusal).replace(str(argument), "")  # a name may itself have line breaks
    assert "\n" not in message
    assert len(message) < 1000
    return refusal


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Nothing in it, and the working folder, so that no name leads to a file by chance."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


FIELDS = ("question", "answer", "prompt", "completion", "messages", "text", "role", "content")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["user", "assistant"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner, max_size=3),
    max_leaves=5,
)
ROWS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), VALUES, max_size=4)


@given(st.lists(ROWS | VALUES, max_size=4), st.booleans(), st.sampled_from(["a.json", "a.jsonl", "a.csv"]))
@settings(bounded, max_examples=120)
def test_any_json_in_a_data_file(folder, rows, as_list, name):
    text = json.dumps(rows) if as_list else "\n".join(json.dumps(row) for row in rows)
    (folder / name).write_text(text)
    records = outcome(load_records, f"{folder}/{name}")
    if not isinstance(records, UserError):
        assert all(record.answer.strip() for record in records)
        assert len(fingerprint(records)) == 64


@given(st.binary(max_size=200), st.sampled_from(["a.json", "a.jsonl", "a.csv", "a.parquet"]))
@settings(bounded, max_examples=150)
def test_any_bytes_in_a_data_file(folder, content, name):
    (folder / name).write_bytes(content)
    assert outcome(load_records, f"{folder}/{name}")


@given(st.text(max_size=30).filter(lambda text: text.count("/") != 1))  # what looks like owner/name asks the hub
@settings(bounded, max_examples=150)
def test_any_text_as_the_name_of_data(folder, source):
    assert isinstance(outcome(load_records, source), UserError)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | VALUES.map(lambda v: yaml.dump(v).encode()))
@settings(bounded, max_examples=200)
def test_any_bytes_in_a_recipe(folder, content):
    (folder / "r.yaml").write_bytes(content)
    read = outcome(read_recipe, f"{folder}/r.yaml")
    assert isinstance(read, UserError | dict)


YAML_PIECES = st.lists(
    st.sampled_from(
        [
            *("model", "learning_rate", ": ", "\n", "- ", "&a ", "*a", "<<", "!!python/name:os.system ", "!!binary "),
            *("!!int ", "!!timestamp ", "!!bool ", "2024-99-01", "0x", "[", "]", "{", "}", "?", "|\n "),
            *("1e999", ".nan", "'", '"', "#", "%", "9" * 5000),
        ]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(YAML_PIECES)
@settings(bounded, max_examples=300)
def test_any_yaml_in_a_recipe(folder, text):
    (folder / "r.yaml").write_text(text)
    read = outcome(read_recipe, f"{folder}/r.yaml")
    assert isinstance(read, UserError | dict)


NAMES = [name for name in setting_names() if name not in ("output_dir", "logging_dir")]
WORDS = st.sampled_from(
    ["", "nan", "-1", "1e400", "true", "none", "auto", "steps", "{", '{"a": 1}', "null", "0", "x.json"]
)


@given(st.dictionaries(st.sampled_from(NAMES), WORDS | VALUES, max_size=2))
@settings(bounded, max_examples=400)
def test_any_value_of_any_setting(folder, changes):
    recipe = outcome(make_recipe, {"model": "m", "forget": "f", "use_cpu": True} | changes)
    if not isinstance(recipe, UserError):
        json.dumps(recipe.in_force, default=str)
    assert list(folder.iterdir()) == []


@given(
    st.lists(st.text(max_size=12) | st.sampled_from(["--", "--a", "--no-a", "a.yaml", "--a=b", "b.yml"]), max_size=6)
)
@settings(bounded, max_examples=200)
def test_any_words_on_the_command_line(words):
    parsed = outcome(lambda words: unlearn.make_context("unlearn", words).params["given"], words)
    if not isinstance(parsed, UserError):
        assert parsed.recipe is None or parsed.recipe in words
        assert all("-" not in name for name in parsed.flags)
