"""Panels of one picture, a panel for each objective, with a legend of the methods: an SVG that stands alone."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from gru_unlearn.reporting import chart

LEGEND_LINE = 22


class Size(NamedTuple):
    """Of a panel, in pixels."""

    width: int
    height: int


def picture(drawn: Sequence[str], size: Size, methods: Sequence[str], title: str) -> str:
    """The panels two to a line, and below them what each method looks like.

    Args:
        drawn: the insides of the panels.
        size: of each.
        methods: names; one's place is its look.
        title: of the whole, for those who cannot see it.
    """
    columns = min(2, len(drawn))
    rows = -(-len(drawn) // columns)
    width = max(columns * size.width, chart.LEFT + _legend_step(methods))
    legend, legend_height = _legend(methods, width)
    parts = [
        f"<style>{chart.SHAPES}{chart.LIGHT}@media(prefers-color-scheme:dark){{{chart.DARK}}}</style>",
        '<rect class="paper" width="100%" height="100%"/>',
    ]
    for number, inside in enumerate(drawn):
        row, column = divmod(number, columns)
        parts.append(_moved(column * size.width, row * size.height, inside))
    parts.append(_moved(0, rows * size.height, legend))
    return chart.whole("".join(parts), width, rows * size.height + legend_height, title) + "\n"


def _legend_step(methods: Sequence[str]) -> int:
    """Pixels from one name to the next, by the longest: its letters are about 7.5 wide."""
    return 58 + round(7.5 * max(map(len, methods)))


def _legend(methods: Sequence[str], width: int) -> tuple[str, int]:
    """Its SVG and its height: as many names to a line as fit."""
    step = _legend_step(methods)
    columns = max(1, (width - chart.LEFT) // step)
    entries = []
    for look, name in enumerate(methods):
        row, column = divmod(look, columns)
        entry = f'{chart.look_of(look)}<text class="ink" x="43" y="4">{escape(name)}</text>'
        entries.append(
            _moved(chart.LEFT + column * step, row * LEGEND_LINE + 10, entry, f'class="m{look % len(chart.COLOURS)}" ')
        )
    return "".join(entries), -(-len(methods) // columns) * LEGEND_LINE + 10


def _moved(x: float, y: float, inside: str, attributes: str = "") -> str:
    return f'<g {attributes}transform="translate({x},{y})">{inside}</g>'
