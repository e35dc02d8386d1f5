"""Which of a model's weights a patch can carry, and in which form."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from gru_unlearn.models.loading import empty_model
from gru_unlearn.task_vectors import Checkpoint
from gru_unlearn.task_vectors.difference import Difference, Matrices, spellings


@dataclass(frozen=True, slots=True)
class Patchable:
    """What a run changed of its original, by what a patch can do with it."""

    difference: Difference
    linear: dict[str, str]
    """tensor → module, of linear layers that changed: LoRA's"""
    all_linear: tuple[str, ...]
    """modules, whether changed or not"""
    embedding: tuple[str, str] | None
    """tensor and module of the token embeddings, if they changed: rows of tokens"""
    rest: tuple[str, ...]
    """tensors that changed and cannot be carried: norms, biases, learned positions, experts in one tensor"""
    norms: dict[str, float]
    """tensor → ‖ΔW‖², of all that changed"""
    transposed: dict[str, bool]
    """tensor of a linear layer → whether it is stored as [in, out]"""

    @property
    def matrices(self) -> Matrices:
        """Of the linear layers."""
        norms = {tensor: self.norms[tensor] for tensor in self.linear}
        return Matrices(self.difference, self.transposed, norms)

    def share(self, *tensors: str) -> float:
        """Of ‖ΔW‖² of the whole model, what these tensors have."""
        return sum(self.norms[tensor] for tensor in tensors) / (sum(self.norms.values()) or 1.0)


def look_through(original: Path, run: Path, *, trust_remote_code: bool) -> Patchable:
    """Read every tensor of both once, one after the other.

    Raises:
        UserError: they do not hold the same tensors.
        NonFiniteError: a weight is not finite.
    """
    model = empty_model(run, trust_remote_code)
    prefix = model.base_model_prefix
    difference = Difference.between(Checkpoint.open(original), Checkpoint.open(run), prefix, list(_tied(model)))
    norms = {}
    for tensor in difference.names:
        norm = difference.squared_norm(tensor)
        if norm:
            norms[tensor] = norm
    layers = linear_layers(model)
    linear = _tensors_of(layers, norms, prefix)
    embeddings = {name: module for name, module in model.named_modules() if module is model.get_input_embeddings()}
    embedding = next(iter(_tensors_of(embeddings, norms, prefix).items()), None)
    carried = {*linear, *(embedding or ())}
    return Patchable(
        difference=difference,
        linear=linear,
        all_linear=tuple(layers),
        embedding=embedding,
        rest=tuple(name for name in norms if name not in carried),
        norms=norms,
        transposed={tensor: isinstance(layers[module], Conv1D) for tensor, module in linear.items()},
    )


def linear_layers(model: nn.Module) -> dict[str, nn.Linear | Conv1D]:
    """Name → module, of all that LoRA may stand beside."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}


def _tied(model: Any) -> Iterator[str]:
    """Names of a head that is the token embeddings once more."""
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head is not None and (head.weight is table.weight or model.config.get_text_config().tie_word_embeddings)
    for name, module in model.named_modules():
        if is_tied and module is head:
            yield f"{name}.weight"


def _tensors_of(modules: Iterable[str], among: dict[str, float], prefix: str) -> dict[str, str]:
    """Tensor in the files → module, of modules whose weight is among these tensors."""
    found = {}
    for module in modules:
        for name in spellings(f"{module}.weight", prefix):
            if name in among:
                found[name] = module
    return found
