"""A model that would be measured by itself is noticed, by its folder, a link to it, or equal weights."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from gru_unlearn.models.weights import same_weights


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = tmp_path_factory.mktemp("world")
    tiny.save(world / "model")
    tiny.save(world / "other", seed=3)
    (world / "link").symlink_to(world / "model")
    shutil.copytree(world / "model", world / "copy")
    config = world / "copy" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"transformers_version": "0"}))
    shutil.copytree(world / "model", world / "nearly")
    weights = load_file(world / "nearly" / "model.safetensors")
    last = sorted(weights)[-1]
    weights[last] = torch.nextafter(weights[last], weights[last] + 1)
    save_file(weights, world / "nearly" / "model.safetensors", metadata={"format": "pt"})
    sets = {"forget": tiny.rows(6), "retain": tiny.rows(12, start=6), "held": tiny.rows(6, start=18)}
    for name, rows in sets.items():
        (world / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return world


@pytest.mark.parametrize(
    ("other", "same"), [("model", True), ("link", True), ("copy", True), ("other", False), ("nearly", False)]
)
def test_models_are_the_same_by_their_weights(world, other, same):
    assert same_weights(world / "model", world / other) is same
    assert same_weights(world / other, world / "model") is same


def test_adapters_are_the_same_on_one_base_only(world, tmp_path):
    for name, base in (("a", "model"), ("b", "link"), ("c", "other")):
        (tmp_path / name).mkdir()
        save_file({"w": torch.ones(2)}, tmp_path / name / "adapter_model.safetensors")
        config = {"base_model_name_or_path": str(world / base)}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config))
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")
    assert not same_weights(tmp_path / "a", world / "model")


COMMANDS = {
    "unlearn": "--retain W/retain.jsonl --output-dir W/out --use-cpu=true --dry-run",
    "tru": "--retain W/retain.jsonl --out W/out --use-cpu=true",
    "compare": "--retain W/retain.jsonl --held-out W/held.jsonl --output-dir W/out --max-steps 2 --eval-steps 1 "
    "--eval-strategy steps --use-cpu=true --dry-run",
    "attack": "--target W/model --retain W/retain.jsonl --out W/out",
}


@pytest.mark.parametrize("yardstick", ["model", "link", "copy"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_retain_model_that_is_the_target_is_refused(gru, world, command, yardstick):
    words = [word.replace("W/", f"{world}/") for word in COMMANDS[command].split()]
    model = world / ("other" if command == "attack" else "model")
    given = ["--model", model, "--retain-model", world / yardstick, "--forget", world / "forget.jsonl"]
    code, _, err = gru(command, *given, *words)
    assert code == 2, err
    assert f"--retain-model {world / yardstick} has the weights of the" in err
    assert err.count("\n") == 1
    assert not (world / "out").exists()


def test_an_evaluation_says_that_the_model_is_its_own_yardstick(gru, world, tmp_path):
    given = ["--suite", "own", "--forget", world / "forget.jsonl", "--retain", world / "retain.jsonl"]
    for yardstick, noticed in (("copy", True), ("other", False)):
        models = ["--model", world / "model", "--retain-model", world / yardstick]
        code, out, err = gru("evaluate", *models, *given, "--out", tmp_path / yardstick)
        assert code == 0, err
        assert ("The retain model has the weights of the model" in out) is noticed


def test_an_evaluation_finds_rows_in_two_sets(gru, world, tmp_path):
    rows = tiny.rows(3)
    rows[0]["answer"] += " \r\n"
    (tmp_path / "unseen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["evaluate", "--suite", "own", "--model", world / "model", "--forget", world / "forget.jsonl"]
    code, _, err = gru(*given, "--unseen", tmp_path / "unseen.jsonl", "--out", tmp_path / "out")
    assert code == 2
    assert "3 of 6 forget rows are also in the unseen set (the first: " in err
    code, out, err = gru(*given, "--retain", tmp_path / "unseen.jsonl", "--out", tmp_path / "out")
    assert code == 0, err
    assert "3 of 6 forget rows are also among those to keep" in out
    both = ["--retain", world / "retain.jsonl", "--unseen", world / "retain.jsonl"]
    code, out, err = gru(*given, *both, "--out", tmp_path / "both")
    assert code == 0, err
    assert "12 of 12 unseen rows are also in the retain set" in out
