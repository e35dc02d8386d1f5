"""Objectives and rectifications inside the trainer: what a loss asks for is what it gets, and every pair trains."""

import contextlib
import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from transformers import HfArgumentParser

import tiny
from gru_unlearn import UnlearningConfig, UnlearningTrainer
from gru_unlearn.common.renamed import RenamedSetting, renamed_settings
from gru_unlearn.data import Encoder, collate, to_record
from gru_unlearn.data.other_answers import attach_alternatives
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import IDK_ANSWERS, OBJECTIVES, token_logps
from gru_unlearn.runs.best_rule import parse_rule
from gru_unlearn.runs.keep_best import KeepBest
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.training.inputs import Inputs, default_module, find_module, random_direction

FORGET = [{**row, "alternate": f"in the red {number} ."} for row, number in zip(tiny.rows(8), "abcdefgh", strict=True)]
RETAIN = tiny.rows(16, start=8)


def trainer(folder, *, own=None, forget=FORGET, **options):
    defaults = {"learning_rate": 5e-3, "max_steps": 3, "per_device_train_batch_size": 4, "warmup_steps": 0}
    defaults |= {"gradient_accumulation_steps": 1, "logging_steps": 1, "save_strategy": "no", "use_cpu": True}
    return UnlearningTrainer(
        tiny.model(),
        UnlearningConfig(output_dir=str(folder), disable_tqdm=True, **(defaults | options)),
        forget_dataset=forget,
        retain_dataset=RETAIN,
        processing_class=tiny.tokenizer(),
        objective=own,
    )


