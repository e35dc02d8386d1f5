"""Line charts as SVG text. Series differ by marker and dash as well as by colour; colours come from the surroundings.

Every mark carries a ``<title>``, so that its numbers can be read without any script.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import chain, product
from typing import NamedTuple

from gru_unlearn.reporting.tables import shown

Scale = Callable[[float], float]

LEFT, RIGHT, TOP, BOTTOM = 58, 26, 60, 48
COLOURS = ("#6b6b6b", "#0072b2", "#c44e00", "#00805a", "#a8478a", "#8a6d00", "#5b4fc4", "#b02a3c")
DARK_COLOURS = ("#b0b0b0", "#56b4e9", "#ff8c42", "#2ec797", "#e78ac3", "#e6c229", "#a79bff", "#ff7585")
DASHES = ("", "7 3", "2 3", "10 3 2 3", "5 2", "1 2", "12 4", "8 2 2 2 2 2")
MARKERS = (
    "M-4,0A4,4 0 1 0 4,0A4,4 0 1 0 -4,0Z", "M-4,-4H4V4H-4Z", "M0,-5L5,4H-5Z", "M0,-5.5L5,0L0,5.5L-5,0Z",
    "M0,5L5,-4H-5Z", "M-5,-1.5H-1.5V-5H1.5V-1.5H5V1.5H1.5V5H-1.5V1.5H-5Z", "M-5,-3L0,-5.5L5,-3V3L0,5.5L-5,3Z",
    "M0,-6L1.5,-1.5H6L2.5,1.5L4,6L0,3L-4,6L-2.5,1.5L-6,-1.5H-1.5Z",
)  # fmt: skip
WHOLE = (0.0, 1.0)
"""Ends of an axis of shares or probabilities."""
NEAR_TOP = 30
"""Pixels below a frame's top, within which a star has its name above the frame."""
MOST_MARKS = 40
"""Of one line; a longer one has evenly spread marks."""


class Spot(NamedTuple):
    """A point of a line, and what is shown on pointing at it."""

    x: float
    y: float
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A series of points. ``look`` numbers colour, dash and marker; ``marks``: all points, the last one, or none."""

    name: str
    points: Sequence[Spot]
    look: int
    marks: str = "all"
    thin: bool = False


class Cross(NamedTuple):
    """A point that was measured several times: its marker at the medians, with arms to the least and the most."""

    spot: Spot
    x_range: tuple[float, float]
    y_range: tuple[float, float]


class Star(NamedTuple):
    """A single point with its name beside it; ``left``: on which side."""

    label: str
    x: float
    y: float
    left: bool = False


class MarkLine(NamedTuple):
    """A dashed line across the panel at a value of x, or of y."""

    label: str
    at: float
    horizontal: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """A frame with two axes."""

    title: str
    x_label: str
    y_label: str
    x: Scale
    y: Scale
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    width: int
    height: int


def make_panel(
    title: str,
    xs: Sequence[float],
    ys: Sequence[float],
    *,
    x_label: str,
    y_label: str,
    width: int = 440,
    height: int = 300,
    x_downwards: bool = False,
    x_logarithmic: bool = False,
) -> Panel:
    """Axes that hold all the values; ``x_downwards`` puts small values to the right."""
    if x_logarithmic:
        x, x_ticks = logarithmic_axis(xs, LEFT, width - RIGHT)
    else:
        x, x_ticks = axis(xs, LEFT, width - RIGHT, downwards=x_downwards)
    y, y_ticks = axis(ys, height - BOTTOM, TOP)
    return Panel(title, x_label, y_label, x, y, x_ticks, y_ticks, width, height)


def axis(values: Sequence[float], start: float, end: float, *, downwards: bool = False) -> tuple[Scale, list[float]]:
    """A linear scale from the values to pixels, and its ticks: up to nine round numbers around the values."""
    low, high = min(values), max(values)
    alone = max(abs(low), 1.0)  # around a single value: never a thousandth of a step
    span = max(high - low, 1e-3) if high > low else alone
    unit = 10.0 ** math.floor(math.log10(span / 7))
    step = next(factor * unit for factor in (1, 2, 5, 10, 20) if span / (factor * unit) <= 7)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    a, b = first * step, last * step
    if downwards:
        a, b = b, a
    ticks = [round(number * step, 9) for number in range(first, last + 1)]
    return (lambda value: start + (value - a) / (b - a) * (end - start)), ticks


def logarithmic_axis(values: Sequence[float], start: float, end: float) -> tuple[Scale, list[float]]:
    """A logarithmic scale from positive values to pixels, and its ticks: 1, 2 and 5 times powers of ten."""
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    round_numbers = [factor * 10.0**decade for decade, factor in product(decades, (1, 2, 5))]
    first = max(number for number in round_numbers if number <= low * (1 + 1e-9))
    last = min(number for number in round_numbers if number >= high * (1 - 1e-9) and number > first)
    ticks = [float(f"{number:.6g}") for number in round_numbers if first <= number <= last]
    return (lambda value: start + math.log(value / first) / math.log(last / first) * (end - start)), ticks


def draw(panel: Panel, groups: Sequence[str], stars: Sequence[Star] = (), rules: Sequence[MarkLine] = ()) -> str:
    """The inside of a panel's SVG; ``groups`` come from :func:`series`."""
    lines = [_rule(panel, rule) for rule in rules]
    return "".join([_frame(panel), *lines, *groups, *(_star(panel, star) for star in stars)])


