"""Comparing by cost: what it takes to get to f*, equal terms, the frontier, the area under it, any method to any."""

import json
import math
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import tiny
from gru_unlearn.comparison import statistics
from gru_unlearn.comparison.cell_results import estimated_costs
from gru_unlearn.comparison.comparison_request import ComparisonRequest
from gru_unlearn.comparison.comparison_tables import comparison_report
from gru_unlearn.comparison.distinct_methods import check_distinct
from gru_unlearn.comparison.equal_terms import equal_of, on_equal_terms, rule_of, told
from gru_unlearn.comparison.frontier import Place, area_under, efficient, find_frontier
from gru_unlearn.comparison.frontier_picture import frontier_svg
from gru_unlearn.comparison.matrix import Matrix
from gru_unlearn.comparison.method_verdicts import judge_comparison
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.matched import cost_at_matched_forgetting, retention_at_matched_forgetting
from gru_unlearn.reporting.chart import logarithmic_axis
from gru_unlearn.results.comparison_summary import CellResult, ComparisonSummary, Equal
from gru_unlearn.results.cost_kinds import ROWS
from gru_unlearn.results.model_metrics import Point
from gru_unlearn.runs.recipe import make_recipe

# --- what it takes ---------------------------------------------------------------------------------------------------

WALK = [
    {"step": 0, "forget_prob": 0.8, "retain_prob": 0.9, "rows": 0, "seconds": 0.0},
    {"step": 5, "forget_prob": 0.4, "retain_prob": 0.8, "rows": 200, "seconds": 10.0},
    {"step": 10, "forget_prob": 0.1, "retain_prob": 0.5, "rows": 420, "seconds": 16.0},
]


def test_costs_are_interpolated_as_rmf_is():
    # 0.2 lies two thirds of the way from 0.4 to 0.1
    assert cost_at_matched_forgetting(WALK, 0.2) == pytest.approx(5 + 5 * 2 / 3)
    assert cost_at_matched_forgetting(WALK, 0.2, "rows") == pytest.approx(200 + 220 * 2 / 3)
    assert cost_at_matched_forgetting(WALK, 0.2, "seconds") == pytest.approx(14)
    assert retention_at_matched_forgetting(WALK, 0.2) == pytest.approx(0.6 / 0.9)
    assert cost_at_matched_forgetting(WALK, 0.05) is None
    assert cost_at_matched_forgetting(WALK, 0.9) == 0, "it was there from the beginning"
    assert cost_at_matched_forgetting([{**point, "rows": None} for point in WALK], 0.2, "rows") is None


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=9, unique=True), st.floats(0.01, 1))
def test_a_cost_lies_between_the_evaluations_around_f(levels, forget_target):
    walk = [{"step": 5 * number, "forget_prob": level} for number, level in enumerate(levels)]
    found = cost_at_matched_forgetting(walk, forget_target)
    first = next((point["step"] for point in walk if point["forget_prob"] <= forget_target), None)
    if first is None:
        assert found is None
    else:
        assert max(0, first - 5) - 1e-9 <= found <= first + 1e-9


def test_runs_that_did_not_count_are_estimated_from_their_steps():
    points = [Point(step=0, forget_prob=0.8), Point(step=5, forget_prob=0.1, seconds=3.5)]
    found = estimated_costs(points, 40, 0.5)
    assert [(point.rows, point.seconds) for point in found] == [(0, 0), (200, 3.5)]
    assert [point.seconds for point in estimated_costs(points, 40, None)] == [None, 3.5]


# --- the frontier ----------------------------------------------------------------------------------------------------


def test_the_frontier_by_hand():
    places = [Place(1, 0.5), Place(2, 0.4), Place(4, 0.9), Place(4, 0.8), Place(9, 0.9), Place(1, 0.5)]
    assert efficient(places) == [True, False, True, False, False, True]


def test_the_area_by_hand():
    places = [Place(1, 0.5), Place(4, 0.9)]
    assert area_under(places, 1, 16) == pytest.approx((0.5 + 0.9) / 2), "1 to 4 is half of the way to 16"
    assert area_under(places, 0.25, 16) == pytest.approx((0 + 0.5 + 0.9) / 3), "nothing is kept before the first"
    assert area_under(places, 1, 4) == pytest.approx(0.5)
    assert area_under(places, 4, 4) == 0.9
    assert area_under([*places, Place(2, 0.1)], 1, 16) == area_under(places, 1, 16), "what is worse changes nothing"
    assert area_under([], 1, 16) == 0


