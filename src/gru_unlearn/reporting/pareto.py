"""A comparison as a picture: forgetting against retention, a panel for each objective, as SVG and as one HTML file.

Methods differ by marker and dash as well as by colour; colours follow the reader's light or dark setting.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from statistics import median
from typing import Any, NamedTuple

from gru_unlearn.reporting.compare import RULE

Point = Sequence[float]
"""Forget probability, kept probability."""

Scale = Callable[[float], float]


class Scales(NamedTuple):
    """What is drawn upwards, and where values stand in a panel."""

    kept: str
    x: Scale
    y: Scale
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]


WIDTH, HEIGHT = 470, 394  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 54, 48
LEGEND_LINE = 22
COLOURS = ("#6b6b6b", "#0072b2", "#c44e00", "#00805a", "#a8478a", "#8a6d00", "#5b4fc4", "#b02a3c")
DARK_COLOURS = ("#b0b0b0", "#56b4e9", "#ff8c42", "#2ec797", "#e78ac3", "#e6c229", "#a79bff", "#ff7585")
DASHES = ("", "7 3", "2 3", "10 3 2 3", "5 2", "1 2", "12 4", "8 2 2 2 2 2")
MARKERS = (
    "M-4,0A4,4 0 1 0 4,0A4,4 0 1 0 -4,0Z", "M-4,-4H4V4H-4Z", "M0,-5L5,4H-5Z", "M0,-5.5L5,0L0,5.5L-5,0Z",
    "M0,5L5,-4H-5Z", "M-5,-1.5H-1.5V-5H1.5V-1.5H5V1.5H1.5V5H-1.5V1.5H-5Z", "M-5,-3L0,-5.5L5,-3V3L0,5.5L-5,3Z",
    "M0,-6L1.5,-1.5H6L2.5,1.5L4,6L0,3L-4,6L-2.5,1.5L-6,-1.5H-1.5Z",
)  # fmt: skip

READING = (
    "Further right is more forgotten, further up is more kept. Thick lines are medians over the seeds at equal "
    "forgetting, thin lines single runs. The dashed vertical line is f*, the retain model's forget probability: "
    "retention is compared there."
)


def pareto_svg(summary: Mapping[str, Any]) -> str:
    """The picture of a comparison's summary; it stands alone."""
    objectives = list(dict.fromkeys(row["objective"] for row in summary["aggregates"]))
    methods = list(dict.fromkeys(row["rectification"] for row in summary["aggregates"]))
    columns = min(2, len(objectives))
    width = max(columns * WIDTH, LEFT + _legend_step(methods))
    panels = -(-len(objectives) // columns) * HEIGHT
    legend, height = _legend(methods, width)
    scales = _scales(summary)
    parts = [
        f'<g transform="translate({i % columns * WIDTH},{i // columns * HEIGHT})">'
        f"{_panel(summary, name, methods, scales)}</g>"
        for i, name in enumerate(objectives)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {panels + height}" width="{width}" '
        f'height="{panels + height}" role="img" aria-label="Forgetting against retention">'
        f'<style>{_style(len(methods))}</style><rect class="paper" width="100%" height="100%"/>{"".join(parts)}'
        f'<g transform="translate(0,{panels})">{legend}</g></svg>\n'
    )


def pareto_html(summary: Mapping[str, Any]) -> str:
    """One HTML file that needs nothing else: the picture, how to read it, and the means of the chosen runs."""
    columns = {"reached": "reached f*", "rmf": "RMF", "rmf_held_out": "RMF held-out", "steps_to_target": "steps"}
    rows = "".join(
        f"<tr><td>{escape(row['objective'])}</td><td>{escape(row['rectification'])}</td>"
        f"<td>{row['learning_rate']:g}</td>" + "".join(f"<td>{_cell(row, key)}</td>" for key in columns) + "</tr>"
        for row in summary["aggregates"]
        if row["chosen"]
    )
    head = "".join(f"<th>{label}</th>" for label in ("objective", "rectification", "learning rate", *columns.values()))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width"><title>Forgetting against retention</title><style>'
        "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em}svg{max-width:100%;"
        "height:auto}table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid "
        "#8886}td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}</style><h1>Forgetting against retention</h1>"
        f"{pareto_svg(summary)}<p>{READING}</p><p>{escape(RULE)}</p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></html>\n"
    )


