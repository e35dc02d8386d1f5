"""The page of an attack."""

from collections.abc import Sequence
from dataclasses import replace

from gru_unlearn.attacks.attack_tables import attack_table, headline_words, strongest_attack, worst_measures
from gru_unlearn.attacks.trials import WON_BACK
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.record_sections import record
from gru_unlearn.reporting.chart import WHOLE, Line, Spot, chart
from gru_unlearn.reporting.judge import staying_finding
from gru_unlearn.reporting.parts import FOLDED, Figure, Page, Section, TableData, from_rich
from gru_unlearn.reporting.tables import shown
from gru_unlearn.results.attack_summary import AttackResult, AttackSummary, RecoveryCurve

_LOOKS = {"target": 0, "unlearned": 2, "retain_model": 3, "base": 1}
"""Model → how its line is drawn."""

INSIDE = "inside"
"""The attack whose curves go along layers."""


def attack_page(summary: AttackSummary, material: Material) -> Page:
    """An attack folder."""
    return Page(
        title="Attacks on an unlearned model",
        facts={"model": summary.model.source or "", "seed": str(summary.seed)},
        verdict=summary.verdict,
        findings=[staying_finding(summary.attacks, summary.relearning_cost, summary.verdict)],
        sections=attack_sections(summary),
        record=record(material),
    )


def attack_sections(summary: AttackSummary | None) -> list[Section]:
    """The table of attacks and the recovery curves."""
    if summary is None:
        return []
    curves = _strongest_curves(summary)
    headline = headline_words(summary.headline) if summary.headline else []
    table = attack_table(summary)
    remarks = str(table.caption or "").splitlines()
    legend = {name.replace("_", " "): look for name, look in _LOOKS.items()}
    return [
        Section(
            "attacks",
            "Attempts to bring it back",
            "Brought back is the share of what the target knew beyond the retain model, or where there is none, beyond "
            "the base, both attacked alike: 0 % as if never seen, 100 % wholly back.",
            [Figure(_recovery(name, of_models)) for name, of_models in curves.items()],
            legend if curves else {},
            [replace(from_rich(table), title="", keys=2), _every_attack(summary)],
            notes=[*headline, strongest_attack(summary), *remarks],
        )
    ]


def _strongest_curves(summary: AttackSummary) -> dict[str, list[RecoveryCurve]]:
    """Of each attack that takes steps, by its name: the models' curves in the form that brings most back, and of those
    that say what winning back costs the cheapest."""
    strongest = {result.name for result in worst_measures(summary.attacks)}
    cheapest = summary.relearning_cost.by if summary.relearning_cost else ""
    curves: dict[str, list[RecoveryCurve]] = {}
    for curve in summary.curves:
        if curve.measure == WON_BACK and cheapest == curve.name:
            curves.setdefault(f"{curve.name}: {WON_BACK}", []).append(curve)
        elif curve.name in strongest and curve.measure != WON_BACK:
            curves.setdefault(curve.name, []).append(curve)
    return curves


def _every_attack(summary: AttackSummary) -> TableData:
    headings = ["attack", "measure", "unlearned", "target", "retain model", "base", "brought back", "95 % interval"]
    return TableData(headings, [_cells(result) for result in summary.attacks], FOLDED, keys=2)


def _cells(result: AttackResult) -> list[str]:
    points = [shown(value) for value in (result.unlearned, result.target, result.retain_model, result.base)]
    share, interval = "–", ""
    if result.recovered is not None:
        share = f"{result.recovered:.0%}"
    if result.low is not None and result.high is not None:
        interval = f"{result.low:.0%} to {result.high:.0%}"
    return [result.name, result.measure, *points, share, interval]


def _recovery(title: str, curves: Sequence[RecoveryCurve]) -> str:
    drawn = [line for line in map(_line_of, curves) if line.points]
    x_label, y_label = "step", "mean answer probability"
    if title.startswith(INSIDE):
        x_label, y_label = "layer", "mean over the rows"
    return chart(title, drawn, x_label=x_label, y_label=y_label, height=280, y_holds=WHOLE)


def _line_of(curve: RecoveryCurve) -> Line:
    name = curve.model.replace("_", " ")
    points = []
    for step, value in zip(curve.steps, curve.values, strict=True):
        if value is not None:
            points.append(Spot(step, value, f"{name}, {step:g}: {value:.3f}"))
    return Line(name, points, _LOOKS.get(curve.model, 1))
