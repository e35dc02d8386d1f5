"""What objectives and retain losses ask for by name (see :mod:`gru_unlearn.objectives`), from model and batch."""

import re
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from gru_unlearn.common.modules import text_config
from gru_unlearn.data import Batch
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import gather_logps, supervised_logits, supervised_positions
from gru_unlearn.objectives.token_logps import computed_only_at, supervised_targets
from gru_unlearn.training.config import UnlearningConfig

Reference = Callable[[], AbstractContextManager[nn.Module]]
"""Opens the model as it was before unlearning."""

FROM_REFERENCE_MODEL = frozenset({"reference_logits", "reference_hidden"})
"""Inputs that need that model beside the trained one; its log-probabilities are scored once, before the first step."""

FROM_FORWARD_PASS = frozenset({"logps", "mask", "logits", "targets", "hidden"})
"""Inputs that a forward pass of the trained model gives."""

FROM_PASS_OVER_ALTERNATIVES = frozenset({"alternative_logps", "alternative_mask"})
"""Those that one over the alternatives gives."""

FROM_ALTERNATIVES = FROM_PASS_OVER_ALTERNATIVES | {"alternative_reference"}


class Inputs:
    """Makes the inputs of objectives and retain losses for one run.

    Args:
        reference: opens the model before unlearning.
        module: name of the module whose output is ``hidden``, a regular expression for the end of its name.
        direction: unit vector [H], for objectives that ask for it.

    Attributes:
        hide_padding: pass the attention mask on. Off where nothing would change, see :mod:`shortcuts`.
        last_mlp: a module to compute only where a supervised token is predicted, likewise.
    """

    def __init__(self, reference: Reference, module: str | None = None, direction: Tensor | None = None) -> None:
        self.reference, self.module, self.direction = reference, module, direction
        self.hide_padding = True
        self.last_mlp: nn.Module | None = None

    def __call__(self, names: Set[str], model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The named inputs for one batch, with gradients where they depend on the model."""
        carried = cast(Mapping[str, Tensor], batch)
        found = {name: carried[name] for name in names & batch.keys()}
        if names & FROM_FORWARD_PASS:
            found |= self._outputs(names, model, batch)
        if names & FROM_REFERENCE_MODEL:
            wanted = {name.removeprefix("reference_") for name in names & FROM_REFERENCE_MODEL}
            with torch.no_grad(), self.reference() as before:
                found |= _prefixed("reference_", self._outputs(wanted, before, batch))
        if names & FROM_PASS_OVER_ALTERNATIVES:
            found |= _prefixed("alternative_", self._outputs({"logps", "mask"}, model, batch["alternative"]))
        if "direction" in names and self.direction is not None:
            found["direction"] = self.direction
        return {name: found[name] for name in names}

    def _outputs(self, names: Set[str], model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One forward pass: what it gives of logps, mask, logits, targets and hidden."""
        labels, where = batch["labels"], batch.get("supervised") or supervised_positions(batch["labels"])
        attention_mask = batch["attention_mask"] if self.hide_padding else None
        wants_hidden = "hidden" in names  # may be read anywhere, so everything is computed then
        trimmed: AbstractContextManager[None] = nullcontext()
        if self.last_mlp is not None and not wants_hidden:
            trimmed = computed_only_at(self.last_mlp, where["predicting"])
        with trimmed, _output_of(model, self.module if wants_hidden else None) as seen:
            logits = supervised_logits(model, batch["input_ids"], attention_mask, labels, where)
        found = {"logits": logits, "targets": supervised_targets(labels, where)}
        if names & {"logps", "mask"}:
            found["logps"], found["mask"] = gather_logps(logits, labels, where)
        if wants_hidden:
            found["hidden"] = seen[0].flatten(0, 1).index_select(0, where["tokens"])
        return {name: found[name] for name in names & found.keys()}


def passes_of(names: Set[str]) -> int:
    """How often a row passes through a model at a step: itself, its alternative, and through the reference model."""
    kinds = (FROM_FORWARD_PASS, FROM_PASS_OVER_ALTERNATIVES, FROM_REFERENCE_MODEL)
    return sum(bool(names & kind) for kind in kinds)


def _prefixed(prefix: str, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": output for name, output in outputs.items()}


def inputs_for(model: Any, args: UnlearningConfig, needs: Set[str], reference: Reference) -> Inputs:
    """What makes the named inputs for a model, as a configuration says.

    Raises:
        UserError: the model has no module, or several, that ``args.hidden_module`` could mean.
    """
    module, direction, config = None, None, text_config(model)
    if needs & {"hidden", "reference_hidden"}:
        module = args.hidden_module or default_module(config.num_hidden_layers)
        find_module(model, module)
    if "direction" in needs:
        direction = random_direction(config.hidden_size, args.seed, args.device)
    return Inputs(reference, module, direction)


def default_module(layers: int) -> str:
    """The layer whose output RMU steers, as deep in the model as layer 7 is in the paper's 32 (arXiv 2403.03218)."""
    return rf"layers\.{round(7 / 32 * layers)}"


def find_module(model: nn.Module, pattern: str) -> nn.Module:
    """The one module whose dotted name ends in a match of a regular expression.

    Raises:
        UserError: none does, or several do.
    """
    ending = _compiled(rf"(?:^|.*\.)(?:{pattern})$", f"hidden_module {pattern!r}")
    names = [name for name, _ in model.named_modules() if name]
    found = [name for name in names if ending.match(name)]
    if not found:
        raise UserError(
            f"hidden_module {pattern!r} matches no module; there are, for example, {', '.join(names[-3:])}: name one"
        )
    if len(found) > 1:
        some = ", ".join(found[:3])
        raise UserError(f"hidden_module {pattern!r} matches {len(found)} modules, such as {some}: name one")
    return model.get_submodule(found[0])


def train_only(model: nn.Module, pattern: str) -> None:
    """Freeze every parameter whose name has no match of a regular expression.

    Raises:
        UserError: no trainable parameter is left, or the pattern is no regular expression.
    """
    wanted = _compiled(pattern, f"trainable_params {pattern!r}")
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not any(wanted.search(name) for name in trained):
        some = next(iter(trained))
        raise UserError(f"trainable_params {pattern!r} matches no parameter; there are, for example, {some}")
    for name, parameter in trained.items():
        parameter.requires_grad_(bool(wanted.search(name)))


def _compiled(pattern: str, what: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"{what} is not a regular expression ({error})") from None


def random_direction(size: int, seed: int, device: torch.device) -> Tensor:
    """RMU's fixed random unit vector [size]: components drawn uniformly from [0, 1), as in its authors' code."""
    vector = torch.rand(size, generator=torch.Generator().manual_seed(seed))
    return (vector / vector.norm()).to(device)


@contextmanager
def _output_of(model: nn.Module, module: str | None) -> Iterator[list[Tensor]]:
    """Inside, the module's outputs [B, L, H] are noted in the list."""
    seen: list[Tensor] = []
    if module is None:
        yield seen
        return

    def note(_module: nn.Module, _args: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    hook = find_module(model, module).register_forward_hook(note)
    try:
        yield seen
    finally:
        hook.remove()
