"""The two pages about a run for whoever answers for it: what was asked and done, what it cost, what may be said."""

from gru_unlearn.publishing.material import Material
from gru_unlearn.reporting.chart import levels
from gru_unlearn.reporting.evidence import Evidence
from gru_unlearn.reporting.judge import staying_of
from gru_unlearn.reporting.mark_words import IN_PICTURES, stands_for
from gru_unlearn.reporting.parts import Brief, Figure
from gru_unlearn.reporting.tables import plural
from gru_unlearn.reporting.verdict_words import attack_headline
from gru_unlearn.results.row_kinds import label_of
from gru_unlearn.results.run_summary import RunRecord, RunSummary, Stopped, TruSummary
from gru_unlearn.results.verdict import Verdict

LOOKS = {"before": 0, "after": 2, IN_PICTURES["retain_model"]: 3}
"""Bar → how it is drawn."""


def brief_of(summary: RunSummary | TruSummary, material: Material, evidence: Evidence, verdict: Verdict) -> Brief:
    """Everything that stands there beside the verdict."""
    return Brief(
        request=material.options.request,
        responsible=material.options.responsible,
        facts={
            "To be removed": _due(summary),
            "What was done": _done(summary),
            "What it cost": _cost(summary, evidence),
            "What was tried to bring it back": _tried(material, verdict),
        },
        picture=_picture(evidence),
        picture_note=_note(evidence),
        hashes=_hashes(summary, material),
    )


def _due(summary: RunRecord) -> str:
    rows = summary.data.get("forget")
    if rows is None:
        return "rows that are not on record"
    return f"{plural(rows.rows, 'row')}, known by the SHA-256 below; model: {summary.model.source or 'not named'}"


def _done(summary: RunSummary | TruSummary) -> str:
    guarded = "retain" in summary.data
    if isinstance(summary, TruSummary):
        return (
            f"What the rows alone had taught was worked out in {plural(len(summary.groups), 'group')}, and subtracted "
            f"from the weights with factor {summary.results.tru.alpha:g} (TRU)."
        )
    results, best = summary.results, summary.best
    if best is not None and best.step == 0:
        return f"Nothing: the model was kept as it was{_because(results.stopped)}."
    done = f"The model was trained on for {plural(summary.steps, 'step')} to forget the rows ({results.objective})"
    if results.rectification != "none":
        done += f"; each step was corrected where it would have hurt other knowledge ({results.rectification})"
        if guarded:
            done += f", which {plural(summary.data['retain'].rows, 'other row')} stood for"
            if summary.data["retain"].found == "made":
                done += ", made by the model itself"
    if results.robust is not None:
        done += f"; steps were changed so that relearning undoes them less easily ({results.robust})"
    if best is not None:
        done += f"; the best model on the way was kept, that of step {best.step}"
    return f"{done}."


def _because(stopped: Stopped | None) -> str:
    return "" if stopped is None else f", because {stopped.sentence}"


def _cost(summary: RunRecord, evidence: Evidence) -> str:
    told = [_time(summary.seconds)]
    for name, kept in evidence.kept.items():
        if kept.share is not None:
            told.append(f"{kept.share:.1%} is left of the probability of {name} answers")
    return "; ".join(told) + "."


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds of computing"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes of computing"
    return f"{seconds / 3600:.1f} hours of computing"


def _tried(material: Material, verdict: Verdict) -> str:
    if material.attack is None:
        return "Nothing: nobody attacked this model. gru attack RUN does."
    return attack_headline(staying_of(verdict, *material.tried))


def _picture(evidence: Evidence) -> Figure | None:
    """How probable the true answers are, before, after, and to a model that never saw the rows."""
    mark, looks = evidence.mark, dict(LOOKS)
    if mark is not None and mark.kind != "retain_model":
        looks[IN_PICTURES[mark.kind]] = looks.pop(IN_PICTURES["retain_model"])
    value = None if mark is None else mark.value
    measured = {"answers that had to go": (evidence.forget_before, evidence.forget_after, value)}
    for name, kept in evidence.kept.items():
        measured[f"answers that had to stay, {name} rows"] = (kept.before, kept.after, kept.retain_model)
    groups = {}
    for heading, values in measured.items():
        known = {name: value for name, value in zip(looks, values, strict=True) if value is not None}
        if known:
            groups[heading] = known
    if not groups:
        return None
    return Figure(levels("How probable the true answers are to the model", groups, looks))


def _note(evidence: Evidence) -> tuple[str, str] | None:
    """Whose the bar of the mark is, and what that means; None where there is no mark."""
    if evidence.mark is None:
        return None
    return IN_PICTURES[evidence.mark.kind].capitalize(), stands_for(evidence.mark, "the rows")


def _hashes(summary: RunSummary | TruSummary, material: Material) -> dict[str, str]:
    known = {f"{label_of(name)} rows": rows.sha256 for name, rows in summary.data.items()}
    known["model before"] = summary.model.sha256 or ""
    saved = summary.saved_sha256 or (material.attack.model.sha256 if material.attack else None)
    known["model after"] = saved or ""
    if summary.retain_model is not None:
        known["retain model"] = summary.retain_model.sha256 or ""
    if summary.base_model is not None:
        known["base model"] = summary.base_model.sha256 or ""
    known["summary.json of this run"] = material.summary_sha256
    return {what: sha256 for what, sha256 in known.items() if sha256}