def weights(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize("rectification", ["none", "gru", "gru/element/update"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_under_every_rectification(tmp_path, objective, rectification):
    run = trainer(tmp_path, objective=objective, rectification=rectification, eval_strategy="no", eval_on_start=False)
    start = weights(run.model)
    run.train()
    end = weights(run.model)
    assert end.isfinite().all()
    assert (end - start).norm() > 1e-3
    assert {"forget_loss"} <= run.state.log_history[0].keys()


@pytest.mark.parametrize("objective", ["ga", "npo", "tnpo", "undial", "undial-anchor", "ceu", "dpo", "idk"])
def test_eight_accumulated_equal_one_batch_of_eight(tmp_path, objective):
    """Losses per example, per token and per flattened token are all means over the window."""
    options = {"objective": objective, "rectification": "gru", "eval_on_start": False}
    one = trainer(tmp_path / "a", per_device_train_batch_size=8, **options)
    cut = trainer(tmp_path / "b", per_device_train_batch_size=1, gradient_accumulation_steps=8, **options)
    for run in (one, cut):
        run.train()
    torch.testing.assert_close(weights(one.model), weights(cut.model), rtol=1e-4, atol=2e-5)


def test_inputs_are_what_their_names_say():
    model, before, encoder = tiny.model(0), tiny.model(1), Encoder(tiny.tokenizer())
    records = [to_record(row, "") for row in FORGET[:3]]
    examples = encoder.encode_all(records, "forget")
    attach_alternatives(examples, records, encoder, "alternate")
    batch = collate(examples, 0)
    names = {"logps", "mask", "logits", "targets", "reference_logits", "alternative_logps", "alternative_mask"}
    names |= {"hidden", "reference_hidden", "direction"}
    direction = random_direction(16, 0, torch.device("cpu"))
    make = Inputs(lambda: contextlib.nullcontext(before), default_module(2), direction)
    found = make(names, model, batch)
    assert found.keys() == names

    plain = {key: batch[key] for key in ("input_ids", "attention_mask")}
    supervised = batch["labels"] != -100
    predicts = torch.cat([supervised[:, 1:], torch.zeros(3, 1, dtype=torch.bool)], dim=1)
    for name, of in (("", model), ("reference_", before)):
        whole = of(**plain, output_hidden_states=True)
        torch.testing.assert_close(found[f"{name}logits"], whole.logits[predicts])
        torch.testing.assert_close(found[f"{name}hidden"], whole.hidden_states[1][supervised])
    assert found["targets"].tolist() == batch["labels"][supervised].tolist()
    alone = token_logps(model, **{key: batch["alternative"][key] for key in (*plain, "labels")})
    torch.testing.assert_close(found["alternative_logps"], alone[0])
    assert torch.equal(found["alternative_mask"], alone[1])
    assert direction.norm().item() == pytest.approx(1)
    assert (direction >= 0).all()


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_rmu_is_a_mean_over_every_token_that_has_a_label(tmp_path, cut):
    """Of plain text the first one, too, which nothing predicts; however a window is cut into micro-batches."""
    rows = [{"text": "Ada lives in the red house ."}, {"text": "Bob"}, {"text": "where is Eve ?"}, tiny.rows(1)[0]]
    window = {"per_device_train_batch_size": 4 // cut, "gradient_accumulation_steps": cut, "max_steps": 1}
    run = trainer(tmp_path, forget=rows, objective="rmu", rectification="none", eval_on_start=False, **window)
    examples = run.forget_examples
    distances = []
    for example in examples:
        whole = run.model(input_ids=torch.tensor([example["input_ids"]]), output_hidden_states=True)
        hidden = whole.hidden_states[1][0][torch.tensor(example["labels"]) != -100]
        distances += (hidden - 6.5 * random_direction(16, run.args.seed, "cpu")).square().mean(dim=-1).tolist()
    run.train()
    assert examples[0]["labels"][0] != -100
    assert run.state.log_history[0]["forget_loss"] == pytest.approx(sum(distances) / len(distances), rel=1e-4)


def test_references_are_those_of_the_model_before_the_first_step(tmp_path):
    seen = []

    def own(logps, mask, reference, token_reference, alternative_logps, alternative_mask, alternative_reference):
        seen.append(
            (logps.detach(), mask, token_reference, reference, alternative_logps.detach(), alternative_reference)
        )
        return logps

    trainer(tmp_path, own=own, max_steps=2).train()
    logps, mask, token_reference, reference, alternative, alternative_reference = seen[0]
    torch.testing.assert_close(token_reference * mask, logps)
    torch.testing.assert_close(reference, logps.sum(dim=1))
    torch.testing.assert_close(alternative_reference, alternative.sum(dim=1))
    assert (seen[-1][0] - seen[-1][2] * seen[-1][1]).abs().max() > 1e-3, "the model moves on, its reference does not"


def test_alternatives_come_from_the_rows_or_are_refusals():
    encoder = Encoder(tiny.tokenizer())
    records = [to_record(row, "") for row in (FORGET[0], tiny.rows(1)[0])]
    examples = encoder.encode_all(records, "forget")
    attach_alternatives(examples, records, encoder, "alternate", IDK_ANSWERS)
    expected = [{**FORGET[0], "answer": FORGET[0]["alternate"]}, {**FORGET[0], "answer": IDK_ANSWERS[1]}]
    encoded = encoder.encode_all([to_record(row, "") for row in expected], "")
    assert [example["alternative"] for example in examples] == encoded


@pytest.mark.parametrize(
    ("forget", "options", "message"),
    [
        (tiny.rows(4), {"objective": "altpo"}, "row 1: no field 'alternate'.*4 of 4 rows"),
        (FORGET, {"objective": "altpo", "alternative_field": "other"}, "no field 'other'"),
        ([{"text": "Ada lives in red ."}], {"objective": "dpo"}, "plain texts have no question"),
        (FORGET, {"objective": "rmu", "hidden_module": "layers.9"}, "'layers.9' matches no module; there are"),
        (FORGET, {"objective": "rmu", "hidden_module": r"layers\.\d"}, "matches 2 modules, such as model.layers.0"),
        (FORGET, {"objective": "rmu", "hidden_module": "("}, "not a regular expression"),
        (FORGET, {"trainable_params": "down_prjo"}, "'down_prjo' matches no parameter; there are"),
        (FORGET, {"objective": "rmu", "retain_loss": "nll"}, "objective rmu and retain loss rmu belong together"),
        (FORGET, {"objective": "ga", "steering_coefficient": 3.0}, "'ga' has no steering_coefficient"),
        (FORGET, {"rectification": "gru/elemnt"}, "unknown part 'elemnt'"),
        (FORGET, {"rectification": "pcgrad/update"}, "only gru, cosine-clip and free work in update space"),
        (FORGET, {"rectification": "gru/update/metric/temper", "optim": "sgd"}, "and optim 'sgd' is another optimizer"),
        (FORGET, {"retain_batch_size": 0}, "retain_batch_size must be at least 1"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(tmp_path, forget, options, message):
    with pytest.raises(UserError, match=message) as error:
        trainer(tmp_path, forget=forget, **options)
    assert "\n" not in str(error.value)


def test_rmu_moves_only_the_parameters_it_is_told_to(tmp_path):
    pattern = r"layers\.0\.mlp\.down_proj"
    run = trainer(tmp_path, objective="rmu", trainable_params=pattern, hidden_module=r"layers\.0", rectification="none")
    start = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    run.train()
    moved = {name for name, p in run.model.named_parameters() if not torch.equal(p, start[name])}
    assert moved == {name for name in start if re.search(pattern, name)}
    assert find_module(run.model, r"layers\.0") is run.model.model.layers[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 4), ({"retain_batch_size": 10}, 10), ({"rectification": "recommended"}, 16)],
)
def test_as_many_retain_examples_as_asked_for(tmp_path, options, expected):
    batches = next(iter(trainer(tmp_path, **options).get_train_dataloader()))
    sizes = {side: [len(batch["labels"]) for batch in batches[side]] for side in batches}
    assert sizes["forget"] == [4]
    assert sum(sizes["retain"]) == expected
    assert max(sizes["retain"]) == 4, "more rows cost no memory"


def test_an_objective_of_your_own_as_the_page_shows_it(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "objectives.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    names = {}
    exec(code, names)
    run = trainer(tmp_path, own=names["my_objective"], max_steps=6)
    run.train()
    evaluations = [row["eval_forget_prob"] for row in run.state.log_history if "eval_forget_prob" in row]
    assert run.evaluate()["eval_forget_prob"] < evaluations[0], "it forgets"


def test_settings_of_your_own_objective_as_the_page_shows_them(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "objectives.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (text,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    names = {}
    exec(code, names)
    margins = []

    def watched(logps, mask, token_reference, margin=2.0):
        margins.append(margin)
        return names["my_objective"](logps, mask, token_reference, margin)

    settings = yaml.safe_load(text)
    assert settings.pop("output_dir") == "runs/mine"
    trainer(tmp_path, own=watched, **settings).train()
    assert set(margins) == {3.0}
    with pytest.raises(UserError, match="objective 'my_objective' has no margins"):
        trainer(tmp_path, own=names["my_objective"], objective_args={"margins": 3.0})
    with pytest.raises(UserError, match="margin must be finite, got nan"):
        trainer(tmp_path, own=names["my_objective"], objective_args="margin=NaN")
    with pytest.raises(UserError, match="objective 'npo' has no margin"):
        trainer(tmp_path, objective_args={"margin": 3.0})


@pytest.mark.parametrize("written", [{"beta1": 4, "beta2": "2e0"}, "beta1=4.0, beta2=2", '{"beta1": 4, "beta2": 2.0}'])
def test_hyper_parameters_are_numbers_however_they_are_written(tmp_path, written):
    old = UnlearningConfig(objective="satimp", beta1=4.0, beta2=2.0, output_dir=str(tmp_path), use_cpu=True)
    new = UnlearningConfig(objective="satimp", objective_args=written, output_dir=str(tmp_path), use_cpu=True)
    new.check_objective_args()
    assert new.objective_args == old.objective_args == {"beta1": 4, "beta2": 2}
    assert "beta1" not in new.to_dict()
    assert dataclasses.replace(old, objective_args=None).objective_args is None


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("beta", "expected name=value"),
        ("{", "objective_args: not valid JSON"),
        ({"a b": 1}, "'a b' cannot be the name of a parameter"),
    ],
)
def test_hyper_parameters_that_nothing_can_have(tmp_path, written, message):
    with pytest.raises(UserError, match=message):
        UnlearningConfig(objective_args=written, output_dir=str(tmp_path), use_cpu=True)


def test_a_script_of_your_own_parses_settings_as_those_of_transformers():
    words = ["--objective", "simnpo", "--objective_args", "beta=2,delta=1", "--use_cpu", "--output_dir", "runs/mine"]
    (config,) = HfArgumentParser(UnlearningConfig).parse_args_into_dataclasses(words)
    assert config.hyperparameters == {"beta": 2, "delta": 1}


def test_old_names_of_settings_still_work_and_say_so():
    assert renamed_settings({"beta": 1, "delta": 2, "beta1": None, "seed": 3}) == {
        "seed": 3,
        "objective_args": {"beta": 1, "delta": 2},
    }
    with pytest.raises(UserError, match=r"beta is an old name of objective_args\.beta, and objective_args is set"):
        renamed_settings({"beta": 1, "objective_args": "delta=2"})
    with pytest.warns(RenamedSetting, match=r"beta is an old name .*: set objective_args\.beta instead"):
        recipe = make_recipe({"model": "m", "forget": "f", "beta": "0.5", "use_cpu": True})
    assert recipe.settings["objective_args"] == recipe.config.objective_args == {"beta": 0.5}
    same = make_recipe({"model": "m", "forget": "f", "objective_args": "beta=5e-1", "use_cpu": True})
    assert same.settings == recipe.settings


@pytest.mark.parametrize(
    ("text", "metrics", "score"),
    [
        ("max a", {"a": 2.0}, 2.0),
        ("min a", {"a": 2.0}, -2.0),
        ("max a if b <= 0.5", {"a": 2.0, "b": 0.5}, 2.0),
        ("max a if b < 0.5", {"a": 2.0, "b": 0.5}, None),
        ("max a if b <= goal and a >= 1e-1", {"a": 2.0, "b": 0.5, "goal": 0.6}, 2.0),
        ("max a if b <= goal and a >= 3", {"a": 2.0, "b": 0.5, "goal": 0.6}, None),
        ("max a", {"a": float("nan")}, None),
    ],
)
def test_rules_for_the_best_model(text, metrics, score):
    assert parse_rule(text).score(metrics) == score


@pytest.mark.parametrize(
    "text", ["model_utility", "max", "max a when b < 1", "max a if b = 1", "max a if b < 1 or c > 2"]
)
def test_a_rule_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="is not of the form 'max METRIC if METRIC <= VALUE'"):
        parse_rule(text)


def test_the_best_model_by_the_rule_is_kept(tmp_path):
    """Utility falls along the run and forgetting grows: the best allowed model is the first that forgot enough."""
    saved = []

    def save(folder):
        Path(folder).mkdir()
        (Path(folder) / "step").write_text(str(saved[-1]))

    class State:
        global_step = 0

    keep = KeepBest(parse_rule("max utility if forget_prob <= goal"), tmp_path, {"goal": 0.5}, save)
    for step, (utility, forget) in enumerate([(0.9, 0.9), (0.8, 0.4), (0.7, 0.3), (0.85, 0.6)]):
        State.global_step = step
        saved.append(step)
        keep.on_evaluate(None, State, None, metrics={"eval_utility": utility, "eval_forget_prob": forget})
    assert (tmp_path / "best" / "step").read_text() == "1"
    assert json.loads((tmp_path / "best.json").read_text())["step"] == 1
    again = KeepBest(keep.rule, tmp_path, {"goal": 0.5}, save)
    assert again.best == keep.best, "a resumed run knows the best so far"
    with pytest.raises(UserError, match="no metric 'utility' in this run; did you mean 'utilty'"):
        keep.on_evaluate(None, State, None, metrics={"eval_utilty": 1.0, "eval_forget_prob": 0.1})