PLACES = st.lists(st.builds(Place, st.floats(0.1, 100), st.floats(0, 1)), min_size=1, max_size=8)


@given(PLACES, st.floats(0.1, 10), st.floats(0.1, 10))
def test_the_area_is_a_mean_and_knows_no_unit(places, scale, shift):
    low, high = min(place.cost for place in places), max(place.cost for place in places)
    area = area_under(places, low, high)
    assert 0 <= area <= max(place.kept for place in places) + 1e-12
    in_minutes = [Place(place.cost * scale, place.kept) for place in places]
    assert area_under(in_minutes, low * scale, high * scale) == pytest.approx(area, abs=1e-6)
    more = [*places, Place(low, shift)]
    assert area_under(more, low, high) >= area - 1e-12
    best = [place for place, is_on in zip(places, efficient(places), strict=True) if is_on]
    assert area_under(best, low, high) == pytest.approx(area), "the frontier is all that counts"


def cell(rectification, rate, seed, kept, seconds, *, objective="npo", **more):
    reached = {"rmf_held_out": kept, "rmf": kept, "steps_to_target": 10, "cost_steps": 9.5}
    reached |= {"cost_seconds": seconds, "cost_rows": None if seconds is None else 100 * seconds}
    if kept is None:
        reached = dict.fromkeys(reached)
    name = f"{objective}-{rectification}-lr{rate:g}-seed{seed}"
    who = {"objective": objective, "rectification": rectification, "learning_rate": rate, "seed": seed, "name": name}
    return CellResult.model_validate(who | {"status": "done", "steps": 50, "forget_prob": 0.1} | reached | more)


def three(rectification, rate, kept, seconds, **more):
    """Three seeds around these medians."""
    return [cell(rectification, rate, s, kept + d / 100, seconds + d, **more) for s, d in enumerate((-1, 0, 1))]


FAIR = [
    *three("none", 1e-4, 0.70, 8.0), *three("none", 2e-4, 0.60, 4.0),
    *three("gru", 1e-4, 0.90, 32.0), *three("gru", 2e-4, 0.80, 16.0), *three("gru", 4e-4, 0.5, 64.0),
    *three("pcgrad", 1e-4, 0.65, 10.0), *three("pcgrad", 2e-4, 0.60, 12.0),
]  # fmt: skip


def who_won(cells):
    rows = statistics.aggregate(cells)
    summary = ComparisonSummary.model_validate(
        {"rule": "", "forget_target": 0.2, "target": {}, "retain_model": {}, "aggregates": [], "cells": []}
        | {"settings": {}, "learning_rates": {}, "versions": {}}
    )
    summary.aggregates = rows
    judge_comparison(summary)
    return summary


def test_a_comparison_says_who_kept_most_and_by_how_much():
    summary = who_won(FAIR)
    assert summary.kept_most == [
        "npo: at equal forgetting gru kept most: 0.900 ± 0.025 of the held-out probability, 0.200 more than none "
        "(0.700 ± 0.025)."
    ]
    report = comparison_report(summary)
    assert report.index(summary.verdict.sentence) < report.index(summary.kept_most[0])


def test_who_kept_most_is_told_only_of_what_can_be_compared():
    near = [*three("none", 1e-4, 0.899, 8.0), *three("gru", 1e-4, 0.90, 8.0)]
    assert "their 95 % intervals overlap" in who_won(near).kept_most[0]
    late = [*near, *three("pcgrad", 1e-4, 0.99, 8.0)[:2], cell("pcgrad", 1e-4, 9, None, None)]
    assert "pcgrad, which got to f* less often" in who_won(late).kept_most[0], "a mean over fewer seeds says less"
    assert "one seed says nothing of chance" in who_won([near[0], near[3]]).kept_most[0]
    assert who_won(near[:3]).kept_most == []
    objectives = [*near, *three("none", 1e-4, 0.5, 8.0, objective="ga"), *three("gru", 1e-4, 0.6, 8.0, objective="ga")]
    assert [line.partition(":")[0] for line in who_won(objectives).kept_most] == ["npo", "ga"]


