"""On what terms methods are compared: what is the same for all of them, and what that leaves unequal."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from gru_unlearn.comparison.comparison_request import ComparisonRequest
from gru_unlearn.comparison.matrix import Matrix, MethodName, Terms, parse_method, with_retain_rows
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.results.comparison_summary import Equal, EqualWhat
from gru_unlearn.results.cost_kinds import cost_held_equal
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.training import UnlearningConfig

CHOICE = (
    "Each method is shown at its own best learning rate: the one that reaches f* in most seeds; among these the "
    "highest mean RMF on held-out rows (on retain rows where there are none); at a tie the fewest steps. Where none "
    "reaches f*, retention at a quarter, then at half of the target's forget probability decides in the same way."
)

SAME = "the same data, as many forget rows a step, the same seeds, step budget and number of learning rates"


def on_equal_terms(matrix: Matrix, request: ComparisonRequest) -> Matrix:
    """The matrix with its terms. Under equal rows every method that looks at retain rows gets as many as the one that
    gets most.

    Raises:
        UserError: terms that contradict each other, or the methods.
    """
    against = request.against
    if against is not None and against not in matrix.rectifications:
        near = nearest(against, matrix.rectifications)
        raise UserError(f"--against {against}: not compared{near}")
    if request.budget is not None and request.equal == "rows":
        raise UserError("--budget is a cost to f*: pass --equal passes or --equal time with it")
    configs = configs_of(matrix)
    candidates = {name: config.resolved_forget_candidates for name, config in configs.items()}
    terms = Terms(request.equal, request.budget, against or "none", retain_rows_of(configs), candidates)
    if request.equal == "rows":
        terms = _equalized(terms)
    return replace(matrix, terms=terms)


def configs_of(matrix: Matrix) -> dict[MethodName, UnlearningConfig]:
    """Of each method that of its first run: what they differ in otherwise is no part of the terms."""
    found: dict[MethodName, UnlearningConfig] = {}
    for cell in matrix.cells:
        name = cell.objective, cell.rectification
        if name not in found:
            found[name] = make_recipe(cell.settings).config
    return found


def retain_rows_of(configs: Mapping[MethodName, UnlearningConfig]) -> dict[MethodName, int]:
    """Retain rows that a method gets for each pass over forget rows; 0 where it looks at none."""
    found = {}
    for name, config in configs.items():
        found[name] = config.resolved_retain_batch_size if config.needs_retain_set else 0
    return found


def _equalized(terms: Terms) -> Terms:
    most = max(terms.retain_rows.values(), default=0)
    raised = {name for name, rows in terms.retain_rows.items() if 0 < rows < most}
    leader = next((name for name, rows in terms.retain_rows.items() if rows == most), ("", ""))
    for objective, rectification in raised:
        _check_may_be_raised(objective, rectification, leader, terms)
    rows = {name: most if name in raised else own for name, own in terms.retain_rows.items()}
    return replace(terms, retain_rows=rows, raised=frozenset(raised))


def _check_may_be_raised(objective: str, rectification: str, leader: MethodName, terms: Terms) -> None:
    most = terms.retain_rows[leader]
    way_out = "pass --equal passes or --equal time, or leave one out"
    if "retain_batch_size" in parse_method(rectification):
        own = terms.retain_rows[objective, rectification]
        raise UserError(
            f"--equal rows: {rectification} asks for {own} retain rows a step, and {leader[1]} gets {most}: {way_out}"
        )
    same = with_retain_rows(rectification, most)
    if (objective, same) in terms.retain_rows:
        raise UserError(f"--equal rows: {rectification} would get {most} retain rows a step, as {same} does: {way_out}")


def told(terms: Terms) -> str:
    """What equal rows changed, in a line; empty where they changed nothing."""
    if not terms.raised:
        return ""
    most = max(terms.retain_rows.values())
    raised = {rectification for _, rectification in terms.raised}
    leaders = {rectification for (_, rectification), rows in terms.retain_rows.items() if rows == most} - raised
    return (
        f"--equal rows: {', '.join(sorted(raised))} with {most} retain rows a step, as many as "
        f"{', '.join(sorted(leaders))} has; with --equal passes or --equal time each has its own number."
    )


def equal_of(terms: Terms, objectives: Sequence[str]) -> Equal:
    """The terms as they stand in a summary."""
    equal = Equal(
        what=cast(EqualWhat, terms.what),
        retain_rows=_by_title(terms.retain_rows),
        forget_candidates=_by_title(terms.candidates),
    )
    if terms.budget is not None:
        equal.budget, equal.budgets = terms.budget, dict.fromkeys(objectives, terms.budget)
    return equal


def _by_title(counts: Mapping[MethodName, int]) -> dict[str, int]:
    return {f"{objective} · {rectification}": count for (objective, rectification), count in counts.items()}


def rule_of(equal: Equal) -> str:
    """The terms and the choice of learning rates, in a few sentences."""
    read = _not_equal("forget rows that are read for each one of a step", equal.forget_candidates)
    if equal.what == "rows":
        return f"Equal rows: every method has {SAME}{_equal_retain_rows(equal)}. {CHOICE}{read}"
    cost = cost_held_equal(equal.what)
    budgets = ", ".join(f"{name} {budget:{cost.form}} {cost.label}" for name, budget in equal.budgets.items())
    return (
        f"Equal {equal.what}: every method has {SAME}. Each is shown at the learning rate with the highest mean RMF on "
        "held-out rows (on retain rows where there are none) among those whose median seed gets to f* within the "
        f"budget, those that get there in most seeds first: {budgets or 'none, for no method gets to f*'}; by default "
        "the least within which every method gets to f*."
        f"{_not_equal('retain rows a step', equal.retain_rows)}{read}"
    )


def _equal_retain_rows(equal: Equal) -> str:
    counts = set(equal.retain_rows.values()) - {0}
    if not counts:
        return ""
    without = [name for name, rows in equal.retain_rows.items() if rows == 0]
    but = f" ({', '.join(without)}: none at all)" if without else ""
    return f", and {max(counts)} retain rows a step if it looks at any{but}; what its name says after @ is its own"


def _not_equal(what: str, counts: Mapping[str, int]) -> str:
    by_count: dict[int, list[str]] = {}
    for name, count in counts.items():
        by_count.setdefault(count, []).append(name)
    if len(by_count) < 2:
        return ""
    listed = "; ".join(f"{count}: {', '.join(names)}" for count, names in by_count.items())
    return f" Not equal are {what} ({listed})."
