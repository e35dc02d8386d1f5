"""The command line as people use it: exit codes, one clear line, nothing lost, runs that go on where they stopped."""

import json
import subprocess
import sys

import pytest
import yaml
from safetensors.torch import load_file

import tiny
from gru_unlearn.cli.unlearn import unlearn

FAST = [
    "--max-steps", "6", "--per-device-train-batch-size", "4", "--gradient-accumulation-steps", "1",
    "--learning-rate", "5e-3", "--warmup-steps", "0", "--use-cpu",
]  # fmt: skip


@pytest.fixture
def world(tmp_path):
    """A folder as a user has it: a model, a forget and a retain file."""
    return tiny.save_world(tmp_path)


def inputs(world, **changes):
    flags = {"model": world / "model", "forget": world / "forget.jsonl", "retain": world / "retain.jsonl"}
    flags |= {"output-dir": world / "run"} | changes
    return [word for name, value in flags.items() if value is not None for word in (f"--{name}", str(value))]


def everything_in(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_unlearn_from_flags(gru, world):
    code, out, err = gru("unlearn", *inputs(world), *FAST, "--eval-strategy", "steps", "--eval-steps", "2")
    assert code == 0, err
    assert f"{world}/run/summary.json" in out
    summary = json.loads((world / "run" / "summary.json").read_text())
    assert summary["steps"] == 6
    assert [point["step"] for point in summary["trajectory"]] == [0, 2, 4, 6]
    assert summary["results"]["objective"] == "npo"
    assert summary["results"]["forget_prob"] == summary["trajectory"][-1]["forget_prob"]
    assert summary["data"]["forget"]["rows"] == 6
    assert len(summary["data"]["forget"]["sha256"]) == len(summary["model"]["sha256"]) == 64
    assert {"python", "torch", "transformers", "gru-unlearn"} <= set(summary["versions"])
    assert summary["settings"]["learning_rate"] == 5e-3
    assert load_file(world / "run" / "model" / "model.safetensors")


def test_without_a_schedule_the_results_are_those_of_the_saved_model(gru, world):
    code, _, err = gru("unlearn", *inputs(world), *FAST)
    assert code == 0, err
    summary = json.loads((world / "run" / "summary.json").read_text())
    assert [point["step"] for point in summary["trajectory"]] == [0, 6]
    assert summary["results"]["forget_prob"] < 0.9 * summary["trajectory"][0]["forget_prob"]


def test_recipe_and_flags_meet_and_flags_win(gru, world):
    recipe = {
        "model": str(world / "model"), "forget": str(world / "forget.jsonl"), "retain": str(world / "retain.jsonl"),
        "objective": "ga", "learning_rate": "1e-3", "max_steps": 3, "per_device_train_batch_size": 4, "use_cpu": True,
        "lr_scheduler_type": "constant", "output_dir": str(world / "elsewhere"),
    }  # fmt: skip
    (world / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    code, _, err = gru("unlearn", world / "recipe.yaml", "--objective=simnpo", "--output-dir", world / "run")
    assert code == 0, err
    settings = json.loads((world / "run" / "summary.json").read_text())["settings"]
    assert (settings["objective"], settings["learning_rate"]) == ("simnpo", 1e-3)
    assert settings["lr_scheduler_type"] == "constant"
    assert not (world / "elsewhere").exists()


def test_retain_model_gives_the_mark_and_rmf(gru, world):
    tiny.save(world / "other", seed=3)
    code, out, err = gru(
        "unlearn", *inputs(world), *FAST, "--retain-model", world / "other", "--held-out", f"{world}/retain.jsonl[:4]",
        "--retain", f"{world}/retain.jsonl[4:]", "--eval-strategy=steps", "--eval-steps=1",
    )  # fmt: skip
    assert code == 0, err
    results = json.loads((world / "run" / "summary.json").read_text())["results"]
    assert 0 < results["forget_target"] < 1
    assert "rmf" in results
    assert "rmf_held_out" in results
    assert "held-out probability" in out


def test_lora_from_flags(gru, world):
    code, _, err = gru(
        "unlearn", *inputs(world), *FAST, "--use-peft", "--lora-r", "2", "--lora-target-modules", "q_proj,v_proj"
    )
    assert code == 0, err
    assert (world / "run" / "model" / "adapter_model.safetensors").is_file()


def test_a_switch_before_the_recipe_does_not_swallow_it():
    given = unlearn.make_context("unlearn", ["--use-cpu", "r.yaml", "--beta", "1"]).params["given"]
    assert (given.recipe, given.flags) == ("r.yaml", {"use_cpu": "true", "beta": "1"})


def test_dry_run_writes_nothing(gru, world):
    before = everything_in(world)
    code, out, _ = gru("unlearn", *inputs(world), *FAST, "--dry-run")
    assert code == 0
    assert "6 rows" in out
    assert "nothing written" in out
    assert everything_in(world) == before


@pytest.mark.parametrize("missing", ["eos_token", "pad_token"])
def test_a_tokenizer_without_eos_or_pad(gru, world, missing):
    tokenizer = tiny.tokenizer()
    setattr(tokenizer, missing, None)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(world / "model")
    code, _, err = gru("unlearn", *inputs(world), *FAST)
    assert code == 2
    assert f"has no {missing}" in err
    named = "<eos>" if missing == "eos_token" else "<pad>"
    code, _, err = gru("unlearn", *inputs(world), *FAST, f"--{missing.replace('_', '-')}", named, "--dry-run")
    assert code == 0, err


def test_a_finished_or_another_run_is_not_overwritten(gru, world):
    assert gru("unlearn", *inputs(world), *FAST)[0] == 0
    before = everything_in(world)
    code, _, err = gru("unlearn", *inputs(world), *FAST)
    assert (code, "holds this run, finished" in err) == (2, True)
    code, _, err = gru("unlearn", *inputs(world), *FAST, "--objective", "ga")
    assert (code, "holds another run (different: settings.objective)" in err) == (2, True)
    (world / "retain.jsonl").write_text(json.dumps(tiny.rows(1, start=20)[0]))
    code, _, err = gru("unlearn", *inputs(world), *FAST)
    assert (code, "holds another run (different: retain)" in err) == (2, True)
    assert everything_in(world / "run") == {
        p.relative_to("run"): content for p, content in before.items() if p.parts[0] == "run"
    }
    assert gru("unlearn", *inputs(world), *FAST, "--overwrite-output-dir")[0] == 0


def test_a_huge_learning_rate_ends_with_3_and_saves_no_nan(gru, world):
    flags = [*FAST, "--save-steps", "1", "--max-grad-norm", "0", "--optim", "sgd", "--learning-rate", "1e30"]
    code, _, err = gru("unlearn", *inputs(world, **{"objective": "ga"}), *flags)
    assert code == 3, err
    assert "not finite" in err
    assert not (world / "run" / "model").exists()
    assert not (world / "run" / "summary.json").exists()
    for checkpoint in (world / "run").glob("checkpoint-*/model.safetensors"):
        assert all(t.isfinite().all() for t in load_file(checkpoint).values())


def test_help_and_version_answer_without_heavy_imports():
    code = "import sys; sys.argv = ['gru', '--help']\nfrom gru_unlearn.cli.main import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'transformers', 'datasets', 'scipy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "unlearn" in done.stdout


def test_help_of_every_command_answers_without_heavy_imports():
    code = "import sys\nfrom gru_unlearn.cli.main import app\n"
    code += "for name in app.commands: app([name, '--help'], standalone_mode=False)\n"
    code += "for name in app.commands['requests'].commands: app(['requests', name, '--help'], standalone_mode=False)\n"
    code += "assert not {'torch', 'transformers', 'datasets', 'scipy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for flag in ("--max-steps", "--unseen-split", "--utility-floor", "--alphas", "--answer-share", "--evaluation"):
        assert flag in done.stdout


def test_version(gru):
    code, out, _ = gru("--version")
    assert (code, out.startswith("gru-unlearn ")) == (0, True)


def test_every_setting_is_listed_with_its_help(gru):
    code, out, _ = gru("unlearn", "--list-settings")
    assert code == 0
    names = {line.split()[0] for line in out.splitlines() if line.startswith("  ")}
    assert {"objective", "new_gradient_weight", "learning_rate", "lora_r", "save_steps", "bf16"} <= names


def test_an_old_flag_still_works_and_says_which_one_holds_today(gru, world, tmp_path):
    rows = ["--forget", world / "forget.jsonl", "--retain", world / "retain.jsonl"]
    told = {}
    for flag in ("--holdout", "--unseen"):
        out = tmp_path / flag
        code, printed, err = gru(
            "evaluate", "--suite", "own", "--model", world / "model", *rows, flag, world / "retain.jsonl", "--out", out
        )
        assert (code, err) == (0, "")
        told[flag] = printed.count("--holdout is an old name that still works: use --unseen instead")
        assert json.loads((out / "summary.json").read_text())["data"]["holdout"]["rows"] == 12
    assert told == {"--holdout": 1, "--unseen": 0}


def test_an_old_setting_still_works_and_says_which_one_holds_today(gru, world):
    row = {**tiny.rows(1)[0], "paraphrased_answer": "Ada .", "perturbed_answer": ["Bob .", "Dan ."]}
    for name in ("forget10_perturbed", "retain_perturbed", "real_authors_perturbed", "world_facts_perturbed"):
        (world / f"{name}.json").write_text(json.dumps([row]))
    (world / "holdout01.json").write_text(json.dumps(tiny.rows(1, start=4)))
    given = ["--eval-suite", "tofu", "--eval-data", world, "--eval-holdout-split", "holdout01", "--dry-run"]
    code, out, err = gru("unlearn", *inputs(world), *FAST, *given)
    assert (code, err) == (0, "")
    assert out.count("eval_holdout_split is an old name that still works: set eval_unseen_split instead") == 1


@pytest.mark.parametrize("flag", ["minimize: forget_prob, where: {retain_prob: {at_least: 0}}", None])
def test_the_best_model_by_a_rule_in_one_line_or_in_a_recipe(gru, world, flag):
    rule = {"keep_best": {"minimize": "forget_prob", "where": {"retain_prob": {"at_least": 0}}}}
    (world / "rule.yaml").write_text(yaml.safe_dump(rule))
    given = ["--keep-best", flag] if flag else [world / "rule.yaml"]
    code, out, err = gru("unlearn", *inputs(world), *FAST, *given, "--eval-strategy", "steps", "--eval-steps", "3")
    assert (code, "old form" in out) == (0, False), err
    summary = json.loads((world / "run" / "summary.json").read_text())
    assert summary["best"]["step"] == 6
    assert summary["settings"]["keep_best"] == "minimize: forget_prob, where: {retain_prob: {at_least: 0.0}}"


def test_the_old_form_of_the_rule_says_what_the_new_one_is(gru, world):
    given = ["--keep-best", "max retain_prob if forget_prob <= 0.5", "--eval-strategy", "epoch", "--dry-run"]
    code, out, err = gru("unlearn", *inputs(world), *FAST, *given)
    assert (code, err) == (0, "")
    assert out.count("set 'maximize: retain_prob, where: {forget_prob: {at_most: 0.5}}' instead") == 1


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("maximise: a", "keep_best: unknown word 'maximise'; did you mean 'maximize'?"),
        ("maximize: a, where: {b: {atmost: 1}}", "keep_best.where.b: unknown word 'atmost'; did you mean 'at_most'?"),
        ("where: {b: {at_most: 1}}", "keep_best: it needs either maximize or minimize"),
        ("maximize: a, where: {b: {at_most: .nan}}", "keep_best.where.b"),
        ("maximize: [a", "--keep-best, line 1: not valid YAML"),
    ],
)
def test_a_rule_that_cannot_be(gru, world, rule, message):
    code, _, err = gru("unlearn", *inputs(world), *FAST, "--keep-best", rule, "--eval-strategy", "epoch")
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


