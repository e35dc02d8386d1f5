"""``gru compare``: its statistics, its choice of learning rates, whole matrices, interruption, and its picture."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest
import yaml
from filelock import FileLock, Timeout
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

import tiny
from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.comparison import cell_results, comparison_tables, pareto, statistics
from gru_unlearn.comparison.cell import peak_memory_mb, seconds_per_step
from gru_unlearn.comparison.comparison_request import parse_learning_rates, parse_seeds
from gru_unlearn.comparison.comparison_suite import SuiteJob
from gru_unlearn.comparison.frontier import find_frontier
from gru_unlearn.comparison.matrix import Matrix, builtin_settings
from gru_unlearn.comparison.matrix_plan import JOB, CellJob, ReferenceJob
from gru_unlearn.comparison.pareto import median_curve
from gru_unlearn.errors import UserError
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.reports import report_html
from gru_unlearn.results.comparison_summary import CellResult, ComparisonSummary, SuiteUsed
from gru_unlearn.results.model_metrics import Point
from gru_unlearn.runs.recipe import make_recipe

# --- numbers as they stand in files ----------------------------------------------------------------------------------


def plain(found):
    return None if found is None else found.to_json()


def mean_interval(values):
    return plain(statistics.mean_interval(values))


def paired_difference(values, plain_values):
    return plain(statistics.paired_difference(values, plain_values))


def aggregate(cells):
    return [row.to_json() for row in statistics.aggregate([CellResult.model_validate(cell) for cell in cells])]


def cell_line(cell):
    return comparison_tables.cell_line(CellResult.model_validate(cell))


def along_the_run(points, forget_target):
    return cell_results.along_the_run([Point.model_validate(point) for point in points], forget_target).to_json()


def typed(summary):
    lacking = {"rule": "r", "settings": {}, "learning_rates": {}, "versions": {}}
    return ComparisonSummary.model_validate(lacking | summary)


def comparison_report(summary):
    return comparison_tables.comparison_report(typed(summary))


def pareto_svg(summary):
    return pareto.pareto_svg(typed(summary))


# --- statistics ------------------------------------------------------------------------------------------------------


def test_interval_by_hand():
    # mean 2, standard deviation 1, t(0.975; 2 degrees of freedom) = 4.3027 (any table)
    found = mean_interval([1.0, None, 2.0, 3.0])
    assert found["mean"] == 2
    assert found["n"] == 3
    assert found["high"] - 2 == pytest.approx(4.3027 / 3**0.5, abs=1e-4)
    assert 2 - found["low"] == pytest.approx(found["high"] - 2)
    assert mean_interval([0.5]) == {"mean": 0.5, "low": None, "high": None, "n": 1}
    assert mean_interval([None, None]) is None
    assert mean_interval([0.25, 0.25]) == {"mean": 0.25, "low": 0.25, "high": 0.25, "n": 2}


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
def test_intervals_are_those_of_scipy(pairs):
    ours, plain = (dict(enumerate(values)) for values in zip(*pairs, strict=True))
    differences = [a - b for a, b in pairs]
    found = paired_difference(ours, plain)
    if max(differences) - min(differences) > 1e-9:
        expected = stats.ttest_rel(list(ours.values()), list(plain.values())).confidence_interval(0.95)
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)
        assert found["excludes_zero"] == (expected.low > 0 or expected.high < 0)
    assert found["wins"] == sum(a > b for a, b in pairs)


def test_pairs_are_by_seed_and_need_both():
    found = paired_difference({0: 0.9, 1: 0.8, 2: None, 4: 0.1}, {1: 0.7, 0: 0.85, 2: 0.9, 3: 0.9})
    assert found["n"] == found["wins"] == 2
    assert found["mean"] == pytest.approx(0.075)
    assert paired_difference({0: None}, {0: 0.5}) is None
    assert not paired_difference({0: 0.9}, {0: 0.1})["excludes_zero"], "one pair proves nothing"


# --- which learning rate ---------------------------------------------------------------------------------------------


def cell(rate, seed, rmf, *, rectification="gru", steps=10, status="done", **more):
    reached = {"rmf": rmf, "steps_to_target": None if rmf is None else steps}
    name = f"npo-{rectification}-lr{rate:g}-seed{seed}"
    fixed = {"objective": "npo", "rectification": rectification, "learning_rate": rate, "seed": seed, "name": name}
    return fixed | {"status": status, "steps": 50, "forget_prob": 0.1} | reached | more


def chosen_rate(cells):
    return [row["learning_rate"] for row in aggregate(cells) if row["chosen"]]


CHOICES = {
    "higher RMF": ([cell(1e-4, 0, 0.8), cell(2e-4, 0, 0.9)], 2e-4),
    "where there are held-out rows, they decide": (
        [cell(1e-4, 0, 0.9, rmf_held_out=0.7), cell(2e-4, 0, 0.81, rmf_held_out=0.8)],
        2e-4,
    ),
    "before f*, too": (
        [
            cell(1e-4, 0, None, rmf_at_quarter=0.9, rmf_held_out_at_quarter=0.4),
            cell(2e-4, 0, None, rmf_at_quarter=0.8, rmf_held_out_at_quarter=0.5),
        ],
        2e-4,
    ),
    "more seeds first": (
        [cell(1e-4, 0, 0.99), cell(1e-4, 1, None), cell(2e-4, 0, 0.5), cell(2e-4, 1, 0.5)],
        2e-4,
    ),
    "a failed seed did not get there": (
        [cell(1e-4, 0, 0.99), cell(1e-4, 1, None, status="failed"), cell(2e-4, 0, 0.5), cell(2e-4, 1, 0.5)],
        2e-4,
    ),
    "at a tie fewer steps": ([cell(1e-4, 0, 0.8, steps=40), cell(2e-4, 0, 0.8, steps=20)], 2e-4),
    "none reaches f*: a quarter, by seeds, then by mean": (
        [
            cell(1e-4, 0, None, rmf_at_quarter=0.9),
            cell(1e-4, 1, None, rmf_at_quarter=None, rmf_at_half=0.9),
            cell(2e-4, 0, None, rmf_at_quarter=0.4),
            cell(2e-4, 1, None, rmf_at_quarter=0.4),
        ],
        2e-4,
    ),
    "not even a quarter: a half": (
        [cell(1e-4, 0, None, rmf_at_half=0.6), cell(2e-4, 0, None, rmf_at_half=0.7)],
        2e-4,
    ),
    "all failed": ([cell(1e-4, 0, None, status="failed"), cell(2e-4, 0, None, status="failed")], 1e-4),
}


@pytest.mark.parametrize(("cells", "rate"), CHOICES.values(), ids=CHOICES)
def test_the_rule(cells, rate):
    assert chosen_rate(cells) == [rate]
    assert chosen_rate(cells[::-1]) == ([rate] if rate == 2e-4 else [2e-4]), "the order decides only where nothing does"


def test_methods_are_compared_each_at_its_own_learning_rate():
    cells = [
        cell(rate, seed, rmf + seed / 100, rectification=rectification, rmf_held_out=rmf - 0.1)
        for seed in (0, 1)
        for rectification, rate, rmf in (
            ("none", 1e-4, 0.7),
            ("none", 2e-4, 0.6),
            ("gru", 1e-4, 0.5),
            ("gru", 2e-4, 0.8),
        )
    ]
    rows = {(row["rectification"], row["learning_rate"]): row for row in aggregate(cells)}
    assert [key for key, row in rows.items() if row["chosen"]] == [("none", 1e-4), ("gru", 2e-4)]
    assert "against_none" not in rows["none", 1e-4]
    assert "against_none" not in rows["gru", 1e-4]
    against = rows["gru", 2e-4]["against_none"]
    assert against["rmf"]["mean"] == against["rmf_held_out"]["mean"] == pytest.approx(0.1)
    assert against["rmf"]["wins"] == 2
    assert against["rmf"]["excludes_zero"]
    assert against["model_utility"] is None, "never measured"
    assert rows["gru", 2e-4]["rmf"]["mean"] == pytest.approx(0.805)


def test_seeds_that_do_not_get_there_are_counted_and_shown():
    cells = [cell(1e-4, 0, 0.8), cell(1e-4, 1, None), cell(1e-4, 2, None, status="failed", reason="loss is NaN")]
    (row,) = aggregate(cells)
    assert (row["runs"], row["failed"], row["reached"], row["rmf"]["n"]) == (3, 1, 1, 1)
    assert cell_line(cells[1]).endswith("f* not reached in 50 steps (forget prob 0.100)")
    assert cell_line(cells[2]) == "npo-gru-lr0.0001-seed2: failed: loss is NaN"


# --- reading a run ---------------------------------------------------------------------------------------------------


def test_along_the_run_by_hand():
    points = [
        {"step": 0, "forget_prob": 0.8, "retain_prob": 0.9},
        {"step": 5, "forget_prob": 0.4, "retain_prob": 0.8},
        {"step": 10, "forget_prob": 0.1, "retain_prob": 0.5},
    ]
    row = along_the_run(points, 0.2)
    assert row["steps_to_target"] == 10
    assert row["rmf_at_half"] == pytest.approx(0.8 / 0.9)
    assert row["rmf_at_quarter"] == pytest.approx(0.6 / 0.9)  # two thirds of the way from 0.4 to 0.1
    assert "rmf_held_out_at_half" not in row
    curve = row["curves"]["retain_prob"]
    assert curve[0] == pytest.approx((0.8, 0.9))
    assert curve[-1] == pytest.approx((0.2, 0.6))
    assert [level for level, _ in curve] == sorted((level for level, _ in curve), reverse=True)
    short = along_the_run(points[:2], 0.2)
    assert short["steps_to_target"] is None
    assert short["rmf_at_quarter"] is None
    assert short["curves"]["retain_prob"] == curve[: len(short["curves"]["retain_prob"])]
    assert 0.4 <= short["curves"]["retain_prob"][-1][0] < 0.45


def test_seconds_per_step_leaves_evaluations_out():
    ends = [10.0, 11.0, 15.0, 16.5, 21.0]  # steps 6 to 10 of a resumed run; evaluations after steps 7 and 9
    assert seconds_per_step(ends, 10, {0, 5, 7, 9}) == pytest.approx(1.25)
    assert seconds_per_step(ends, 10, {6, 7, 8, 9, 10}) is None
    assert seconds_per_step([], 0, set()) is None


def test_peak_memory_is_that_of_the_process_itself():
    ballast = bytearray(300 * 2**20)
    code = "from gru_unlearn.comparison.cell import peak_memory_mb; print(peak_memory_mb())"
    child = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert len(ballast) / 2**20 < peak_memory_mb()
    assert 50 < child < peak_memory_mb() - 200, "a child does not inherit what its parent held"


# --- arguments -------------------------------------------------------------------------------------------------------


def test_lists_on_the_command_line():
    assert parse_seeds("3") == [0, 1, 2]
    assert parse_seeds("0,7") == [0, 7]
    assert parse_seeds("7,") == [7]
    assert parse_learning_rates("1e-4, 2e-4,1e-4", ["npo", "ga"]) == {"npo": [1e-4, 2e-4], "ga": [1e-4, 2e-4]}
    assert parse_learning_rates("npo=2e-4,4e-4; ga=5e-5", ["npo", "ga"]) == {"npo": [2e-4, 4e-4], "ga": [5e-5]}


@pytest.mark.parametrize("text", ["auto", "1e-4,auto", "npo=auto;ga=1e-4"])
def test_a_grid_has_no_rate_that_runs_find_and_says_what_to_do(text):
    with pytest.raises(UserError, match=r"takes numbers, not auto: .*pass numbers around the rate that it finds"):
        parse_learning_rates(text, ["npo", "ga"])


@pytest.fixture
def world(tmp_path):
    """A recipe for a tiny model whose forgetting has a mark: a model with other weights."""
    for name, rows in (("forget", tiny.rows(6)), ("retain", tiny.rows(12, start=6)), ("held", tiny.rows(6, start=18))):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model": tiny.save(tmp_path / "model"), "retain_model": tiny.save(tmp_path / "other", seed=3),
        "forget": tmp_path / "forget.jsonl", "retain": tmp_path / "retain.jsonl", "held_out": tmp_path / "held.jsonl",
    }  # fmt: skip
    settings = {key: str(value) for key, value in settings.items()} | {
        "max_steps": 6, "eval_steps": 2, "warmup_steps": 0, "per_device_train_batch_size": 4, "use_cpu": True,
        "gradient_accumulation_steps": 1, "learning_rate": 5e-3, "lr_scheduler_type": "constant",
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


def test_a_method_brings_settings_of_its_own(tmp_path):
    method = "gru/element/update@retain_batch_size=32@new_gradient_weight=0.4"
    shared = {"model": "m", "forget": "f", "retain_batch_size": 8, "use_cpu": True}
    plain, own = Matrix(shared, ["npo"], ["none", method], {"npo": [1e-4]}, [0], tmp_path).cells
    assert (plain.settings["rectification"], plain.settings["retain_batch_size"]) == ("none", 8)
    config = make_recipe(own.settings).config
    assert (config.rectification, config.retain_batch_size) == ("gru/element/update", 32)
    assert config.resolved_gradient_weight == 0.4
    assert own.rectification == method, "tables show what was typed"
    assert re.fullmatch(r"[\w.+-]+", own.folder.name)


def test_without_recipe_model_and_data_the_builtin_benchmark_is_compared():
    settings = builtin_settings()
    assert not {"objective", "rectification", "learning_rate", "seed", "output_dir"} & set(settings)
    recipe = make_recipe(settings | {"use_cpu": True})
    assert (recipe.model, recipe.retain_model) == ("builtin:target", "builtin:retain")
    assert (recipe.forget, recipe.retain, recipe.held_out) == ("builtin:forget", "builtin:retain", "builtin:held_out")
    assert recipe.config.max_steps == 200


def test_a_job_comes_through_its_line_as_it_is(tmp_path):
    settings = {"learning_rate": float("inf"), "seed": 0, "model": "ä\n", "lora_target_modules": ["q", None]}
    used = {"request": {"limit": None}, "data": {"forget": "ab"}}
    request = EvaluationRequest("m", batch_size=3)
    suite = SuiteJob(request=request, used=SuiteUsed.model_validate(used), retain_scores=tmp_path / "s")
    for job in (
        CellJob(folder=tmp_path, settings=settings, suite=suite, train=True),
        ReferenceJob(folder=tmp_path, settings=settings, suite=None, identity={"forget": "ab"}),
    ):
        assert JOB.validate_json(job.model_dump_json()) == job


def test_an_evaluation_by_an_earlier_version_counts_as_the_same():
    data = {"holdout": "ab"}
    today = SuiteUsed(request={"suite": "tofu", "unseen": None, "unseen_split": "x", "limit": None}, data=data)
    earlier = SuiteUsed(request={"suite": "tofu", "holdout": None, "holdout_split": "x", "limit": None}, data=data)
    assert earlier.decides == today.decides
    assert earlier.decides != SuiteUsed(request=today.request, data={"holdout": "cd"}).decides
    assert earlier.decides != SuiteUsed(request=today.request | {"unseen_split": "y"}, data=data).decides


def test_dry_run_counts_and_writes_nothing(gru, world):
    arguments = ["--objectives", "npo,ga", "--learning-rates", "npo=1e-4,2e-4;ga=1e-4", "--seeds", "4", "--dry-run"]
    code, out, err = gru("compare", world / "recipe.yaml", "--output-dir", world / "out", *arguments)
    assert code == 0, err
    assert "24 runs, 24 of them still to do" in out  # 2 rectifications × 3 learning rates × 4 seeds
    assert not (world / "out").exists()


# --- whole matrices --------------------------------------------------------------------------------------------------


def stamps(out):
    return {path.parent.name: path.stat().st_mtime_ns for path in sorted(out.glob("runs/*/summary.json"))}


@pytest.mark.slow
def test_a_matrix_with_a_method_that_fails(gru, world, monkeypatch):
    """GA's learning rate is absurd; the rest goes on, and a second call does only what is lacking."""
    monkeypatch.setenv("COLUMNS", "120")
    out = world / "out"
    arguments = [world / "recipe.yaml", "--output-dir", out, "--objectives", "npo,ga", "--suite", "own", "--jobs", "2"]
    arguments += ["--learning-rates", "npo=5e-3;ga=1e30"]
    code, printed, err = gru("compare", *arguments, "--seeds", "1")
    assert code == 0, err
    summary = json.loads((out / "summary.json").read_text())
    cells = {(row["objective"], row["rectification"]): row for row in summary["cells"]}
    assert set(cells) == {("npo", "none"), ("npo", "gru"), ("ga", "none"), ("ga", "gru")}
    for rectification in ("none", "gru"):
        failed, done = cells["ga", rectification], cells["npo", rectification]
        assert failed["status"] == "failed"
        assert "not finite" in failed["reason"]
        assert f"{failed['name']}: failed: " in printed
        run = json.loads((out / "runs" / done["name"] / "summary.json").read_text())
        assert done["trajectory"] == run["trajectory"]
        assert done["rmf"] == run["results"]["rmf"]
        assert done["forget_prob"] == run["results"]["forget_prob"] <= summary["forget_target"]
        assert run["settings"]["stop_when_forgotten"]
        assert 0 < done["seconds_per_step"] < 5
        assert 100 < done["peak_memory_mb"] < 5000
        assert {"model_utility", "extraction_strength", "forget_quality"} <= set(done)
        assert 0 < done["metrics"]["forget_Q_A_Prob"] < 1
        assert done["extraction_strength"] == done["metrics"]["extraction_strength"] > 0
        assert done["forget_quality"] is None
        assert "paraphrased_answer" in done["missing"]["forget_quality"]
    assert summary["target"]["forget_prob"] == cells["npo", "none"]["trajectory"][0]["forget_prob"]
    assert summary["retain_model"]["forget_prob"] == pytest.approx(summary["forget_target"])
    assert re.search(r"none +1e\+30 +0/1 +not reached", printed)
    ElementTree.parse(out / "pareto.svg")
    assert f"Report: {out}/report.html" in printed.replace("\n", "")
    assert "failed" in (out / "report.html").read_text()

    before = stamps(out)
    code, printed, err = gru("compare", *arguments, "--objectives", "npo", "--learning-rates", "5e-3", "--seeds", "2")
    assert code == 0, err
    assert "2 of 4 runs are finished and stay as they are" in printed
    after = stamps(out)
    assert {name: after[name] for name in before} == before
    assert len(after) == 4
    against = json.loads((out / "summary.json").read_text())["aggregates"][1]["against_none"]["rmf"]
    assert against["n"] == 2

    code, _, err = gru("compare", *arguments, "--objectives", "npo", "--learning-rates", "5e-3", "--max-steps", "7")
    assert code == 2
    assert "holds another run (different: settings.max_steps)" in err
    assert stamps(out) == after


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_comparisons_go_on(gru, world, how):
    """The run under way saves its step and stops, also where the comparison itself, in the background, is killed;
    finished ones stay."""
    out = world / "out"
    arguments = ["compare", world / "recipe.yaml", "--output-dir", out, "--seeds", "1", "--learning-rates", "1e-6"]
    arguments = [*map(str, arguments), "--max-steps", "150", "--eval-steps", "10"]
    as_started = signal.SIG_IGN if how == signal.SIGKILL else signal.SIG_DFL  # jobs in the background ignore Ctrl-C
    process = subprocess.Popen(
        [sys.executable, "-m", "gru_unlearn.cli.main", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, as_started),  # noqa: PLW1509
    )
    first, second = out / "runs" / "npo-none-lr1e-06-seed0", out / "runs" / "npo-gru-lr1e-06-seed0"
    log = out / "logs" / f"{second.name}.txt"
    wait_until(lambda: log.is_file() and "step 10/150" in log.read_text())
    process.send_signal(how)
    _, err = process.communicate(timeout=120)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "stopped with 1 of 2 runs done; the same command goes on" in err
    wait_until(lambda: is_free(second / ".lock"))
    assert (first / "summary.json").is_file()
    assert not (second / "summary.json").exists(), "it was stopped under way"
    assert list(second.glob("checkpoint-*"))
    assert not (out / "summary.json").exists()
    before = stamps(out)[first.name]
    code, printed, err = gru(*arguments)
    assert code == 0, err
    assert "1 of 2 runs are finished" in printed
    assert stamps(out)[first.name] == before
    rows = json.loads((out / "summary.json").read_text())["cells"]
    assert [row["steps"] for row in rows] == [150, 150]
    # All evaluations of before and after the cut; a run that is stopped may add one at the step where it stops.
    assert set(range(0, 160, 10)) <= {point["step"] for point in rows[1]["trajectory"]}
    assert "Continuing the interrupted run" in log.read_text()
    assert [row["rmf"] for row in rows] == [None, None]
    assert "f* not reached in 150 steps" in printed