def _cell(row: Mapping[str, Any], key: str) -> str:
    if key == "reached":
        return f"{row['reached']}/{row['runs']}"
    if row[key] is None:
        return "–"
    digits = 0 if key == "steps_to_target" else 3
    margin = "" if row[key]["low"] is None else f" ± {(row[key]['high'] - row[key]['low']) / 2:.{digits or 1}f}"
    return f"{row[key]['mean']:.{digits}f}{margin}"


def _style(methods: int) -> str:
    def rules(colours: Sequence[str], paper: str, ink: str, faint: str) -> str:
        own = "".join(f".m{i}{{color:{colours[i % len(colours)]}}}" for i in range(methods))
        return f".paper{{fill:{paper}}}.ink,.star{{fill:{ink}}}.faint{{stroke:{faint}}}.rule{{stroke:{ink}}}{own}"

    return (
        "text{font:12px system-ui,sans-serif}.head{font-weight:600;font-size:14px}.end{text-anchor:end}"
        ".mid{text-anchor:middle}path,line{fill:none}.line{stroke:currentColor;stroke-width:2.2}"
        ".thin{stroke:currentColor;stroke-width:.8;opacity:.35}.mark{fill:currentColor}"
        + rules(COLOURS, "#ffffff", "#222222", "#e2e2e2")
        + f"@media(prefers-color-scheme:dark){{{rules(DARK_COLOURS, '#16181c', '#e6e6e6', '#34373d')}}}"
    )


def _panel(summary: Mapping[str, Any], objective: str, methods: Sequence[str], scales: Scales) -> str:
    x, y, kept = scales.x, scales.y, scales.kept
    cells = [cell for cell in _drawn(summary) if cell["objective"] == objective]
    parts = [_frame(objective, scales)]
    if summary["forget_target"] is not None:
        parts.append(_mark_of_forgetting(x(summary["forget_target"])))
    for number, name in enumerate(methods):
        runs = [cell for cell in cells if cell["rectification"] == name]
        parts.append(_method(number, name, runs, scales))
    for label, model, anchor, shift in (("target", "target", "", 9), ("retain model", "retain_model", "end", -9)):
        point = summary[model]
        parts.append(_star(label, x(point["forget_prob"]), y(point[kept]), anchor, shift))
    return "".join(parts)