def test_settings_that_act_are_accepted_and_so_are_those_that_are_off(gru, world):
    (world / "off.yaml").write_text("stop_at_forget_prob: null\nstop_when_forgotten: false\neval_data: null\n")
    code, _, err = gru("unlearn", world / "off.yaml", *inputs(world), *FAST, "--dry-run")
    assert (code, err) == (0, "")
    rule = "maximize: model_utility, where: {forget_Q_A_Prob: {at_most: retain_prob}}"
    given = ["--eval-suite", "own", "--stop-at-forget-prob", "0.1", "--keep-best", rule, "--eval-strategy", "epoch"]
    code, _, err = gru("unlearn", *inputs(world), *FAST, *given, "--dry-run")
    assert (code, err) == (0, "")


def test_task_vectors_take_the_mark_without_evaluations_and_a_comparison_shares_what_is_idle_in_some_runs(gru, world):
    given = inputs(world, **{"retain": None, "output-dir": None, "stop-at-forget-prob": "0.01"})
    code, _, err = gru("tru", *given, *FAST, "--lora-r", "2", "--out", world / "tru")
    assert (code, err) == (0, "")
    tiny.save(world / "other", seed=1)
    shared = [
        "--retain-model",
        world / "other",
        "--hidden-module",
        "mlp",
        "--eval-steps",
        "3",
        "--alternative-field",
        "x",
    ]
    given = ["--objectives", "npo", "--rectifications", "none", *shared]
    code, _, err = gru("compare", *inputs(world), *FAST, *given)
    assert (code, err) == (0, "")
