"""Sections about runs: forgetting against keeping, and what happened along the way. None without data."""

from collections.abc import Mapping

from gru_unlearn.publishing.material import Explained
from gru_unlearn.publishing.record_sections import better_way, meaning
from gru_unlearn.reporting.chart import WHOLE, Line, MarkLine, Spot, Star, bars, chart
from gru_unlearn.reporting.mark_words import stands_for
from gru_unlearn.reporting.measured import by_retain_model
from gru_unlearn.reporting.parts import FOLDED, Figure, Section, TableData
from gru_unlearn.reporting.tables import plural, shown, text_or_dash
from gru_unlearn.results.mark import label_of_mark
from gru_unlearn.results.model_metrics import UNMEASURED
from gru_unlearn.results.row_examples import Examples
from gru_unlearn.results.row_kinds import FORGET, HELD_OUT, KEPT, RETAIN, ROW_KINDS, RowKind
from gru_unlearn.results.run_summary import RunSummary

Runs = Mapping[str, RunSummary]
"""By their names on the page."""

_LOOKS = {FORGET: 2, RETAIN: 3, HELD_OUT: 1}

ALONG = {
    "forget_loss": "forget loss",
    "retain_loss": "retain loss",
    "conflict_rate": "share of steps with a conflict",
    "cosine": "cosine of forget and retain gradient",
    "removed_share": "share of the forget gradient removed",
}
"""What is drawn over the steps, as far as it was logged."""
AXES = {"conflict_rate": WHOLE, "removed_share": WHOLE, "cosine": (-1.0, 1.0)}
"""What their axes hold in any case; those of the others begin at 0."""
ZERO = (0.0,)


def _looks(runs: Runs) -> dict[str, int]:
    return {name: number for number, name in enumerate(runs, start=1)}


# --- forgetting against keeping --------------------------------------------------------------------------------------


def tradeoff(runs: Runs, examples: Examples | None) -> Section | None:
    """Forgetting against retention; of a single run, both over the steps too. ``examples``: of the first run."""
    runs = {name: run for name, run in runs.items() if len(run.trajectory) > 1}
    if not runs:
        return None
    kinds = list(KEPT)
    for run in runs.values():
        kinds = [kind for kind in kinds if run.trajectory[-1].has(kind.probability)]
    figures = [_against(kind, runs, examples) for kind in kinds]
    legend = _looks(runs)
    if len(runs) == 1:
        figures.append(_over_steps(*runs.values()))
        legend = {f"{kind.label} rows": look for kind, look in _LOOKS.items()}
    return Section(
        "trade-off",
        "Forgetting against keeping",
        "Each mark is an evaluation along the way, beginning at the upper left. Further right is more forgotten, "
        "further up more kept. Ideal is a walk straight to the right, as far as the dashed line: f*, the "
        f"probability of the forgotten answers {_whose(runs)}.",
        figures,
        legend,
    )


def _whose(runs: Runs) -> str:
    """Whose probability f* is."""
    marks = [run.results.known_mark for run in runs.values()]
    mark = next((mark for mark in marks if mark is not None), None)
    if mark is None or mark.kind == "retain_model":
        return "to a model which never saw the data (the retain model)"
    return f"as it would be had the data never been seen, estimated by what it is {stands_for(mark)}"


def _against(kind: RowKind, runs: Runs, examples: Examples | None) -> Figure:
    rows = f"{kind.label} rows"
    if len(runs) == 1:
        lines = [Line(rows, _walk(name, run, kind), _LOOKS[kind]) for name, run in runs.items()]
    else:
        lines = [Line(name, _walk(name, runs[name], kind), look) for name, look in _looks(runs).items()]
    first = next(iter(runs.values()))
    svg = chart(
        rows.capitalize(),
        lines,
        x_label="mean probability of forget rows (less →)",
        y_label=f"mean probability of {rows} (more ↑)",
        stars=_stars(kind, first, examples),
        rules=_target(first),
        x_downwards=True,
        height=330,
        x_holds=WHOLE,
        y_holds=WHOLE,
    )
    return Figure(svg, data=_walks_table(kind, runs))


def _walk(name: str, run: RunSummary, kind: RowKind) -> list[Spot]:
    points = []
    for at in run.trajectory:
        kept = at.probability(kind)
        if kept is not None:
            tip = f"{name}, step {at.step}: forget {at.forget_prob:.3f}, {kind.label} {kept:.3f}"
            points.append(Spot(at.forget_prob, kept, tip))
    return points


def _stars(kind: RowKind, run: RunSummary, examples: Examples | None) -> list[Star]:
    """Where the run began, and where the retain model is."""
    stars = [Star("before", at.x, at.y) for at in _walk("", run, kind)[:1] if run.start]
    kept, _ = by_retain_model(examples, kind)
    if run.results.forget_target is not None and kept is not None:
        stars.append(Star("retain model", run.results.forget_target, kept, left=True))
    return stars


def _walks_table(kind: RowKind, runs: Runs) -> TableData:
    rows = []
    for name, run in runs.items():
        rows += [[name, str(at.step), shown(at.forget_prob), shown(at.probability(kind))] for at in run.trajectory]
    headings = ["run", "step", "forget", kind.label]
    if len(runs) > 1:
        return TableData(headings, rows)
    return TableData(headings[1:], [row[1:] for row in rows])


