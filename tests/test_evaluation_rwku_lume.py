"""The suites rwku and lume: their real layouts load, and their numbers are those of a plain calculation."""

import json
import os
from pathlib import Path
from statistics import fmean, harmonic_mean

import pyarrow
import pyarrow.parquet
import pytest
from rouge_score.rouge_scorer import RougeScorer

import tiny
from gru_unlearn.data import Encoder, load_records
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import evaluate
from gru_unlearn.evaluation.lume import TASKS, lume
from gru_unlearn.evaluation.rwku import FILL_IN, NEIGHBOR_PROBES, PROBES, SHORT, rwku
from gru_unlearn.evaluation.tasks import plan_tasks

PEOPLE = ("Ada", "Bob")


@pytest.fixture(scope="module")
def encoder():
    return Encoder(tiny.tokenizer())


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def write(path, rows, *, lines=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows, indent=4))


def recall(answer, generation):
    return RougeScorer(["rougeL"], use_stemmer=True).score(answer, generation)["rougeL"].recall


# --- RWKU ------------------------------------------------------------------------------------------------------------


def probe(file, person, number):
    """A row with the fields of the benchmark's files."""
    question = f"{person} lives in the ___ ." if "1" in file else f"where is {person} {number} ?"
    row = {"query": question, "answer": ["red one", "blue two"][number], "level": file[-1], "type": "cloze"}
    row["subject"] = person
    if file in NEIGHBOR_PROBES:
        row["neighbor"] = "Eve"
    return row


def write_rwku(folder, people=PEOPLE):
    for file in PROBES:
        write(folder / f"{file}.json", [probe(file, person, number) for person in people for number in range(2)])
    for file in ("forget_mia", "retain_mia"):
        texts = [{"text": f"{person} works in the {file[0]} house .", "subject": person} for person in people]
        write(folder / f"{file}.json", texts)
    return folder


def test_rwku_measures_what_a_plain_calculation_does(tmp_path, encoder, model):
    suite = rwku(str(write_rwku(tmp_path)))
    found = evaluate(model, encoder, suite)
    assert found.missing == {}
    table = found.table
    for file in PROBES:
        said = zip(table.answers(file), table.generations(file), strict=True)
        assert found.metrics[f"{file}_ROUGE"] == pytest.approx(
            fmean(recall(entry.answer, text) for entry, text in said)
        )
        assert not any("\n" in text for text in table.generations(file))
    assert found.metrics["forget_mia_loss"] == pytest.approx(fmean(entry.loss for entry in table.answers("forget_mia")))


def test_rwku_asks_each_probe_once_and_says_how_to_answer(tmp_path, encoder):
    suite = rwku(str(write_rwku(tmp_path)))
    assert len(suite.sets["forget"].items) == 12
    assert len(suite.sets["retain"].items) == 8
    assert suite.sets["forget_level1"].items[0].record.prompt.startswith(FILL_IN)
    assert suite.sets["forget_level3"].items[0].record.prompt.startswith(SHORT)
    tasks = plan_tasks(suite, suite.needs(), encoder)
    asked = {item.record for name in PROBES for item in suite.sets[name].items}
    assert sum(bool(task.record.turns) for task in tasks) == len(asked)


def test_rwku_about_one_person(tmp_path):
    folder = str(write_rwku(tmp_path))
    suite = rwku(folder, "Bob")
    assert {len(suite.sets[name].items) for name in PROBES} == {2}
    assert all("Bob" in item.record.prompt for item in suite.sets["forget"].items)
    with pytest.raises(UserError, match=r"forget_level1: no row about 'Bop'; did you mean 'Bob'"):
        rwku(folder, "Bop")


def test_rwku_from_the_hub_is_that_of_a_folder(tmp_path, monkeypatch):
    folder = write_rwku(tmp_path)

    def rows(source):
        name, config, split = source.split(":")
        assert (name, split) == ("jinzhuoran/RWKU", "test")
        file = {"mia_forget": "forget_mia", "mia_retain": "retain_mia"}.get(config, config)
        return json.loads((folder / f"{file}.json").read_text())

    monkeypatch.setattr("gru_unlearn.data.sources._read_hub", rows)
    assert rwku("jinzhuoran/RWKU").sets == rwku(str(folder)).sets


def test_rwku_without_texts_says_what_it_lacks(tmp_path, encoder, model):
    folder = write_rwku(tmp_path)
    (folder / "forget_mia.json").unlink()
    found = evaluate(model, encoder, rwku(str(folder)))
    assert found.missing == {"forget_mia_loss": "needs a forget_mia set"}
    write(folder / "forget_level2.json", [{"question": "q", "answer": "a"}])
    with pytest.raises(UserError, match=r"forget_level2, row 1 needs the fields query and answer"):
        rwku(str(folder))
    (folder / "forget_level2.json").unlink()
    with pytest.raises(UserError, match="no data file 'forget_level2'"):
        rwku(str(folder))


