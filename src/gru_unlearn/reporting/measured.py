"""From summaries to the numbers that a verdict judges."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from gru_unlearn.reporting.broken_answers import Told, said_of
from gru_unlearn.reporting.evidence import Evidence, Kept, Sample
from gru_unlearn.reporting.judge import verdict_of
from gru_unlearn.results.attack_summary import AttackSummary
from gru_unlearn.results.mark import Mark
from gru_unlearn.results.model_metrics import UNMEASURED, Metrics
from gru_unlearn.results.provenance import RowsSource
from gru_unlearn.results.row_examples import ExampleRow, Examples, Moment
from gru_unlearn.results.row_kinds import FORGET, KEPT, RETAIN, RowKind
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunRecord, RunSummary, TruSummary
from gru_unlearn.results.verdict import Said, Verdict

# --- runs ------------------------------------------------------------------------------------------------------------


def run_verdict(
    summary: RunSummary | TruSummary, examples: Examples | None = None, attack: AttackSummary | None = None
) -> Verdict:
    """On the model that a run saved, with the attack on it, if there was one."""
    evidence = run_evidence(summary, examples)
    if attack is None:
        return verdict_of(evidence)
    return verdict_of(evidence, attack.attacks, attack.relearning_cost)


def verdict_of_folder(folder: RunFolder, summary: RunSummary | TruSummary, attack: AttackSummary | None) -> Verdict:
    """The same with the single rows that the run kept."""
    return run_verdict(summary, Examples.read(folder.examples_file), attack)


def run_evidence(summary: RunSummary | TruSummary, examples: Examples | None) -> Evidence:
    """A run's numbers for its verdict; along α, the one of 0 is the model before."""
    start: Metrics
    if isinstance(summary, TruSummary):
        start = next((point for point in summary.trajectory["tru"] if point.alpha == 0), UNMEASURED)
        return _evidence(summary, start, summary.results.tru, summary.results.tru, examples)
    return _evidence(summary, summary.start or UNMEASURED, summary.end, summary.results, examples)


def _evidence(
    summary: RunSummary | TruSummary, start: Metrics, end: Metrics, results: Metrics, examples: Examples | None
) -> Evidence:
    """``end``: of the model that was saved; ``results``: what the whole way comes to."""
    retain, other = marks_apart(summary.known_mark)
    kept = {}
    for kind in KEPT:
        after = end.probability(kind)
        if after is not None:
            its = by_retain_model(examples, kind)
            said = said_in(examples, kind.key, "after"), said_in(examples, kind.key, "before")
            made, sample = made_by_model(summary.data, kind), _sample_of(summary, kind)
            kept[kind.label] = Kept(start.probability(kind), after, *its, results.get(kind.rmf), *said, made, sample)
    return Evidence(
        start.forget_prob,
        end.forget_prob,
        retain,
        end.get("forget_quality"),
        rows_of(summary.data),
        said_in(examples, FORGET.key, "after"),
        said_in(examples, FORGET.key, "before"),
        said_in(examples, FORGET.key, "retain_model"),
        kept,
        other,
        sample=_sample_of(summary, FORGET),
    )


def looked_at(summary: RunRecord) -> int | None:
    """How many rows of a set a run's evaluations look at, at most."""
    most = summary.settings.get("eval_max_rows")
    return most if isinstance(most, int) else None


def sample_of(most: int | None, rows: int | None) -> Sample | None:
    """What evaluations looked at of a set, where that is a part."""
    if most is None or rows is None or most >= rows:
        return None
    return Sample(most, rows)


def _sample_of(summary: RunRecord, kind: RowKind) -> Sample | None:
    rows = summary.data.get(kind.key)
    if rows is None:
        return None
    return sample_of(looked_at(summary), rows.rows)


def marks_apart(mark: Mark | None) -> tuple[float | None, Mark | None]:
    """The retain model's forget probability, or the mark that stands in for it."""
    if mark is not None and mark.kind == "retain_model":
        return mark.value, None
    return None, mark


def made_by_model(data: Mapping[str, RowsSource], kind: RowKind) -> bool:
    """Whether a set is what the model made itself, or was set aside from that."""
    rows, retain = data.get(kind.key), data.get(RETAIN.key)
    if rows is None or retain is None:
        return False
    return retain.found == "made" and rows.found is not None


def rows_of(data: Mapping[str, RowsSource]) -> int | None:
    """How many rows were to be removed."""
    rows = data.get(FORGET.key)
    return None if rows is None else rows.rows


# --- single rows -----------------------------------------------------------------------------------------------------


def said_in(examples: Examples | None, set_name: str, moment: Moment) -> Said | None:
    """What a model answered to a set's recorded rows; None where it was asked none."""
    if examples is None or set_name not in examples.sets:
        return None
    return said_of(_answered(examples.sets[set_name].rows, moment))


def _answered(rows: Sequence[ExampleRow], moment: Moment) -> Iterator[Told]:
    for row in rows:
        seen = row.seen(moment)
        if seen is not None and seen.says is not None:
            yield Told(row.due, seen.says, row.continuation is not None)


def by_retain_model(examples: Examples | None, kind: RowKind) -> tuple[float | None, int | None]:
    """The retain model's mean probability over a set's recorded rows, and how many these are unless all."""
    if examples is None or kind.key not in examples.sets:
        return None, None
    part = examples.sets[kind.key]
    seen = [row.retain_model for row in part.rows if row.retain_model is not None]
    known = [one.probability for one in seen if one.probability is not None]
    if not known:
        return None, None
    return fmean(known), None if len(known) == part.rows_in_set else len(known)


def said_by_share(share: float | None, rows: int | None) -> Said | None:
    """From the share of all rows that are answered word for word; the answers themselves are not at hand."""
    if share is None or not rows:
        return None
    return Said(asked=rows, word_for_word=round(share * rows))
