"""Task vectors: the algebra against a literal reference, memory, bad input, and the whole job."""

import json
import math
import shutil
import tempfile
import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import tiny
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.runs.task_models import tune_task_models
from gru_unlearn.runs.tru_preparation import contiguous_groups
from gru_unlearn.task_vectors import (
    Checkpoint,
    checkpoint,
    measure_conflicts,
    negate_task_vector,
    rectify_task_vectors,
    save_task_vector,
)


def write_model(folder, tensors, shards=1):
    """A model folder; with several shards, an index as transformers writes it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "test"}')
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names, weight_map = list(tensors), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / checkpoint.INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def read_model(folder):
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def random_models(seed, shapes, groups, dtype=torch.float32, overlap=0.7):
    """A target, and for each group two tuned models whose task vectors share ``overlap`` of a random direction."""
    generator = torch.Generator().manual_seed(seed)

    def draw(scale):
        return {f"t{n}": torch.randn(shape, generator=generator) * scale for n, shape in enumerate(shapes)}

    target, shared = draw(1.0), draw(0.1)
    tuned = [
        {name: (target[name] + overlap * shared[name] + noise[name]).to(dtype) for name in target}
        for noise in (draw(0.1) for _ in range(2 * groups))
    ]
    return {name: tensor.to(dtype) for name, tensor in target.items()}, tuned[:groups], tuned[groups:]


def write_all(folder, target, groups, rests, **layout):
    return (
        write_model(folder / "target", target, **layout),
        [write_model(folder / f"group-{n}", model, **layout) for n, model in enumerate(groups)],
        [write_model(folder / f"rest-{n}", model, **layout) for n, model in enumerate(rests)],
    )


def reference(target, groups, rests, alpha, granularity):
    """θ − α Σ (T_i − max(0, ⟨T_i, R_i⟩)/‖R_i‖² R_i), word for word, in float64 with everything in memory."""
    names = list(target)
    blocks = [names] if granularity == "model" else [[name] for name in names]
    result = {name: target[name].double().clone() for name in names}
    for block in blocks:
        for group, rest in zip(groups, rests, strict=True):
            t = torch.cat([(group[name].double() - target[name].double()).flatten() for name in block])
            r = torch.cat([(rest[name].double() - target[name].double()).flatten() for name in block])
            share = max(0.0, float(t @ r)) / float(r @ r) if float(r @ r) > 0 else 0.0
            pieces = (t - share * r).split([target[name].numel() for name in block])
            for name, piece in zip(block, pieces, strict=True):
                result[name] -= alpha * piece.view_as(result[name])
    return result


shapes = st.lists(st.lists(st.integers(1, 7), min_size=0, max_size=3).map(tuple), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shapes=shapes,
    groups=st.integers(1, 4),
    granularity=st.sampled_from(["model", "tensor"]),
    alpha=st.floats(-3, 8),
    overlap=st.floats(-1, 1),
    shards=st.integers(1, 3),
)
def test_equals_the_literal_formula(seed, shapes, groups, granularity, alpha, overlap, shards):
    target, group_models, rest_models = random_models(seed, shapes, groups, overlap=overlap)
    expected = reference(target, group_models, rest_models, alpha, granularity)
    with tempfile.TemporaryDirectory() as folder:
        folders = write_all(Path(folder), target, group_models, rest_models, shards=min(shards, len(shapes)))
        rectify_task_vectors(*folders, Path(folder) / "out", alpha, granularity=granularity)
        result = read_model(Path(folder) / "out")
    assert result.keys() == expected.keys()
    for name, tensor in result.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-5)


def test_sharded_and_single_files_give_the_same_weights(tmp_path):
    models = random_models(0, [(8, 5), (7,), (3, 4, 2), ()], groups=3)
    whole = write_all(tmp_path / "whole", *models)
    sharded = write_all(tmp_path / "sharded", *models, shards=3)
    rectify_task_vectors(*whole, tmp_path / "a", 2.0)
    rectify_task_vectors(*sharded, tmp_path / "b", 2.0)
    rectify_task_vectors(sharded[0], whole[1], sharded[2], tmp_path / "c", 2.0)
    assert [f.name for f in sorted((tmp_path / "b").iterdir())] == [f.name for f in sorted(sharded[0].iterdir())]
    a, b, c = (read_model(tmp_path / name) for name in "abc")
    for name in a:
        assert torch.equal(a[name], b[name])
        assert torch.equal(a[name], c[name])
    index = json.loads((tmp_path / "b" / checkpoint.INDEX_FILE).read_text())
    assert index["weight_map"] == Checkpoint.open(sharded[0]).file_of
    assert (tmp_path / "a" / "config.json").read_bytes() == (whole[0] / "config.json").read_bytes()


def test_after_rectification_no_group_works_against_the_others(tmp_path):
    target, groups, rests = random_models(1, [(30, 20), (50,)], groups=1)
    folders = write_all(tmp_path, target, groups, rests)
    (before,) = measure_conflicts(*folders)
    assert before.cosine > 0.1, "the case must have something to take out"
    save_task_vector(*folders, tmp_path / "vector")
    vector = read_model(tmp_path / "vector")
    along_rest = sum(float((vector[n].double() * (rests[0][n].double() - target[n].double())).sum()) for n in target)
    assert abs(along_rest) < 1e-6 * before.group_norm * before.rest_norm


def test_without_conflict_or_rectification_it_is_plain_negation(tmp_path):
    target, groups, rests = random_models(2, [(9, 4)], groups=1, overlap=0.0)
    rests = [{"t0": target["t0"] - (groups[0]["t0"] - target["t0"])}]  # R = −T
    folders = write_all(tmp_path, target, groups, rests)
    rectify_task_vectors(*folders, tmp_path / "rectified", 0.5)
    rectify_task_vectors(folders[0], folders[1], [], tmp_path / "plain", 0.5, rectified=False)
    expected = target["t0"] - 0.5 * (groups[0]["t0"] - target["t0"])
    torch.testing.assert_close(read_model(tmp_path / "plain")["t0"], expected)
    assert torch.equal(read_model(tmp_path / "plain")["t0"], read_model(tmp_path / "rectified")["t0"])


def test_a_saved_vector_gives_what_the_direct_way_gives(tmp_path):
    folders = write_all(tmp_path, *random_models(3, [(6, 6), (5,)], groups=2, dtype=torch.bfloat16), shards=2)
    rectify_task_vectors(*folders, tmp_path / "direct", 1.5, granularity="tensor")
    save_task_vector(*folders, tmp_path / "vector", granularity="tensor")
    negate_task_vector(folders[0], tmp_path / "vector", tmp_path / "two_steps", 1.5)
    direct, two_steps = read_model(tmp_path / "direct"), read_model(tmp_path / "two_steps")
    for name in direct:
        assert direct[name].dtype == torch.bfloat16
        assert torch.equal(direct[name], two_steps[name])
    assert all(tensor.dtype == torch.float32 for tensor in read_model(tmp_path / "vector").values())


def test_types_may_differ_and_integers_stay(tmp_path):
    target, groups, rests = random_models(4, [(16, 16)], groups=2)
    counter = {"steps": torch.tensor([2**40 + 1])}
    half = {"t0": target["t0"].bfloat16()}
    folders = write_all(
        tmp_path, half | counter, [model | counter for model in groups], [model | counter for model in rests]
    )
    rectify_task_vectors(*folders, tmp_path / "out", 1.0)
    result = read_model(tmp_path / "out")
    assert torch.equal(result["steps"], counter["steps"])
    expected = reference(half, groups, rests, 1.0, "model")["t0"]
    torch.testing.assert_close(result["t0"].double(), expected, rtol=2**-8, atol=1e-6)


def test_memory_does_not_grow_with_model_or_groups(tmp_path, monkeypatch):
    """At no time are more than a few tensors that were read alive, nor is more than one shard written at once."""
    alive, most, written = weakref.WeakSet(), [0], []
    read, save = Checkpoint.read, checkpoint.save_file

    def counting_read(self, name):
        tensor = read(self, name)
        alive.add(tensor.untyped_storage())
        most[0] = max(most[0], len(alive))
        return tensor

    def counting_save(tensors, *args, **kwargs):
        written.append(sum(tensor.nbytes for tensor in tensors.values()))
        save(tensors, *args, **kwargs)

    monkeypatch.setattr(Checkpoint, "read", counting_read)
    monkeypatch.setattr(checkpoint, "save_file", counting_save)
    counts = {}
    for tensors, groups in ((4, 2), (24, 6)):
        folder = tmp_path / f"{tensors}"
        folders = write_all(folder, *random_models(5, [(64, 64)] * tensors, groups), shards=tensors // 4 + 1)
        most[0] = 0
        rectify_task_vectors(*folders, folder / "out", 1.0)
        counts[tensors] = most[0]
    assert counts[24] == counts[4] <= 4
    assert max(written) <= 4 * 64 * 64 * 4


@pytest.mark.parametrize("alpha", [math.nan, math.inf])
def test_alpha_must_be_finite(tmp_path, alpha):
    folders = write_all(tmp_path, *random_models(6, [(2,)], groups=1))
    with pytest.raises(UserError, match="alpha must be finite"):
        rectify_task_vectors(*folders, tmp_path / "out", alpha)


def break_names(target, folder):
    save_file({"other": torch.zeros(2, 2)}, folder / "model.safetensors")


def break_shape(target, folder):
    save_file({"t0": torch.zeros(3, 2)}, folder / "model.safetensors")


def break_file(target, folder):
    (folder / "model.safetensors").write_bytes(b"not tensors")


def remove_file(target, folder):
    (folder / "model.safetensors").unlink()


def make_adapter(target, folder):
    (folder / "adapter_config.json").write_text("{}")


def break_index(target, folder):
    (folder / checkpoint.INDEX_FILE).write_text('{"weight_map": {"t0": "gone.safetensors"}}')


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (break_names, "lacks tensors of .*t0"),
        (break_shape, "t0 has shape"),
        (break_file, "cannot be read"),
        (remove_file, "found none"),
        (make_adapter, "merge it"),
        (break_index, "gone.safetensors cannot be read"),
    ],
)
def test_models_that_do_not_fit_are_refused_in_one_line(tmp_path, spoil, message):
    target, groups, rests = write_all(tmp_path, *random_models(7, [(2, 2)], groups=2))
    spoil(target, rests[1])
    with pytest.raises(UserError, match=message) as caught:
        rectify_task_vectors(target, groups, rests, tmp_path / "out", 1.0)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out*"))


def test_further_misuse(tmp_path):
    target, groups, rests = write_all(tmp_path, *random_models(8, [(2, 2)], groups=2))
    with pytest.raises(UserError, match="one of each"):
        rectify_task_vectors(target, groups, rests[:1], tmp_path / "out", 1.0)
    with pytest.raises(UserError, match="did you mean 'model'"):
        rectify_task_vectors(target, groups, rests, tmp_path / "out", 1.0, granularity="modle")
    with pytest.raises(UserError, match="at least one"):
        rectify_task_vectors(target, [], [], tmp_path / "out", 1.0)
    with pytest.raises(UserError, match="exists already"):
        rectify_task_vectors(target, groups, rests, target, 1.0)


def test_nothing_is_written_that_is_not_finite(tmp_path):
    target, groups, rests = random_models(9, [(4,), (4,)], groups=1, dtype=torch.float16)
    folders = write_all(tmp_path / "big", target, groups, rests)
    with pytest.raises(NonFiniteError, match="smaller alpha"):
        rectify_task_vectors(*folders, tmp_path / "out", 1e7)
    groups[0]["t1"][2] = math.nan
    folders = write_all(tmp_path / "nan", target, groups, rests)
    for rectified in (True, False):
        with pytest.raises(NonFiniteError, match="t1"):
            rectify_task_vectors(*folders, tmp_path / "out", 1.0, rectified=rectified)
    assert not list(tmp_path.glob("out*"))


def test_groups_are_contiguous_and_equal():
    rows = [{"n": n} for n in range(11)]
    groups = contiguous_groups(rows, 4)
    assert [row for group in groups for row in group] == rows
    assert sorted(len(group) for group in groups) == [2, 3, 3, 3]


# --- the whole job ---------------------------------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path):
    """Arguments of a run on a tiny random model."""
    for name, rows in {"forget": tiny.rows(6), "held_out": tiny.rows(6, start=6)}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model, retain_model = tiny.save(tmp_path / "model"), tiny.save(tmp_path / "retain_model", seed=1)
    arguments = {
        "--model": model,
        "--forget": tmp_path / "forget.jsonl",
        "--held-out": tmp_path / "held_out.jsonl",
        "--retain-model": retain_model,
        "--groups": 3,
        "--alphas": "0.5,2,8",
        "--learning-rate": "1e-2",
        "--num-train-epochs": 2,
        "--gradient-accumulation-steps": 1,
        "--out": tmp_path / "run",
    }
    return arguments, tmp_path / "run"


def line(arguments):
    return [str(word) for pair in arguments.items() for word in pair if word is not True]


def test_tru_from_rows_to_model(gru, job):
    arguments, out = job
    code, printed, err = gru("tru", *line(arguments))
    assert code == 0, err
    assert f"{out}/summary.json" in printed
    summary = json.loads((out / "summary.json").read_text())
    saved, points = summary["results"]["tru"], summary["trajectory"]["tru"]
    assert [point["alpha"] for point in points] == [0.0, 0.5, 2.0, 8.0][: len(points)]
    assert saved["forget_prob"] == min(point["forget_prob"] for point in points) < points[0]["forget_prob"]
    assert [group["rows"] for group in summary["groups"]] == [2, 2, 2]
    assert all(group["group_norm"] > 0 for group in summary["groups"])
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "examples.json", "model", "report.html", "run.json", "summary.json",
    ]  # fmt: skip
    assert "answers not counted" not in summary["verdict"]["remarks"]
    rows = json.loads((out / "examples.json").read_text())["sets"]["forget"]["rows"]
    assert len(rows) == 6
    assert all(row[moment]["says"] is not None for row in rows for moment in ("before", "after", "retain_model"))
    assert "of 6 answers word for word" in summary["verdict"]["sentence"]
    own = ["--suite", "own", "--model", out / "model", "--forget", arguments["--forget"], "--out", out.parent / "own"]
    assert gru("evaluate", *own)[0] == 0
    measured = json.loads((out.parent / "own" / "summary.json").read_text())["metrics"]["forget_Q_A_Prob"]
    assert measured == pytest.approx(saved["forget_prob"], abs=1e-4), "the model that is saved is the one measured"


def test_an_interrupted_run_continues_and_ends_alike(gru, job, tmp_path, monkeypatch):
    arguments, out = job
    assert gru("tru", *line(arguments))[0] == 0
    reference_weights = read_model(out / "model")
    shutil.move(out, tmp_path / "uninterrupted")

    trained = []

    def stop_after_four(run, rows, folder, *rest):
        if len(trained) == 4:
            raise KeyboardInterrupt
        trained.append(folder.name)
        original(run, rows, folder, *rest)

    original = tune_task_models.__globals__["_fine_tune"]
    monkeypatch.setattr("gru_unlearn.runs.task_models._fine_tune", stop_after_four)
    assert gru("tru", *line(arguments))[0] == 130
    assert not (out / "summary.json").exists()
    again = []
    monkeypatch.setattr(
        "gru_unlearn.runs.task_models._fine_tune",
        lambda run, rows, folder, *rest: (again.append(folder.name), original(run, rows, folder, *rest)),
    )
    code, printed, err = gru("tru", *line(arguments))
    assert code == 0, err
    assert "4 of 7 task models are there already" in printed
    assert len(again) == 3
    assert not set(again) & set(trained)
    resumed = read_model(out / "model")
    assert all(torch.equal(resumed[name], weights) for name, weights in reference_weights.items())


def test_lora_and_a_fixed_alpha_without_anything_to_compare(gru, job):
    arguments, out = job
    arguments |= {"--use-peft": True, "--lora-r": 2, "--alpha": 3, "--keep": True, "--granularity": "tensor"}
    arguments["--groups"] = 2
    del arguments["--retain-model"], arguments["--held-out"]
    code, _, err = gru("tru", *line(arguments))
    assert code == 0, err
    results = json.loads((out / "summary.json").read_text())["results"]
    assert results["tru"]["alpha"] == results["negated"]["alpha"] == 3.0
    assert results["forget_target"] is None
    base, tuned = Checkpoint.open(out / "tasks" / "target"), Checkpoint.open(out / "tasks" / "group-1")
    change = {name: tuned.read(name).double() - base.read(name).double() for name in base.file_of}
    ranks = {name: int(torch.linalg.matrix_rank(d, tol=1e-5)) for name, d in change.items() if "q_proj" in name}
    assert ranks
    assert all(0 < rank <= 2 for rank in ranks.values())
    assert sorted(path.name for path in (out / "vectors").iterdir()) == ["conflicts.json", "negated", "tru"]
    tasks = sorted(path.name for path in (out / "tasks").iterdir())
    assert tasks == ["all", "group-1", "group-2", "target"], "of two groups, each is the rest of the other"


def test_a_fine_tuning_without_a_step_that_moves_is_an_error(gru, job):
    arguments, out = job
    arguments |= {"--num-train-epochs": 1, "--warmup-steps": 1}  # two rows make one step, at the rate 0
    code, _, err = gru("tru", *line(arguments))
    assert code == 2
    assert "moved no weight: raise --learning-rate" in err
    assert not (out / "summary.json").exists()
