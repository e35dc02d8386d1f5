"""What to do with conflicting gradients, as a value and as one word: ``gru``, ``gru/element/update``, ``pcgrad``."""

from collections.abc import Callable
from dataclasses import dataclass

from gru_unlearn.geometry.blocks import GRANULARITIES
from gru_unlearn.geometry.rules import PrimalDual, Rule, cosine_clip, gru, ngdiff, pcgrad

SPACES = ("gradient", "update")

RULES: dict[str, Callable[[], Rule]] = {
    "gru": lambda: gru,
    "cosine-clip": lambda: cosine_clip,
    "pcgrad": lambda: pcgrad,
    "ngdiff": lambda: ngdiff,
    "pdu": PrimalDual,
}
"""Name → a rule, made anew because some keep a state. ``gu`` projects on a subspace and is no rule of this kind."""

SUBSPACE = "gu"
"""Geometric-disentanglement unlearning (arXiv 2511.17100): off the span of the last K retain gradients, in the metric
of the optimizer's preconditioner H: g = (I − U(UᵀHU)⁻¹UᵀH) u, as in its authors' published description."""

RECOMMENDED = "gru/element/update"
"""What ``recommended`` stands for, if you do not know what to choose; the evidence is in docs/results.md. The trainer
adds to it that four times as many retain as forget examples make a step."""

NAMES = ("none", "recommended", *RULES, SUBSPACE)


@dataclass(frozen=True, slots=True)
class Rectification:
    """Rule, granularity, space and memory, chosen independently of the objective.

    Args:
        rule: name among :data:`NAMES` except none and recommended, or a rule of your own (see :mod:`rules`).
        granularity: the blocks that are rectified one by one, see :mod:`blocks`.
        space: ``gradient`` rectifies u before the optimizer sees it; ``update`` rectifies the optimizer's displacement,
            so that ⟨Δθ_b, r_b⟩ ≤ 0 holds for what really happens to the weights, whatever momentum, preconditioner,
            weight decay and clipping made of the gradient.
        memory: 1, r is the smoothed retain gradient; K, the gradients of the last K steps are held, and u is
            projected on the cone of directions that none of them forbids (see :mod:`cone`).

    Raises:
        ValueError: an unknown name, or a combination that does not exist.
    """

    rule: str | Rule = "gru"
    granularity: str = "model"
    space: str = "gradient"
    memory: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.rule, str) and self.rule not in (*RULES, SUBSPACE):
            raise ValueError(f"unknown rectification {self.rule!r}: one of {', '.join(NAMES)}")
        if self.granularity not in GRANULARITIES:
            raise ValueError(f"unknown granularity {self.granularity!r}: one of {', '.join(GRANULARITIES)}")
        if self.space not in SPACES:
            raise ValueError(f"unknown space {self.space!r}: one of {', '.join(SPACES)}")
        if self.memory < 1:
            raise ValueError(f"memory must be at least 1, got {self.memory}")
        if self.space == "update" and self.rule not in ("gru", "cosine-clip"):
            raise ValueError(f"{self} has no form: only gru and cosine-clip work in update space")
        if self.memory > 1 and self.rule not in ("gru", SUBSPACE):
            raise ValueError(f"{self} has no form: only gru and gu have a memory")
        if self.holds_several and self.granularity in ("row", "element"):
            raise ValueError(f"memory {self.memory} works on whole tensors: granularity model, layer or tensor")

    @property
    def holds_several(self) -> bool:
        """Whether the last gradients themselves are held, instead of their smoothed sum."""
        return self.memory > 1 or self.rule == SUBSPACE

    def __str__(self) -> str:
        parts = [self.rule if isinstance(self.rule, str) else getattr(self.rule, "__name__", type(self.rule).__name__)]
        parts += [self.granularity] if self.granularity != "model" else []
        parts += [self.space] if self.space != "gradient" else []
        parts += [f"memory={self.memory}"] if self.memory > 1 else []
        return "/".join(parts)


def parse_rectification(text: str) -> Rectification | None:
    """``RULE[/GRANULARITY][/SPACE][/memory=K]`` → its value; None for ``none``.

    Raises:
        ValueError: an unknown part, with what there is.
    """
    if text == "none":
        return None
    rule, *parts = (RECOMMENDED if text == "recommended" else text).split("/")
    if rule in ("none", "recommended"):
        raise ValueError(f"rectification {text!r}: {rule!r} stands alone, without granularity, space or memory")
    choices: dict[str, str | int] = {}
    for part in parts:
        if part in GRANULARITIES:
            name, value = "granularity", part
        elif part in SPACES:
            name, value = "space", part
        elif part.startswith("memory=") and part.removeprefix("memory=").isdecimal():
            name, value = "memory", part.removeprefix("memory=")
        else:
            raise ValueError(
                f"unknown part {part!r} in rectification {text!r}: after the name come a granularity "
                f"({', '.join(GRANULARITIES)}), a space ({', '.join(SPACES)}) and memory=K"
            )
        if name in choices:
            raise ValueError(f"rectification {text!r} names its {name} twice")
        choices[name] = int(value) if name == "memory" else value
    return Rectification(rule, **choices)  # type: ignore[arg-type]


def default_gradient_weight(rectification: Rectification) -> float:
    """γ: 0.8 as published for GRU on whole tensors; 0.4 for rows and elements, whose signs need more smoothing
    (docs/results.md); 1, no smoothing, for the rules of others."""
    if rectification.rule not in ("gru", "cosine-clip"):
        return 1.0
    return 0.4 if rectification.granularity in ("row", "element") else 0.8
