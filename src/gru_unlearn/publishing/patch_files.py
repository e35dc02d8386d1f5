"""A patch as files that PEFT loads: LoRA factors of linear layers, and rows of token embeddings."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from gru_unlearn.models.locating import ADAPTER_WEIGHTS
from gru_unlearn.publishing.patch_parts import Patchable
from gru_unlearn.task_vectors.low_rank import largest_rows, relative_error

PREFIX = "base_model.model."
"""PEFT's, before the names of modules."""


@dataclass(frozen=True, slots=True)
class Factors:
    """The linear layers of a patch."""

    rank: int
    error: float
    """relative, of all as one"""
    tensors: dict[str, Tensor]
    """as PEFT names them"""


@dataclass(frozen=True, slots=True)
class Rows:
    """The token embeddings of a patch: some rows of the table."""

    numbers: list[int]
    error: float
    """relative, of the table"""
    tensors: dict[str, Tensor]


def factors_of(parts: Patchable, rank: int) -> Factors:
    """Of every linear layer that changed. Memory: all factors, and one matrix with what its decomposition takes."""
    matrices, tensors, errors = parts.matrices, {}, []
    for tensor, module in parts.linear.items():
        near, error = matrices.near(tensor, rank)
        errors.append(error)
        tensors[f"{PREFIX}{module}.lora_A.weight"] = near.down.cpu().contiguous()
        tensors[f"{PREFIX}{module}.lora_B.weight"] = near.up.cpu().contiguous()
    return Factors(rank, relative_error(errors, matrices.norms.values()), tensors)


def rows_of(parts: Patchable, error: float) -> Rows | None:
    """The rows of tokens that changed most, as they are after the run; None where no row changed.

    Args:
        parts: what changed.
        error: relative, of the table, at most.
    """
    if parts.embedding is None:
        return None
    tensor, module = parts.embedding
    change = parts.difference.of(tensor).cpu()
    numbers = largest_rows(change, error)
    left = max(0.0, parts.norms[tensor] - float(change[numbers].double().square().sum()))
    tensors = {f"{PREFIX}{module}.token_adapter.trainable_tokens_delta": parts.difference.run.read(tensor)[numbers]}
    return Rows(numbers.tolist(), relative_error([left], [parts.norms[tensor]]), tensors)


def write_patch(parts: Patchable, factors: Factors, rows: Rows | None, out: Path) -> None:
    """Adapter weights and their configuration, which names no base, into a folder that is there."""
    tensors = factors.tensors | (rows.tensors if rows is not None else {})
    save_file(tensors, out / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    _write_configuration(parts, factors.rank, rows, out)


def _write_configuration(parts: Patchable, rank: int, rows: Rows | None, out: Path) -> None:
    """With α = rank, so that factors are added as they are, and one rank for all layers: vLLM takes one scale for all
    of them, and a GGUF adapter has one α."""
    from peft import LoraConfig  # noqa: PLC0415 - slow to import

    tokens = None
    if rows is not None and parts.embedding is not None:
        tokens = {parts.embedding[1]: rows.numbers}
    LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=_targets(parts.linear.values(), parts.all_linear),
        fan_in_fan_out=any(parts.transposed.values()),
        trainable_token_indices=tokens,
        task_type="CAUSAL_LM",
        inference_mode=True,
    ).save_pretrained(str(out))


def _targets(changed: Collection[str], every: Collection[str]) -> list[str]:
    """The last parts of the modules' names if they mean these modules alone, else the whole names."""
    short = {module.rpartition(".")[2] for module in changed}
    meant = {module for module in every if module.rpartition(".")[2] in short}
    return sorted(short if meant == set(changed) else changed)