# --- LUME ------------------------------------------------------------------------------------------------------------


def lume_rows(split):
    """Two rows of a kind for each task, in the fields of the benchmark's files."""
    made = []
    for place, task in enumerate(TASKS):
        for number in range(2):
            key, colour = f"{split}{place}{number}", ("red", "blue", "green")[place]
            who, which = ("Ada", "Bob") if split == "forget" else ("Cleo", "Dan"), ("one", "two")[number]
            made.append({"id": f"{key}sc1", "input": f"{who[0]} lives in the {colour}", "output": f"{which} house ."})
            made.append({"id": f"{key}qa{number}", "input": f"who is {which} {colour} {who[0]} ?", "output": who[1]})
            for row in made[-2:]:
                row |= {"task": task, "split": split}
    return made


def write_lume(folder):
    """As the benchmark's repository has it, with SemEval's texts for the attack."""
    for split in ("forget", "retain"):
        write(folder / f"{split}.jsonl", lume_rows(split), lines=True)
    for file, word in (("member", "red"), ("nonmember", "blue")):
        texts = [{"id": number, "document": f"Dan works in the {word} {number} house ."} for number in ("one", "two")]
        write(folder / "mia_data" / f"{file}.jsonl", texts, lines=True)
    return folder


def test_lume_measures_what_a_plain_calculation_does(tmp_path, encoder, model):
    found = evaluate(model, encoder, lume(str(write_lume(tmp_path))))
    assert found.missing == {}
    table, terms = found.table, []
    for split in ("forget", "retain"):
        for task in TASKS:
            said = list(zip(table.answers(f"{split}_{task}_sc"), table.generations(f"{split}_{task}_sc"), strict=True))
            given_back = fmean(recall(entry.answer, text) for entry, text in said)
            assert found.metrics[f"{split}_{task}_regurgitation"] == pytest.approx(given_back)
            said = list(zip(table.answers(f"{split}_{task}_qa"), table.generations(f"{split}_{task}_qa"), strict=True))
            known = fmean(float(entry.answer.strip().lower() == text.strip().lower()) for entry, text in said)
            assert found.metrics[f"{split}_{task}_knowledge"] == known
            terms += [1 - given_back, 1 - known] if split == "forget" else [given_back, known]
    assert found.metrics["lume_task_aggregate"] == pytest.approx(harmonic_mean(terms))

    members, others = ([entry.loss for entry in table.answers(name)] for name in ("members", "holdout"))
    area = fmean(float(other > member) for member in members for other in others)
    assert found.metrics["lume_mia_loss"] == pytest.approx(area)
    assert found.metrics["lume_mia_score"] == pytest.approx(1 - 2 * abs(area - 0.5))


def test_the_aggregate_of_one_that_forgot_and_kept_all_is_one(tmp_path, encoder, model):
    """On answers that are set by hand: right ones on what must stay, in other letters, none on what must go."""
    suite = lume(str(write_lume(tmp_path)))
    table = evaluate(model, encoder, suite).table
    for entry in table.entries:
        kept = any(use.set.startswith("retain") for use in entry.uses)
        entry.generation = entry.answer.upper() if kept else ""
    metric = next(metric for metric in suite.metrics if metric.key == "lume_task_aggregate")
    assert metric.compute(table, None).value == 1


def test_lume_reads_running_text_and_each_row_once(tmp_path, encoder):
    suite = lume(str(write_lume(tmp_path)))
    tasks = plan_tasks(suite, suite.needs(), encoder)
    assert all(task.raw for task in tasks if task.record.turns)
    rows = {item.record for name in ("forget", "retain") for item in suite.sets[name].items}
    assert len(tasks) == len(rows) + 4


def test_semevals_files_are_the_same_suite(tmp_path):
    plain, divided = write_lume(tmp_path / "plain"), tmp_path / "semeval"
    for split in ("forget", "retain"):
        for fold, rows in (("validation", lume_rows(split)), ("train", lume_rows(split)[:8])):
            file = divided / "data" / f"{split}_{fold}-00000-of-00001.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    given = lume(str(plain)).sets
    assert lume(str(divided)).sets == {name: rows for name, rows in given.items() if name not in ("members", "holdout")}
    assert len(lume(str(divided), "train").sets["forget"].items) == 8
    with pytest.raises(UserError, match="no forget_train"):  # never the undivided files in their place
        lume(str(plain), "train")


def test_what_the_organizers_commands_make_of_them_is_the_same_suite(tmp_path):
    """``DataFrame.to_json("validation/forget.jsonl")`` of pandas writes field → number → value."""
    plain, made = write_lume(tmp_path / "plain"), tmp_path / "made"
    for split in ("forget", "retain"):
        rows = lume_rows(split)
        for fold, some, ending in (("validation", rows, "jsonl"), ("train", rows[:8], "json")):
            (made / fold).mkdir(parents=True, exist_ok=True)
            pyarrow.Table.from_pylist(some).to_pandas().to_json(made / fold / f"{split}.{ending}")
    given = lume(str(plain)).sets
    wanted = {name: rows for name, rows in given.items() if name not in ("members", "holdout")}
    assert lume(str(made)).sets == lume(str(made / "validation")).sets == wanted
    assert len(lume(str(made), "train").sets["forget"].items) == 8


