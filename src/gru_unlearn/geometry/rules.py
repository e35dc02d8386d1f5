"""Rules: what becomes of the forget gradient u in the light of the retain direction r, block by block.

A rule maps a :class:`Conflict` (⟨u, r⟩, ‖u‖ and ‖r‖ of each block) to two factors (a, b), numbers or tensors of the
blocks' shape, and the rectified gradient is g = a·u + b·r. A rule of your own is any callable like that. If it has a
method ``observe(retain_loss)``, the trainer tells it each step's retain loss; with ``state_dict`` and
``load_state_dict`` its state is kept in checkpoints.
"""

from collections.abc import Callable

import torch

from gru_unlearn.geometry.closed_form import Conflict, quotient
from gru_unlearn.geometry.products import Factor

Rule = Callable[[Conflict], tuple[Factor, Factor]]


def gru(conflict: Conflict) -> tuple[Factor, Factor]:
    """Gradient rectified unlearning: u without its component against r (arXiv 2503.09117, section 4).

    Guarantees ⟨g, r⟩ ≥ 0 in every block, with the least change of u.
    """
    return 1.0, -conflict.coefficient


def cosine_clip(conflict: Conflict, least_cosine: float = -0.5) -> tuple[Factor, Factor]:
    """The closed form with cos(u, r) raised to ``least_cosine`` where it is lower, as in the GRU authors' code.

    Never takes away more than half of ‖u‖; ⟨g, r⟩ ≥ 0 holds only where cos(u, r) ≥ ``least_cosine``.
    """
    cosine = quotient(quotient(conflict.dot, conflict.forget_norm), conflict.retain_norm).clamp(least_cosine, 0)
    return 1.0, -cosine * quotient(conflict.forget_norm, conflict.retain_norm)


def pcgrad(conflict: Conflict) -> tuple[Factor, Factor]:
    """Symmetric projection: u without its component against r, plus r without its component against u.

    Guarantees ⟨g, r⟩ ≥ 0 and ⟨g, u⟩ ≥ 0. Source: Yu et al., arXiv 2001.06782, algorithm 1, for two tasks.
    """
    of_u = quotient(quotient(conflict.dot.clamp(max=0), conflict.forget_norm), conflict.forget_norm)
    return 1.0 - of_u, 1.0 - conflict.coefficient


def ngdiff(conflict: Conflict) -> tuple[Factor, Factor]:
    """Normalised gradient difference: u/‖u‖ + r/‖r‖ (Bu et al., arXiv 2410.22086), where u descends on forgetting.

    Guarantees ⟨g, r⟩ ≥ 0 and ⟨g, u⟩ ≥ 0. The paper's automatic learning rate is not part of it.
    """
    one = torch.ones_like(conflict.dot)
    return quotient(one, conflict.forget_norm), quotient(one, conflict.retain_norm)


class PrimalDual:
    """Retain loss as a constraint: g = u + λ·r, λ ← max(0, λ + step · (retain loss − ε)) after each step.

    Source: arXiv 2506.05314; ε and the step are its ``retain_loss_eps`` and ``dual_step_size``, λ starts at 1 as in its
    published code. Its own forget loss (flattened logit margins) is not implied: any objective can stand there.
    Guarantees nothing in a single step; holds the retain loss near ε in the long run.
    """

    def __init__(self, weight: float = 1.0, dual_step_size: float = 1.0, retain_loss_eps: float = 0.0) -> None:
        self.weight, self.dual_step_size, self.retain_loss_eps = weight, dual_step_size, retain_loss_eps

    def __call__(self, conflict: Conflict) -> tuple[Factor, Factor]:
        """(1, λ) for every block."""
        return 1.0, torch.full_like(conflict.dot, self.weight)

    def observe(self, retain_loss: float) -> None:
        """The dual step."""
        self.weight = max(0.0, self.weight + self.dual_step_size * (retain_loss - self.retain_loss_eps))

    def state_dict(self) -> dict[str, float]:
        """λ."""
        return {"weight": self.weight}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore λ."""
        self.weight = state["weight"]
