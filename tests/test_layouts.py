"""Rows as data sets have them: each layout field by field, and nothing that would be lost is passed over in silence."""

import csv
import io
import json
import unicodedata
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import tiny
from gru_unlearn.data import Encoder, attach_alternatives, count_overlap, fingerprint, load_records, to_record
from gru_unlearn.data.csv_files import parse_csv
from gru_unlearn.data.json_files import parse_json
from gru_unlearn.data.layouts import CONTENT, LAYOUTS, OF_MESSAGES, holds_content, unread
from gru_unlearn.data.overlap import check_apart, count_repeated, describe_rows
from gru_unlearn.errors import UserError

bounded = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


def turns(row):
    return [(turn.role, turn.content) for turn in to_record(row, "a.jsonl, row 1").turns]


# --- each layout, with the fields that its data sets have -------------------------------------------------------------

ASKED = [("user", "where ?"), ("assistant", "here .")]
REAL_ROWS = {
    "TOFU": {"question": "where ?", "answer": "here .", "paraphrased_answer": "p", "perturbed_answer": ["w"],
             "paraphrased_question": "q", "original_answer": "o"},
    "TRL": {"prompt": "where ?", "completion": "here .", "label": True},
    "MUSE verbmem": {"prompt": "where ?", "gt": "here ."},
    "KnowUnDo": {"text": "where ?", "labels": "here ."},
    "RWKU probe": {"query": "where ?", "answer": "here .", "level": "1", "type": "cloze", "subject": "Ada"},
    "LUME": {"id": "7", "input": "where ?", "output": "here .", "task": "Task1", "split": "forget"},
    "Alpaca": {"instruction": "where ?", "input": "", "output": "here ."},
    "Alpaca with its rendering": {"instruction": "where ?", "input": "", "output": "here .",
                                  "text": "### Instruction:\nwhere ?\n\n### Response:\nhere ."},
    "Dolly": {"instruction": "where ?", "context": "", "response": "here .", "category": "open_qa"},
    "prompt and response": {"prompt": "where ?", "response": "here ."},
    "query and response": {"query": "where ?", "response": "here ."},
    "question and response": {"question": "where ?", "response": "here ."},
    "messages": {"messages": [{"role": "user", "content": "where ?"}, {"role": "assistant", "content": "here ."}]},
    "UltraChat": {"prompt": "where ?", "prompt_id": "x",
                  "messages": [{"role": "user", "content": "where ?"}, {"role": "assistant", "content": "here ."}]},
    "ShareGPT": {"id": "1",
                 "conversations": [{"from": "human", "value": "where ?"}, {"from": "gpt", "value": "here ."}]},
    "conversations with roles": {"conversations": [{"role": "user", "content": "where ?"},
                                                   {"role": "assistant", "content": "here ."}]},
    "merged, with empty fields of others": {"question": "where ?", "answer": "here .", "text": None, "output": ""},
}  # fmt: skip


@pytest.mark.parametrize("name", REAL_ROWS)
def test_a_question_and_its_answer_are_read_from_each_layout(name):
    assert turns(REAL_ROWS[name]) == ASKED


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"instruction": "translate", "input": "the word", "output": "here ."}, "translate\nthe word"),
        ({"instruction": "say", "context": "It is so.", "response": "here ."}, "say\nIt is so."),
        ({"prompt": "say", "query": "the word", "response": "here ."}, "say\nthe word"),
    ],
)
def test_details_go_below_the_question(row, question):
    assert turns(row) == [("user", question), ("assistant", "here .")]


@pytest.mark.parametrize("field", ["system", "system_prompt"])
def test_a_system_text_comes_first(field):
    row = {field: "Be brief.", "question": "where ?", "answer": "here ."}
    assert turns(row) == [("system", "Be brief."), *ASKED]
    messages = [{"role": "system", "content": "Be long."}, *REAL_ROWS["messages"]["messages"]]
    with pytest.raises(UserError, match="row 1 has two system texts"):
        turns({field: "Be brief.", "messages": messages})


