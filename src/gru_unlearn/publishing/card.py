"""A model card for an unlearned model: the hub's metadata and the text, from an export's summary alone."""

from collections.abc import Iterator
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from gru_unlearn.publishing.patch_words import patch_lines, whose_verdict
from gru_unlearn.publishing.privacy import hub_name
from gru_unlearn.reporting import remarks
from gru_unlearn.reporting.mark_words import how_sure, stands_for
from gru_unlearn.reporting.tables import plural, shown
from gru_unlearn.reporting.verdict_lines import ANSWERS
from gru_unlearn.results.export_summary import ExportSummary
from gru_unlearn.results.mark import Mark
from gru_unlearn.results.row_kinds import FORGET, KEPT, ROW_KINDS, label_of
from gru_unlearn.results.verdict import Answer

TAGS = ("unlearning", "gru-unlearn")
NOT_PUBLIC = "not public"

_LABELS = {kind.rmf: f"retention at matched forgetting, {kind.label} rows" for kind in KEPT}
_LABELS |= {kind.probability: f"{kind.label} probability" for kind in ROW_KINDS}


def model_card(summary: ExportSummary) -> str:
    """The README.md of a published model."""
    environment = Environment(
        loader=PackageLoader("gru_unlearn.publishing"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"shown": shown, "label": _label_of_metric, "cell": _cell}
    environment.filters |= {"stands_for": stands_for, "how_sure": _in_brackets}
    text = environment.get_template("model_card.md").render(
        summary=summary,
        base_on_hub=hub_name(summary.base.name),
        outcome=_outcome(summary),
        row_kinds=ROW_KINDS,
        not_public=NOT_PUBLIC,
        whose_verdict=whose_verdict(summary.patch) if summary.patch is not None else None,
        patch_lines=patch_lines(summary.patch) if summary.patch is not None else [],
        answers={answer: word.lower() for answer, (_, word) in ANSWERS.items()},
    )
    return str(ModelCard(f"---\n{metadata(summary).to_yaml()}\n---\n\n{text}\n"))


def _outcome(summary: ExportSummary) -> str:
    """What unlearning came to, in the words of the verdict; without one, that it was tried."""
    rows, verdict = plural(summary.data[FORGET.key].rows, "row"), summary.verdict
    if verdict is None:
        return f"after an unlearning run on {rows}"
    if remarks.NEVER_KNOWN in verdict.remarks:
        return f"after an unlearning run on {rows} that it gave no sign of knowing"
    return _OUTCOMES[verdict.forgotten].format(rows)


_OUTCOMES: dict[Answer, str] = {
    "yes": "made to forget {} by unlearning",
    "partly": "made to forget {} in part by unlearning",
    "no": "after an unlearning run that did not make it forget {}",
    "unknown": "after an unlearning run on {} whose outcome is not known",
}


def _label_of_metric(metric: str) -> str:
    """A run's metric in words; of a suite's, its name."""
    return _LABELS.get(metric, metric)


def _in_brackets(mark: Mark) -> str:
    return f" ({how_sure(mark)})" if how_sure(mark) else ""


def _cell(content: object) -> str:
    """What stands in a table: a bar would end the cell."""
    return str(content).replace("|", "\\|")


def metadata(summary: ExportSummary) -> ModelCardData:
    """The hub's metadata block; licence, language and base model only where they are known."""
    base = hub_name(summary.base.name)
    from_card: Any = {"language": summary.language, **summary.license}  # whatever the base model's card says
    library, relation = "transformers", "finetune"
    if summary.kind == "adapters":
        library, relation = "peft", "adapter"
    return ModelCardData(
        base_model=base,
        base_model_relation=base and relation,
        library_name=library,
        pipeline_tag="text-generation",
        tags=list(TAGS),
        model_name=summary.name,
        eval_results=list(_eval_results(summary)) or None,
        **from_card,
    )


def _eval_results(summary: ExportSummary) -> Iterator[EvalResult]:
    """Everything that was measured on the exported model, on a set of rows or a suite."""
    for found in summary.metrics:
        yield _eval_result(summary, _set_of(found.metric), found.metric, found.after)
    for suite, scores in summary.evaluations.items():
        for score in scores:
            yield _eval_result(summary, suite, score.metric, score.after)


def _set_of(metric: str) -> str:
    """The set that a run's metric is over; what names none judges the forgetting."""
    for kind in ROW_KINDS:
        if metric == kind.rmf or metric.startswith(kind.key):
            return kind.key
    return FORGET.key


def _eval_result(summary: ExportSummary, where: str, metric: str, value: float) -> EvalResult:
    rows = summary.data.get(where)
    kind, name = NOT_PUBLIC, where
    if rows is not None:
        kind = rows.name or NOT_PUBLIC
        name = f"{label_of(where)} set ({plural(rows.rows, 'row')}, SHA-256 {rows.sha256[:12]})"
    return EvalResult(
        task_type="text-generation",
        dataset_type=kind,
        dataset_name=name,
        metric_type=metric,
        metric_name=_label_of_metric(metric),
        metric_value=value,
    )