def test_lume_from_the_hub_names_the_split(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("gru_unlearn.data.sources._read_hub", lambda source: asked.append(source) or lume_rows("x"))
    lume("owner/name")
    lume("owner/name", "train")
    assert asked == [f"owner/name::{name}_{fold}" for fold in ("validation", "train") for name in ("forget", "retain")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "12"}, r"row 1: its id must end with sc or qa"),
        ({"task": "Task4"}, r"row 1: its task must be Task1, Task2, Task3"),
        ({"output": ""}, r"row 1: output must be text"),
    ],
)
def test_a_row_that_lume_cannot_place_is_named(tmp_path, change, words):
    folder = write_lume(tmp_path)
    rows = lume_rows("forget")
    rows[0] |= change
    write(folder / "forget.jsonl", rows, lines=True)
    with pytest.raises(UserError, match=words):
        lume(str(folder))


# --- the benchmarks' own files ---------------------------------------------------------------------------------------


def real_folder(variable):
    if variable not in os.environ:
        pytest.skip(f"needs the benchmark's own files, in the folder that {variable} names")
    return Path(os.environ[variable])


def spacious(model):
    """Positions for real texts: a model without learnt ones has as many as it says."""
    model.config.max_position_embeddings = 4096
    return model


def test_rwkus_own_files_load_person_by_person(tmp_path, encoder):
    """With GRU_UNLEARN_RWKU set to the folder ``Target`` that the benchmark's own script writes."""
    people = sorted(file.parent for file in real_folder("GRU_UNLEARN_RWKU").rglob("forget_level1.json"))
    assert people
    for folder in people:
        sets = rwku(str(folder)).sets
        assert {*PROBES, "forget_mia", "retain_mia"} <= sets.keys()
        assert all(sets[name].items for name in sets)
    files = tmp_path / "few"
    for name in (*PROBES, "forget_mia", "retain_mia"):
        records = load_records(f"{people[0]}:{name}")[:3]
        write(files / f"{name}.json", [record.row for record in records])
    found = evaluate(spacious(tiny.model()), encoder, rwku(str(files)))
    assert found.missing == {}


def test_lumes_own_files_load(tmp_path, encoder):
    """With GRU_UNLEARN_LUME set to the folder ``data`` of the benchmark's repository."""
    folder = real_folder("GRU_UNLEARN_LUME")
    whole = lume(str(folder)).sets
    kinds = {f"{split}_{task}_{kind}" for split in ("forget", "retain") for task in TASKS for kind in ("sc", "qa")}
    assert kinds <= whole.keys()
    for split in ("forget", "retain"):
        firsts = [whole[kind].items[0].record.row for kind in sorted(kinds) if kind.startswith(split)]
        write(tmp_path / f"{split}.jsonl", firsts, lines=True)
    found = evaluate(spacious(tiny.model()), encoder, lume(str(tmp_path)))
    assert set(found.missing) == {"lume_mia_loss", "lume_mia_score"}


# --- from the command line -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suite", "writer"), [("rwku", write_rwku), ("lume", write_lume)])
def test_an_evaluation_ends_with_numbers_and_a_verdict(gru, tmp_path, monkeypatch, suite, writer):
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(tmp_path / "cache"))
    place = ["--data", writer(tmp_path / "data"), "--model", tiny.save(tmp_path / "model"), "--out", tmp_path / "out"]
    code, _, err = gru("evaluate", "--suite", suite, *place)
    assert code == 0, err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["missing"] == {}
    assert summary["metrics"]["forget_Q_A_Prob"] is not None
    assert summary["verdict"]["sentence"]
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--suite lume", "--suite lume needs --data"),
        ("--suite lume --data nowhere/at/all", "nowhere/at/all"),
        ("--suite lume --data D --fold test", "--fold test: expected train or validation"),
        ("--suite lume --data D --about Ada", "--about belongs to --suite rwku"),
        ("--suite rwku --data D", "no data file 'forget_level1'"),
        ("--suite tofu --fold train", "--fold belongs to --suite lume"),
    ],
)
def test_flags_that_cannot_be_are_told(gru, tmp_path, flags, words):
    tiny.save(tmp_path / "model")
    (tmp_path / "data").mkdir()
    given = [str(tmp_path / "data") if flag == "D" else flag for flag in flags.split()]
    code, _, err = gru("evaluate", "--model", tmp_path / "model", "--out", tmp_path / "out", *given)
    assert code == 2
    assert words in err