def whole(inside: str, width: float, height: float, label: str) -> str:
    """An SVG element that takes its colours from the page around it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(label)}">{inside}</svg>'
    )


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    stars: Sequence[Star] = (),
    rules: Sequence[MarkLine] = (),
    x_downwards: bool = False,
    height: int = 300,
    x_holds: Sequence[float] = (),
    y_holds: Sequence[float] = (),
) -> str:
    """A panel that stands by itself. ``x_holds`` and ``y_holds`` are on its axes, whatever the values: a small part of
    an axis would make a crash of nothing."""
    marks: list[Spot | Star] = [*chain.from_iterable(line.points for line in lines), *stars]
    xs = [mark.x for mark in marks] + [rule.at for rule in rules if not rule.horizontal]
    ys = [mark.y for mark in marks] + [rule.at for rule in rules if rule.horizontal]
    xs += x_holds
    ys += y_holds
    panel = make_panel(title, xs, ys, x_label=x_label, y_label=y_label, x_downwards=x_downwards, height=height)
    groups = [series(panel, [line]) for line in lines]
    return whole(draw(panel, groups, stars, rules), panel.width, panel.height, title)


def _frame(panel: Panel) -> str:
    right, low = panel.width - RIGHT, panel.height - BOTTOM
    grid = [
        f'<line class="faint" x1="{LEFT}" x2="{right}" y1="{panel.y(t):.1f}" y2="{panel.y(t):.1f}"/>'
        f'<text class="ink end" x="{LEFT - 6}" y="{panel.y(t) + 4:.1f}">{t:g}</text>'
        for t in panel.y_ticks
    ]
    grid += [
        f'<line class="faint" x1="{panel.x(t):.1f}" x2="{panel.x(t):.1f}" y1="{TOP}" y2="{low}"/>'
        f'<text class="ink mid" x="{panel.x(t):.1f}" y="{low + 17}">{t:g}</text>'
        for t in panel.x_ticks
    ]
    return (
        f'{"".join(grid)}<text class="ink head" x="{LEFT}" y="18">{escape(panel.title)}</text>'
        f'<text class="ink" x="{LEFT}" y="37">{escape(panel.y_label)}</text>'
        f'<text class="ink mid" x="{(LEFT + right) / 2}" y="{panel.height - 10}">{escape(panel.x_label)}</text>'
    )


def _rule(panel: Panel, rule: MarkLine) -> str:
    right, low = panel.width - RIGHT, panel.height - BOTTOM
    if rule.horizontal:
        at = panel.y(rule.at)
        ends, place = f'x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"', f'x="{LEFT + 20}" y="{at - 5:.1f}"'
    else:
        at = panel.x(rule.at)
        ends, place = f'x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{low}"', f'x="{at + 5:.1f}" y="{TOP - 5}"'
    return (
        f'<line class="rule" {ends} stroke-dasharray="4 4"/><text class="ink end" {place}>{escape(rule.label)}</text>'
    )


def _star(panel: Panel, star: Star) -> str:
    x, y = panel.x(star.x), panel.y(star.y)
    anchor, shift = ("end", -9) if star.left else ("", 9)
    label = y + 18
    if y < TOP + NEAR_TOP:  # below it lines go down: above the frame there are none
        label = TOP - 9
    return (
        f"<g>{_title(f'{star.label}: {star.y:.3f} at {star.x:.3f}')}"
        f'<path class="star" d="{MARKERS[-1]}" transform="translate({x:.1f},{y:.1f})"/>'
        f'<text class="ink halo {anchor}" x="{x + shift:.1f}" y="{label:.1f}">{escape(star.label)}</text></g>'
    )


def series(panel: Panel, lines: Sequence[Line], title: str = "", crosses: Sequence[Cross] = ()) -> str:
    """Lines of one name and look as one group, which can be hidden as a whole; ``crosses`` have the same look."""
    name, look = lines[0].name, lines[0].look
    inside = "".join(_line(panel, line) for line in lines)
    inside += "".join(_cross(panel, cross, look) for cross in crosses)
    return f'<g class="m{look % len(COLOURS)} series" data-series="{escape(name)}">{_title(title)}{inside}</g>'


def _cross(panel: Panel, cross: Cross, look: int) -> str:
    x, y = panel.x(cross.spot.x), panel.y(cross.spot.y)
    (left, right), (low, high) = map(panel.x, cross.x_range), map(panel.y, cross.y_range)
    arms = f"M{left:.1f},{y:.1f}H{right:.1f}M{x:.1f},{low:.1f}V{high:.1f}"
    return f'<path class="arm" d="{arms}"/>{_mark(marker_of(look), f"{x:.1f},{y:.1f}", cross.spot.tip)}'


def stairs(panel: Panel, spots: Sequence[Spot]) -> str:
    """A dashed line that rises where a spot does, and goes on to the right: the most that is had so far.

    ``spots``: from left to right.
    """
    right = panel.width - RIGHT
    path = f"M{panel.x(spots[0].x):.1f},{panel.y(spots[0].y):.1f}"
    path += "".join(f"H{panel.x(spot.x):.1f}V{panel.y(spot.y):.1f}" for spot in spots[1:])
    return f'<path class="rule" stroke-dasharray="1 4" stroke-linecap="round" stroke-width="2" d="{path}H{right}"/>'


def marker_of(look: int) -> str:
    """Beyond as many looks as there are colours, a colour comes back with another marker."""
    return MARKERS[(look + look // len(COLOURS)) % len(MARKERS)]


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def _line(panel: Panel, line: Line) -> str:
    places = [f"{panel.x(point.x):.1f},{panel.y(point.y):.1f}" for point in line.points]
    path = f'd="M{"L".join(places)}"/>'
    if line.thin:
        return f'<path class="thin" {path}'
    dash, marker = DASHES[line.look % len(DASHES)], marker_of(line.look)
    every = max(1, -(-len(places) // MOST_MARKS))
    marked = range(0, len(places), every)
    if line.marks == "last":
        marked = range(len(places))[-1:]
    elif line.marks == "none":
        marked = range(0)
    marks = [_mark(marker, places[number], line.points[number].tip) for number in marked]
    return f'<path class="line" stroke-dasharray="{dash}" {path}{"".join(marks)}'


def _mark(marker: str, place: str, tip: str) -> str:
    drawn = f'<path class="mark" d="{marker}" transform="translate({place})"/>'
    if not tip:
        return drawn
    return f"<g>{_title(tip)}{drawn}</g>"


BAR, LABEL, BAR_ROOM = 20, 150, 260


def bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars with names and numbers; a negative one goes to the left of the zero line."""
    low, high = min(0.0, *(v for _, v in values)), max(0.0, *(v for _, v in values))
    room = BAR_ROOM / ((high - low) or 1.0)
    zero = LABEL - low * room
    parts = []
    for number, (name, value) in enumerate(values):
        y = 28 + number * BAR
        start, length = zero + min(value, 0.0) * room, abs(value) * room
        parts.append(
            f'<text class="ink end" x="{LABEL - 8}" y="{y + 13}">{escape(_end_of(name))}</text>'
            f'<rect class="bar m1" x="{start:.1f}" y="{y + 2}" width="{length:.1f}" height="{BAR - 5}">'
            f"<title>{escape(name)}: {value:.1%}</title></rect>"
            f'<text class="ink" x="{LABEL + BAR_ROOM + 6}" y="{y + 13}">{value:.1%}</text>'
        )
    height = 36 + BAR * len(values)
    frame = f'<text class="ink head" x="4" y="16">{escape(title)}</text>'
    frame += f'<line class="rule" x1="{zero:.1f}" x2="{zero:.1f}" y1="26" y2="{height - 6}"/>'
    return whole(frame + "".join(parts), LABEL + BAR_ROOM + 60, height, title)