def test_plain_texts_with_what_describes_them():
    for row in (
        {"text": "all of it"},
        {"text": "all of it", "title": "On it", "doi": "10/1"},
        {"text": "all of it", "id": 3, "subject": "Ada", "intro": "Ada is Ada."},
        {"text": "all of it", "label": 0},
        {"text": "all of it", "question": None, "answer": ""},
    ):
        record = to_record(row, "x")
        assert (record.text, record.turns, record.row, record.where) == ("all of it", (), row, "x")


# --- what would be lost is named --------------------------------------------------------------------------------------

LOST = {
    "labels, in other letters": ({"text": "where ?", "Labels ": "here ."}, "Labels"),
    "two answers": ({"question": "q", "answer": "a", "response": "b"}, "question, answer, and also response"),
    "an answer beside a text": ({"text": "t", "output": "o"}, "text, and also output"),
    "a question beside a text": ({"text": "t", "question": "q"}, "text, and also question"),
    "what a question is about": ({"question": "q", "answer": "a", "context": "c"}, "also context"),
    "choices": ({"question": "q", "choices": ["a", "b"], "answer": "a"}, "also choices"),
    "earlier turns": ({"instruction": "i", "output": "o", "history": [["q", "a"]]}, "conversation as messages"),
    "preference": ({"prompt": "p", "chosen": "c", "rejected": "r"}, "rename the answer that is meant to completion"),
    "preference without prompt": ({"chosen": "c", "rejected": "r"}, "the other one to alternate"),
    "preference beside an answer": ({"prompt": "p", "completion": "c", "rejected": "r"}, "rename the answer"),
    "tools": ({"messages": REAL_ROWS["messages"]["messages"], "tools": [{"name": "t"}]}, "without tools"),
    "another prompt": ({"prompt": "other", "messages": REAL_ROWS["messages"]["messages"]}, "also prompt"),
    "another text": ({"instruction": "where ?", "output": "here .", "text": "where ? here . And why ?"}, "also text"),
    "splits in one object": ({"train": [{"text": "t"}], "val": [{"text": "t"}]}, "rows in train, val: save the rows"),
    "unknown": ({"q": "q", "a": "a"}, "the fields q, a; it needs question and answer"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_content_left_over_is_refused(name):
    row, words = LOST[name]
    with pytest.raises(UserError) as error:
        to_record(row, "a.jsonl, row 1")
    assert words in str(error.value)
    assert str(error.value).startswith("a.jsonl, row 1")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "p", "response": ["chosen", "rejected"]}, "response is a list of 2 texts"),  # RWKU's pairs
        ({"question": ["q", "r"], "answer": ["a", "b"]}, "question is a list of 2 texts"),  # columns
        ({"text": "where ?", "labels": ""}, "labels must be text that is not empty"),
        ({"text": "where ?", "labels": [1, 2]}, "labels"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "tool", "value": "a"}]}, "needs a role"),
        ({"conversations": [{"from": "gpt", "value": "a", "content": "b"}]}, "holds content beside its value"),
    ],
)
def test_fields_that_hold_something_else_are_refused(row, words):
    with pytest.raises(UserError, match=words):
        to_record(row, "a.jsonl, row 1")


@pytest.mark.parametrize("name", sorted(OF_MESSAGES))
def test_what_a_message_holds_beside_its_content_is_refused(name):
    message = {"role": "assistant", "content": "here .", name: ["x"]}
    with pytest.raises(UserError, match=f"holds {name} beside its content"):
        to_record({"messages": [{"role": "user", "content": "where ?"}, message]}, "row 1")


# Rows of any fields, of layouts and others; each value is unlike all others, so that it can be found again.
NAMES = st.sampled_from(sorted(CONTENT)) | st.sampled_from(["id", "author", "title", "paraphrased_answer", "Label"])
FIELD_SETS = st.sampled_from([layout.required for layout in LAYOUTS]).flatmap(
    lambda required: st.sets(NAMES, max_size=3).map(lambda more: sorted({*required, *more}))
)


@st.composite
def any_row(draw):
    row = {}
    for number, name in enumerate(draw(FIELD_SETS)):
        said = draw(st.sampled_from([f"text {number}", f"text {number}", "", None, 7]))
        if name in ("messages", "conversations"):
            said = [{"role": "user", "content": f"asked {number}"}, {"role": "assistant", "content": f"said {number}"}]
        row[name] = said
    return row


