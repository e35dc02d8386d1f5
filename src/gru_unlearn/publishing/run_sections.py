"""Sections about runs: forgetting against keeping, and what happened along the way. None without data."""

from collections.abc import Mapping

from gru_unlearn.publishing.evidence import KEPT, SETS, by_retain_model
from gru_unlearn.publishing.material import Material, Row
from gru_unlearn.publishing.record_sections import better_way, meaning
from gru_unlearn.reporting.chart import Line, Point, Rule, Star, bars, chart
from gru_unlearn.reporting.parts import FOLDED, Figure, Section, TableData
from gru_unlearn.reporting.tables import at_end, at_start, shown

_KINDS = {"forget rows": 2, "retain rows": 3, "held-out rows": 1}


ALONG = {
    "forget_loss": "forget loss",
    "retain_loss": "retain loss",
    "conflict_rate": "share of steps with a conflict",
    "cosine": "cosine of forget and retain gradient",
    "removed_share": "share of the forget gradient removed",
}
"""What is drawn over the steps, as far as it was logged."""


def tradeoff(runs: Mapping[str, Material]) -> Section | None:
    """Forgetting against retention, and both over the steps."""
    runs = {name: run for name, run in runs.items() if len(run.summary["trajectory"]) > 1}
    if not runs:
        return None
    several = len(runs) > 1
    legend = {name: number + 1 for number, name in enumerate(runs)} if several else _KINDS
    charts = [
        _tradeoff_chart(name, runs, legend) for name in KEPT if all(KEPT[name] in _end_point(r) for r in runs.values())
    ]
    if not several:
        charts.append(_probabilities(next(iter(runs.values()))))
    return Section(
        "trade-off",
        "Forgetting against keeping",
        "Each mark is an evaluation along the way, beginning at the upper left. Further right is more forgotten, "
        "further up more kept. Ideal is a walk straight to the right, as far as the dashed line: f*, the "
        "probability that a model which never saw the data (the retain model) gives to the forgotten answers.",
        charts,
        legend,
    )


def _end_point(run: Material) -> Row:
    return run.summary["trajectory"][-1]


def _tradeoff_chart(kind: str, runs: Mapping[str, Material], legend: Mapping[str, int]) -> Figure:
    key, rows = KEPT[kind], f"{kind} rows"
    lines = [
        Line(
            name if len(runs) > 1 else rows,
            [
                Point(
                    p["forget_prob"],
                    p[key],
                    f"{name}, step {p['step']}: forget {p['forget_prob']:.3f}, {kind} {p[key]:.3f}",
                )
                for p in run.summary["trajectory"]
            ],
            legend[name] if len(runs) > 1 else legend[rows],
        )
        for name, run in runs.items()
    ]
    any_run = next(iter(runs.values()))
    target = any_run.summary["results"].get("forget_target")
    kept_by_retain, _ = by_retain_model(any_run.examples, SETS[kind])
    start = at_start(any_run.summary)
    stars = [Star("before", start["forget_prob"], start[key])] if start else []
    if target is not None and kept_by_retain is not None:
        stars.append(Star("retain model", target, kept_by_retain, left=True))
    svg = chart(
        f"{rows.capitalize()}",
        lines,
        x_label="mean probability of forget rows (less →)",
        y_label=f"mean probability of {rows} (more ↑)",
        stars=stars,
        rules=[] if target is None else [Rule("f*", target)],
        x_downwards=True,
        height=330,
    )
    return Figure(svg, data=_tradeoff_table(kind, runs))


def _tradeoff_table(kind: str, runs: Mapping[str, Material]) -> TableData:
    several = len(runs) > 1
    rows = [
        [*([name] if several else []), str(p["step"]), shown(p["forget_prob"]), shown(p[KEPT[kind]])]
        for name, run in runs.items()
        for p in run.summary["trajectory"]
    ]
    return TableData([*(["run"] if several else []), "step", "forget", kind], rows)


def _probabilities(run: Material) -> Figure:
    points = run.summary["trajectory"]
    keys = {"forget rows": "forget_prob", "retain rows": "retain_prob", "held-out rows": "held_out_prob"}
    lines = [
        Line(name, [Point(p["step"], p[key], f"step {p['step']}: {name} {p[key]:.3f}") for p in points], _KINDS[name])
        for name, key in keys.items()
        if key in points[0]
    ]
    target = run.summary["results"].get("forget_target")
    rules = [] if target is None else [Rule("f*", target, horizontal=True)]
    svg = chart("Over the steps", lines, x_label="step", y_label="mean answer probability", rules=rules, height=330)
    return Figure(svg)


def along(runs: Mapping[str, Material]) -> Section | None:
    """Losses, conflicts and cosine over the steps."""
    several = len(runs) > 1
    looks = {name: number + 1 for number, name in enumerate(runs)}
    figures = []
    for key, title in ALONG.items():
        lines = [
            Line(
                name,
                [Point(row["step"], row[key], f"{name}, step {row['step']}: {row[key]:.4g}") for row in rows],
                looks[name],
            )
            for name, run in runs.items()
            if (rows := [row for row in run.summary["log"] if row.get(key) is not None])
        ]
        if lines:
            figures.append(Figure(chart(title.capitalize(), lines, x_label="step", y_label="", height=250)))
    if not figures:
        return None
    return Section(
        "along",
        "Along the run" + "s" * several,
        "Means over the steps between two logs. A conflict is a step whose forget gradient would have hurt retention; "
        "what was removed of it is measured as 1 − ‖rectified‖ / ‖plain‖, which is negative where a rectification "
        "adds more than it takes.",
        figures,
        looks if several else {},
        [] if several else [_log_table(next(iter(runs.values())))],
    )


def _log_table(run: Material) -> TableData:
    keys = [key for key in ALONG if any(row.get(key) is not None for row in run.summary["log"])]
    rows = [[str(row["step"]), *(_precise(row.get(key)) for key in keys)] for row in run.summary["log"]]
    return TableData(["step", *(ALONG[key] for key in keys)], rows, title=FOLDED)


def _precise(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def layers(runs: Mapping[str, Material]) -> Section | None:
    """Where in the model the last step's forget gradient was changed."""
    shares = {name: run.summary.get("removed_share_by_layer") for name, run in runs.items()}
    figures = [
        Figure(bars(f"{name}: removed share" if len(runs) > 1 else "Removed share", list(share.items())))
        for name, share in shares.items()
        if share
    ]
    if not figures:
        return None
    return Section(
        "layers",
        "Where it was rectified",
        "Share of the forget gradient's length that the rectification took away in the last step, layer by layer; "
        "negative where it added.",
        figures,
    )


def run_metrics(material: Material) -> Section:
    """Every metric of a run, with its meaning."""
    summary = material.summary
    start, end, results = at_start(summary), at_end(summary), summary["results"]
    known = {**end, **{key: results[key] for key in ("rmf", "rmf_held_out", "conflict_rate") if key in results}}
    leave = ("objective", "rectification", "forget_target", "step", "epoch")
    rows = [
        [
            *meaning(key, material.metrics),
            "not reached" if value is None and key.startswith("rmf") else shown(value),
            shown(start[key]) if key in start else "",
            shown(results.get("forget_target")) if key == "forget_prob" else "",
            better_way(key, material.metrics),
        ]
        for key, value in known.items()
        if key not in leave and not isinstance(value, str)
    ]
    table = TableData(["metric", "saved model", "before", "retain model", "better"], rows)
    return Section(
        "metrics",
        "Every number, and what it means",
        "A run measures means and no intervals: gru evaluate gives each metric with its 95 % interval.",
        tables=[table],
    )