def test_methods_on_the_joint_frontier():
    frontier = find_frontier(FAIR)
    places = {(p.rectification, p.learning_rate): (p.own, p.joint) for p in frontier.points}
    assert places == {
        ("none", 1e-4): (True, True),
        ("none", 2e-4): (True, True),
        ("gru", 1e-4): (True, True),
        ("gru", 2e-4): (True, True),
        ("gru", 4e-4): (False, False),
        ("pcgrad", 1e-4): (True, False),
        ("pcgrad", 2e-4): (False, False),
    }
    assert (frontier.cost, frontier.kept, frontier.ranges) == ("seconds", "rmf_held_out", {"npo": (4, 32)})
    areas = {method.rectification: (method.area, method.joint) for method in frontier.methods}
    assert areas["none"] == (pytest.approx((0.6 + 2 * 0.7) / 3), True)
    assert areas["gru"] == (pytest.approx(0.8 / 3), True)
    assert areas["pcgrad"] == (pytest.approx(0.65 * math.log2(3.2) / 3), False)
    first = frontier.points[0]
    assert (first.cost.low, first.cost.median, first.cost.high) == (7, 8, 9)
    assert (first.kept.low, first.kept.high) == pytest.approx((0.69, 0.71))


def test_a_learning_rate_with_which_a_seed_does_not_get_there_is_no_point():
    cells = [*three("none", 1e-4, 0.7, 8), *three("none", 2e-4, 0.9, 4)[:2], cell("none", 2e-4, 2, None, None)]
    assert [point.learning_rate for point in find_frontier(cells).points] == [1e-4]
    failed = CellResult(name="x", objective="npo", rectification="none", learning_rate=1e-4, seed=3, status="failed")
    assert find_frontier([*cells, failed]) is None
    assert find_frontier(FAIR, ROWS).ranges == {"npo": (400, 3200)}
    for one in (without := [c.model_copy() for c in FAIR]):
        one.cost_seconds = one.cost_rows = None
    assert find_frontier(without).cost == "step", "old folders know nothing else"


def test_objectives_have_frontiers_of_their_own():
    cells = [*FAIR, *three("none", 1e-4, 0.1, 100.0, objective="ga")]
    frontier = find_frontier(cells)
    assert frontier.ranges == {"npo": (4, 32), "ga": (100, 100)}
    assert [method.area for method in frontier.methods if method.objective == "ga"] == [pytest.approx(0.1)]
    assert [point.joint for point in frontier.points if point.objective == "ga"] == [True]


def test_the_picture(tmp_path):
    whole = {"forget_prob": 0.9, "retain_prob": 0.9, "held_out_prob": 0.8}
    summary = ComparisonSummary(
        rule="r", forget_target=0.1, target=whole, retain_model=whole, aggregates=statistics.aggregate(FAIR),
        cells=FAIR, frontier=find_frontier(FAIR), settings={}, learning_rates={}, versions={},
    )  # fmt: skip
    svg = frontier_svg(summary, summary.frontier)
    spaced = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(svg)
    groups = {g.get("data-series"): g for g in root.iter(f"{spaced}g") if g.get("data-series")}
    marks = {name: len(g.findall(f".//{spaced}path[@class='mark']")) for name, g in groups.items()}
    assert marks == {"none": 2, "gru": 3, "pcgrad": 2}, "one for each learning rate"
    assert all(len(g.findall(f".//{spaced}path[@class='arm']")) == marks[name] for name, g in groups.items())
    assert "gru, lr 1e-4: 0.900 kept after 32 seconds" in svg
    assert "seconds to f*" in svg
    again = ComparisonSummary.model_validate(json.loads(json.dumps(summary.to_json())))
    assert again == summary


@given(st.floats(1e-3, 1e6), st.floats(1, 1e5))
def test_a_logarithmic_axis_holds_its_values(low, factor):
    scale, ticks = logarithmic_axis([low, low * factor], 50, 450)
    assert 49.9 <= scale(low) <= scale(low * factor) <= 450.1
    assert len(ticks) >= 2
    assert [scale(ticks[0]), scale(ticks[-1])] == pytest.approx([50, 450])
    middle = math.sqrt(ticks[0] * ticks[-1])
    assert scale(middle) == pytest.approx(250)


# --- equal terms -----------------------------------------------------------------------------------------------------


