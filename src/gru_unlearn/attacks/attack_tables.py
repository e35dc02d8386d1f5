"""The table of ``gru attack``, from its summary, and the one sentence that it comes to."""

from collections.abc import Sequence

from rich.table import Table

from gru_unlearn.reporting.staying import TOLD_APART
from gru_unlearn.reporting.tables import add_remarks, make_table, plural, shown
from gru_unlearn.reporting.verdict_words import relearning_words
from gru_unlearn.results.attack_summary import AttackResult, AttackSummary, Estimate, Headline

_HEADINGS = ("", "measure", "unlearned", "target", "retain")
_LAST = "% brought back"
_ZERO_LINES = {"retain_model": "retain model", "base": "base"}


def attack_table(summary: AttackSummary) -> Table:
    """One line an attack, by the measure that shows most, worst first; then what is there without any attack.

    Below: what could not be measured or was left out, and why.
    """
    worst = worst_measures(summary.attacks)
    unclear = [result for result in worst if result.recovered is None and summary.zero_line]
    lines = [(result.name, *_numbers(result, summary)) for result in worst if result not in unclear]
    headings = (*_HEADINGS, "base", _LAST) if summary.base else (*_HEADINGS, _LAST)
    table = make_table(f"Does it come back? {plural(summary.rows, 'forget row')}", headings, lines)
    table.padding = (0, 1, 0, 0)
    table.add_section()
    for result in summary.before:
        table.add_row("without any attack", *map(shown, _numbers(result, summary)))
    reasons = [(result.name, result.note) for result in unclear]
    add_remarks(table, reasons + [(left_out.name, left_out.why) for left_out in summary.left_out])
    return table


def worst_measures(results: Sequence[AttackResult]) -> list[AttackResult]:
    """For each attack and variant the entry with the largest share, of all forms and measures; largest first, those
    without a share last."""
    worst: dict[str, AttackResult] = {}
    for result in sorted(results, key=lambda result: -result.strength):
        worst.setdefault(result.kind, result)
    return list(worst.values())


def strongest_attack(summary: AttackSummary) -> str:
    """What the table comes to, in a sentence or two."""
    if summary.zero_line is None:
        return (
            "Without a retain model there is no zero line: answers that came back are counted, but nobody knows how "
            "many would come anyway. Pass --retain-model, or --base-model, which stands in for it."
        )
    worst = next(iter(worst_measures(summary.attacks)), None)
    if worst is None or worst.recovered is None:
        between = f"{_ZERO_LINES[summary.zero_line]} and target"
        return f"No attack could be read between {between}, so nothing says how much came back."
    if worst.recovered <= 0:
        return f"No attack brings anything back; the strongest, {worst.name}, is at {_percent(worst, ' %')}."
    without = ""
    for before in summary.before:
        if before.measure == worst.measure and before.recovered is not None:
            without += f"; without any attack: {_percent(before, ' %')}"
    does = "still sees" if worst.measure in ("AUC", TOLD_APART) else "brings back"
    return (
        f"The strongest attack, {worst.name}, {does} {_percent(worst, ' %')} of what the target knows and the "
        f"{_ZERO_LINES[summary.zero_line]} does not (measure: {worst.measure}{without})."
    )


def headline_words(headline: Headline) -> list[str]:
    """The two numbers to compare by, a sentence each."""
    return [_recovered_words(headline.recovered_share), relearning_words(headline.relearning_cost)]


def _recovered_words(share: Estimate) -> str:
    if share.value is None or share.interval is None:
        return f"Recovered share: {share.note}."
    low, high = share.interval
    return f"Recovered share under the strongest attack: {share.value:.0%} ({low:.0%} to {high:.0%}; {share.by})."


def _numbers(result: AttackResult, summary: AttackSummary) -> tuple[str | float | None, ...]:
    share = None if result.recovered is None else _percent(result)
    base = (result.base,) if summary.base else ()
    return result.measure, result.unlearned, result.target, result.retain_model, *base, share


def _percent(result: AttackResult, unit: str = "") -> str:
    """``12 (5 to 22)``: percent, with the 95 % interval."""
    value, low, high = (round(100 * (share or 0.0)) for share in (result.recovered, result.low, result.high))
    return f"{value}{unit} ({low} to {high})"
