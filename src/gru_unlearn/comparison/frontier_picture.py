"""The frontier as a picture: what it takes to get to f* against what is kept there, a panel for each objective."""

from collections.abc import Iterable, Sequence
from itertools import chain

from gru_unlearn.comparison.cost_tables import cost_of, kept_of
from gru_unlearn.comparison.frontier import place_of
from gru_unlearn.comparison.method_columns import short
from gru_unlearn.comparison.panel_picture import Size, picture
from gru_unlearn.reporting import chart
from gru_unlearn.results.comparison_summary import ComparisonSummary, Frontier, FrontierPoint

PANEL = Size(640, 420)

READING = (
    "Further left is sooner at f*, further up more is kept there. A mark is a method at one learning rate, median over "
    "the seeds, its arms from the least to the most; a line joins those of a method that none of its other learning "
    "rates beats at both. The dotted stairs are the joint frontier: the most that any method keeps at that cost."
)


def frontier_panels(summary: ComparisonSummary, frontier: Frontier) -> dict[str, str]:
    """Objective → the inside of its panel. All panels have the same axes."""
    looks = {name: look for look, name in enumerate(summary.rectifications)}
    found = {}
    for objective in summary.objectives:
        points = [point for point in frontier.points if point.objective == objective]
        if not points:
            continue
        panel = _panel(objective, frontier)
        groups = []
        for name in dict.fromkeys(point.rectification for point in points):
            own = [point for point in points if point.rectification == name]
            groups.append(_method(panel, name, looks[name], own, frontier))
        joint = _from_left(point for point in points if point.joint)
        found[objective] = chart.draw(panel, [chart.stairs(panel, joint), *groups])
    return found


def _panel(objective: str, frontier: Frontier) -> chart.Panel:
    points = frontier.points
    return chart.make_panel(
        objective,
        list(chain.from_iterable((point.cost.low, point.cost.high) for point in points)),
        list(chain.from_iterable((point.kept.low, point.kept.high) for point in points)),
        x_label=f"{cost_of(frontier).label} to f* (← less)",
        y_label=f"RMF on {kept_of(frontier).label} rows (more ↑)",
        width=PANEL.width,
        height=PANEL.height,
        x_logarithmic=True,
    )


def _method(panel: chart.Panel, name: str, look: int, points: Sequence[FrontierPoint], frontier: Frontier) -> str:
    """A cross for each learning rate, and a line along the method's own frontier."""
    crosses = []
    for point in points:
        x, y = place_of(point)
        tip = f"{name}, lr {short(point.learning_rate)}: {y:.3f} kept after {x:.6g} {cost_of(frontier).label}"
        ranges = (point.cost.low, point.cost.high), (point.kept.low, point.kept.high)
        crosses.append(chart.Cross(chart.Spot(x, y, tip), *ranges))
    own = chart.Line(name, _from_left(point for point in points if point.own), look, marks="none")
    return chart.series(panel, [own], "", crosses)


def _from_left(points: Iterable[FrontierPoint]) -> list[chart.Spot]:
    return [chart.Spot(*place) for place in sorted(map(place_of, points))]


def frontier_svg(summary: ComparisonSummary, frontier: Frontier) -> str:
    """The picture of a comparison's frontier; it stands alone."""
    drawn = frontier_panels(summary, frontier)
    return picture(list(drawn.values()), PANEL, summary.rectifications, "Retention against cost")
