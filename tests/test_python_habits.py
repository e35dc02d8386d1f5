"""What Python programs may expect: places where rows are, arguments named in errors, objects that say what they are."""

import json
import pydoc
import warnings

import pytest
import torch

import tiny
from gru_unlearn import GradientRectifier, UnlearningConfig, UnlearningTrainer
from gru_unlearn.data import Encoder, to_record
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import evaluate
from gru_unlearn.evaluation.suites import own

FORGET, RETAIN = tiny.rows(4), tiny.rows(8, start=4)


@pytest.fixture
def files(tmp_path):
    for name, rows in (("forget", FORGET), ("retain", RETAIN)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def trainer(folder, **changes):
    given = {"forget_dataset": FORGET, "retain_dataset": RETAIN, "processing_class": tiny.tokenizer()} | changes
    args = given.pop("args", None) or UnlearningConfig(output_dir=str(folder / "run"), use_cpu=True, max_steps=1)
    return UnlearningTrainer(given.pop("model", tiny.model()), args, **given)


def test_rows_may_be_named_by_their_place(files):
    named = trainer(
        files,
        forget_dataset=f"{files}/forget.jsonl",
        retain_dataset=files / "retain.jsonl",
        eval_dataset={"held_out": f"{files}:retain", "general": "builtin:general[:2]"},
    )
    plain = trainer(files)
    assert named.forget_examples == plain.forget_examples
    assert named.retain_examples == named.eval_examples["held_out"] == plain.retain_examples
    assert len(named.eval_examples["general"]) == 2


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"forget_dataset": "nowhere.jsonl"}, UserError, "the forget rows: nowhere.jsonl: no such file"),
        ({"forget_dataset": 3}, UserError, "the forget rows must be a list or data set of rows"),
        ({"forget_dataset": {"train": FORGET}}, UserError, "the forget rows must be .* got a dict"),
        ({"retain_dataset": ["who is Ada"]}, UserError, "retain, row 1: a row is a dictionary"),
        ({"eval_dataset": RETAIN}, TypeError, "eval_dataset must name each of its sets"),
        ({"eval_dataset": "mine.jsonl"}, TypeError, "eval_dataset must name each of its sets"),
        ({"model": "owner/name"}, TypeError, "model must be a loaded model, got 'owner/name'"),
        ({"forget_dataset": 3}, UserError, "the forget rows must be .* got an int"),
        ({"retain_dataset": "nowhere.jsonl"}, UserError, "the retain rows: nowhere.jsonl: no such file"),
        ({"args": {"objective": "ga"}}, TypeError, "args must be an UnlearningConfig, got a dict"),
        ({"processing_class": "owner/name"}, TypeError, "processing_class must be a tokenizer, got 'owner/name'"),
    ],
)
def test_errors_name_the_argument(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        trainer(tmp_path, **changes)


def test_a_rectifier_names_its_arguments_too():
    model = tiny.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"):
        GradientRectifier("m", optimizer)
    with pytest.raises(TypeError, match=r"optimizer must be a torch\.optim\.Optimizer, got str"):
        GradientRectifier(model, "adamw")


def test_the_two_silent_mistakes_are_told():
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rectifiers = [GradientRectifier(model, optimizer)]
    assert step_without_retain(model, optimizer, 4) == ["3 steps without a retain gradient: nothing was rectified"]
    rectifiers.append(GradientRectifier(model, optimizer))
    told = step_without_retain(model, optimizer, 1)
    assert any("two GradientRectifiers hang on the same parameters" in message for message in told)


def step_without_retain(model, optimizer, steps):
    """The warnings that come of it, up to their first sentence's end."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(steps):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
    return [str(one.message).partition(". ")[0] for one in told]


def test_objects_say_what_they_are(tmp_path):
    run = trainer(tmp_path)
    assert repr(run) == "UnlearningTrainer(LlamaForCausalLM, npo, gru, 4 forget rows, 8 retain rows)"
    assert repr(run.encoder) == f"Encoder({type(run.processing_class).__name__}, max_length=512)"
    model = tiny.model()
    rectifier = GradientRectifier(model, torch.optim.SGD(model.parameters(), lr=0.1), "gru/element/update")
    tensors = len(list(model.parameters()))
    assert repr(rectifier) == f"GradientRectifier(gru/element/update, new_gradient_weight=0.4, {tensors} tensors)"
    suite = own([to_record(row, "") for row in FORGET], [to_record(row, "") for row in RETAIN])
    assert repr(suite).startswith("Suite(own: forget 4, retain 8 rows; ")
    found = evaluate(model, Encoder(tiny.tokenizer()), suite)
    assert repr(found).startswith("Evaluation(")
    assert repr(found.table).startswith("ScoreTable(12 answers: forget 4, retain 8 rows")
    assert len(repr(found)) < 2000


def test_a_configuration_shows_what_was_set_and_no_secret(tmp_path):
    config = UnlearningConfig(output_dir=str(tmp_path), objective="ga", learning_rate=1e-4, hub_token="hf_secret")
    assert repr(config) == f"UnlearningConfig(output_dir='{tmp_path}', learning_rate=0.0001, objective='ga')"
    assert repr(UnlearningConfig()) == "UnlearningConfig()"


def test_help_of_the_configuration_fits_two_screens():
    text = pydoc.render_doc(UnlearningConfig, renderer=pydoc.plaintext)
    assert len(text.splitlines()) < 80
    assert "objective: str = 'npo'" in text
    assert "resolved_rectification" in text
    assert UnlearningConfig(adam_beta1=0.5).to_dict()["adam_beta1"] == 0.5, "what is not shown works as ever"


def test_the_package_lists_what_it_offers():
    import gru_unlearn  # noqa: PLC0415

    assert set(gru_unlearn.__all__) <= set(dir(gru_unlearn))
