"""A comparison's statistics and tables: intervals over seeds, choice of learning rates, differences to plain runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from statistics import fmean, stdev
from typing import Any

from rich.table import Table
from scipy import stats

from gru_unlearn.reporting.tables import make_table, shown

Row = dict[str, Any]

LEVEL = 0.95

RETENTION = (
    "rmf", "rmf_held_out", "rmf_at_half", "rmf_held_out_at_half", "rmf_at_quarter", "rmf_held_out_at_quarter",
)  # fmt: skip
"""Retention at f*, and where the forget probability has fallen to a half and to a quarter of the target's."""

LEVELS = {"half": 0.5, "quarter": 0.25}

PAIRED = (*RETENTION, "forget_quality", "model_utility")
"""Measures of which more is better; each is compared with the plain run of the same seed."""

MEASURES = (
    *PAIRED, "extraction_strength", "forget_prob", "retain_prob", "held_out_prob", "steps_to_target", "steps",
    "seconds_per_step", "peak_memory_mb", "peak_gpu_memory_mb",
)  # fmt: skip

RULE = (
    "Every method of an objective has the same data, batches, seeds, learning-rate grid and step budget, but for what "
    "its name says after @. Shown is each method at its own best learning rate: the one that reaches f* in most seeds; "
    "among these the highest mean RMF on retain rows, never on held-out rows; at a tie the fewest steps. Where none "
    "reaches f*, retention at a quarter, then at half of the target's forget probability decides in the same way."
)