def chosen(cells, equal=None, against="none"):
    rows = statistics.aggregate(cells, equal, against)
    return {row.rectification: row for row in rows if row.chosen}


def rates(cells, equal=None):
    return {name: row.learning_rate for name, row in chosen(cells, equal).items()}


def test_at_equal_rows_the_most_kept_decides():
    assert rates(FAIR) == {"none": 1e-4, "gru": 1e-4, "pcgrad": 1e-4}
    assert all(row.within_budget is None for row in chosen(FAIR).values())


def test_at_equal_time_only_what_gets_there_in_time_may_win():
    equal = Equal(what="time", budgets={"npo": 20})
    assert rates(FAIR, equal) == {"none": 1e-4, "gru": 2e-4, "pcgrad": 1e-4}
    tight = chosen(FAIR, Equal(what="time", budgets={"npo": 7}))
    assert (tight["none"].learning_rate, tight["none"].within_budget) == (2e-4, True)
    assert tight["gru"].within_budget is tight["pcgrad"].within_budget is False
    assert tight["gru"].against_none == {}, "it has no place in the comparison"


def test_the_least_budget_lets_every_method_in():
    equal = Equal(what="time")
    assert rates(FAIR, equal) == {"none": 1e-4, "gru": 2e-4, "pcgrad": 1e-4}
    assert equal.budgets == {"npo": 16}, "gru's fastest"
    passes = Equal(what="passes")
    chosen(FAIR, passes)
    assert passes.budgets == {"npo": 1600}
    never = [*FAIR, *[cell("far", 1e-4, seed, None, None) for seed in range(3)]]
    equal = Equal(what="time")
    assert chosen(never, equal)["far"].within_budget is False
    assert equal.budgets == {"npo": 16}, "one that never gets there has no say"


def test_a_seed_that_does_not_get_there_takes_for_ever():
    cells = [cell("none", 1e-4, seed, kept, seconds) for seed, (kept, seconds) in enumerate([(0.9, 5), (0.9, 6)])]
    assert statistics.median_cost(cells, "cost_seconds") == 5.5
    assert statistics.median_cost([*cells, cell("none", 1e-4, 2, None, None)], "cost_seconds") == 6
    assert statistics.median_cost([cells[0], cell("none", 1e-4, 2, None, None)], "cost_seconds") == math.inf


def test_any_method_can_be_compared_with():
    rows = chosen(FAIR, against="pcgrad")
    assert rows["gru"].against["rmf_held_out"].mean == pytest.approx(0.25)
    assert rows["gru"].against["rmf_held_out"].excludes_zero
    assert rows["none"].differences["rmf_held_out"].mean == pytest.approx(0.05)
    assert rows["pcgrad"].differences == {}
    assert rows["gru"].against_none["rmf_held_out"].mean == pytest.approx(0.2), "the plain runs stay on record"


SETTINGS = {"model": "m", "forget": "f", "retain": "r", "retain_model": "s", "per_device_train_batch_size": 8,
            "use_cpu": True}  # fmt: skip


def matrix(rectifications, folder, **settings):
    return Matrix(SETTINGS | settings, ["npo"], rectifications, {"npo": [1e-4, 2e-4]}, [0], folder)


def test_at_equal_rows_all_get_as_many_as_the_one_that_asks_for_most(tmp_path):
    plain = matrix(["none", "none@retain_weight=20", "gru", "recommended"], tmp_path)
    found = on_equal_terms(plain, ComparisonRequest())
    sizes = {cell.rectification: cell.settings.get("retain_batch_size") for cell in found.cells}
    assert sizes == {"none": None, "none@retain_weight=20": "32", "gru": "32", "recommended": None}
    folders = {cell.rectification: cell.name for cell in found.cells if cell.learning_rate == 1e-4}
    assert folders["gru"] == "npo-gru+retain_batch_size+32-lr0.0001-seed0", "one of its own: the other run stays"
    assert folders["none"] == "npo-none-lr0.0001-seed0"
    assert told(found.terms) == (
        "--equal rows: gru, none@retain_weight=20 with 32 retain rows a step, as many as recommended has; "
        "with --equal passes or --equal time each has its own number."
    )
    rule = rule_of(equal_of(found.terms, ["npo"]))
    assert "32 retain rows a step if it looks at any (npo · none: none at all)" in rule
    assert "Not equal are forget rows that are read for each one of a step (1: " in rule
    assert "; 3: npo · recommended)." in rule
    for what in ("passes", "time"):
        free = on_equal_terms(plain, ComparisonRequest(equal=what))
        assert [cell.name for cell in free.cells] == [cell.name for cell in plain.cells]
        assert told(free.terms) == ""
        assert "(0: npo · none; 8: npo · none@retain_weight=20, npo · gru; 32: npo · recommended)" in rule_of(
            equal_of(free.terms, ["npo"])
        )


