"""``gru evaluate`` as people use it: reused scores, own rows with a holdout set, curves, the harness's suites."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

import tiny
from gru_unlearn.evaluation.harness import HARNESS_TASKS as SUITES
from gru_unlearn.models import weights as weights_module
from muse_example import write_muse_example

ATTACKS = {"mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus", "mia_gradnorm", "mia_reference", "privleak"}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scores"


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def full(rows):
    """With a paraphrase and wrong answers."""
    return [
        row
        | {
            "paraphrased_answer": row["answer"].replace("lives in", "was born in"),
            "perturbed_answer": [row["answer"].replace("the", a) for a in ("a", "of")],
        }
        for row in rows
    ]


@pytest.fixture
def own(tmp_path):
    """Arguments of an evaluation on rows of one's own, with all that they can have."""
    arguments = ["evaluate", "--suite", "own", "--model", tiny.save(tmp_path / "model")]
    arguments += ["--retain-model", tiny.save(tmp_path / "retain_model", seed=1)]
    for name, start in (("forget", 0), ("retain", 10), ("holdout", 20)):
        arguments += [f"--{name}", write_rows(tmp_path / f"{name}.jsonl", full(tiny.rows(5, start)))]
    return arguments


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def modules_loaded_by(statement):
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_evaluation_brings_no_training():
    """One second or more of start-up each, and none is needed to evaluate."""
    loaded = modules_loaded_by("import gru_unlearn.benchmark.evaluate_job")
    assert "gru_unlearn.evaluation.scoring" in loaded
    assert "gru_unlearn.training" not in loaded
    unwanted = {"transformers.trainer", "accelerate", "datasets", "pandas", "peft", "lm_eval", "scipy.stats"}
    brought = unwanted & loaded
    if brought:  # early versions of transformers bring accelerate with any model
        assert brought <= modules_loaded_by("import transformers.modeling_utils")


def test_own_rows_with_a_holdout_set_allow_every_metric(gru, own, tmp_path):
    code, out, err = gru(*own, "--out", tmp_path / "out")
    assert code == 0, err
    found = summary(tmp_path / "out")
    assert found["missing"] == {}
    assert set(found["metrics"]) >= ATTACKS | {"forget_quality", "forget_truth_ratio", "retain_Truth_Ratio"}
    assert all(value is not None for value in found["metrics"].values())
    assert found["data"]["holdout"]["rows"] == 5
    assert "scores of an earlier run" not in out
    assert found["scores_reused"] == []


def test_own_rows_list_each_metric_that_cannot_be_computed(gru, tmp_path):
    forget = write_rows(tmp_path / "forget.jsonl", tiny.rows(3))
    model = tiny.save(tmp_path / "model")
    arguments = ["--suite", "own", "--model", model, "--forget", forget, "--out", tmp_path / "out"]
    assert gru("evaluate", *arguments)[0] == 0
    found = summary(tmp_path / "out")
    assert {key for key, value in found["metrics"].items() if value is None} == set(found["missing"])
    assert set(found["missing"]) >= ATTACKS | {"forget_quality", "model_utility", "forget_Q_A_PARA_Prob"}
    assert all("holdout" in found["missing"][key] for key in ATTACKS)


def test_scores_are_reused_and_said_to_be(gru, own, tmp_path, cache):
    first, second = tmp_path / "first", tmp_path / "second"
    gru(*own, "--out", first)
    assert len(list(cache.glob("*.parquet"))) == 2
    code, out, err = gru(*own, "--out", second, "--batch-size", "3")
    assert code == 0, err
    assert "\nretain model: scores of an earlier run reused" in "\n" + out
    assert "\nmodel: scores of an earlier run reused" in "\n" + out
    assert summary(second)["scores_reused"] == ["model", "retain_model"]
    for part in ("metrics", "missing", "notes", "intervals", "model", "retain_model", "data"):
        assert summary(second)[part] == summary(first)[part], part
    assert (second / "rows.json").read_bytes() == (first / "rows.json").read_bytes()


def test_weights_are_read_for_their_hash_once(gru, own, monkeypatch, tmp_path):
    read = []
    hashed = weights_module.hash_file
    monkeypatch.setattr(weights_module, "hash_file", lambda path: read.append(path) or hashed(path))
    code, _, err = gru(*own, "--out", tmp_path / "out")
    assert code == 0, err
    weights = [path.parent.name for path in read if path.suffix == ".safetensors"]
    assert sorted(weights) == ["model", "retain_model"]


def test_a_kept_retain_model_serves_the_next_model(gru, own, tmp_path):
    gru(*own, "--out", tmp_path / "first")
    own[own.index("--model") + 1] = tiny.save(tmp_path / "another", seed=2)
    _, out, _ = gru(*own, "--out", tmp_path / "second")
    assert summary(tmp_path / "second")["scores_reused"] == ["retain_model"]
    assert out.count("reused") == 1