def mean_interval(values: Iterable[float | None]) -> Row | None:
    """Mean with its 95 % interval by Student's t: ``mean, low, high, n``.

    None stands for a seed without a value and is left out. One value gives no interval, no value gives None.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean, n = fmean(known), len(known)
    if n == 1:
        return {"mean": mean, "low": None, "high": None, "n": 1}
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * stdev(known) / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def paired_difference(values: Mapping[int, float | None], plain: Mapping[int, float | None]) -> Row | None:
    """Mean of ``values - plain`` over the seeds that have both, with its 95 % interval.

    Returns:
        ``mean, low, high, n``; ``wins``, the seeds in which ``values`` is higher; and ``excludes_zero``, whether the
        interval does. None where no seed has both.
    """
    pairs = [(value, plain.get(seed)) for seed, value in values.items()]
    differences = [value - base for value, base in pairs if value is not None and base is not None]
    interval = mean_interval(differences)
    if interval is None:
        return None
    outside = interval["low"] is not None and (interval["low"] > 0 or interval["high"] < 0)
    return interval | {"wins": sum(difference > 0 for difference in differences), "excludes_zero": outside}


def aggregate(cells: Sequence[Row]) -> list[Row]:
    """One row for each objective, rectification and learning rate, in the order in which they first occur.

    Args:
        cells: ``objective, rectification, learning_rate, seed, status`` ("done" or "failed") and any of MEASURES.

    Returns:
        ``runs``, ``failed`` and ``reached`` (seeds that got to f*), an interval for each measure, ``chosen`` by RULE,
        and for chosen rows ``against_none``: each of PAIRED against the chosen plain row of the same objective.
    """
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for cell in cells:
        groups.setdefault((cell["objective"], cell["rectification"], cell["learning_rate"]), []).append(cell)
    rows = {key: _over_seeds(key, group) for key, group in groups.items()}
    chosen = {method: max(_of(rows, method), key=lambda key: _merit(rows[key])) for method in _methods(rows)}
    for (objective, rectification), key in chosen.items():
        rows[key]["chosen"] = True
        plain = chosen.get((objective, "none"))
        if plain and rectification != "none":
            rows[key]["against_none"] = {
                name: paired_difference(_by_seed(groups[key], name), _by_seed(groups[plain], name)) for name in PAIRED
            }
    return list(rows.values())


def _over_seeds(key: tuple[str, str, float], cells: Sequence[Row]) -> Row:
    done = [cell for cell in cells if cell["status"] == "done"]
    return {
        **dict(zip(("objective", "rectification", "learning_rate"), key, strict=True)),
        "chosen": False,
        "runs": len(cells),
        "failed": len(cells) - len(done),
        "reached": sum(cell.get("steps_to_target") is not None for cell in done),
        **{name: mean_interval(cell.get(name) for cell in done) for name in MEASURES},
    }


def _methods(keys: Iterable[tuple[str, str, float]]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(key[:2] for key in keys))


def _of(keys: Iterable[tuple[str, str, float]], method: tuple[str, str]) -> list[tuple[str, str, float]]:
    return [key for key in keys if key[:2] == method]


def _by_seed(cells: Sequence[Row], name: str) -> dict[int, float | None]:
    return {cell["seed"]: cell.get(name) for cell in cells if cell["status"] == "done"}


def _merit(row: Row) -> tuple[float, ...]:
    """What RULE compares, most important first."""

    def mean(name: str, otherwise: float = -math.inf) -> float:
        return row[name]["mean"] if row[name] else otherwise

    def count(name: str) -> int:
        return row[name]["n"] if row[name] else 0

    at_target = row["reached"], mean("rmf"), -mean("steps_to_target", 0.0)
    earlier = [value(name) for name in ("rmf_at_quarter", "rmf_at_half") for value in (count, mean)]
    return *at_target, *earlier


# --- tables ----------------------------------------------------------------------------------------------------------


def cell_line(cell: Row) -> str:
    """One finished cell in one line."""
    if cell["status"] == "failed":
        return f"{cell['name']}: failed: {cell['reason']}"
    if cell["steps_to_target"] is None:
        return f"{cell['name']}: f* not reached in {cell['steps']} steps (forget prob {cell['forget_prob']:.3f})"
    held_out = f", held-out {cell['rmf_held_out']:.3f}" if cell.get("rmf_held_out") is not None else ""
    return f"{cell['name']}: f* at step {cell['steps_to_target']}, RMF {shown(cell['rmf'])}{held_out}"


def comparison_report(summary: Row) -> list[Any]:
    """The tables of a comparison, at most 120 columns wide for names up to 27, the rule, and what went wrong."""
    parts: list[Any] = []
    for objective in dict.fromkeys(row["objective"] for row in summary["aggregates"]):
        rows = [row for row in summary["aggregates"] if row["objective"] == objective]
        chosen = [row for row in rows if row["chosen"]]
        parts += [matched_table(objective, chosen, summary["forget_target"]), end_table(objective, chosen, summary)]
        if any(row["reached"] < row["runs"] for row in chosen):
            parts.append(levels_table(objective, chosen, summary))
        if len(rows) > len(chosen):
            parts.append(grid_table(objective, rows))
    return [*parts, *_remarks(summary)]


def matched_table(objective: str, rows: Sequence[Row], forget_target: float | None) -> Table:
    """What is kept at the moment as much is forgotten as the retain model lacks, and what it costs to get there."""
    held_out = any(row["rmf_held_out"] for row in rows)
    memory = "peak_gpu_memory_mb" if any(row["peak_gpu_memory_mb"] for row in rows) else "peak_memory_mb"
    headings = ["", "lr", "reached", "RMF", *(["held-out"] if held_out else []), "minus none", "wins"]
    headings += ["steps", "s/step", "GPU MB" if memory == "peak_gpu_memory_mb" else "peak MB"]
    lines = []
    for row in rows:
        against = (row.get("against_none") or {}).get("rmf_held_out" if held_out else "rmf")
        lines.append(
            [
                *(row["rectification"], short(row["learning_rate"]), f"{row['reached']}/{row['runs']}"),
                *(with_margin(row[name]) for name in ("rmf", "rmf_held_out")[: 1 + held_out]),
                *((with_margin(against, signed=True), f"{against['wins']}/{against['n']}") if against else ("", "")),
                *(mean_of(row["steps_to_target"], ".1f"), mean_of(row["seconds_per_step"], ".3f")),
                mean_of(row[memory], ".0f"),
            ]
        )
    mark = "" if forget_target is None else f" (f* = {shown(forget_target)})"
    return _narrow(make_table(f"{objective} at matched forgetting{mark}, mean ± 95 % interval", headings, lines))


def end_table(objective: str, rows: Sequence[Row], summary: Row) -> Table:
    """The saved models beside the target and the retain model; means over seeds."""
    columns = {
        "forget_prob": "forget prob", "retain_prob": "retain prob", "held_out_prob": "held-out prob",
        "forget_quality": "forget quality", "model_utility": "utility", "extraction_strength": "extraction",
    }  # fmt: skip
    columns = {key: label for key, label in columns.items() if any(row[key] for row in rows)}
    lines: list[Sequence[Any]] = [
        (label, *(summary[model].get(key) for key in columns))
        for model, label in (("target", "target"), ("retain_model", "retain model"))
    ]
    lines += [(row["rectification"], *(row[key] and row[key]["mean"] for key in columns)) for row in rows]
    return _narrow(make_table(f"{objective}: the saved models, mean", ("", *columns.values()), lines))


def levels_table(objective: str, rows: Sequence[Row], summary: Row) -> Table:
    """Retention where the forget probability falls to a half and a quarter: for methods that do not get to f*."""
    names = [name for name in RETENTION if "_at_" in name and any(row[name] for row in rows)]
    label = {"rmf_at_half": "RMF at f/2", "rmf_held_out_at_half": "held-out at f/2"}
    label |= {"rmf_at_quarter": "RMF at f/4", "rmf_held_out_at_quarter": "held-out at f/4"}
    lines = [(row["rectification"], *(_mean_and_count(row, name) for name in names)) for row in rows]
    title = f"{objective} before f*: at a half and a quarter of the target's forget probability, mean (seeds)"
    return _narrow(make_table(title, ("", *(label[name] for name in names)), lines))


def grid_table(objective: str, rows: Sequence[Row]) -> Table:
    """Every learning rate, and what decided which one is shown above."""
    lines = [
        (
            *(row["rectification"], short(row["learning_rate"]), "chosen" if row["chosen"] else ""),
            *(f"{row['reached']}/{row['runs']}", row["failed"] or "", with_margin(row["rmf"])),
            mean_of(row["steps_to_target"], ".1f"),
        )
        for row in rows
    ]
    headings = ("", "lr", "", "reached", "failed", "RMF", "steps")
    return _narrow(make_table(f"{objective}: all learning rates", headings, lines))


def _narrow(table: Table) -> Table:
    """Two spaces between columns; a name that is too long goes on in the next line."""
    table.padding, table.show_edge = (0, 1, 0, 0), False
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.no_wrap = True
    return table


def short(rate: float) -> str:
    """``0.0003`` → ``3e-4``, as people type it."""
    return f"{Decimal(repr(rate)).normalize():e}"


def with_margin(interval: Row | None, *, signed: bool = False) -> str:
    """``0.906 ± 0.010``; a star after a signed one whose interval excludes 0."""
    if interval is None:
        return "not reached"
    text = f"{interval['mean']:+.3f}" if signed else f"{interval['mean']:.3f}"
    if interval["low"] is not None:
        text += f" ± {(interval['high'] - interval['low']) / 2:.3f}"
    return text + ((" *" if interval["excludes_zero"] else "  ") if signed else "")


def mean_of(interval: Row | None, form: str) -> str:
    """The mean alone, or a dash."""
    return "–" if interval is None else f"{interval['mean']:{form}}"


def _mean_and_count(row: Row, name: str) -> str:
    return (
        f"{row[name]['mean']:.3f} ({row[name]['n']}/{row['runs']})" if row[name] else f"not reached (0/{row['runs']})"
    )


def _remarks(summary: Row) -> list[str]:
    remarks = [
        RULE,
        "RMF: share of the target's probability of kept answers at the first crossing of f*, the retain model's forget "
        "probability; means are over the seeds that reached it, so compare them only where `reached` agrees. "
        "minus none: paired by seed with the plain runs, on held-out rows if there are any; * the 95 % interval "
        "excludes 0, as one in twenty would by chance alone.",
    ]
    failed = [cell for cell in summary["cells"] if cell["status"] == "failed"]
    remarks += [f"{len(failed)} of {len(summary['cells'])} runs failed:"] if failed else []
    remarks += [f"  {cell_line(cell)}" for cell in failed]
    remarks += [
        f"{cell['name']}: not evaluated: {cell['evaluation_failed']}"
        for cell in summary["cells"]
        if "evaluation_failed" in cell
    ]
    return remarks