@given(any_row())
@settings(bounded, max_examples=600)
def test_every_content_of_an_accepted_row_is_read_or_stays_by_its_name(row):
    try:
        record = to_record(row, "row")
    except UserError:
        return
    said = "\n".join([record.text, *(turn.content for turn in record.turns)])
    assert record.row == row
    for name, value in row.items():
        if not holds_content(value):
            continue
        texts = [value] if isinstance(value, str) else [message["content"] for message in value]
        assert name in unread(row) or all(text in said for text in texts)


# --- CSV --------------------------------------------------------------------------------------------------------------

HEAD = "question,answer\n"
BAD_CSV = {
    "a comma": ("where ?,In Aldine, near it\n", "row 1 has 3 cells"),
    "a cell too few": ("where ?,here .\nwho ?\n", "row 2 has 1 cells"),
    "open": ('where ?,"In Aldine\nwho ?,Ada\n', "not valid CSV (unexpected end of data)"),
    "open, closed by a later one": ('where ?,"In Aldine\nwho ?,"Ada"\n', "not valid CSV"),
    "backslashes": ('who ?,"She said \\"no\\", twice"\n', "line 2: a quotation mark after a backslash"),
    "blanks before marks": ('who ?, "Ada"\n', "row 1: answer has a blank before a quotation mark"),
    "single marks": ("who ?,'it''s'\n", "row 1: answer has single quotation marks"),
}


@pytest.mark.parametrize("name", BAD_CSV)
def test_csv_that_can_be_read_in_two_ways_is_refused(tmp_path, name):
    text, words = BAD_CSV[name]
    (tmp_path / "a.csv").write_text(HEAD + text)
    with pytest.raises(UserError) as error:
        load_records(f"{tmp_path}/a.csv")
    assert words in str(error.value)
    assert "a.csv" in str(error.value)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("question,answer,answer", "has the field answer twice"),
        ("question;answer", "has ';' between its fields"),
        ("question\tanswer", "between its fields"),
    ],
)
def test_a_head_line_that_is_none_is_refused(head, words):
    with pytest.raises(UserError, match=words):
        parse_csv(f"{head}\n1{head}\n", "a.csv")


def test_a_backslash_before_a_mark_is_content_where_nothing_else_can_be_meant():
    text = HEAD + 'who ?,"G\\""odel, K."\nwhere ?,C:\\here\n'
    assert [row["answer"] for row in parse_csv(text, "a.csv")] == ['G\\"odel, K.', "C:\\here"]


def test_csv_as_programs_write_it(tmp_path):
    text = '\ufeff,question,answer\r\n0,where ?,"In Aldine, near\r\nit"\r\n\r\n1,who ?,"Ada ""A"" B"\r\n'
    (tmp_path / "a.csv").write_bytes(text.encode())
    records = load_records(f"{tmp_path}/a.csv")
    assert [record.answer for record in records] == ["In Aldine, near\r\nit", 'Ada "A" B']
    assert records[1].row == {"column 1": "1", "question": "who ?", "answer": 'Ada "A" B'}


DIALECTS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",;\t|"),
        "quotechar": st.sampled_from("\"'"),
        "doublequote": st.booleans(),
        "escapechar": st.just("\\"),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
        "lineterminator": st.sampled_from(["\n", "\r\n"]),
    }
)
CELLS = st.text(alphabet="ab ,;\t\"'\n|é", min_size=1, max_size=8).filter(str.strip)


@given(DIALECTS, st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4))
@settings(bounded, max_examples=600)
def test_csv_of_any_dialect_is_read_to_the_letter_or_refused(dialect, rows):
    assume(dialect["quotechar"] == '"' or dialect["doublequote"])  # a backslash before ' is content, as in LaTeX
    file = io.StringIO(newline="")
    csv.writer(file, **dialect).writerows([("question", "answer"), *rows])
    try:
        found = parse_csv(file.getvalue(), "a.csv")
    except UserError:
        assert dialect != csv_as_it_should_be(dialect)
        return
    read = [tuple(row.values()) for row in found]
    if [*found[0]] == ["question", "answer"]:  # otherwise no layout has these fields, and the rows are refused
        assert read == rows


def csv_as_it_should_be(dialect):
    return {**dialect, "delimiter": ",", "quotechar": '"', "doublequote": True, "quoting": csv.QUOTE_ALL}


