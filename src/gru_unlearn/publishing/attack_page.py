"""The page of an attack."""

from collections.abc import Sequence
from dataclasses import replace

from gru_unlearn.attacks.attack_tables import attack_table
from gru_unlearn.attacks.attack_tables import verdict as attack_verdict
from gru_unlearn.publishing.material import Material, Row
from gru_unlearn.publishing.record_sections import record
from gru_unlearn.reporting.chart import Line, Point, chart
from gru_unlearn.reporting.parts import FOLDED, Figure, Page, Section, TableData, from_rich
from gru_unlearn.reporting.tables import shown
from gru_unlearn.reporting.verdict import judge_staying, name_of


def attack_page(material: Material) -> Page:
    """An attack folder."""
    summary = material.summary
    facts = {"model": str((summary.get("model") or {}).get("source", "")), "seed": str(summary.get("seed", ""))}
    return Page(
        title="Attacks on an unlearned model",
        facts={name: value for name, value in facts.items() if value},
        findings=[judge_staying(summary["attacks"])],
        sections=attack_sections(summary),
        record=record(material),
    )


_ATTACKED = {"target": 0, "unlearned": 2, "retain_model": 3}


def attack_sections(summary: Row | None) -> list[Section]:
    """The table of attacks and the recovery curves."""
    if not summary:
        return []
    groups: dict[str, list[Row]] = {}
    for curve in summary["curves"]:
        groups.setdefault(name_of(curve), []).append(curve)
    figures = [Figure(_recovery(name, curves)) for name, curves in groups.items()]
    table = attack_table(summary)
    remarks = str(table.caption).splitlines() if table.caption else []
    return [
        Section(
            "attacks",
            "Attempts to bring it back",
            "Brought back is the share of what the target knew beyond the retain model, both attacked alike: 0 % as if "
            "never seen, 100 % wholly back.",
            figures,
            {name.replace("_", " "): look for name, look in _ATTACKED.items()} if figures else {},
            [replace(from_rich(table, title=""), keys=2), _every_attack(summary)],
            notes=[attack_verdict(summary), *remarks],
        )
    ]


def _every_attack(summary: Row) -> TableData:
    """All attacks by all measures."""
    rows = [
        [
            name_of(found),
            str(found["measure"]),
            *(shown(found[model]) for model in ("unlearned", "target", "retain_model")),
            "–" if found["recovered"] is None else f"{found['recovered']:.0%}",
            "" if found["low"] is None else f"{found['low']:.0%} to {found['high']:.0%}",
        ]
        for found in summary["attacks"]
    ]
    headings = ["attack", "measure", "unlearned", "target", "retain model", "brought back", "95 % interval"]
    return TableData(headings, rows, FOLDED, keys=2)


def _recovery(title: str, curves: Sequence[Row]) -> str:
    lines = [
        Line(
            name := str(curve["model"]).replace("_", " "),
            [
                Point(x, y, f"{name}, {x:g}: {y:.3f}")
                for x, y in zip(curve["steps"], curve["values"], strict=True)
                if y is not None
            ],
            _ATTACKED.get(str(curve["model"]), 1),
        )
        for curve in curves
    ]
    return chart(
        title, [line for line in lines if line.points], x_label="step", y_label="mean answer probability", height=280
    )
