"""Sections that every report has: what numbers mean, and what was done with what."""

from collections.abc import Mapping

from gru_unlearn.publishing.material import Material, Row
from gru_unlearn.reporting.parts import Section, TableData


def meaning(key: str, metrics: Mapping[str, Row]) -> list[str]:
    """A table's first cell for a metric: its name and, after a line break, what it means."""
    known = metrics.get(key)
    if known is None:
        return [key]
    return [f"{key}\n{known['definition']}. Range: {known['range']}. Source: {known['source']}."]


def better_way(key: str, metrics: Mapping[str, Row]) -> str:
    """Which way is better; empty where nobody says."""
    return metrics[key]["better"] if key in metrics else ""


def meanings(material: Material) -> Section:
    """What the numbers mean where they stand in tables of their own."""
    keys = [key for key in (*material.summary["target"], "rmf", "rmf_held_out") if key in material.metrics]
    rows = [[*meaning(key, material.metrics), better_way(key, material.metrics)] for key in keys]
    return Section("metrics", "What the numbers mean", tables=[TableData(["metric", "better"], rows, keys=2)])


def record(material: Material) -> list[Section]:
    """What was done with what: data, models, versions, settings."""
    summary = material.summary
    sources = _sources(summary)
    sections = [
        Section(
            "record",
            "On record",
            "What went in, known by its content: the same data and weights have the same hash, anywhere.",
            tables=[sources] if sources.rows else [],
        ),
        Section("versions", "Versions", pairs=_pairs(summary.get("versions"))),
        Section("given", "Settings that were given", pairs=_pairs(material.explicit)),
        Section("settings", "All settings in force", pairs=_pairs(summary.get("settings")), folded=True),
    ]
    return [section for section in sections if section.tables or section.pairs]


def _sources(summary: Row) -> TableData:
    data = {f"{name.replace('_', '-')} data": part for name, part in (summary.get("data") or {}).items()}
    models = {label: summary.get(key) for key, label in (("model", "model"), ("retain_model", "retain model"))}
    rows = [
        [name, str(part.get("source") or "–"), str(part.get("rows", "")), str(part.get("sha256") or "–")]
        for name, part in {**models, **data}.items()
        if isinstance(part, Mapping) and "sha256" in part
    ]
    return TableData(["what", "source", "rows", "SHA-256"], rows, keys=4)


def _pairs(pairs: Row | None) -> dict[str, str]:
    return {str(key): "–" if value is None else str(value) for key, value in (pairs or {}).items()}