def test_scores_are_computed_anew_when_asked_or_when_the_type_changes(gru, own, tmp_path):
    gru(*own, "--out", tmp_path / "first")
    for number, flags in enumerate((["--no-reuse"], ["--dtype", "bfloat16"], ["--max-length", "100"])):
        out = tmp_path / str(number)
        code, printed, err = gru(*own, *flags, "--out", out)
        assert code == 0, err
        assert "reused" not in printed
        assert summary(out)["scores_reused"] == []


def test_an_evaluation_does_not_fail_for_want_of_a_cache(gru, own, tmp_path, cache):
    cache.parent.write_text("a file where the folder should be")
    code, out, err = gru(*own, "--out", tmp_path / "out")
    assert code == 0, err
    assert out.count("scores are not kept for later runs") == 2
    assert summary(tmp_path / "out")["missing"] == {}


def test_muse_takes_an_auc_of_one_half_where_there_is_no_retain_model(gru, tmp_path):
    folder = write_muse_example(tmp_path / "muse")
    tokenizer = tiny.save(tmp_path / "model")
    arguments = ["--suite", "muse", "--data", folder, "--model", tokenizer, "--out", tmp_path / "out"]
    assert gru("evaluate", *arguments)[0] == 0
    found = summary(tmp_path / "out")
    auc = found["metrics"]["mia_min_k"]
    assert found["metrics"]["privleak"] == pytest.approx(((1 - auc) - 0.5) / 0.5 * 100)
    assert "0.5" in found["notes"]["privleak"]
    assert set(found["missing"]) == {"mia_reference"}


def evaluation(folder, metrics, rows=None, suite="muse"):
    """A finished evaluation, as far as a curve looks at it."""
    folder.mkdir()
    data = {} if rows is None else {"forget": {"rows": rows, "sha256": ""}}
    content = {"command": "evaluate", "suite": suite, "metrics": metrics, "model": {"source": "m"}, "data": data}
    (folder / "summary.json").write_text(json.dumps(content))
    return folder


def test_a_curve_over_growing_forget_sets(gru, tmp_path):
    runs = [evaluation(tmp_path / str(n), {"kept": 1 - n / 100, "gone": None}, rows=n) for n in (20, 10, 40)]
    out = tmp_path / "curve"
    code, printed, err = gru("evaluate", "--curve", *runs, "--out", out)
    assert code == 0, err
    found = summary(out)
    assert (found["size"], found["sizes"]) == ("forget rows", [10, 20, 40])
    assert found["curves"]["kept"]["values"] == [0.9, 0.8, 0.6]
    assert found["curves"]["kept"]["slope"] == pytest.approx(-0.01)
    assert found["curves"]["gone"] == {"values": [None, None, None], "slope": None}
    assert "-0.01" in printed
    assert "change per forget row" in " ".join(printed.split())
    code, _, err = gru("evaluate", "--curve", *runs, "--out", out)
    assert (code, "finished" in err) == (2, True)


def test_a_curve_over_requests_one_after_the_other(gru, tmp_path):
    runs = [evaluation(tmp_path / str(n), {"kept": 1 - n / 10}, rows=10) for n in (1, 2)]
    assert gru("evaluate", "--curve", *runs, "--out", tmp_path / "curve")[0] == 0
    found = summary(tmp_path / "curve")
    assert (found["size"], found["sizes"]) == ("place in the sequence", [1, 2])
    assert found["curves"]["kept"]["slope"] == pytest.approx(-0.1)


def test_a_curve_over_evaluations_as_they_are_written(gru, tmp_path):
    model, runs = tiny.save(tmp_path / "model"), []
    for count in (2, 4):
        forget = write_rows(tmp_path / f"forget{count}.jsonl", tiny.rows(count))
        runs.append(tmp_path / f"run{count}")
        code, _, err = gru("evaluate", "--suite", "own", "--model", model, "--forget", forget, "--out", runs[-1])
        assert code == 0, err
    code, printed, err = gru("evaluate", "--curve", *runs, "--out", tmp_path / "curve")
    assert code == 0, err
    found = summary(tmp_path / "curve")
    assert (found["suite"], found["sizes"]) == ("own", [2, 4])
    values = [summary(run)["metrics"]["forget_Q_A_Prob"] for run in runs]
    assert found["curves"]["forget_Q_A_Prob"]["values"] == values
    assert found["curves"]["forget_Q_A_Prob"]["slope"] == pytest.approx((values[1] - values[0]) / 2)
    assert "forget_Q_A_Prob" in printed


