"""The table of ``gru attack``, from its summary, and the one sentence that it comes to."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from gru_unlearn.reporting.tables import add_remarks, make_table, shown
from gru_unlearn.reporting.verdict import name_of

_HEADINGS = ("", "measure", "unlearned", "target", "retain", "% brought back")


def attack_table(summary: Mapping[str, Any]) -> Table:
    """One line an attack, by the measure that shows most, worst first; then what is there without any attack.

    Below: what could not be measured or was left out, and why.
    """
    worst = worst_measures(summary["attacks"])
    unclear = [found for found in worst if found["recovered"] is None and summary.get("retain_model")]
    lines = [_line(found) for found in worst if found not in unclear]
    rows = f"{summary['rows']} forget row{'s' if summary['rows'] != 1 else ''}"
    table = make_table(f"Does it come back? {rows}", _HEADINGS, lines)
    table.padding = (0, 1, 0, 0)
    table.add_section()
    for found in summary["before"]:
        table.add_row("without any attack", *map(shown, _line(found)[1:]))
    reasons = [(name_of(found), found["note"]) for found in unclear]
    add_remarks(table, reasons + [(name_of(found), found["why"]) for found in summary["left_out"]])
    return table


def worst_measures(attacks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """For each attack and variant the entry with the largest share; largest first, those without a share last."""
    worst: dict[str, Mapping[str, Any]] = {}
    for found in sorted(attacks, key=lambda found: (found["recovered"] is None, -(found["recovered"] or 0))):
        worst.setdefault(name_of(found), found)
    return list(worst.values())


def verdict(summary: Mapping[str, Any]) -> str:
    """What the table comes to, in a sentence or two."""
    if summary.get("retain_model") is None:
        return "Without a retain model there is no zero line: how much came back cannot be said. Pass --retain-model."
    worst = next(iter(worst_measures(summary["attacks"])), None)
    if worst is None or worst["recovered"] is None:
        return "No attack could be read between retain model and target, so nothing says how much came back."
    if worst["recovered"] <= 0:
        return f"No attack brings anything back; the strongest, {name_of(worst)}, is at {_share(worst, ' %')}."
    before = [found for found in summary["before"] if found["measure"] == worst["measure"]]
    without = "".join(f"; without any attack: {_share(f, ' %')}" for f in before if f["recovered"] is not None)
    does = "still sees" if worst["measure"] == "AUC" else "brings back"
    return (
        f"The strongest attack, {name_of(worst)}, {does} {_share(worst, ' %')} of what the target knows and the "
        f"retain model does not (measure: {worst['measure']}{without})."
    )


def _line(found: Mapping[str, Any]) -> tuple[Any, ...]:
    share = None if found["recovered"] is None else _share(found)
    return name_of(found), found["measure"], found["unlearned"], found["target"], found["retain_model"], share


def _share(found: Mapping[str, Any], unit: str = "") -> str:
    """``12 (5 to 22)``: percent, with the 95 % interval."""
    value, low, high = (round(100 * found[key]) for key in ("recovered", "low", "high"))
    return f"{value}{unit} ({low} to {high})"