def test_where_all_are_equal_nothing_changes(tmp_path):
    for plain in (matrix(["none", "gru"], tmp_path), matrix(["gru", "recommended"], tmp_path, retain_batch_size=32)):
        found = on_equal_terms(plain, ComparisonRequest())
        assert found.cells == plain.cells
        assert told(found.terms) == ""


@pytest.mark.parametrize(
    ("rectifications", "request_", "message"),
    [
        (["gru@retain_batch_size=8", "recommended"], {}, "gru@retain_batch_size=8 asks for 8 .* recommended gets 32"),
        (["gru", "gru@retain_batch_size=32"], {}, "gru would get 32 .* as gru@retain_batch_size=32 does"),
        (["gru"], {"against": "grü"}, "--against grü: not compared"),
        (["gru"], {"budget": 5.0}, "--budget is a cost to f"),
    ],
)
def test_terms_that_contradict_each_other(tmp_path, rectifications, request_, message):
    with pytest.raises(UserError, match=message):
        on_equal_terms(matrix(rectifications, tmp_path), ComparisonRequest(**request_))


def check(rectifications, folder, objectives=("npo",), **request_):
    rates = {name: [1e-4, 2e-4] for name in objectives}
    plain = Matrix(SETTINGS, objectives, rectifications, rates, [0], folder)
    chosen = on_equal_terms(plain, ComparisonRequest(**request_))
    check_distinct(chosen, chosen.cells, [make_recipe(cell.settings) for cell in chosen.cells])


@pytest.mark.parametrize(
    ("rectifications", "message"),
    [
        (["gru", "gru/model/gradient"], "gru/model/gradient would run exactly as gru does: leave one of them out"),
        (["hamu", "hamu/tensor"], "hamu/tensor would run exactly as hamu does"),
        (["gru", "gru@new_gradient_weight=0.8"], "exactly as gru does"),
        (
            ["recommended", "gru/element/update/metric=0.1/temper=0.75@forget_candidates=3"],
            "exactly as recommended does: pass --equal passes or --equal time",
        ),
        (["gru", "none@retain_every=2"], "method 'none@retain_every=2': retain_every needs a rectification"),
        (["gru", "none@retain_loss=anchor"], "method 'none@retain_loss=anchor': retain_loss needs"),
        (["sago@retain_weight=2", "sago/weight=2"], "exactly as sago@retain_weight=2 does"),
        (["ngdiff", "ngdiff@retain_weight=3"], "method 'ngdiff@retain_weight=3': retain_weight needs"),
    ],
)
def test_methods_that_would_run_alike_are_refused(tmp_path, rectifications, message):
    with pytest.raises(UserError, match=message):
        check(rectifications, tmp_path)


def test_methods_that_differ_somewhere_are_compared(tmp_path):
    check(["none", "gru", "gru/layer", "gru@retain_every=2", "sago", "sago/weight=0.1"], tmp_path)
    check(["recommended", "gru/element/update"], tmp_path, equal="time")
    check(["none", "none@retain_weight=1"], tmp_path, ["npo", "rmu"])
    check(["none", "none@retain_loss=kl"], tmp_path, ["npo", "graddiff"])


@pytest.mark.parametrize("wrong", [{"equal": "rwos"}, {"budget": 0.0}, {"budget": math.nan}])
def test_requests_that_cannot_work(wrong):
    with pytest.raises(UserError):
        ComparisonRequest(**wrong)


def test_a_rule_for_each_of_the_terms():
    equal = Equal(what="time", budget=35.25, budgets={"npo": 35.25})
    assert "within the budget, those that get there in most seeds first: npo 35.2 seconds" in rule_of(equal)
    assert "no method gets to f*" in rule_of(Equal(what="time"))