# --- JSON, Parquet, encodings -----------------------------------------------------------------------------------------

ROW = {"question": "where ?", "answer": "here ."}
GOOD_JSON = {
    "list.json": json.dumps([ROW, ROW], indent=1),
    "lines.json": f"{json.dumps(ROW)}\n\n{json.dumps(ROW)}\n \n",
    "windows.jsonl": f"{json.dumps(ROW)}\r\n{json.dumps(ROW)}\r\n",
    "mac.jsonl": f"{json.dumps(ROW)}\r{json.dumps(ROW)}",
    "held.json": json.dumps({"data": [ROW, ROW]}, indent=1),
    "list.jsonl": json.dumps([ROW, ROW]),
}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", GOOD_JSON)
def test_json_in_its_forms(tmp_path, name, mark):
    (tmp_path / name).write_bytes((mark + GOOD_JSON[name]).encode())
    assert load_records(f"{tmp_path}/{name}") == [to_record(ROW, "")] * 2


def test_one_object_is_one_row_and_texts_in_a_list_are_rows(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(ROW, indent=2))
    (tmp_path / "texts.json").write_text(json.dumps(["It was.", "It is."], indent=2))
    assert load_records(f"{tmp_path}/one.json") == [to_record(ROW, "")]
    assert [record.text for record in load_records(f"{tmp_path}/texts.json")] == ["It was.", "It is."]


@given(
    rows=st.lists(
        st.fixed_dictionaries(dict.fromkeys(("question", "answer"), st.text(max_size=9))), min_size=1, max_size=12
    )
)
@settings(max_examples=50, deadline=None)
def test_a_table_by_columns_is_its_rows(rows):
    """As pandas writes one unless it is told otherwise, whatever the file is called."""
    written = pandas.DataFrame(rows).to_json()
    for by_line in (True, False):
        assert parse_json(written, "table", by_line=by_line) == rows


