"""Verdicts of models side by side: the demonstration's runs, and a comparison's methods over their seeds."""

from collections.abc import Mapping, Sequence
from statistics import median

from gru_unlearn.benchmark.evaluated_rows import answered
from gru_unlearn.comparison.kept_most import which_kept_most, who_kept_most
from gru_unlearn.evaluation import ScoreTable
from gru_unlearn.reporting.broken_answers import said_of
from gru_unlearn.reporting.evidence import Evidence, Kept
from gru_unlearn.reporting.judge import together, verdict_of
from gru_unlearn.reporting.measured import said_by_share, sample_of
from gru_unlearn.results.comparison_summary import (
    EXACT,
    CellResult,
    ComparisonSummary,
    DemoRow,
    DemoSummary,
    MethodResult,
)
from gru_unlearn.results.model_metrics import Metrics
from gru_unlearn.results.row_kinds import FORGET, KEPT, ROW_KINDS
from gru_unlearn.results.verdict import Said, Verdict

BUILTIN_ROWS = 40
"""Forget rows of the built-in benchmark, where an earlier version's demonstration does not say it."""

SaidBySet = Mapping[str, Said]


def said_by_set(table: ScoreTable) -> dict[str, Said]:
    """What a model answered to each kind of rows, of those kinds that were asked."""
    found = {kind.key: said_of(answered(table, kind.key)) for kind in ROW_KINDS}
    return {name: said for name, said in found.items() if said is not None}


def demo_verdicts(summary: DemoSummary) -> dict[str, Verdict]:
    """By the names in the demonstration's table."""
    return {row.name: verdict_of(demo_evidence(summary, row)) for row in summary.results}


def demo_evidence(summary: DemoSummary, row: DemoRow) -> Evidence:
    """Of one run in the demonstration's table."""
    return _beside(summary, row, row.said or _by_share(row, summary.forget_rows or BUILTIN_ROWS))


def compare_verdicts(summary: ComparisonSummary) -> dict[str, Verdict]:
    """By the methods' names, each at its chosen learning rate."""
    return {method_name(row): verdict_of(compare_evidence(summary, row)) for row in summary.chosen}


def method_name(row: MethodResult) -> str:
    """What is judged by the seeds that ended well; the others must not go unsaid."""
    failed = f" ({row.failed} of {row.runs} runs failed)" if row.failed else ""
    return f"{row.objective} · {row.rectification}{failed}"


def compare_evidence(summary: ComparisonSummary, row: MethodResult) -> Evidence:
    """Means over the seeds of a method at its chosen learning rate; of forget quality, a p-value, the median; of what
    is answered the worst seed."""
    names = ("forget_prob", "retain_prob", "held_out_prob", "rmf", "rmf_held_out")
    measured = {name: row.mean(name) for name in names}
    cells = summary.cells_of(row)
    found = [cell.get("forget_quality") for cell in cells]
    qualities = [quality for quality in found if quality is not None]
    if qualities:
        measured["forget_quality"] = median(qualities)
    return _beside(summary, Metrics.model_validate(measured), _worst_seed(cells, summary.forget_rows))


def judge_demo(summary: DemoSummary) -> None:
    """Write into the summary each run's verdict, what they come to together, and who kept most."""
    verdicts = demo_verdicts(summary)
    for row in summary.results:
        row.verdict = verdicts[row.name]
    summary.verdict, summary.kept_most = together(verdicts), who_kept_most(summary)


def judge_comparison(summary: ComparisonSummary) -> None:
    """The same of the methods."""
    verdicts = compare_verdicts(summary)
    for row in summary.chosen:
        row.verdict = verdicts[method_name(row)]
    summary.verdict, summary.kept_most = together(verdicts), which_kept_most(summary)


def _beside(summary: DemoSummary | ComparisonSummary, row: Metrics, said: SaidBySet) -> Evidence:
    """Of a row of results, beside those of the target and of the retain model."""
    target, retain_model = summary.target, summary.retain_model
    rows, mark, most, sizes = summary.forget_rows, None, None, dict[str, int]()
    if isinstance(summary, ComparisonSummary):
        mark, most, sizes = summary.mark, summary.looked_at, summary.kept_rows
    elif rows is None:
        rows = BUILTIN_ROWS
    target_said = summary.target_said or _by_share(target, rows)
    by_retain_model = summary.retain_model_said or _by_share(retain_model, rows)
    kept = {}
    for kind in KEPT:
        after = row.probability(kind)
        if after is not None:
            known = target.probability(kind), after, retain_model.probability(kind), None, row.get(kind.rmf)
            sample = sample_of(most, sizes.get(kind.key))
            kept[kind.label] = Kept(*known, said.get(kind.key), target_said.get(kind.key), sample=sample)
    return Evidence(
        target.forget_prob,
        row.forget_prob,
        retain_model.forget_prob,
        row.get("forget_quality"),
        rows,
        said.get(FORGET.key),
        target_said.get(FORGET.key),
        by_retain_model.get(FORGET.key),
        kept,
        mark,
        sample=sample_of(most, rows),
    )


def _worst_seed(cells: Sequence[CellResult], rows: int | None) -> dict[str, Said]:
    """Of forget rows the seed that gives most answers word for word, of the others the one with most broken ones.

    Nobody knows the worst of forget rows where one seed was not asked.
    """
    by_seed = [cell.said or _by_share(cell, rows) for cell in cells]
    worst: dict[str, Said] = {}
    for kind in ROW_KINDS:
        found = [said[kind.key] for said in by_seed if kind.key in said]
        if found and (kind is not FORGET or len(found) == len(by_seed)):
            worst[kind.key] = max(found, key=_recited if kind is FORGET else _broken)
    return worst


def _recited(said: Said) -> int:
    return said.word_for_word


def _broken(said: Said) -> int:
    return said.broken or 0


def _by_share(row: Metrics, rows: int | None) -> dict[str, Said]:
    """What an earlier version kept: the share of all forget rows that are answered word for word."""
    metrics = row.metrics if isinstance(row, CellResult) else None
    share = row.get(EXACT) if metrics is None else metrics.get(EXACT)
    said = said_by_share(share, rows)
    return {} if said is None else {FORGET.key: said}
