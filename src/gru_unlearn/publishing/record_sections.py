"""Sections that every report has: what numbers mean, and what was done with what."""

from collections.abc import Mapping

from pydantic import JsonValue

from gru_unlearn.publishing.material import Explained, Material, Reported
from gru_unlearn.reporting.parts import Section, TableData
from gru_unlearn.reporting.tables import text_or_dash
from gru_unlearn.results.comparison_summary import ComparisonSummary, DemoSummary
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.file_model import JsonObject
from gru_unlearn.results.ledger_summary import LedgerSummary
from gru_unlearn.results.model_metrics import Metrics
from gru_unlearn.results.provenance import RowsSource
from gru_unlearn.results.run_summary import RunRecord


def meaning(key: str, metrics: Explained) -> list[str]:
    """A table's first cell for a metric: its name and, after a line break, what it means."""
    known = metrics.get(key)
    if known is None:
        return [key]
    return [f"{key}\n{known.definition}. Range: {known.range}. Source: {known.source}."]


def better_way(key: str, metrics: Explained) -> str:
    """Which way is better; empty where nobody says."""
    return metrics[key].better if key in metrics else ""


def meanings(measured: Metrics, metrics: Explained) -> Section:
    """What the numbers mean where they stand in tables of their own."""
    keys = [key for key in (*measured.to_json(), "rmf", "rmf_held_out") if key in metrics]
    rows = [[*meaning(key, metrics), better_way(key, metrics)] for key in keys]
    return Section("metrics", "What the numbers mean", tables=[TableData(["metric", "better"], rows, keys=2)])


def record(material: Material) -> list[Section]:
    """What was done with what: data, models, versions, settings."""
    summary = material.summary
    settings = _settings_of(summary)
    asked = summary.asked if isinstance(summary, EvaluationSummary) else {}
    sections = [
        Section(
            "record",
            "On record",
            "What went in, known by its content: the same data and weights have the same hash, anywhere.",
            tables=_sources(summary),
        ),
        Section("versions", "Versions", pairs=_pairs(summary.versions)),
        Section("given", "Settings that were given", pairs=_pairs(material.given)),
        Section("asked", "How the model was asked", pairs=_pairs(asked)),
        Section("settings", "All settings in force", pairs=_pairs(settings), folded=True),
    ]
    return [section for section in sections if section.tables or section.pairs]


def _settings_of(summary: Reported) -> JsonObject:
    if isinstance(summary, DemoSummary):
        return {}
    if isinstance(summary, LedgerSummary):
        return summary.settings.unlearning
    return summary.settings


def _sources(summary: Reported) -> list[TableData]:
    if isinstance(summary, DemoSummary | ComparisonSummary | LedgerSummary):
        return []
    rows = []
    models = {"model": summary.model, "retain model": summary.retain_model}
    if isinstance(summary, RunRecord):
        models["base model"] = summary.base_model
    for label, model in models.items():
        if model is not None:
            rows.append([label, model.source or "–", "", model.sha256 or "–"])
    for name, part in summary.data.items():
        rows.append([f"{name.replace('_', '-')} data", _told_source(part), str(part.rows), part.sha256])
    return [TableData(["what", "source", "rows", "SHA-256"], rows, keys=4)]


def _told_source(rows: RowsSource) -> str:
    """Where rows are, and how they came about if a run found them by itself."""
    told = {None: "", "made": " (made by the model)", "part": " (a part of those given)", "set aside": " (set aside)"}
    return f"{rows.source or '–'}{told[rows.found]}"


def _pairs(pairs: Mapping[str, JsonValue]) -> dict[str, str]:
    return {name: text_or_dash(value) for name, value in pairs.items()}