LEVEL_LABEL, LEVEL_ROOM = 190, 300


def levels(title: str, groups: Mapping[str, Mapping[str, float]], looks: Mapping[str, int]) -> str:
    """Shares from 0 to 1 as bars, in groups with a heading each; ``looks``: how bars of a name look."""
    heading, parts, y = f'<text class="ink head" x="4" y="16">{escape(title)}</text>', [], 34
    for group, values in groups.items():
        parts.append(f'<text class="ink head" x="4" y="{y + 12}">{escape(group)}</text>')
        y += BAR
        for name, value in values.items():
            parts.append(_level(name, value, looks[name], y))
            y += BAR
        y += BAR // 2
    inside = "".join([heading, *_level_grid(y + 2), *parts])
    return whole(inside, LEVEL_LABEL + LEVEL_ROOM + 60, y + 24, title)


def _level_grid(low: int) -> Iterator[str]:
    """Behind the bars."""
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = LEVEL_LABEL + share * LEVEL_ROOM
        yield f'<line class="faint" x1="{x}" x2="{x}" y1="26" y2="{low}"/>'
        yield f'<text class="ink mid" x="{x}" y="{low + 15}">{share:g}</text>'


def _level(name: str, value: float, look: int, y: int) -> str:
    length = max(0.0, min(1.0, value)) * LEVEL_ROOM
    return (
        f'<text class="ink end" x="{LEVEL_LABEL - 8}" y="{y + 13}">{escape(_end_of(name, 28))}</text>'
        f'<rect class="bar m{look}" x="{LEVEL_LABEL}" y="{y + 2}" width="{length:.1f}" height="{BAR - 5}"/>'
        f'<text class="ink" x="{LEVEL_LABEL + length + 6:.1f}" y="{y + 13}">{shown(value)}</text>'
    )