def test_a_curve_needs_finished_evaluations_of_one_suite(gru, tmp_path):
    first = evaluation(tmp_path / "first", {"kept": 1.0})
    (tmp_path / "empty").mkdir()
    for other in (tmp_path / "empty", evaluation(tmp_path / "other", {}, suite="tofu")):
        code, _, err = gru("evaluate", "--curve", first, other, "--out", tmp_path / "curve")
        assert code == 2
        assert str(other) in err or "one suite, got muse, tofu" in err
    assert not (tmp_path / "curve").exists()


@pytest.mark.parametrize("key", ["rmf", "rmf_held_out", "wmdp_bio/acc", "mmlu/acc", "mia_min_k"])
def test_every_number_explains_itself(gru, key):
    code, out, _ = gru("evaluate", "--explain", key)
    assert code == 0
    assert out.startswith(key)
    assert all(word in out for word in ("range", "better", "source"))


@pytest.mark.parametrize("suite", ["wmdp", "mmlu"])
def test_without_the_harness_its_suites_are_refused_before_a_model_is_looked_for(gru, monkeypatch, tmp_path, suite):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    code, _, err = gru("evaluate", "--suite", suite, "--model", "owner/nowhere", "--out", tmp_path / "out")
    assert code == 2
    assert "pip install 'gru-unlearn[harness]'" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def stub_harness(asked):
    """As much of lm-evaluation-harness as is used; gives each task another accuracy."""

    def simple_evaluate(**arguments):
        asked.update(arguments)
        return {"results": {task: {"acc,none": 0.25 + n / 100} for n, task in enumerate(arguments["tasks"])}}

    known = [task for tasks in SUITES.values() for task in tasks]
    return SimpleNamespace(
        evaluator=SimpleNamespace(simple_evaluate=simple_evaluate),
        models=SimpleNamespace(huggingface=SimpleNamespace(HFLM=lambda **arguments: arguments)),
        tasks=SimpleNamespace(TaskManager=lambda **_: SimpleNamespace(all_tasks=known)),
    )


@pytest.mark.parametrize("suite", SUITES)
def test_the_harness_is_asked_for_the_tasks_of_a_suite(gru, monkeypatch, tmp_path, suite):
    asked = {}
    monkeypatch.setattr("gru_unlearn.evaluation.harness.require_harness", lambda: stub_harness(asked))
    monkeypatch.setattr("gru_unlearn.benchmark.evaluate_job.version", lambda _: "stub")
    arguments = ["--suite", suite, "--model", tiny.save(tmp_path / "model"), "--limit", "7", "--batch-size", "3"]
    code, printed, err = gru("evaluate", *arguments, "--out", tmp_path / "out")
    assert code == 0, err
    assert (asked["tasks"], asked["limit"], asked["model"]["batch_size"]) == (list(SUITES[suite]), 7, 3)
    found = summary(tmp_path / "out")
    assert found["metrics"] == {f"{task}/acc": 0.25 + n / 100 for n, task in enumerate(SUITES[suite])}
    assert found["versions"]["lm-eval"] == "stub"
    assert f"{SUITES[suite][0]}/acc" in printed


QUIZ = [
    {"question": "where is Ada one ?", "choices": ["red", "blue", "green", "two"], "answer": n % 4} for n in range(6)
]


def write_quiz(folder, *names):
    """Tasks of the harness, with their questions in a file beside them."""
    folder.mkdir()
    write_rows(folder / "quiz.jsonl", QUIZ)
    for name in names:
        (folder / f"{name}.yaml").write_text(
            f"task: {name}\n"
            "dataset_path: json\n"
            f"dataset_kwargs: {{data_files: {{test: {folder}/quiz.jsonl}}}}\n"
            "test_split: test\n"
            "output_type: multiple_choice\n"
            'doc_to_text: "{{question}}"\n'
            'doc_to_choice: "{{choices}}"\n'
            "doc_to_target: answer\n"
            "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
        )
    return folder


def test_the_harness_itself_on_invented_questions(gru, tmp_path):
    """All questions are one; the model prefers one option, which is right in one or two of six."""
    pytest.importorskip("lm_eval", reason="needs the extra gru-unlearn[harness]")
    tasks = ("wmdp_bio", "wmdp_chem", "wmdp_cyber")
    data = write_quiz(tmp_path / "quiz", *tasks)
    arguments = ["--suite", "wmdp", "--model", tiny.save(tmp_path / "model"), "--data", data]
    code, printed, err = gru("evaluate", *arguments, "--out", tmp_path / "out")
    assert code == 0, err
    found = summary(tmp_path / "out")
    assert set(found["metrics"]) == {f"{task}/acc" for task in tasks}
    assert set(found["metrics"].values()) <= {1 / 6, 2 / 6}
    assert "wmdp_bio/acc" in printed
    assert "lm-eval" in found["versions"]
    code, _, err = gru("evaluate", *arguments, "--limit", "1", "--out", tmp_path / "limited")
    assert code == 0, err
    assert set(summary(tmp_path / "limited")["metrics"].values()) <= {0, 1}