# --- whole comparisons -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A tiny model whose forgetting has a mark: a model with other weights."""
    folder = tmp_path_factory.mktemp("world")
    settings = {"model": tiny.save(folder / "model"), "retain_model": tiny.save(folder / "other", seed=3)}
    for name, rows in (("forget", tiny.rows(4)), ("retain", tiny.rows(16, start=4)), ("held_out", tiny.rows(4, 20))):
        settings[name] = folder / f"{name}.jsonl"
        settings[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {key: str(value) for key, value in settings.items()} | {
        "max_steps": 12, "eval_steps": 2, "warmup_steps": 0, "per_device_train_batch_size": 4, "use_cpu": True,
        "gradient_accumulation_steps": 1, "lr_scheduler_type": "constant", "stop_when_forgotten": True,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return folder / "recipe.yaml"


def stamps(out):
    return {path.parent.name: path.stat().st_mtime_ns for path in sorted(out.glob("runs/*/summary.json"))}


def uncount(out):
    """As an earlier version left it: no run counted what it took."""
    for file in (*out.glob("runs/*/summary.json"), out / "summary.json"):
        content = json.loads(file.read_text())
        for holder in (content, *content.get("cells", ())):
            for point in holder.get("trajectory", ()):
                point.pop("rows"), point.pop("seconds")
        for name in ("equal", "against", "frontier"):
            content.pop(name, None)
        file.write_text(json.dumps(content))


@pytest.mark.slow
def test_a_comparison_by_cost_to_the_end(gru, recipe, tmp_path):
    out = tmp_path / "out"
    command = ["compare", recipe, "--output-dir", out, "--suite", "none", "--rectifications"]
    code, said, err = gru(*command, "none,gru", "--learning-rates", "1e-2", "--seeds", "1")
    assert code == 0, err
    assert "--equal rows" not in said, "nothing was made equal"
    summary = json.loads((out / "summary.json").read_text())
    for row in summary["cells"]:
        per_step = 8 if row["rectification"] == "gru" else 4
        assert [point["rows"] for point in row["trajectory"]] == [per_step * p["step"] for p in row["trajectory"]]
        assert 0 < row["cost_steps"] <= row["steps_to_target"]
        assert row["cost_rows"] == pytest.approx(per_step * row["cost_steps"])
        assert 0 < row["cost_seconds"] <= row["trajectory"][-1]["seconds"]
        assert "cost_estimated" not in row
    assert summary["equal"] == {
        "what": "rows",
        "retain_rows": {"npo · none": 0, "npo · gru": 4},
        "forget_candidates": {"npo · none": 1, "npo · gru": 1},
    }
    assert summary["frontier"]["cost"] == "seconds"
    assert {point["rectification"] for point in summary["frontier"]["points"]} == {"none", "gru"}
    assert "On the joint frontier of npo:" in said.replace("\n", " ")
    ElementTree.parse(out / "frontier.svg")
    assert "What it takes, and what it keeps" in (out / "report.html").read_text()

    uncount(out)
    before = stamps(out)
    more = ["none,gru,recommended", "--learning-rates", "1e-2", "--seeds", "1"]
    code, said, err = gru(*command, *more, "--equal", "time", "--against", "gru")
    assert code == 0, err
    assert "2 of 3 runs are finished and stay as they are" in said
    assert {name: stamps(out)[name] for name in before} == before
    summary = json.loads((out / "summary.json").read_text())
    earlier = [row for row in summary["cells"] if row["name"] in before]
    assert all(row["cost_estimated"] and row["cost_rows"] > 0 for row in earlier)
    assert "2 of 3 runs did not count rows or seconds on their way" in said.replace("\n", " ")
    best = [row for row in summary["aggregates"] if row["chosen"]]
    assert [row["rectification"] for row in best] == ["none", "gru", "recommended"]
    assert best[2]["against"]["rmf_held_out"]["n"] == 1
    assert summary["against"] == "gru"
    assert "minus gru" in said
    assert "--equal time --against gru" in (out / "report.html").read_text()

    code, said, err = gru(*command, "gru,recommended", "--learning-rates", "1e-2", "--seeds", "1", "--dry-run")
    assert code == 0, err
    assert "--equal rows: gru with 16 retain rows a step" in said
    assert "2 runs, 1 of them still to do" in said, "recommended is there already; gru was not run with so many"
