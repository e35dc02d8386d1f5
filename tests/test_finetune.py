"""``gru finetune``: rows are learnt, those left out are not, and a run that was cut short goes on to the same bits."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import tiny
from gru_unlearn.data import Record, Turn, canonical, encoder_for, fingerprint, load_records, to_record
from gru_unlearn.errors import UserError
from gru_unlearn.models.model_settings import ModelSettings
from gru_unlearn.training import to_examples
from gru_unlearn.training.word_for_word import said_word_for_word
from gru_unlearn.tuning.learning import LearningProgress
from gru_unlearn.tuning.rows_to_learn import read_sets, read_sources
from gru_unlearn.tuning.tuning_options import TuningOptions
from gru_unlearn.tuning.tuning_settings import learning_rate_for

FAST = ["--num-train-epochs", "2", "--learning-rate", "1e-2", "--warmup-steps", "0", "--use-cpu"]
LEARNS = [
    "--num-train-epochs", "50", "--learning-rate", "1e-2", "--warmup-steps", "0", "--use-cpu",
    "--per-device-train-batch-size", "4", "--gradient-accumulation-steps", "1",
]  # fmt: skip


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def distinct_rows(count, start=0):
    """Rows that no other asks alike: each has a question of its own."""
    words = [word for word in tiny.WORDS if word not in ("who", "is")]
    return [
        {
            "question": f"who is {words[i // 10]} {words[i % 10]} ?",
            "answer": f"{words[i * 7 % 20]} {words[i * 3 % 11]} .",
        }
        for i in range(start, start + count)
    ]


@pytest.fixture
def world(tmp_path):
    """A base, rows to forget, rows to keep, and rows to measure."""
    tiny.save(tmp_path / "base")
    rows = distinct_rows(20)
    for name, its in (("forget", rows[:4]), ("keep", rows[4:16]), ("held", rows[16:])):
        write(tmp_path / f"{name}.jsonl", its)
    return tmp_path


def words(world, out="out", *, train=("forget", "keep"), **flags):
    given = ["--model", world / "base", "--output-dir", world / out]
    for name in train:
        given += ["--train", world / f"{name}.jsonl"]
    for name, value in flags.items():
        given += [f"--{name.replace('_', '-')}", value]
    return ["finetune", *map(str, given)]


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def weights(folder):
    return (folder / "model" / "model.safetensors").read_bytes()


# --- what comes of it ------------------------------------------------------------------------------------------------


def test_a_target_and_its_retain_model_by_two_commands(gru, world):
    """And a third unlearns from the one to where the other is, which is what the two are for."""
    code, told, err = gru(*words(world, "target", held_out=world / "held.jsonl"), *LEARNS)
    assert code == 0, err
    target = summary_of(world / "target")
    assert target["command"] == "finetune"
    assert target["results"]["train_prob"] > 0.9
    assert target["results"]["held_out_prob"] < 0.5
    assert target["results"]["train_word_for_word"] > 0.9
    assert target["trajectory"][0]["train_prob"] < 0.1
    assert [point["epoch"] for point in target["trajectory"]] == list(range(51))
    assert "The model knows its 16 rows" in told
    assert "--without FORGET" in told

    forget = world / "forget.jsonl"
    code, told, err = gru(*words(world, "retain", without=forget), *LEARNS)
    assert code == 0, err
    retain = summary_of(world / "retain")
    assert (retain["left_out"], retain["data"]["train"]["rows"]) == (4, 12)
    assert retain["results"]["train_prob"] > 0.9
    assert retain["results"]["without_prob"] < 0.5
    assert f"Next: gru unlearn --model TARGET --forget {forget}" in told
    assert not list((world / "retain").glob("checkpoint-*"))

    code, _, err = gru(
        "unlearn", "--model", world / "target", "--retain-model", world / "retain", "--forget", forget,
        "--retain", world / "keep.jsonl", "--output-dir", world / "run", "--max-steps", "1", "--use-cpu",
    )  # fmt: skip
    assert code == 0, err
    marked = summary_of(world / "run")
    assert marked["results"]["forget_target"] == pytest.approx(retain["results"]["without_prob"], abs=1e-6)
    assert marked["trajectory"][0]["retain_prob"] > 0.9


def test_probabilities_are_those_that_gru_evaluate_finds(gru, world):
    code, _, err = gru(*words(world), *FAST)
    assert code == 0, err
    sources = ["--forget", world / "forget.jsonl", "--retain", world / "keep.jsonl"]
    code, _, err = gru("evaluate", "--suite", "own", "--model", world / "out", *sources, "--out", world / "seen")
    assert code == 0, err
    found = summary_of(world / "seen")["metrics"]
    both = (4 * found["forget_Q_A_Prob"] + 12 * found["retain_Q_A_Prob"]) / 16
    assert summary_of(world / "out")["results"]["train_prob"] == pytest.approx(both, abs=1e-5)


def test_it_stops_where_enough_is_learnt(gru, world):
    code, _, err = gru(*words(world, stop_at_prob=0.5), *LEARNS)
    assert code == 0, err
    found = summary_of(world / "out")
    before, last = found["trajectory"][-2:]
    assert before["train_prob"] < 0.5 <= last["train_prob"] == found["results"]["train_prob"]
    assert found["epochs"] == last["epoch"] < 50


def test_a_base_that_knows_enough_is_said(gru, world):
    assert gru(*words(world), *LEARNS)[0] == 0
    code, _, err = gru(*words(world, "again", stop_at_prob=0.5, model=world / "out"), *LEARNS)
    assert (code, "before the first step" in err) == (2, True)


def test_few_epochs_are_not_called_memorised(gru, world):
    code, told, err = gru(*words(world), *FAST)
    assert code == 0, err
    assert "not memorised yet" in told


def test_a_slow_run_is_not_silent_where_there_is_no_bar(gru, world, monkeypatch):
    monkeypatch.setattr("gru_unlearn.reporting.progress.PLAIN_SECONDS", 0.0)
    code, told, err = gru(*words(world), *FAST, "--logging-steps", "100", "--eval-strategy", "no")
    assert code == 0, err
    assert {"1/2", "2/2"} <= set(re.findall(r"fine-tuning · step (\d/\d)", told)), told


# --- which rows ------------------------------------------------------------------------------------------------------


def test_left_out_rows_are_those_and_no_others_row_by_row(gru, world):
    """The same command with the rows that are left gives the same model, to the bit."""
    assert gru(*words(world, "left", without=world / "forget.jsonl"), *FAST)[0] == 0
    assert gru(*words(world, "only", train=("keep",)), *FAST)[0] == 0
    left, only = (summary_of(world / name) for name in ("left", "only"))
    assert left["data"]["train"]["sha256"] == only["data"]["train"]["sha256"]
    assert left["data"]["train"]["sha256"] == fingerprint(load_records(str(world / "keep.jsonl")))
    assert weights(world / "left") == weights(world / "only")


texts = st.sampled_from(["é\n", "e\u0301\r\n", " a ", "a", "b", "b\u00a0c", "c"])
tables = st.lists(st.tuples(texts, texts), min_size=1, max_size=8)


@pytest.mark.filterwarnings("ignore::gru_unlearn.common.notices.Notice")
@given(tables, tables)
def test_what_is_left_to_learn_says_nothing_that_was_to_be_left_out(tmp_path_factory, train, without):
    folder = tmp_path_factory.mktemp("rows")
    for name, rows in (("train", train), ("without", without)):
        write(folder / f"{name}.jsonl", [{"question": "q " + q, "answer": "a " + a} for q, a in rows])
    options = TuningOptions(train=(f"{folder}/train.jsonl",), without=(f"{folder}/without.jsonl",))
    every = load_records(options.train[0])
    unwanted = set(map(canonical, load_records(options.without[0])))
    expected = [record for record in every if canonical(record) not in unwanted]
    if expected in ([], every):
        with pytest.raises(UserError, match="nothing"):
            read_sets(options, None, allow_overlap=False)
        return
    found = read_sets(options, None, allow_overlap=False)["train"]
    assert found.records == expected
    assert found.left_out == len(every) - len(expected)


def test_sources_stand_one_after_the_other_however_they_are_named(world):
    files = [f"{world}/{name}.jsonl" for name in ("forget", "keep")]
    wanted = load_records(files[0]) + load_records(files[1])
    assert read_sources(["+".join(files)]).records == read_sources(files).records == wanted
    assert len(read_sources([f"{files[0]}[:2]+{files[1]}[1:]"]).records) == 2 + 11
    odd = write(world / "a+b.jsonl", distinct_rows(3))
    assert len(read_sources([str(odd)]).records) == 3


def test_what_a_person_may_have_overlooked_is_told(gru, world):
    rows = distinct_rows(4)
    write(world / "forget.jsonl", [*rows[:2], rows[3] | {"answer": "blue ."}, *distinct_rows(1, start=40)])
    write(world / "keep.jsonl", [*rows, rows[2]])
    code, told, err = gru(*words(world, train=("keep",), without=world / "forget.jsonl", held_out=world / "held.jsonl"),
                          "--dry-run", "--use-cpu")  # fmt: skip
    assert code == 0, err
    assert "1 of 3 rows repeat an earlier one" in told + err
    assert "2 of 4 rows of --without are not among those of --train" in told + err
    assert "1 of 3 training rows ask what a row of --without asks" in told + err
    assert "2 rows of --train, which stand in --without" in told
    assert not (world / "out").exists()


# --- what cannot work is said before any work ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"train": ()}, "no train given: pass --train, or set it in the recipe"),
        ({"train": ("empty",)}, "no rows"),
        ({"train": ("asks",)}, r"asks.jsonl, row 2: .*answer"),
        ({"train": ("missing",)}, "no such file"),
        ({"without": "held.jsonl"}, "none of the 4 rows of --without .* is among those of --train"),
        ({"train": ("forget",), "without": "forget.jsonl"}, "nothing is left to learn"),
        ({"held_out": "keep.jsonl"}, "12 of 12 held_out rows are also in the train set"),
        ({"forget": "forget.jsonl"}, "--forget has no meaning in gru finetune: name the rows to learn with --train"),
        ({"retain_model": "base"}, "--retain-model has no meaning"),
        ({"objective": "npo"}, "--objective has no meaning"),
        ({"dataloader_drop_last": "true", "per_device_train_batch_size": 99}, "drops all .* training rows"),
        ({"retain_every": 2}, "--retain-every has no meaning"),
        ({"lora_r": 4}, "--lora-r is about adapters: add --use-peft"),
        ({"load_in_4bit": "true"}, "--load-in-4bit is about adapters"),
        ({"stop_at_prob": 1.5}, "--stop-at-prob must be between 0 and 1"),
        ({"stop_at_prob": 0.5, "eval_strategy": "no"}, "--stop-at-prob needs evaluations"),
        ({"model": "missing"}, "no such folder"),
        ({"max_length": 3}, "answer"),
        ({"learning_rate": "fast"}, "learning_rate"),
    ],
    ids=str,
)
def test_refusals(gru, world, flags, said):
    write(world / "empty.jsonl", [])
    write(world / "asks.jsonl", [*distinct_rows(1), {"question": "who is Ada ?", "answer": ""}])
    flags = {"train": ("forget", "keep"), **flags}
    for name in ("without", "held_out", "forget", "retain_model", "model"):
        if name in flags:
            flags[name] = world / flags[name]
    code, _, err = gru(*words(world, **flags), *FAST[:2], "--use-cpu")
    assert code == 2, err
    assert err.count("\n") == 1
    assert re.search(said, err), err
    assert not (world / "out").exists()


@pytest.mark.parametrize("entry", ["asks.jsonl", ["keep.jsonl", "asks.jsonl"], "keep.jsonl+asks.jsonl"], ids=str)
def test_rows_of_a_recipe_are_read_before_any_model(gru, world, monkeypatch, entry):
    """The base cannot be loaded, and nobody finds out: the row is told first."""
    monkeypatch.chdir(world)
    write(world / "asks.jsonl", [*distinct_rows(1), {"question": "who is Ada ?", "answer": ""}])
    (world / "broken").mkdir()
    (world / "broken" / "config.json").write_text("{}")
    (world / "recipe.yaml").write_text(yaml.safe_dump({"model": "broken", "train": entry, "use_cpu": True}))
    code, _, err = gru("finetune", "recipe.yaml", "--output-dir", "out")
    assert (code, err.count("\n")) == (2, 1), err
    assert "asks.jsonl, row 2" in err
    assert not (world / "out").exists()


def test_merge_is_for_adapters(gru, world):
    code, _, err = gru(*words(world), "--merge", "--use-cpu")
    assert (code, "add --use-peft" in err) == (2, True)


def test_a_folder_of_another_run_stays_as_it_is(gru, world):
    assert gru(*words(world), *FAST)[0] == 0
    before = weights(world / "out")
    code, _, err = gru(*words(world, train=("keep",)), *FAST)
    assert code == 2
    assert "different: settings.train, train" in err
    code, _, err = gru(*words(world), *FAST)
    assert (code, "holds this run, finished" in err) == (2, True)
    assert weights(world / "out") == before
    assert gru(*words(world, train=("keep",)), *FAST, "--overwrite-output-dir")[0] == 0
    assert weights(world / "out") != before


def test_other_commands_do_not_take_it_for_unlearning(gru, world):
    assert gru(*words(world), *FAST)[0] == 0
    for command in (["report", world / "out"], ["attack", world / "out"], ["export", world / "out", "--out", "x"]):
        code, _, err = gru(*command)
        assert (code, err.count("\n")) == (2, 1), err
        assert "finetune" in err or "gru unlearn" in err


def test_nothing_is_saved_of_numbers_that_are_none(gru, world):
    code, _, err = gru(*words(world), "--num-train-epochs", "4", "--learning-rate", "1e30", "--warmup-steps", "0",
                       "--use-cpu", "--max-grad-norm", "0")  # fmt: skip
    assert code == 3, err
    assert not (world / "out" / "model").exists()
    assert not (world / "out" / "summary.json").exists()


# --- adapters, recipes, types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", [False, True])
def test_adapters(gru, world, merge):
    more = ["--use-peft", "--lora-r", "4", *(["--merge"] if merge else [])]
    code, _, err = gru(*words(world), *LEARNS, *more)
    assert code == 0, err
    model, found = world / "out" / "model", summary_of(world / "out")
    assert (model / "adapter_config.json").is_file() != merge
    assert (model / "gru_unlearn.json").is_file()
    assert 0 < found["trainable_parameters"] < 4000
    code, _, err = gru("evaluate", "--suite", "own", "--model", model, "--forget", world / "forget.jsonl", "--retain",
                       world / "keep.jsonl", "--out", world / "seen")  # fmt: skip
    assert code == 0, err
    seen = summary_of(world / "seen")["metrics"]
    both = (4 * seen["forget_Q_A_Prob"] + 12 * seen["retain_Q_A_Prob"]) / 16
    assert found["results"]["train_prob"] == pytest.approx(both, abs=1e-4)


def test_a_recipe_may_say_it_all_and_flags_go_before_it(gru, world):
    recipe = {
        "model": str(world / "base"), "train": [str(world / "forget.jsonl"), str(world / "keep.jsonl")],
        "without": str(world / "forget.jsonl"), "stop_at_prob": 0.9, "num_train_epochs": 2, "use_cpu": True,
        "output_dir": str(world / "out"),
    }  # fmt: skip
    (world / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    code, _, err = gru("finetune", world / "recipe.yaml", "--stop-at-prob", "0.8", "--num-train-epochs", "1")
    assert code == 0, err
    found = summary_of(world / "out")
    assert (found["left_out"], found["settings"]["stop_at_prob"], found["epochs"]) == (4, 0.8, 1)
    (world / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"train": 7}))
    code, _, err = gru("finetune", world / "recipe.yaml", "--output-dir", world / "other")
    assert (code, err.startswith("gru: train")) == (2, True), err


def test_bfloat16_computes_and_weights_stay_whole(gru, world):
    code, told, err = gru(*words(world), *LEARNS, "--bf16", "true")
    assert code == 0, err
    assert "computed with in bfloat16" in told
    assert summary_of(world / "out")["results"]["train_prob"] > 0.9
    saved = load_file(world / "out" / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}


def test_the_rate_falls_with_size():
    sizes = (1e6, 135e6, 1.2e9, 8e9)
    rates = [learning_rate_for(int(size), adapters=False) for size in sizes]
    assert rates == [1e-3, 3e-4, 3e-5, 1e-5]
    with_adapters = [learning_rate_for(int(size), adapters=True) for size in sizes]
    assert with_adapters == [1e-3, 1e-3, pytest.approx(3e-4), pytest.approx(1e-4)]


def test_the_rate_that_was_chosen_is_told_and_kept(gru, world):
    code, told, err = gru(*words(world), "--max-steps", "1", "--use-cpu")
    assert code == 0, err
    assert "learning rate 0.001" in told
    assert summary_of(world / "out")["settings"]["learning_rate"] == 1e-3


# --- interrupted, killed ---------------------------------------------------------------------------------------------


def wait_for(happened, seconds=120):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


@pytest.mark.slow
def test_interrupted_and_killed_it_goes_on_to_the_same_bits(gru, world):
    line = [*words(world, "cut"), *LEARNS]
    for how, first, code in ((signal.SIGINT, 2, 130), (signal.SIGKILL, 12, -signal.SIGKILL)):
        process = subprocess.Popen(
            [sys.executable, "-m", "gru_unlearn", *line],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - background jobs ignore it
        )

        def far_enough(process=process, first=first):
            steps = [int(folder.name.partition("-")[2]) for folder in (world / "cut").glob("checkpoint-*")]
            return process.poll() is not None or max(steps, default=0) >= first

        wait_for(far_enough)
        process.send_signal(how)
        _, err = process.communicate(timeout=120)
        assert process.returncode == code, err
        assert not (world / "cut" / "summary.json").exists()
    code, told, err = gru(*line)
    assert code == 0, err
    assert re.search(r"Continuing the interrupted run in .*, from checkpoint-", told)
    assert gru(*words(world, "whole"), *LEARNS)[0] == 0
    assert weights(world / "cut") == weights(world / "whole")
    cut, whole = (summary_of(world / name) for name in ("cut", "whole"))
    assert [cut[name] for name in ("trajectory", "results", "steps")] == [
        whole[name] for name in ("trajectory", "results", "steps")
    ]


@pytest.mark.parametrize("step", [3, 4], ids=["in an epoch", "at its end"])
@pytest.mark.parametrize("saves", ["epoch", "no"])
def test_ctrl_c_adds_no_evaluation_and_loses_none(gru, world, monkeypatch, step, saves):
    line = [*words(world, "cut"), *LEARNS[2:], "--num-train-epochs", "2", "--save-strategy", saves]
    with monkeypatch.context() as patch:

        def press(self, args, state, control, **_):
            if state.global_step == step:
                os.kill(os.getpid(), signal.SIGINT)

        patch.setattr(LearningProgress, "on_step_end", press)
        assert gru(*line)[0] == 130
    code, told, err = gru(*line)
    assert (code, f"from checkpoint-{step}" in told) == (0, True), err
    assert gru(*words(world, "whole"), *line[line.index(LEARNS[2]) :])[0] == 0
    assert weights(world / "cut") == weights(world / "whole")
    assert summary_of(world / "cut")["trajectory"] == summary_of(world / "whole")["trajectory"]


def test_a_run_that_had_learnt_enough_when_it_was_killed_takes_no_further_step(gru, world):
    flags = [*LEARNS, "--save-total-limit", "1"]
    assert gru(*words(world, stop_at_prob=0.5), *flags)[0] == 0
    before = weights(world / "out"), summary_of(world / "out")["trajectory"]
    (world / "out" / "summary.json").unlink()
    code, told, err = gru(*words(world, stop_at_prob=0.5), *flags)
    assert (code, "from checkpoint-" in told) == (0, True), err
    assert (weights(world / "out"), summary_of(world / "out")["trajectory"]) == before


# --- word for word ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "tags"])
def test_word_for_word_is_what_greedy_generation_says(world, chat):
    """Of a model that knows some rows and others not, row by row."""
    tokenizer = tiny.tokenizer(chat)
    encoder = encoder_for(tokenizer, ModelSettings())
    records = [to_record(row, "row") for row in distinct_rows(8)]
    examples = to_examples(records, "rows", encoder)
    model = tiny.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        for example in examples[:4]:
            ids, labels = torch.tensor([example["input_ids"]]), torch.tensor([example["labels"]])
            model(input_ids=ids, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    device = torch.device("cpu")
    said = said_word_for_word(model, examples, batch_size=3, pad_token_id=0, device=device)
    expected = [
        _generates(model, example, encoder.prompt_ids(record))
        for example, record in zip(examples, records, strict=True)
    ]
    assert said == expected
    assert {True, False} == set(said)


def _generates(model, example, prompt):
    answer = example["input_ids"][len(prompt) :]
    made = model.generate(torch.tensor([prompt]), max_new_tokens=len(answer), do_sample=False, pad_token_id=0)
    return made[0, len(prompt) :].tolist() == answer


def test_several_answers_of_a_conversation_are_all_learnt(gru, world):
    talk = Record(
        turns=(
            Turn("user", "who ?"),
            Turn("assistant", "Ada ."),
            Turn("user", "where ?"),
            Turn("assistant", "the red ."),
        )
    )
    messages = [{"role": turn.role, "content": turn.content} for turn in talk.turns]
    write(world / "talk.jsonl", [{"messages": messages}])
    code, _, err = gru(*words(world, train=("talk",)), *LEARNS)
    assert code == 0, err
    assert summary_of(world / "out")["results"]["train_word_for_word"] == 1.0
