"""The family: every rule by its name, and what each of them can do."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature

from gru_unlearn.geometry.cone import Solver, cone, subspace
from gru_unlearn.geometry.rules import PrimalDual, Rule, cosine_clip, free, gru, hamu, ngdiff, pcgrad, sago


@dataclass(frozen=True, slots=True)
class Member:
    """What a rule declares of itself. The defaults are those of a rule of your own."""

    make_rule: Callable[..., Rule] | None
    """its factors against one smoothed r, made anew because some keep a state, from the rule's own settings; None: it
    always holds the gradients themselves, even a single one"""
    solver: Solver | None = None
    """its factors against several gradients, on whole tensors; None: it has no memory"""
    in_optimizer_metric: bool = False
    """whether the solver's inner products are taken in the metric of the optimizer's preconditioner"""
    in_update_space: bool = False
    """whether it has a form for the optimizer's displacement"""
    weight_of_whole: float = 1.0
    """γ by default on whole tensors; 1: no smoothing"""
    weight_inside: float = 1.0
    """γ by default for rows and elements"""
    granularity: str = "model"
    """its blocks by default"""
    granularities: tuple[str, ...] | None = None
    """those that it has a form for; None: all"""
    descends_on_retain: bool = False
    """whether its g descends along r of its own accord, so that u should be the gradient of forgetting alone"""

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of the rule's own settings."""
        if self.make_rule is None:
            return ()
        return tuple(signature(self.make_rule).parameters)


FAMILY = {
    "gru": Member(lambda: gru, solver=cone, in_update_space=True, weight_of_whole=0.8, weight_inside=0.4),
    "cosine-clip": Member(lambda: cosine_clip, in_update_space=True, weight_of_whole=0.8, weight_inside=0.4),
    "pcgrad": Member(lambda weight=1.0: partial(pcgrad, weight=weight), descends_on_retain=True),
    "ngdiff": Member(lambda: ngdiff, descends_on_retain=True),
    "pdu": Member(PrimalDual, descends_on_retain=True),
    "sago": Member(lambda weight=1.0: partial(sago, weight=weight), granularity="element", descends_on_retain=True),
    "hamu": Member(
        lambda constraint=0.5: partial(hamu, constraint=constraint),
        granularity="tensor",
        granularities=("tensor",),
        descends_on_retain=True,
    ),
    "free": Member(lambda: free, in_update_space=True),
    # Geometric-disentanglement unlearning (arXiv 2511.17100): off the span of the last K retain gradients, in the
    # metric of the optimizer's preconditioner H: g = (I − U(UᵀHU)⁻¹UᵀH) u, as in its authors' published description.
    "gu": Member(None, solver=subspace, in_optimizer_metric=True),
}
"""Name → what it can do."""


def names_of(can: Callable[[Member], bool]) -> str:
    """The members that can do something: ``gru, cosine-clip and free``."""
    *most, last = (name for name, member in FAMILY.items() if can(member))
    if not most:
        return last
    return f"{', '.join(most)} and {last}"