def wait_until(happened, seconds=240):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_free(lock):
    try:
        with FileLock(lock, timeout=0):
            return True
    except Timeout:
        return False


# --- table and picture -----------------------------------------------------------------------------------------------


LONG = "gru/element/update@retain_batch_size=32@new_gradient_weight=0.4"


@pytest.fixture
def summary():
    """A comparison of five methods under two objectives, without running it."""
    cells = []
    for objective in ("npo", "simnpo"):
        for number, name in enumerate(("none", "gru", "gru/element/update/memory=8", "a<b", LONG)):
            for seed in range(3):
                points = [
                    {"step": step, "forget_prob": f, "retain_prob": 0.9 * keep, "held_out_prob": 0.8 * keep}
                    for step, f, keep in ((0, 0.9, 1), (5, 0.4, 0.9 + number / 50), (10, 0.1, 0.7 + seed / 100))
                ]
                row = cell(2e-4, seed, 0.71 + number / 20, rectification=name, objective=objective)
                row |= along_the_run(points, 0.2) | {"rmf_held_out": 0.7 + number / 20, "trajectory": points}
                row |= {"seconds_per_step": 0.1, "peak_memory_mb": 812.5, "retain_prob": 0.6, "held_out_prob": 0.5}
                row |= {"cost_steps": 8.3, "cost_rows": 332.0, "cost_seconds": 0.8 + number / 10}
                cells.append(row)
    whole = {"forget_prob": 0.9, "retain_prob": 0.9, "held_out_prob": 0.8}
    return {
        "forget_target": 0.2, "target": whole, "retain_model": whole | {"forget_prob": 0.2}, "cells": cells,
        "aggregates": aggregate(cells),
        "frontier": find_frontier([CellResult.model_validate(row) for row in cells]),
    }  # fmt: skip


