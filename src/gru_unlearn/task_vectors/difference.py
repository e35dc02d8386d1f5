"""What a run changed of its original, matrix by matrix: both stay on the disk."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.task_vectors.checkpoint import Checkpoint
from gru_unlearn.task_vectors.low_rank import LowRank, low_rank, relative_error, squared_error

RANKS = (8, 16, 32, 64, 128, 256, 512)
"""From which a rank is chosen: those that servers of LoRA can be set to."""


def spellings(name: str, prefix: str) -> tuple[str, ...]:
    """How a tensor or module may be named in files: models with a head and without one differ by a prefix."""
    return name, f"{prefix}.{name}", name.removeprefix(f"{prefix}.")


@dataclass(frozen=True, slots=True)
class Difference:
    """ΔW = W of the run − W of its original."""

    original: Checkpoint
    run: Checkpoint
    names: dict[str, str]
    """tensor in the run's files → in the original's"""

    @classmethod
    def between(cls, original: Checkpoint, run: Checkpoint, prefix: str, tied: Collection[str]) -> "Difference":
        """Of two models of one architecture.

        Args:
            original: the model before.
            run: the model after.
            prefix: that one of them may name its tensors with, and the other without.
            tied: tensors that are others under a second name, which are passed over.

        Raises:
            UserError: they do not hold the same tensors.
        """
        names = {}
        for name, shape in run.shape_of.items():
            if name in tied:
                continue
            found = next((one for one in spellings(name, prefix) if one in original.shape_of), None)
            if found is None or original.shape_of[found] != shape:
                raise UserError(
                    f"--patch: {name} of the run's model is not in {original.folder}, or has another shape there: "
                    "export the whole model"
                )
            names[name] = found
        if missing := sorted(set(original.shape_of) - set(names.values()) - set(tied)):
            raise UserError(f"--patch: the run's model lacks {missing[0]} of {original.folder}: export the whole model")
        return cls(original, run, names)

    def of(self, tensor: str, *, transposed: bool = False) -> Tensor:
        """ΔW of a tensor, float32, on the GPU where there is one.

        Raises:
            NonFiniteError: it is not finite.
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        before, after = self.original.read(self.names[tensor]), self.run.read(tensor)
        change = after.to(device, torch.float32) - before.to(device, torch.float32)
        if not change.isfinite().all():
            raise NonFiniteError(f"{tensor}: the run or its original has weights that are not finite")
        return change.T if transposed else change

    def squared_norm(self, tensor: str) -> float:
        """‖ΔW‖²."""
        return float(self.of(tensor).double().square().sum())


@dataclass(frozen=True, slots=True)
class Matrices:
    """Changed matrices as one: [out, in] each, by their tensors' names."""

    difference: Difference
    transposed: dict[str, bool]
    """tensor → whether it is stored as [in, out]"""
    norms: dict[str, float]
    """tensor → ‖ΔW‖²"""

    def near(self, tensor: str, rank: int) -> tuple[LowRank, float]:
        """The nearest one of that rank, and its squared error."""
        change = self.difference.of(tensor, transposed=self.transposed[tensor])
        factors = low_rank(change, rank)
        return factors, squared_error(change, factors)

    def error(self, rank: int, at_most: float = float("inf")) -> float:
        """Relative error of all at a rank; infinite as soon as it must be larger than ``at_most``."""
        limit = at_most**2 * sum(self.norms.values())
        errors: list[float] = []
        for tensor in self.norms:
            errors.append(self.near(tensor, rank)[1])
            if sum(errors) > limit:
                return float("inf")
        return relative_error(errors, self.norms.values())


def rank_for(matrices: Matrices, error: float, ranks: Sequence[int] = RANKS) -> int:
    """The smallest rank at which the relative error is no larger than ``error``.

    Raises:
        UserError: none is.
    """
    for rank in ranks:
        if matrices.error(rank, error) <= error:
            return rank
    found = matrices.error(ranks[-1])
    raise UserError(
        f"--patch-error {error:g}: at rank {ranks[-1]}, the largest that is tried, {found:.2g} of the change is left "
        "out: pass a larger --patch-error, a --patch-rank, or export the whole model"
    )
