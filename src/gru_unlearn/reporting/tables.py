"""Tables for the terminal, from summaries."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from gru_unlearn.errors import UserError, nearest


def shown(value: Any) -> str:
    """A number with three digits after the point (tiny ones as powers of ten), text as it is, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0e}" if 0 < abs(value) < 5e-4 else f"{value:.3f}"
    return str(value)


def make_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """First column to the left, numbers to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", caption_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(shown(value) for value in row))
    return table


def run_table(summary: Mapping[str, Any]) -> Table:
    """One run: each set's mean answer probability before and after, and what stands in the summary beside it."""
    results = summary["results"]
    title = f"{results['objective']} · {results['rectification']} · {summary['steps']} steps"
    rows: list[tuple[Any, ...]] = []
    if points := summary["trajectory"]:
        labels = {"forget_prob": "forget", "retain_prob": "retain", "held_out_prob": "held-out"}
        for key, label in labels.items():
            if key in points[0]:
                mark = results.get("forget_target") if key == "forget_prob" else None
                rows.append((f"{label} probability", points[0][key], points[-1][key], mark))
    for key, label in (("rmf", "retention at matched forgetting"), ("rmf_held_out", "the same on held-out rows")):
        if key in results:
            rows.append((label, "", "not reached" if results[key] is None else results[key], ""))
    if results["conflict_rate"] is not None:
        rows.append(("steps with a conflict", "", f"{results['conflict_rate']:.0%}", ""))
    return make_table(title, ("", "before", "after", "retain model"), rows)


_DEMO_COLUMNS = {
    "forget_prob": "forget prob",
    "retain_prob": "retain prob",
    "held_out_prob": "held-out prob",
    "forget_exact_answers": "forget exact",
    "retain_exact_answers": "retain exact",
    "forget_quality": "forget quality",
    "model_utility": "model utility",
    "rmf": "RMF",
    "rmf_held_out": "RMF held-out",
    "steps": "steps",
}


def demo_report(summary: Mapping[str, Any]) -> list[Any]:
    """The demonstration's table, how to read it, and a sample question."""
    named = [("target (before)", summary["target"]), ("retain model (ideal)", summary["retain_model"])]
    named += [(f"{row['objective'].upper()} · {_RECTIFIED[row['rectification']]}", row) for row in summary["results"]]
    rows = [(name, *(row.get(key, "") for key in _DEMO_COLUMNS)) for name, row in named]
    return [
        make_table("Unlearning five invented people", ("", *_DEMO_COLUMNS.values()), rows),
        "Each run stops once it has forgotten as much as the retain model, which never saw the five people. Then what is\n"
        "kept decides: RMF is the share of the target's probability on kept rows at that moment (1 is perfect), held-out\n"
        "the same on kept people that no run ever looked at. Forget quality (a p-value) above 0.05: answers to forgotten\n"
        "questions are not told apart from the retain model's.\n",
        *_samples(summary["sample"]),
    ]


_RECTIFIED = {"none": "plain", "gru": "with GRU"}


def _samples(samples: Mapping[str, Any]) -> list[Table]:
    titles = {"forget": "A question that should be forgotten", "held_out": "A question that should still be answered"}
    tables = []
    for name, title in titles.items():
        sample = samples[name]
        table = make_table(f"{title}: {sample['question']}", ("", "answer"), [("truth", sample["truth"]), *sample["answers"].items()])
        table.columns[1].justify = "left"
        tables.append(table)
    return tables


def evaluation_table(summary: Mapping[str, Any]) -> Table:
    """All metrics of an evaluation with their 95 % intervals; what is missing says why below."""
    rows = []
    for key, value in summary["metrics"].items():
        low, high = summary["intervals"].get(key, (None, None))
        rows.append((key, value, "" if low is None else f"{shown(low)} – {shown(high)}"))
    table = make_table(f"{summary['suite']}: {summary['model']['source']}", ("metric", "value", "95 % interval"), rows)
    remarks = {**summary["missing"], **summary["notes"]}
    table.caption = "\n".join(f"{key}: {remark}" for key, remark in remarks.items()) or None
    return table


def explanation(metrics: Mapping[str, Any], key: str) -> Table:
    """Definition, range, direction and source of a metric, or of all.

    Raises:
        UserError: there is no such metric.
    """
    if key != "all" and key not in metrics:
        raise UserError(f"unknown metric {key!r}{nearest(key, metrics)}")
    wanted = metrics.values() if key == "all" else [metrics[key]]
    rows = [(m.key, m.definition, m.range, m.better, m.source) for m in wanted]
    table = make_table("", ("metric", "definition", "range", "better", "source"), rows)
    for column in table.columns[1:]:
        column.justify = "left"
    return table