@pytest.mark.parametrize("columns", [80, 100])
def test_the_report_fits_its_terminal(summary, columns):
    console = Console(width=columns, record=True, file=io.StringIO())
    for part in comparison_report(summary):
        console.print(part)
    text = console.export_text()
    assert all(len(line.rstrip()) <= columns for line in text.splitlines())
    assert "…" not in text, "a name or a number was cut"
    assert re.search(r"0.810 ± 0.000 +0.800 ± 0.000 +\+0.100 ± 0.000 \* +3/3", text)
    if columns == 80:  # there names go on in the next line
        return
    kept, cost = [line for line in text.splitlines() if "memory=8" in line][:2]
    assert re.search(
        r"gru/element/update/memory=8 +2e-4 +3/3 +0.810 ± 0.000 +0.800 ± 0.000 +\+0.100 ± 0.000 \* +3/3", kept
    )
    assert re.search(r"gru/element/update/memory=8 +2e-4 +8.3 +332 +1.0 +0.100 +812 +0.360 +joint", cost)


def test_the_picture_stands_alone_and_tells_methods_apart_without_colour(summary):
    svg = pareto_svg(summary)
    root = ElementTree.fromstring(svg)
    assert re.findall(r"https?://[^\"]+", svg) == ["http://www.w3.org/2000/svg"]
    assert "prefers-color-scheme:dark" in svg
    spaced = "{http://www.w3.org/2000/svg}"
    titled = [group for group in root.iter(f"{spaced}g") if group.get("data-series")]
    assert len(titled) == 10  # five methods in each of two panels
    looks = {
        (
            group.find(f"{spaced}path[@class='line']").get("stroke-dasharray"),
            group.find(f"{spaced}path[@class='mark']").get("d"),
        )
        for group in titled
    }
    assert len(looks) == 5
    # The middle seed, two thirds of the way from 0.72 (at 0.4) to 0.568 (at 0.1).
    assert titled[0].find(f"{spaced}title").text == "none: 0.619 kept at forget probability 0.200"
    assert len({dash for dash, _ in looks}) == len({mark for _, mark in looks}) == 5
    _, _, width, height = map(float, root.get("viewBox").split())
    for x, y in re.findall(
        r"[ML](-?[\d.]+),(-?[\d.]+)",
        "".join(path.get("d") for path in root.iter(f"{spaced}path") if path.get("class") in ("line", "thin")),
    ):
        assert 0 <= float(x) <= width
        assert 0 <= float(y) <= height


def test_the_report_shows_each_method_with_its_verdict(summary):
    chosen = {"learning_rates": {"npo": [2e-4], "simnpo": [2e-4]}, "settings": {"forget": "f"}, "versions": {}}
    found = ComparisonSummary.model_validate(summary | chosen | {"suite": None, "rule": "r"})
    page = report_html(Material("runs/c", found, found.to_json()))
    assert page.count('role="img"') == 4, "two panels for each objective"
    assert page.count("Is it forgotten? ") == 10
    assert "a<b" not in page
    assert "--rectifications none,gru,gru/element/update/memory=8,a&lt;b" in page.replace("&#39;", "")
    assert "to a model that never saw them: 0.200" in page


def test_the_median_goes_as_far_as_half_of_the_seeds():
    curves = [[(0.9, 1.0), (0.5, 0.8), (0.1, 0.5)], [(0.9, 1.0), (0.5, 0.6)], [(0.9, 1.0), (0.5, 0.7)]]
    assert median_curve(curves) == [(0.9, 1.0), (0.5, 0.7)]
    assert median_curve(curves[:2]) == [(0.9, 1.0), (0.5, 0.7), (0.1, 0.5)]
    assert median_curve([]) == []
