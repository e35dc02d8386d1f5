import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gru_unlearn.data import Encoder, collate, load_records, to_record
from gru_unlearn.data.people import make_people
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import token_logps
from gru_unlearn.training import builtin
from gru_unlearn.training.builtin_recipe import texts_of, train_builtin
from gru_unlearn.training.fine_tuning import batches_of_similar_length

SETS = ("forget", "retain", "held_out", "general")


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by writing a file a model; collects the folders of the builds."""
    builds = []

    def cheap(folder, report):
        builds.append(folder)
        time.sleep(0.2)
        for name in builtin.LEARNS:
            (folder / name / "model.safetensors").touch()
            report(name, 1.0)

    monkeypatch.setattr(builtin, "_train_models", cheap)
    return builds


def fail(folder, report):
    raise RuntimeError("no memory left")


def test_a_build_holds_tokenizers_models_and_rows(tmp_path, trained):
    made = builtin.builtin_benchmark(tmp_path)
    for model in (made.target, made.retain_model):
        assert (model / "model.safetensors").exists()
        assert (model / "tokenizer.json").exists()
    for name, rows in make_people().items():
        assert [record.row for record in load_records(f"{made.data}:{name}")] == rows


def test_a_second_call_reuses_the_build(tmp_path, trained):
    seen = []
    first = builtin.builtin_benchmark(tmp_path, on_progress=lambda model, done: seen.append((model, done)))
    assert builtin.builtin_benchmark(tmp_path, on_progress=lambda *_: pytest.fail("built again")) == first
    assert len(trained) == 1
    assert seen == [("target", 1.0), ("retain_model", 1.0)]


def test_callers_at_the_same_time_build_once(tmp_path, trained):
    start = threading.Barrier(4)

    def call(_):
        start.wait()
        return builtin.builtin_benchmark(tmp_path)

    with ThreadPoolExecutor(4) as pool:
        results = set(pool.map(call, range(4)))
    assert len(results) == len(trained) == 1
    assert results.pop().target.is_dir()


@pytest.mark.slow
def test_processes_at_the_same_time_build_once(tmp_path):
    program = """
import pathlib, sys, time
from gru_unlearn.training import builtin
cache = pathlib.Path(sys.argv[1])
def cheap(folder, report):
    with (cache / "builds").open("a") as file:
        file.write("built ")
    time.sleep(3)
builtin._train_models = cheap
print(builtin.builtin_benchmark(cache).target.is_dir())
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in processes] == ["True", "True"]
    assert (tmp_path / "builds").read_text() == "built "