def _end_of(name: str, longest: int = 20) -> str:
    return name if len(name) <= longest else "…" + name[1 - longest :]


def swatch(look: int) -> str:
    """A short piece of a series' line with its marker, for legends."""
    size = 'width="36" height="14" viewBox="0 -7 36 14"'
    return f'<svg class="swatch m{look % len(COLOURS)}" {size} aria-hidden="true">{look_of(look)}</svg>'


def look_of(look: int) -> str:
    """The same, to stand in a picture; its colour comes from what is around it."""
    return (
        f'<line class="line" x2="36" stroke-dasharray="{DASHES[look % len(DASHES)]}"/>'
        f'<path class="mark" d="{marker_of(look)}" transform="translate(18,0)"/>'
    )


def style_rules(colours: Sequence[str], paper: str, ink: str, faint: str) -> str:
    """CSS of a colour scheme, for the classes used here."""
    own = "".join(f".m{number}{{color:{colour}}}" for number, colour in enumerate(colours))
    ground = f".paper{{fill:{paper}}}.halo{{stroke:{paper}}}"
    return f"{ground}.ink,.star{{fill:{ink}}}.faint{{stroke:{faint}}}.rule{{stroke:{ink}}}{own}"


SHAPES = (
    "svg text{font:13px system-ui,sans-serif}svg .head{font-weight:600;font-size:14px}svg .end{text-anchor:end}"
    "svg .mid{text-anchor:middle}svg path,svg line{fill:none}svg .line{stroke:currentColor;stroke-width:2.2}"
    "svg .thin{stroke:currentColor;stroke-width:.8;opacity:.35}svg .arm{stroke:currentColor;opacity:.6}"
    "svg .mark,svg .bar{fill:currentColor}"
    "svg .halo{stroke-width:4px;stroke-linejoin:round;paint-order:stroke}"
)
"""CSS that does not depend on the colour scheme."""
LIGHT = style_rules(COLOURS, "#ffffff", "#222222", "#e2e2e2")
DARK = style_rules(DARK_COLOURS, "#16181c", "#e6e6e6", "#34373d")