def _over_steps(run: RunSummary) -> Figure:
    lines = []
    for kind in ROW_KINDS:
        name = f"{kind.label} rows"
        points = []
        for at in run.trajectory:
            value = at.probability(kind)
            if value is not None:
                points.append(Spot(at.step, value, f"step {at.step}: {name} {value:.3f}"))
        if points:
            lines.append(Line(name, points, _LOOKS[kind]))
    rules = _target(run, horizontal=True)
    label = "mean answer probability"
    svg = chart("Over the steps", lines, x_label="step", y_label=label, rules=rules, height=330, y_holds=WHOLE)
    return Figure(svg)


def _target(run: RunSummary, *, horizontal: bool = False) -> list[MarkLine]:
    target = run.results.forget_target
    return [] if target is None else [MarkLine("f*", target, horizontal)]


# --- along the way ---------------------------------------------------------------------------------------------------


def along(runs: Runs) -> Section | None:
    """Losses, conflicts and cosine over the steps."""
    looks, figures = _looks(runs), []
    for key, title in ALONG.items():
        for of, together in _comparable(key, runs).items():
            logged = {name: _logged(name, run, key) for name, run in together.items()}
            lines = [Line(name, points, looks[name]) for name, points in logged.items() if points]
            if lines:
                heading, holds = f"{title.capitalize()}{of}", AXES.get(key, ZERO)
                figures.append(Figure(chart(heading, lines, x_label="step", y_label="", height=250, y_holds=holds)))
    if not figures:
        return None
    title, tables = "Along the runs", []
    if len(runs) == 1:
        title, looks, tables = "Along the run", {}, [_log_table(*runs.values())]
    return Section(
        "along",
        title,
        "Means over the steps between two logs. A conflict is a step whose forget gradient would have hurt retention; "
        "what was removed of it is measured as 1 − ‖rectified‖ / ‖plain‖, which is negative where a rectification "
        "adds more than it takes.",
        figures,
        looks,
        tables,
    )


def own_rate(run: RunSummary) -> Section | None:
    """What a run found and did about its learning rate by itself."""
    own = run.learning_rate
    if own is None:
        return None
    moves = [[str(move.step), f"{move.learning_rate:.2g}", move.why] for move in own.moves]
    words = f"{own.why} Along the run it was looked after: {plural(len(moves), 'change')}, {own.rate:.2g} at the end."
    tables = []
    if moves:
        tables.append(TableData(["after step", "learning rate", "why"], moves))
    return Section("learning-rate", "The learning rate", words, tables=tables)


def _comparable(key: str, runs: Runs) -> dict[str, Runs]:
    """Runs that may share an axis, by what the title adds: forget losses of two objectives measure different things."""
    objectives = list(dict.fromkeys(run.results.objective for run in runs.values()))
    if key != "forget_loss" or len(objectives) == 1:
        return {"": runs}
    found: dict[str, Runs] = {}
    for objective in objectives:
        found[f" of {objective}"] = {name: run for name, run in runs.items() if run.results.objective == objective}
    return found


def _logged(name: str, run: RunSummary, key: str) -> list[Spot]:
    points = []
    for row in run.log:
        value = row.get(key)
        if value is not None:
            points.append(Spot(row.step, value, f"{name}, step {row.step}: {value:.4g}"))
    return points


def _log_table(run: RunSummary) -> TableData:
    keys = [key for key in ALONG if _logged("", run, key)]
    rows = []
    for row in run.log:
        rows.append([str(row.step), *(text_or_dash(row.get(key), ".4g") for key in keys)])
    return TableData(["step", *(ALONG[key] for key in keys)], rows, title=FOLDED)


def layers(runs: Runs) -> Section | None:
    """Where in the model the last step's forget gradient was changed."""
    figures = []
    for name, run in runs.items():
        if run.removed_share_by_layer:
            title = f"{name}: removed share" if len(runs) > 1 else "Removed share"
            figures.append(Figure(bars(title, list(run.removed_share_by_layer.items()))))
    if not figures:
        return None
    return Section(
        "layers",
        "Where it was rectified",
        "Share of the forget gradient's length that the rectification took away in the last step, layer by layer; "
        "negative where it added.",
        figures,
    )


# --- numbers ---------------------------------------------------------------------------------------------------------

_NO_METRICS = ("forget_target", "step", "epoch")
"""What stands among a kept model's metrics beside them."""


def run_metrics(summary: RunSummary, metrics: Explained) -> Section:
    """Every metric of a run, with its meaning."""
    results, start, end = summary.results, summary.start or UNMEASURED, summary.end
    values = {kind.probability: end.probability(kind) for kind in ROW_KINDS if end.has(kind.probability)}
    values |= end.model_extra or {}
    values |= {
        key: results.get(key) for key in ("conflict_rate", "surviving_share", "rmf", "rmf_held_out") if results.has(key)
    }
    known = {FORGET.probability: shown(results.forget_target)}
    rows = []
    for key, value in values.items():
        if key in _NO_METRICS:
            continue
        after, before = shown(value), ""
        if value is None and key.startswith("rmf"):
            after = "not reached"
        if start.has(key):
            before = shown(start.get(key))
        rows.append([*meaning(key, metrics), after, before, known.get(key, ""), better_way(key, metrics)])
    table = TableData(["metric", "saved model", "before", label_of_mark(results.known_mark), "better"], rows)
    return Section(
        "metrics",
        "Every number, and what it means",
        "A run measures means and no intervals: gru evaluate gives each metric with its 95 % interval.",
        tables=[table],
    )
