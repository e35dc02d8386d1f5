"""A comparison as a picture: forgetting against retention, a panel for each objective."""

from collections.abc import Iterable, Sequence
from statistics import median

from gru_unlearn.comparison.panel_picture import Size, picture
from gru_unlearn.reporting import chart
from gru_unlearn.results.comparison_summary import CellResult, ComparisonSummary, MethodResult
from gru_unlearn.results.model_metrics import Metrics
from gru_unlearn.results.row_kinds import HELD_OUT, RETAIN, RowKind

PANEL = Size(470, 394)

READING = (
    "Further right is more forgotten, further up is more kept. Thick lines are medians over the seeds at equal "
    "forgetting, as far as half of the seeds got, thin lines single runs. The dashed vertical line is f*, the retain "
    "model's forget probability: retention is compared there."
)


def panels(summary: ComparisonSummary) -> dict[str, str]:
    """Objective → the inside of its panel. All panels have the same axes, so that objectives compare too."""
    kept = RETAIN if summary.target.held_out_prob is None else HELD_OUT
    name, yardstick = summary.yardstick
    target, *beside = _places([summary.target, yardstick], kept)
    stars = [chart.Star("target", target.x, target.y)]
    stars += [chart.Star(name, spot.x, spot.y, left=True) for spot in beside]
    rules = [] if summary.forget_target is None else [chart.MarkLine("f*", summary.forget_target)]
    shown = [target, *beside]
    for row in summary.chosen:
        for cell in summary.cells_of(row):
            shown += _places(cell.trajectory, kept)
    looks = {name: look for look, name in enumerate(summary.rectifications)}
    found = {}
    for objective in summary.objectives:
        panel = _panel(objective, shown, kept)
        rows = [row for row in summary.chosen if row.objective == objective]
        groups = [_method(panel, looks[row.rectification], row, summary.cells_of(row), kept) for row in rows]
        found[objective] = chart.draw(panel, groups, stars, rules)
    return found


def _panel(objective: str, shown: Sequence[chart.Spot], kept: RowKind) -> chart.Panel:
    return chart.make_panel(
        objective,
        [*(point.x for point in shown), *chart.WHOLE],
        [*(point.y for point in shown), *chart.WHOLE],
        x_label="probability of forget rows (less →)",
        y_label=f"probability of {kept.label} rows (more ↑)",
        width=PANEL.width,
        height=PANEL.height,
        x_downwards=True,
    )


def _places(points: Iterable[Metrics], kept: RowKind) -> list[chart.Spot]:
    """Forgetting and keeping, of those that have both."""
    found = []
    for point in points:
        x, y = point.forget_prob, point.probability(kept)
        if x is not None and y is not None:
            found.append(chart.Spot(x, y))
    return found


def _method(panel: chart.Panel, look: int, row: MethodResult, cells: Sequence[CellResult], kept: RowKind) -> str:
    """The runs as thin lines, their median as a thick one with a marker at its end."""
    name = row.rectification
    lines = [chart.Line(name, _places(cell.trajectory, kept), look, thin=True) for cell in cells]
    curve = median_curve([cell.curves[kept.probability] for cell in cells])
    if not curve:
        return chart.series(panel, lines) if lines else ""
    end_x, end_y = curve[-1]
    lines.append(chart.Line(name, [chart.Spot(*place) for place in curve], look, marks="last"))
    return chart.series(panel, lines, f"{name}: {end_y:.3f} kept at forget probability {end_x:.3f}")


def median_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Median over the seeds at each level of forgetting, as far as at least half of the seeds got.

    Args:
        curves: each (level, kept), at the same levels, cut where its run ended.
    """
    longest = max(curves, key=len, default=[])
    median_of = []
    for place, (level, _) in enumerate(longest):
        kept = [curve[place][1] for curve in curves if place < len(curve)]
        if 2 * len(kept) >= len(curves):
            median_of.append((level, median(kept)))
    return median_of


def pareto_svg(summary: ComparisonSummary) -> str:
    """The picture of a comparison's summary; it stands alone."""
    drawn = panels(summary)
    return picture(list(drawn.values()), PANEL, summary.rectifications, "Forgetting against retention")