def _drawn(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The finished runs of each method at its chosen learning rate."""
    method = ("objective", "rectification", "learning_rate")
    chosen = {tuple(row[key] for key in method) for row in summary["aggregates"] if row["chosen"]}
    return [c for c in summary["cells"] if c["status"] == "done" and tuple(c[key] for key in method) in chosen]


def _scales(summary: Mapping[str, Any]) -> Scales:
    """One pair of axes for all panels, so that objectives compare too."""
    kept = "held_out_prob" if "held_out_prob" in summary["target"] else "retain_prob"
    points = [summary["target"], summary["retain_model"], *(p for cell in _drawn(summary) for p in cell["trajectory"])]
    x, x_ticks = _axis([point["forget_prob"] for point in points], LEFT, WIDTH - RIGHT, downwards=True)
    y, y_ticks = _axis([point[kept] for point in points], HEIGHT - BOTTOM, TOP)
    return Scales(kept, x, y, x_ticks, y_ticks)


def _mark_of_forgetting(at: float) -> str:
    low = HEIGHT - BOTTOM
    return (
        f'<line class="rule" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{low}" stroke-dasharray="4 4"/>'
        f'<text class="ink end" x="{at - 5:.1f}" y="{low - 6}">f*</text>'
    )


def _star(label: str, x: float, y: float, anchor: str, shift: int) -> str:
    return (
        f'<path class="star" d="{MARKERS[-1]}" transform="translate({x:.1f},{y:.1f})"/>'
        f'<text class="ink {anchor}" x="{x + shift:.1f}" y="{y - 7:.1f}">{label}</text>'
    )


def _axis(values: Sequence[float], start: float, end: float, *, downwards: bool = False) -> tuple[Scale, list[float]]:
    """A linear scale from the values to pixels, and its ticks: four to nine round numbers around the values."""
    low, high = min(values), max(values)
    span = max(high - low, 1e-3)
    step = next(s for s in (f * 10**e for e in range(-5, 2) for f in (1, 2, 5)) if span / s <= 7)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    a, b = (last * step, first * step) if downwards else (first * step, last * step)
    ticks = [round(i * step, 9) for i in range(first, last + 1)]
    return (lambda value: start + (value - a) / (b - a) * (end - start)), ticks


def _frame(objective: str, scales: Scales) -> str:
    x, y = scales.x, scales.y
    right, low = WIDTH - RIGHT, HEIGHT - BOTTOM
    grid = [
        f'<line class="faint" x1="{LEFT}" x2="{right}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="ink end" x="{LEFT - 6}" y="{y(t) + 4:.1f}">{t:g}</text>'
        for t in scales.y_ticks
    ]
    grid += [
        f'<line class="faint" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{TOP}" y2="{low}"/>'
        f'<text class="ink mid" x="{x(t):.1f}" y="{low + 16}">{t:g}</text>'
        for t in scales.x_ticks
    ]
    rows = "held-out rows" if scales.kept == "held_out_prob" else "retain rows"
    return (
        f'{"".join(grid)}<text class="ink head" x="{LEFT}" y="22">{escape(objective)}</text>'
        f'<text class="ink end" x="{right}" y="22">probability of {rows} (more ↑)</text>'
        f'<text class="ink mid" x="{(LEFT + right) / 2}" y="{HEIGHT - 12}">probability of forget rows (less →)</text>'
    )


def _method(number: int, name: str, cells: Sequence[Mapping[str, Any]], scales: Scales) -> str:
    """The runs as thin lines, their median as a thick one with a marker at its end."""
    kept = scales.kept

    def at(point: Point) -> str:
        return f"{scales.x(point[0]):.1f},{scales.y(point[1]):.1f}"

    thin = [
        f'<path class="thin" d="M{"L".join(at((p["forget_prob"], p[kept])) for p in cell["trajectory"])}"/>'
        for cell in cells
    ]
    curve = median_curve([cell["curves"][kept] for cell in cells])
    if not curve:
        return f'<g class="m{number}">{"".join(thin)}</g>'
    (end_x, end_y), dash = curve[-1], DASHES[number % len(DASHES)]
    return (
        f'<g class="m{number}"><title>{escape(name)}: {end_y:.3f} kept at forget probability {end_x:.3f}</title>'
        f'{"".join(thin)}<path class="line" stroke-dasharray="{dash}" d="M{"L".join(at(p) for p in curve)}"/>'
        f'<path class="mark" d="{MARKERS[number % len(MARKERS)]}" transform="translate({at(curve[-1])})"/></g>'
    )


def median_curve(curves: Sequence[Sequence[Point]]) -> list[Point]:
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
    """Pixels from one name to the next, by the longest: its letters are about 7 wide."""
    return 58 + 7 * max(map(len, methods))


def _legend(methods: Sequence[str], width: int) -> tuple[str, int]:
    """Its SVG and its height: as many names to a line as fit."""
    step = _legend_step(methods)
    columns = max(1, (width - LEFT) // step)
    entries = [
        f'<g class="m{i}" transform="translate({LEFT + i % columns * step},{i // columns * LEGEND_LINE + 10})">'
        f'<line class="line" x2="36" stroke-dasharray="{DASHES[i % len(DASHES)]}"/>'
        f'<path class="mark" d="{MARKERS[i % len(MARKERS)]}" transform="translate(18,0)"/>'
        f'<text class="ink" x="43" y="4">{escape(name)}</text></g>'
        for i, name in enumerate(methods)
    ]
    return "".join(entries), -(-len(methods) // columns) * LEGEND_LINE + 10