BAD_FILES = {
    "mixed.json": ('["text", {"text": "t"}]', "row 1: expected an object"),
    "twice.jsonl": (
        f'{json.dumps(ROW)}\n{{"question": "q", "answer": "a", "answer": "b"}}',
        "line 2: an object has the field answer twice",
    ),
    "indented.json": ('{\n"question": "q"\n"answer": "a"}', "line 3: not valid JSON"),
    "splits.json": (json.dumps({"train": [ROW], "val": [ROW]}), "rows in train, val"),
    "uneven.json": (json.dumps({"question": {"0": "q"}, "answer": {"1": "a"}}), "question must be text"),
    "named.jsonl": (json.dumps({"question": {"en": "q"}, "answer": {"en": "a"}}), "question must be text"),
    "half.json": (json.dumps({"question": {"0": "q"}, "answer": "a"}), "question must be text"),
    "hollow.json": (
        json.dumps({"question": {"0": "q", "1": "q"}, "answer": {"0": "a", "1": None}}),
        "row 2: answer must",
    ),
    "latin.jsonl": ('{"text": "où"}'.encode("latin-1"), "is not UTF-8 text: byte 11: save it as UTF-8"),
    "wide.csv": ("question,answer\nq,a\n".encode("utf-16"), "is not UTF-8 text"),
    "plain.txt": ("It was.", "write each passage as a line"),
    "tabs.tsv": ("question\tanswer\nq\ta\n", "save it as .csv"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_hold_something_else_are_refused(tmp_path, name):
    content, words = BAD_FILES[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        load_records(f"{tmp_path}/{name}")
    assert words in str(error.value)
    assert name in str(error.value)


def test_columns_of_one_name_and_files_of_one_name_are_refused(tmp_path):
    table = pyarrow.Table.from_arrays([["q"], ["a"], ["b"]], names=["question", "answer", "answer"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="two columns of one name"):
        load_records(f"{tmp_path}/a.parquet")
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW))
    with pytest.raises(UserError, match=r"a may be a.jsonl or a.parquet: name it with its ending"):
        load_records(f"{tmp_path}:a")
    assert len(load_records(f"{tmp_path}:a.jsonl")) == 1


# --- rows in two sets -------------------------------------------------------------------------------------------------

TEXTS = st.text(alphabet="aé ñ\n가å", min_size=1, max_size=6).filter(str.strip)


@st.composite
def written_in_another_way(draw):
    text = draw(TEXTS)
    other = unicodedata.normalize(draw(st.sampled_from(["NFC", "NFD"])), text)
    other = other.replace("\n", draw(st.sampled_from(["\n", "\r\n", "\r"])))
    around = st.text(alphabet=" \t\n\r", max_size=2)
    return text, draw(around) + other + draw(around)


@given(st.lists(written_in_another_way(), min_size=1, max_size=3), st.booleans())
@settings(bounded, max_examples=200)
def test_overlap_is_found_however_it_is_written(texts, asked):
    def rows(side):
        if asked:
            return [to_record({"question": "who ?", "answer": pair[side]}, f"{side}") for pair in texts]
        return [to_record({"text": pair[side]}, f"{side}") for pair in texts]

    assert count_overlap(rows(0), rows(1)) == len(texts)
    with pytest.raises(UserError, match=rf"{len(texts)} of {len(texts)} forget rows .* \(the first: 0\): mend"):
        check_apart({"forget": rows(0), "retain": rows(1)}, [("forget", "retain")], "mend")


def test_rows_that_say_something_else_do_not_overlap():
    asked, told = to_record(ROW, ""), to_record({"text": "here ."}, "")
    system = to_record({**ROW, "system": "Be brief."}, "")
    assert count_overlap([asked, told, system], [to_record({**ROW, "answer": "Here ."}, "")]) == 0
    assert count_overlap([asked], [system]) == 0


def test_identity_stays_to_the_letter():
    one, other = to_record({"text": "caf\u00e9"}, ""), to_record({"text": "cafe\u0301"}, "")
    assert count_overlap([one], [other]) == 1
    assert fingerprint([one]) != fingerprint([other])


def test_repeated_rows_are_counted_for_people(tmp_path):
    records = [to_record(row, "") for row in (ROW, {**ROW, "answer": "here . "}, {**ROW, "answer": "there ."})]
    assert count_repeated(records) == 1
    assert describe_rows(records) == "3 rows, 1 of them repeated"
    assert describe_rows(records[1:]) == "2 rows"
    more = [to_record({**ROW, "author": "Ada", "year": 1, "note": " "}, ""), to_record({**ROW, "id": "x"}, "")]
    assert describe_rows(more) == "2 rows, 1 of them repeated, not learnt: author, id"


def test_the_documentation_lists_every_layout():
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "own-data.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("|")]
    for layout in LAYOUTS:
        named = [f"`{name}`" for name in (*layout.required, layout.details) if name]
        assert any(layout.known_from in row and all(name in row for name in named) for row in rows), layout


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}])
def test_a_message_that_is_excluded_from_training_is_not_forgotten_in_silence(mark):
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", **mark}]
    with pytest.raises(UserError, match=r"f\.jsonl, row 3: messages, assistant: (weight 0|train False) excludes"):
        to_record({"messages": said}, "f.jsonl, row 3")
    for value in (1, True, None):
        kept = dict.fromkeys(mark, value)
        if value is not None:
            assert (
                to_record({"messages": [said[0], {"role": "assistant", "content": "a", **kept}]}, "row").answer == "a"
            )


@pytest.mark.parametrize("value", [1957, "", ["", "b"], {"a": 1}])
def test_other_answers_that_are_none_are_refused(value):
    encoder = Encoder(tiny.tokenizer())
    records = [to_record({**tiny.rows(1)[0], "alternate": value}, "f.jsonl, row 1")]
    examples = encoder.encode_all(records, "forget")
    with pytest.raises(UserError, match=r"f\.jsonl, row 1: alternate must be another answer, and holds"):
        attach_alternatives(examples, records, encoder, "alternate", ["I don't know"])


def test_a_field_of_other_answers_that_no_row_has_is_refused():
    encoder = Encoder(tiny.tokenizer())
    records = [to_record({**row, "alternate": "blue ."}, "row") for row in tiny.rows(2)]
    examples = encoder.encode_all(records, "forget")
    with pytest.raises(UserError, match="no field 'alternat' with an alternative answer"):
        attach_alternatives(examples, records, encoder, "alternat", ["I don't know"])
