"""A patch speaks for itself: its own probabilities and answers, judged by the one rule.

A patch of a whole model is only near the run's model, so what was found of that one holds for the patch no further than
it was found again.
"""

from collections.abc import Mapping
from dataclasses import replace

from gru_unlearn.reporting.evidence import Evidence, Kept, Sample
from gru_unlearn.reporting.judge import verdict_of
from gru_unlearn.reporting.measured import sample_of
from gru_unlearn.results.export_summary import ExportedMetric, ExportSummary
from gru_unlearn.results.patch_record import PatchedRows, PatchRecord
from gru_unlearn.results.row_kinds import FORGET, KEPT, ROW_KINDS
from gru_unlearn.results.verdict import Verdict


def let_patch_speak(summary: ExportSummary, patch: PatchRecord, run: Evidence, sizes: Mapping[str, int]) -> None:
    """Put the patch's own verdict and numbers in the place of the run's, without attacks, which nobody made on it.

    Args:
        summary: of the export; changed.
        patch: no exact one.
        run: what was measured of the run's model.
        sizes: rows of the run's sets, by their names in files.
    """
    verdict, of_run = verdict_of_patch(patch, run, sizes), summary.verdict
    if of_run is not None and _answers(of_run) != _answers(verdict):
        patch.run_verdict = of_run.sentence  # also where only the run's model was attacked
    summary.verdict, summary.attacks = verdict, []
    summary.metrics = _metrics(patch, summary.metrics)


def verdict_of_patch(patch: PatchRecord, run: Evidence, sizes: Mapping[str, int]) -> Verdict:
    """On the original with the patch. Marks, and what a retain model said, are as the run knows them; of how many rows
    it speaks, the patch says itself."""
    forget = patch.rows[FORGET.key]
    kept = {}
    for kind in KEPT:
        rows = patch.rows.get(kind.key)
        if rows is not None:
            of_run = run.kept.get(kind.label, Kept(None, None))
            kept[kind.label] = _kept(rows, of_run, sample_of(rows.rows, sizes.get(kind.key)))
    evidence = replace(
        run,
        forget_before=forget.original,
        forget_after=forget.patched,
        forget_quality=None,
        said=forget.said,
        said_before=forget.said_before,
        kept=kept,
        sample=sample_of(forget.rows, sizes.get(FORGET.key)),
    )
    return verdict_of(evidence)


def _kept(rows: PatchedRows, of_run: Kept, sample: Sample | None) -> Kept:
    return replace(
        of_run,
        before=rows.original,
        after=rows.patched,
        rmf=None,
        said=rows.said,
        said_before=rows.said_before,
        sample=sample,
    )


def _answers(verdict: Verdict) -> tuple[str, str, str]:
    """The last is unknown of a patch, which nobody attacked."""
    return verdict.forgotten, verdict.kept, verdict.stays_gone


def _metrics(patch: PatchRecord, of_run: list[ExportedMetric]) -> list[ExportedMetric]:
    """The probabilities that were measured again."""
    rows = {kind.probability: patch.rows[kind.key] for kind in ROW_KINDS if kind.key in patch.rows}
    found = []
    for metric in of_run:
        if metric.metric in rows:
            measured = rows[metric.metric]
            found.append(metric.model_copy(update={"before": measured.original, "after": measured.patched}))
    return found
