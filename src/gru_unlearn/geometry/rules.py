"""Rules: what becomes of the forget gradient u in the light of the retain direction r, block by block.

A rule maps a :class:`Conflict` (⟨u, r⟩, ‖u‖ and ‖r‖ of each block) to two factors (a, b), numbers or tensors of the
blocks' shape, and the rectified gradient is g = a·u + b·r. A rule of your own is any callable like that. If it has a
method ``observe(retain_loss)``, the trainer tells it each step's retain loss; with ``state_dict`` and
``load_state_dict`` its state is kept in checkpoints.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gru_unlearn.geometry.closed_form import NEGLIGIBLE, Conflict, quotient
from gru_unlearn.geometry.products import Factor

Rule = Callable[[Conflict], tuple[Factor, Factor]]

_PARALLEL = 1e-6
"""sin²(u, r) below which the two point along one line: what float32 inner products leave of it is their rounding."""


def gru(conflict: Conflict) -> tuple[Factor, Factor]:
    """Gradient rectified unlearning: u without its component against r (arXiv 2503.09117, section 4).

    Guarantees ⟨g, r⟩ ≥ 0 in every block, with the least change of u.
    """
    return 1.0, -conflict.coefficient


def free(conflict: Conflict) -> tuple[Factor, Factor]:
    """g = u: nothing is taken away, and conflicts are measured all the same. For what the metric of retention turns."""
    return 1.0, 0.0


def cosine_clip(conflict: Conflict, least_cosine: float = -0.5) -> tuple[Factor, Factor]:
    """The closed form with cos(u, r) raised to ``least_cosine`` where it is lower, as in the GRU authors' code.

    Never takes away more than half of ‖u‖; ⟨g, r⟩ ≥ 0 holds only where cos(u, r) ≥ ``least_cosine``.
    """
    cosine = quotient(quotient(conflict.dot, conflict.forget_norm), conflict.retain_norm).clamp(least_cosine, 0)
    return 1.0, -cosine * quotient(conflict.forget_norm, conflict.retain_norm)


def pcgrad(conflict: Conflict, weight: float = 1.0) -> tuple[Factor, Factor]:
    """Symmetric projection: u without its component against r, plus ``weight`` · r without its component against u.

    Guarantees ⟨g, r⟩ ≥ 0 and ⟨g, u⟩ ≥ 0. Source: Yu et al., arXiv 2001.06782, algorithm 1, for two tasks; the weight
    is that of the retain loss.
    """
    of_u = quotient(quotient(conflict.dot.clamp(max=0), conflict.forget_norm), conflict.forget_norm)
    return 1.0 - weight * of_u, weight - conflict.coefficient


def ngdiff(conflict: Conflict) -> tuple[Factor, Factor]:
    """Normalised gradient difference: u/‖u‖ + r/‖r‖ (Bu et al., arXiv 2410.22086), where u descends on forgetting.

    Guarantees ⟨g, r⟩ ≥ 0 and ⟨g, u⟩ ≥ 0. The paper's automatic learning rate is not part of it.
    """
    one = torch.ones_like(conflict.dot)
    return quotient(one, conflict.forget_norm), quotient(one, conflict.retain_norm)


def sago(conflict: Conflict, weight: float = 1.0) -> tuple[Factor, Factor]:
    """Sign-aligned synthesis: ``weight`` · r where ⟨u, r⟩ < 0, else u; meant for single numbers.

    Guarantees ⟨g, r⟩ ≥ 0. Source: arXiv 2604.14808 and its code (``grad_surgery.py``), where the weight is called α;
    it is 1 or 0.1 there.
    """
    against = (conflict.dot < 0).to(conflict.dot.dtype)
    return 1 - against, weight * against


def hamu(conflict: Conflict, constraint: float = 0.5) -> tuple[Factor, Factor]:
    """Hardness-aware step: of all g as long as r, the one that agrees most with r while ⟨g, u⟩ reaches a demand.

    Blocks must be single tensors, because the demand is shared out among them by ‖u_t‖·‖r_t‖, and u and r are taken as
    clipped to norm 1, both as its published scripts do. With c the demand on a tensor over ‖u_t‖·‖r_t‖ there, g_t is

        r_t                                       if cos(u_t, r_t) ≥ c: descending along r forgets enough
        ‖r_t‖ · (c·û_t + √(1 − c²)·(r off u)^_t)  if c < 1, ^ meaning of length 1
        ‖r_t‖ · c·û_t                             if c ≥ 1, where no g of that length reaches the demand

    Guarantees ⟨g, u⟩ ≥ ``constraint`` in total wherever that is possible, and nothing about r where u is much against
    it. Source: arXiv 2606.02119, HAMU-Q in its code (``core.py``), with Q = ``constraint`` · learning rate and
    R = learning rate · ‖r‖, for which the learning rate falls out.
    """
    u, r = (_clipped(norm) for norm in (conflict.forget_norm, conflict.retain_norm))
    wanted = quotient(torch.full_like(u, constraint), (u * r).sum())  # c
    cosine = quotient(quotient(conflict.dot, conflict.forget_norm), conflict.retain_norm).clamp(-1, 1)

    aside = (1 - wanted.square()).clamp(min=0).sqrt()  # of length 1, how much goes along r off u
    sine_squared = 1 - cosine.square()
    off_u = (aside / sine_squared.sqrt()).masked_fill(sine_squared < _PARALLEL, 0.0)
    enough = (cosine >= wanted) | (u <= NEGLIGIBLE)
    along_u = (wanted - off_u * cosine).masked_fill(enough, 0.0)
    along_r = off_u.masked_fill(enough, 1.0)
    return quotient(r * along_u, conflict.forget_norm), quotient(r * along_r, conflict.retain_norm)


def _clipped(norms: Tensor) -> Tensor:
    """Norms of all tensors of a vector after it was clipped to norm 1."""
    return norms / norms.square().sum().sqrt().clamp(min=1)


class PrimalDual:
    """Retain loss as a constraint: g = u + λ·r, λ ← max(0, λ + step · (retain loss − ε)) after each step.

    Source: arXiv 2506.05314 and its code; ε and the step are its ``retain_loss_eps`` and ``dual_step_size``. Its own
    forget loss (flattened logit margins) is not implied: any objective can stand there.
    Guarantees nothing in a single step; holds the retain loss near ε in the long run.

    Args:
        weight: λ at the start: 1 in its code, 100 (TOFU) and 50 (MUSE) in its runs, whose forget loss is that large.
        dual_step_size: 1 in its code, 5 in its runs on TOFU.
        retain_loss_eps: ε; by default twice the first retain loss that is observed. The paper's is (1 + α) times that
            of the target, 0.3 on TOFU.
        warmup_steps: how long λ stays as it is: the first half of its runs on TOFU.
    """

    def __init__(
        self,
        weight: float = 1.0,
        dual_step_size: float = 1.0,
        retain_loss_eps: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        self.weight, self.dual_step_size, self.retain_loss_eps = weight, dual_step_size, retain_loss_eps
        self.warmup_steps = warmup_steps
        self.observed = 0

    def __call__(self, conflict: Conflict) -> tuple[Factor, Factor]:
        """(1, λ) for every block."""
        return 1.0, torch.full_like(conflict.dot, self.weight)

    def observe(self, retain_loss: float) -> None:
        """The dual step."""
        if self.retain_loss_eps is None:
            self.retain_loss_eps = 2 * retain_loss
        self.observed += 1
        if self.observed > self.warmup_steps:
            self.weight = max(0.0, self.weight + self.dual_step_size * (retain_loss - self.retain_loss_eps))

    def state_dict(self) -> dict[str, float | None]:
        """λ, ε, and how many retain losses were observed."""
        return {"weight": self.weight, "retain_loss_eps": self.retain_loss_eps, "observed": self.observed}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Restore :meth:`state_dict`; ε only where it was not set. Version 0.1.0 kept λ alone, and its ε was 0."""
        self.weight = state["weight"] or 0.0
        if self.retain_loss_eps is None:
            self.retain_loss_eps = state.get("retain_loss_eps", 0.0)
        self.observed = int(state.get("observed") or 0)
