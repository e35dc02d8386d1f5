"""A comparison as a picture: forgetting against retention, a panel for each objective."""

from collections.abc import Mapping, Sequence
from html import escape
from statistics import median
from typing import Any

from gru_unlearn.reporting.chart import (
    COLOURS,
    DARK,
    DASHES,
    LEFT,
    LIGHT,
    MARKERS,
    SHAPES,
    Line,
    Panel,
    Point,
    Rule,
    Star,
    draw,
    make_panel,
    series,
    whole,
)

WIDTH, HEIGHT = 470, 394  # of a panel
LEGEND_LINE = 22

READING = (
    "Further right is more forgotten, further up is more kept. Thick lines are medians over the seeds at equal "
    "forgetting, as far as half of the seeds got, thin lines single runs. The dashed vertical line is f*, the retain "
    "model's forget probability: retention is compared there."
)


def methods_of(summary: Mapping[str, Any]) -> list[str]:
    """The compared rectifications; a method's place is its look in every panel."""
    return list(dict.fromkeys(row["rectification"] for row in summary["aggregates"]))


def panels(summary: Mapping[str, Any]) -> dict[str, str]:
    """Objective → the inside of its panel. All panels have the same axes, so that objectives compare too."""
    drawn = _drawn(summary)
    kept = "held_out_prob" if "held_out_prob" in summary["target"] else "retain_prob"
    points = [summary["target"], summary["retain_model"], *(p for cell in drawn for p in cell["trajectory"])]
    rows = "held-out rows" if kept == "held_out_prob" else "retain rows"
    found = {}
    for objective in dict.fromkeys(row["objective"] for row in summary["aggregates"]):
        panel = make_panel(
            objective,
            [point["forget_prob"] for point in points],
            [point[kept] for point in points],
            x_label="probability of forget rows (less →)",
            y_label=f"probability of {rows} (more ↑)",
            width=WIDTH,
            height=HEIGHT,
            x_downwards=True,
        )
        cells = [cell for cell in drawn if cell["objective"] == objective]
        mark = summary["forget_target"]
        rules = [] if mark is None else [Rule("f*", mark)]
        stars = [
            Star("target", summary["target"]["forget_prob"], summary["target"][kept]),
            Star("retain model", summary["retain_model"]["forget_prob"], summary["retain_model"][kept], left=True),
        ]
        groups = [_method(panel, number, name, cells, kept) for number, name in enumerate(methods_of(summary))]
        found[objective] = draw(panel, groups, stars, rules)
    return found


def pareto_svg(summary: Mapping[str, Any]) -> str:
    """The picture of a comparison's summary; it stands alone."""
    drawn, methods = panels(summary), methods_of(summary)
    columns = min(2, len(drawn))
    width = max(columns * WIDTH, LEFT + _legend_step(methods))
    below = -(-len(drawn) // columns) * HEIGHT
    legend, height = _legend(methods, width)
    parts = [
        f'<g transform="translate({i % columns * WIDTH},{i // columns * HEIGHT})">{inside}</g>'
        for i, inside in enumerate(drawn.values())
    ]
    style = f"<style>{SHAPES}{LIGHT}@media(prefers-color-scheme:dark){{{DARK}}}</style>"
    inside = f'{style}<rect class="paper" width="100%" height="100%"/>{"".join(parts)}'
    inside += f'<g transform="translate(0,{below})">{legend}</g>'
    return whole(inside, width, below + height, "Forgetting against retention") + "\n"


def _drawn(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The finished runs of each method at its chosen learning rate."""
    method = ("objective", "rectification", "learning_rate")
    chosen = {tuple(row[key] for key in method) for row in summary["aggregates"] if row["chosen"]}
    return [c for c in summary["cells"] if c["status"] == "done" and tuple(c[key] for key in method) in chosen]


def _method(panel: Panel, number: int, name: str, cells: Sequence[Mapping[str, Any]], kept: str) -> str:
    """The runs as thin lines, their median as a thick one with a marker at its end."""
    cells = [cell for cell in cells if cell["rectification"] == name]
    thin = [
        Line(name, [Point(p["forget_prob"], p[kept]) for p in cell["trajectory"]], number, thin=True) for cell in cells
    ]
    curve = median_curve([cell["curves"][kept] for cell in cells])
    if not curve:
        return series(panel, thin) if thin else ""
    end_x, end_y = curve[-1]
    title = f"{name}: {end_y:.3f} kept at forget probability {end_x:.3f}"
    return series(panel, [*thin, Line(name, [Point(*point) for point in curve], number, marks="last")], title)


def median_curve(curves: Sequence[Sequence[Sequence[float]]]) -> list[tuple[float, float]]:
    """Median over the seeds at each level of forgetting, as far as at least half of the seeds got.

    Args:
        curves: each [level, kept], at the same levels, cut where its run ended.
    """
    longest = max(curves, key=len, default=[])
    reached = [[curve[i][1] for curve in curves if i < len(curve)] for i in range(len(longest))]
    return [
        (level[0], median(kept)) for level, kept in zip(longest, reached, strict=True) if 2 * len(kept) >= len(curves)
    ]


def _legend_step(methods: Sequence[str]) -> int:
    """Pixels from one name to the next, by the longest: its letters are about 7.5 wide."""
    return 58 + round(7.5 * max(map(len, methods)))


def _legend(methods: Sequence[str], width: int) -> tuple[str, int]:
    """Its SVG and its height: as many names to a line as fit."""
    step = _legend_step(methods)
    columns = max(1, (width - LEFT) // step)
    entries = [
        f'<g class="m{i % len(COLOURS)}" '
        f'transform="translate({LEFT + i % columns * step},{i // columns * LEGEND_LINE + 10})">'
        f'<line class="line" x2="36" stroke-dasharray="{DASHES[i % len(DASHES)]}"/>'
        f'<path class="mark" d="{MARKERS[i % len(MARKERS)]}" transform="translate(18,0)"/>'
        f'<text class="ink" x="43" y="4">{escape(name)}</text></g>'
        for i, name in enumerate(methods)
    ]
    return "".join(entries), -(-len(methods) // columns) * LEGEND_LINE + 10
