"""What a verdict judges of an attacked model: what its run measured, or what was there before any attack."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gru_unlearn.attacks.battery import RETAIN_MODEL, TARGET, UNLEARNED, Battery
from gru_unlearn.attacks.probing import PROBABILITY
from gru_unlearn.reporting.broken_answers import Told, said_of
from gru_unlearn.reporting.evidence import Evidence
from gru_unlearn.reporting.judge import verdict_of
from gru_unlearn.reporting.measured import run_evidence
from gru_unlearn.results.attack_summary import AttackedRows, AttackResult, AttackSummary
from gru_unlearn.results.row_examples import Examples
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary, TruSummary
from gru_unlearn.results.summaries import read_summary
from gru_unlearn.results.verdict import Said, Verdict


def attack_verdict(battery: Battery, summary: AttackSummary, before: Sequence[AttackedRows]) -> Verdict:
    """On the attacked model; ``before``: single rows without any attack."""
    evidence = _evidence_of_run(battery) or attack_evidence(summary, _said(battery, before))
    return verdict_of(evidence, summary.attacks, summary.relearning_cost)


def attack_evidence(summary: AttackSummary, said: Mapping[str, Said]) -> Evidence:
    """What the attack itself measured before it began; ``said``: by model."""
    found: AttackResult | None = next((one for one in summary.before if one.measure == PROBABILITY), None)
    evidence = Evidence(
        rows=summary.rows,
        said=said.get(UNLEARNED),
        said_before=said.get(TARGET),
        said_by_retain_model=said.get(RETAIN_MODEL),
    )
    if found is None:
        return evidence
    return replace(
        evidence,
        forget_before=found.target,
        forget_after=found.unlearned,
        forget_retain_model=found.retain_model,
    )


def _evidence_of_run(battery: Battery) -> Evidence | None:
    """Where a run's own model is attacked on the run's own rows, the run has said more, and the same to everybody."""
    request = battery.request
    if request.run is None or any((request.model, request.target, request.retain_model, request.forget)):
        return None
    folder = RunFolder(request.run)
    summary = read_summary(folder.summary_file)
    if not isinstance(summary, RunSummary | TruSummary):
        return None
    return run_evidence(summary, Examples.read(folder.examples_file))


def _said(battery: Battery, before: Sequence[AttackedRows]) -> dict[str, Said]:
    """By model, where it was made to speak."""
    spoken = next((rows.said for rows in before if rows.said), {})
    answers = [record.answer for record in battery.forget]
    found = {model: said_of(map(Told, answers, texts)) for model, texts in spoken.items()}
    return {model: said for model, said in found.items() if said is not None}
