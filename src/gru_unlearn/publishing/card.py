"""A model card for an unlearned model: the hub's metadata and the text, from an export's summary alone."""

from collections.abc import Iterator
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from gru_unlearn.publishing.card_sections import NOT_PUBLIC, label_of_metric, on_hub, opening, sections
from gru_unlearn.results.export_summary import ExportSummary
from gru_unlearn.results.row_kinds import FORGET, ROW_KINDS, label_of

TAGS = ("unlearning", "gru-unlearn")


def model_card(summary: ExportSummary) -> str:
    """The README.md of a published model.

    Args:
        summary: of an export; everything in it may be shown.
    """
    parts = [f"---\n{metadata(summary).to_yaml()}\n---", f"# {summary.name}", opening(summary)]
    for title, text in sections(summary).items():
        parts += [f"## {title}", text]
    return str(ModelCard("\n\n".join(parts) + "\n"))


def metadata(summary: ExportSummary) -> ModelCardData:
    """The hub's metadata block; licence, language and base model only where they are known."""
    has_adapters = summary.kind == "adapters"
    base = on_hub(summary.base)
    from_card: Any = {"language": summary.language, **summary.license}  # whatever the base model's card says
    relation = "adapter" if has_adapters else "finetune"
    return ModelCardData(
        base_model=base,
        base_model_relation=relation if base else None,
        library_name="peft" if has_adapters else "transformers",
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
        name = f"{label_of(where)} set ({rows.rows} rows, SHA-256 {rows.sha256[:12]})"
    return EvalResult(
        task_type="text-generation",
        dataset_type=kind,
        dataset_name=name,
        metric_type=metric,
        metric_name=label_of_metric(metric),
        metric_value=value,
    )
