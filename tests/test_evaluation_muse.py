"""MUSE's suite, its invented example data, curves over runs, and the optional harness."""

import json
import sys
from types import SimpleNamespace

import pytest

import tiny
from gru_unlearn.data import Encoder, load_records
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import evaluate, score
from gru_unlearn.evaluation.curves import curves
from gru_unlearn.evaluation.harness import multiple_choice
from gru_unlearn.evaluation.muse import muse
from gru_unlearn.evaluation.tasks import plan_tasks
from muse_example import PER_SET, write_muse_example


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_muse_example(tmp_path_factory.mktemp("muse"))


@pytest.fixture(scope="module")
def encoder():
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = 512
    return Encoder(tokenizer)


@pytest.fixture(scope="module")
def model():
    model = tiny.model()
    model.config.max_position_embeddings = 512
    return model


def test_the_example_is_complete_and_the_same_each_time(folder, tmp_path):
    write_muse_example(tmp_path)
    names = sorted(file.relative_to(folder) for file in folder.rglob("*.json"))
    assert len(names) == 10
    assert all((folder / name).read_text() == (tmp_path / name).read_text() for name in names)
    forget, holdout = ({r.text for r in load_records(f"{folder}/privleak:{name}")} for name in ("forget", "holdout"))
    assert len(forget) == len(holdout) == PER_SET
    assert not forget & holdout


def test_each_answer_of_the_example_stands_in_a_text(folder):
    texts = " ".join(record.text for record in load_records(f"{folder}/privleak:forget"))
    for record in load_records(f"{folder}/knowmem:forget_qa"):
        assert record.answer in texts


def test_all_metrics_have_values(folder, encoder, model):
    suite = muse(str(folder))
    retain_table = score(tiny.model(1), encoder, suite, retain_model=True)
    result = evaluate(model, encoder, suite, retain_table=retain_table)
    assert result.missing == {}
    assert {"forget_verbmem_ROUGE", "forget_knowmem_ROUGE", "retain_knowmem_ROUGE", "privleak", "mia_min_k"} <= set(
        result.metrics
    )
    assert len(result.rows["forget_verbmem_ROUGE"]["verbatim"]) == PER_SET
    assert all("\n" not in text for text in result.table.generations("forget_qa"))


def test_verbatim_rows_are_running_text(folder, encoder):
    suite = muse(str(folder))
    task = next(task for task in plan_tasks(suite, ["verbatim.answer"], encoder) if task.raw)
    item = suite.sets["verbatim"].items[0]
    whole = f"{item.record.prompt} {item.record.answer}"
    assert task.ids == encoder.tokenizer(whole).input_ids
    assert task.start == len(encoder.tokenizer(item.record.prompt).input_ids)
    assert encoder.tokenizer.eos_token_id not in task.ids


def test_answered_examples_come_before_each_question(tmp_path):
    folder = write_muse_example(tmp_path)
    turns = muse(str(folder)).sets["forget_qa"].items[0].record.turns
    assert [turn.role for turn in turns] == ["user", "assistant"] * 5
    for file in (folder / "knowmem").glob("*_icl.json"):
        file.unlink()
    assert len(muse(str(folder)).sets["forget_qa"].items[0].record.turns) == 2


def test_files_with_plain_texts_are_the_same_suite(folder, tmp_path):
    """As the authors' script writes privleak and raw: lists of texts, indented."""
    write_muse_example(tmp_path)
    for file in (*(tmp_path / "privleak").glob("*.json"), *(tmp_path / "raw").glob("*.json")):
        texts = [record.text for record in load_records(str(file))]
        file.write_text(json.dumps(texts, indent=4))
    assert muse(str(tmp_path)).sets == muse(str(folder)).sets


def test_examples_are_taken_from_the_hub_as_from_a_folder(folder, monkeypatch):
    def rows(source):
        _, part, split = source.split(":")
        return [record.row for record in load_records(f"{folder}/{part}:{split}")]

    monkeypatch.setattr("gru_unlearn.data.sources._read_hub", rows)
    names = [file.stem for file in (folder / "knowmem").iterdir()]
    monkeypatch.setattr("datasets.get_dataset_split_names", lambda name, config: names)
    assert muse("muse-bench/MUSE-Invented").sets == muse(str(folder)).sets
    names.clear()
    assert len(muse("muse-bench/MUSE-Invented").sets["forget_qa"].items[0].record.turns) == 2


def test_missing_files_and_fields_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="privleak"):
        muse(str(tmp_path))
    write_muse_example(tmp_path)
    (tmp_path / "verbmem" / "forget.json").write_text(json.dumps({"prompt": "p"}))
    with pytest.raises(UserError, match="prompt and gt"):
        muse(str(tmp_path))


def test_curves_follow_the_size_and_leave_gaps():
    found = curves([(2, {"a": 0.5, "b": None}), (1, {"a": 0.75, "b": 1.0}), (3, {"a": 0.25})])
    assert found["a"].sizes == [1, 2, 3]
    assert found["a"].values == [0.75, 0.5, 0.25]
    assert found["a"].slope == pytest.approx(-0.25)
    assert found["b"].values == [1.0, None, None]
    assert found["b"].slope is None


def test_without_the_harness_its_extra_is_named(monkeypatch, model, encoder):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"gru-unlearn\[harness\]"):
        multiple_choice(model, encoder, ["mmlu"])


def test_accuracies_are_read_from_the_harness(monkeypatch, model, encoder):
    asked = {}

    def simple_evaluate(**arguments):
        asked.update(arguments)
        return {"results": {"wmdp_bio": {"acc,none": 0.25}, "mmlu": {"acc,none": 0.5}, "odd": {}}}

    harness = SimpleNamespace(
        evaluator=SimpleNamespace(simple_evaluate=simple_evaluate),
        models=SimpleNamespace(huggingface=SimpleNamespace(HFLM=lambda **arguments: arguments)),
        tasks=SimpleNamespace(TaskManager=lambda **_: SimpleNamespace(all_tasks=["mmlu", "odd", "wmdp_bio"])),
    )
    monkeypatch.setattr("gru_unlearn.evaluation.harness.require_harness", lambda: harness)
    found = multiple_choice(model, encoder, ("wmdp_bio", "mmlu"), limit=3)
    assert found == {"wmdp_bio/acc": 0.25, "mmlu/acc": 0.5}
    assert asked["model"]["pretrained"] is model
    assert asked["limit"] == 3
    with pytest.raises(UserError, match="odd"):
        multiple_choice(model, encoder, ("odd",))
    with pytest.raises(UserError, match="knows no task wmdp_biology"):
        multiple_choice(model, encoder, ("wmdp_biology",))