def test_a_build_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, trained):
    with monkeypatch.context() as patch:
        patch.setattr(builtin, "_train_models", fail)
        with pytest.raises(RuntimeError, match="no memory left"):
            builtin.builtin_benchmark(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert (builtin.builtin_benchmark(tmp_path).target / "model.safetensors").exists()


def test_remains_of_a_killed_build_are_never_used(tmp_path, trained):
    """A killed process cannot clean up: its folder stays, and the next build must not pick anything from it."""
    folder = builtin.builtin_benchmark(tmp_path).target.parent
    remains = folder.with_suffix(".unfinished")
    folder.rename(remains)
    (remains / "target" / "half").touch()
    again = builtin.builtin_benchmark(tmp_path)
    assert len(trained) == 2
    assert not (again.target / "half").exists()
    assert not remains.exists()


@pytest.mark.slow
def test_a_build_killed_while_training_is_built_anew_and_its_processes_end(tmp_path, trained):
    program = (
        "import pathlib, sys; from gru_unlearn.training.builtin import builtin_benchmark as build;"
        "build(pathlib.Path(sys.argv[1]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    try:
        assert wait_until(lambda: len(logs(tmp_path)) == 2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (killed,) = {log.parent.parent for log in logs(tmp_path)}
    assert wait_until(lambda: all("the building process is gone" in log.read_text() for log in logs(tmp_path)))
    assert builtin.builtin_benchmark(tmp_path).target.is_dir()
    assert trained == [killed]
    assert not killed.exists()


def logs(cache):
    return list(cache.glob("*/*/training.log"))


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


def test_the_cache_key_follows_rows_recipe_and_libraries(monkeypatch):
    rows = make_people()
    keys = {builtin._fingerprint(rows), builtin._fingerprint(make_people(seed=1))}
    with monkeypatch.context() as patch:
        patch.setattr(builtin, "RECIPE", replace(builtin.RECIPE, seed=1))
        keys.add(builtin._fingerprint(rows))
    with monkeypatch.context() as patch:
        patch.setattr(builtin, "version", lambda name: "0.0")
        keys.add(builtin._fingerprint(rows))
    assert len(keys) == 4
    assert builtin._fingerprint(rows) in keys


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert builtin.default_cache() == tmp_path / "own"
    monkeypatch.delenv("GRU_UNLEARN_CACHE")
    assert builtin.default_cache() == tmp_path / "xdg" / "gru-unlearn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert builtin.default_cache() == tmp_path / ".cache" / "gru-unlearn"


def test_a_cache_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="GRU_UNLEARN_CACHE"):
        builtin.builtin_benchmark(tmp_path / "file")


@pytest.mark.slow
def test_a_failed_training_process_is_one_clear_error(tmp_path):
    """The retain model's process finds no tokenizer; the target's is ended, not waited for."""
    rows = make_people()
    builtin._write_rows(tmp_path / "data", rows)
    builtin.make_tokenizer(rows).save_pretrained(tmp_path / "target")
    (tmp_path / "retain_model").mkdir()
    with pytest.raises(UserError, match=r"training the built-in retain_model failed \(exit code 1\): \w+") as error:
        builtin._train_models(tmp_path, lambda *_: None)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "target" / "model.safetensors").exists()


def test_rows_that_are_not_learnt_are_an_error_and_no_model_is_saved(tmp_path):
    rows = {name: its_rows[:4] for name, its_rows in make_people().items()}
    builtin._write_rows(tmp_path / "data", rows)
    builtin.make_tokenizer(rows).save_pretrained(tmp_path / "target")
    with pytest.raises(RuntimeError, match="not been learnt"):
        list(train_builtin(tmp_path, "target", replace(builtin.RECIPE, epochs=1, batch_size=4)))
    assert not (tmp_path / "target" / "model.safetensors").exists()


def test_training_is_deterministic(tmp_path):
    rows = {name: its_rows[:8] for name, its_rows in make_people().items()}
    builtin._write_rows(tmp_path / "data", rows)
    builtin.make_tokenizer(rows).save_pretrained(tmp_path / "target")
    recipe = replace(builtin.RECIPE, epochs=2, highest_loss=100.0)
    assert list(train_builtin(tmp_path, "target", recipe)) == list(train_builtin(tmp_path, "target", recipe))


def test_batches_hold_every_example_once_with_little_padding():
    examples = [{"input_ids": [0] * length, "labels": [number]} for number, length in enumerate([20, 30, 40] * 50)]
    batches = list(batches_of_similar_length(examples, 16, Random(0)))
    assert sorted(example["labels"][0] for batch in batches for example in batch) == list(range(150))
    assert max(map(len, batches)) == 16
    padded = sum(len(batch) * max(len(example["input_ids"]) for example in batch) for batch in batches)
    assert padded < 1.1 * sum(len(example["input_ids"]) for example in examples)


def test_the_tokenizer_gives_back_every_text_and_does_not_favour_the_truth():
    rows = make_people()
    tokenizer = builtin.make_tokenizer(rows)
    truth, wrong = [], []
    for row in (row for its_rows in rows.values() for row in its_rows):
        for text in texts_of({"": [row]}):
            assert tokenizer.decode(tokenizer(text).input_ids) == text
        truth.append(len(tokenizer(row["paraphrased_answer"]).input_ids))
        wrong += [len(tokenizer(text).input_ids) for text in row["perturbed_answer"]]
    assert sum(truth) / len(truth) == pytest.approx(sum(wrong) / len(wrong), rel=0.02)


# From here on with the real models, from the default cache.


@pytest.fixture(scope="module")
def made():
    return builtin.builtin_benchmark()


def load(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(folder).eval(), Encoder(tokenizer)


@torch.no_grad()
def exact_answers(model, encoder, records):
    """Share of the answers that greedy generation gives word for word."""
    batch = encoder.tokenizer.pad({"input_ids": [encoder.prompt_ids(r) for r in records]}, return_tensors="pt")
    ids = model.generate(**batch, max_new_tokens=40, do_sample=False)[:, batch["input_ids"].shape[1] :]
    texts = encoder.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return sum(text == record.answer for text, record in zip(texts, records, strict=True)) / len(records)


@torch.no_grad()
def mean_probability(model, encoder, records):
    batch = collate(encoder.encode_all(records, "rows"), encoder.tokenizer.pad_token_id)
    logps, mask = token_logps(model, **batch)
    return (logps.sum(dim=1) / mask.sum(dim=1)).exp().mean().item()


@pytest.mark.slow
def test_both_models_know_what_they_should_and_nothing_else(made):
    known = {name: {} for name in builtin.LEARNS}
    probability = {name: {} for name in builtin.LEARNS}
    for name, folder in (("target", made.target), ("retain_model", made.retain_model)):
        model, encoder = load(folder)
        assert 800_000 <= model.num_parameters() <= 1_200_000
        assert model.dtype == torch.float32
        for set_ in SETS:
            records = load_records(f"{made.data}:{set_}")
            known[name][set_] = exact_answers(model, encoder, records)
            probability[name][set_] = mean_probability(model, encoder, records)
    assert min(known["target"].values()) >= 0.95
    assert min(known["retain_model"][set_] for set_ in SETS[1:]) >= 0.95
    assert known["retain_model"]["forget"] <= 0.1
    assert min(probability["target"].values()) > 0.95
    assert 0.2 < probability["retain_model"]["forget"] < 0.6
    for name in builtin.LEARNS:
        assert probability[name]["held_out"] == pytest.approx(probability[name]["retain"], abs=0.02)


@pytest.mark.slow
def test_the_target_prefers_the_truth_in_other_words_and_the_retain_model_does_not(made):
    records = load_records(f"{made.data}:forget")
    preferred = {}
    for folder in (made.target, made.retain_model):
        model, encoder = load(folder)
        preferred[folder] = sum(prefers_truth(model, encoder, record.row) for record in records) / len(records)
    assert preferred[made.target] > 0.5
    assert preferred[made.retain_model] < 0.35  # chance is one in six


def prefers_truth(model, encoder, row):
    """Asked in other words, is the true answer more probable than each wrong one?"""
    truth, *wrong = (
        mean_probability(
            model, encoder, [to_record({"question": row["paraphrased_question"], "answer": answer}, "row")]
        )
        for answer in (row["paraphrased_answer"], *row["perturbed_answer"])
    )
    return truth > max(wrong)
