"""The norm of the gradient that one row would cause: small for rows that a model was trained on (arXiv 2402.17012).

One backward pass per row gives it (:func:`gradient_norm`). For a batch of rows one pass is enough, as long as it keeps
each layer's inputs x and output gradients d: a row's gradient of a weight is G = dᵀx, and ‖G‖² is the sum of the
elementwise product of the Gram matrices d dᵀ and x xᵀ (Goodfellow, arXiv 1510.01799). G itself is never formed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gru_unlearn.common.modules import output_head, trying
from gru_unlearn.data import Example, pad_examples
from gru_unlearn.evaluation.table import Entry
from gru_unlearn.evaluation.tasks import Task
from gru_unlearn.objectives import IGNORE_INDEX, token_logps
from gru_unlearn.objectives.token_logps import forward_at

AnswerSpan = tuple[Sequence[int], slice]
"""Token ids of prompt and answer, and the answer tokens to take the cross-entropy over."""


class ModuleCall(NamedTuple):
    """One call of a module that owns parameters: its first argument and its output, tensors as a rule."""

    module: nn.Module
    input: Any
    output: Any


class PassedBack(NamedTuple):
    """The same call after the backward pass, with a row for each example."""

    module: nn.Module
    input: Any
    gradient: Tensor
    """of the loss by the call's output"""


def task_gradient_norms(
    model: nn.Module, tasks: Sequence[Task], entries: Mapping[int, Entry], batch_size: int, pad_token_id: int
) -> Iterator[tuple[int, float]]:
    """(index of a task that wants it, its gradient norm). Batches are a quarter of those without a backward pass."""
    at_once, together = max(1, batch_size // 4), True
    wanted = [number for number, task in enumerate(tasks) if task.gradnorm]
    wanted.sort(key=lambda number: len(tasks[number].ids), reverse=True)
    for i in range(0, len(wanted), at_once):
        batch = wanted[i : i + at_once]
        spans = [_answer_span(tasks[number]) for number in batch]
        if i == 0:
            together = _is_right_together(model, spans, pad_token_id)
        if together:
            norms = gradient_norms(model, spans, pad_token_id)
        else:
            norms = [gradient_norm(model, span) for span in spans]
        yield from zip(batch, norms, strict=True)


def _is_right_together(model: nn.Module, rows: Sequence[AnswerSpan], pad_token_id: int) -> bool:
    """Whether the rows' gradient norms of one backward pass are those by themselves: tried on the shortest, which has
    the most padding."""
    norms = _batched_if_possible(model, rows, pad_token_id)
    if norms is None:
        return False
    shortest = min(range(len(rows)), key=lambda number: len(rows[number][0]))
    rounding = 0.01 if next(model.parameters()).dtype == torch.float32 else 0.1
    return math.isclose(norms[shortest], gradient_norm(model, rows[shortest]), rel_tol=rounding)


def _answer_span(task: Task) -> AnswerSpan:
    """The answer's tokens, without those that close it."""
    return task.ids, slice(task.start, len(task.ids) - task.closing)


def gradient_norms(model: nn.Module, rows: Sequence[AnswerSpan], pad_token_id: int) -> list[float]:
    """:func:`gradient_norm` of each row of a batch: in one backward pass where the model's modules allow it."""
    norms = _batched_if_possible(model, rows, pad_token_id)
    if norms is None:
        return [gradient_norm(model, row) for row in rows]
    return norms


def _batched_if_possible(model: nn.Module, rows: Sequence[AnswerSpan], pad_token_id: int) -> list[float] | None:
    with trying("one backward pass for the gradient norms of several rows"):
        return _batched(model, rows, pad_token_id)
    return None


def gradient_norm(model: nn.Module, row: AnswerSpan) -> float:
    """Mean over the trainable parameter tensors of the 2-norm of the gradient of one answer's mean cross-entropy.

    A tensor used twice (tied embeddings) counts once. Leaves ``.grad`` as it was.
    """
    batch = _batch([row], 0, next(model.parameters()).device)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        logps, _ = token_logps(model, **batch)
        gradients = torch.autograd.grad(-logps.mean(), parameters, allow_unused=True)
    norms = torch._foreach_norm([gradient for gradient in gradients if gradient is not None])
    return float(torch.stack([norm.float() for norm in norms]).mean())


def _batch(rows: Sequence[AnswerSpan], pad_token_id: int, device: torch.device) -> dict[str, Any]:
    examples: list[Example] = []
    for ids, answer in rows:
        labels = [IGNORE_INDEX] * len(ids)
        labels[answer] = ids[answer]
        examples.append({"input_ids": list(ids), "labels": labels})
    return {name: value.to(device) for name, value in pad_examples(examples, pad_token_id).items()}


def _batched(model: nn.Module, rows: Sequence[AnswerSpan], pad_token_id: int) -> list[float] | None:
    """The norms by Gram matrices; None if some module does not keep the rows apart along its first dimension."""
    calls = _passed_back(model, rows, pad_token_id)
    if calls is None:
        return None

    by_parameter: dict[nn.Parameter, list[PassedBack]] = {}
    for call in calls:
        for parameter in _own_parameters(call.module):
            by_parameter.setdefault(parameter, []).append(call)
    trainable = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    if trainable > set(map(id, by_parameter)):
        return None  # parameters that no recorded module owns

    norms = [_row_norms(parameter, its_calls) for parameter, its_calls in by_parameter.items()]
    return torch.stack(norms).mean(dim=0).tolist()


def _passed_back(model: nn.Module, rows: Sequence[AnswerSpan], pad_token_id: int) -> list[PassedBack] | None:
    """All calls of one forward and one backward pass over a batch; None if some module mixes its rows."""
    batch = _batch(rows, pad_token_id, next(model.parameters()).device)
    targets = F.pad(batch.pop("labels")[:, 1:], (0, 1), value=IGNORE_INDEX)  # [B, L]
    predicts = targets != IGNORE_INDEX
    lengths = predicts.sum(dim=1).tolist()
    with torch.enable_grad(), _recorded(model) as calls:
        logits: Tensor = forward_at(model, predicts, **batch, use_cache=False).logits[0]  # [N, V]
        losses = F.cross_entropy(logits.float(), targets[predicts], reduction="none")
        loss = torch.stack([row.mean() for row in losses.split(lengths)]).sum()
    if not all(isinstance(call.output, Tensor) for call in calls):  # such as a router's
        return None
    gradients = torch.autograd.grad(loss, [call.output for call in calls])

    found = []
    for call, gradient in zip(calls, gradients, strict=True):
        if call.module is output_head(model):
            found.append(PassedBack(call.module, _in_rows(call.input, lengths), _in_rows(gradient, lengths)))
        elif _keeps_rows_apart(call, len(rows)):
            found.append(PassedBack(call.module, call.input, gradient))
        else:
            return None
    return found


def _in_rows(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """What the head received or gave, [1, N, n], with a row for each example and zeros behind: [B, T, n]."""
    return nn.utils.rnn.pad_sequence(values[0].split(lengths), batch_first=True)


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[ModuleCall]]:
    """Inside, calls of modules with trainable parameters of their own are noted in the list."""
    calls: list[ModuleCall] = []

    def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        calls.append(ModuleCall(module, args[0].detach() if args else None, output))

    hooks = [module.register_forward_hook(record) for module in model.modules() if _own_parameters(module)]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]


def _keeps_rows_apart(call: ModuleCall, rows: int) -> bool:
    return all(
        isinstance(value, Tensor) and value.dim() > 1 and len(value) == rows for value in (call.input, call.output)
    )


def _row_norms(parameter: nn.Parameter, calls: Sequence[PassedBack]) -> Tensor:
    """2-norm of the parameter's gradient in each row, [B], float32."""
    factors = [_factors(call, parameter) for call in calls]
    known = [factor for factor in factors if factor is not None]
    if len(known) == len(factors):
        squares = sum(_inner_products(one, other) for one, other in product(known, known))
        return torch.as_tensor(squares).clamp(min=0).sqrt()

    rows = len(calls[0].gradient)
    gradients = [_row_gradient(calls, parameter, row) for row in range(rows)]
    return torch.stack([gradient.float().norm() for gradient in gradients])


def _factors(call: PassedBack, parameter: nn.Parameter) -> tuple[Tensor, Tensor] | None:
    """A [B, T, out] and C [B, T, in] with AᵀC the row's gradient of a weight [out, in]; None if it is no such weight.

    An embedding maps one-hot vectors; its A is given by their indices, [B, T].
    """
    module = call.module
    if type(module) is nn.Linear and parameter is module.weight:
        return call.gradient.float(), call.input.float()
    if type(module) is not nn.Embedding:
        return None
    gradient = call.gradient.float()
    if module.padding_idx is not None:  # padding's row of the weight gets no gradient
        counts = call.input != module.padding_idx
        gradient = gradient * counts.to(gradient.device)[..., None]
    return call.input, gradient


def _inner_products(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Of AᵀC of one call and AᵀC of another, in each row: [B]."""
    (a, c), (b, d) = one, other
    return (_gram(a, b) * _gram(c, d)).sum(dim=(1, 2))


def _gram(a: Tensor, b: Tensor) -> Tensor:
    """All inner products within a row, [B, T, S], of vectors [B, T, n] and [B, S, n], or of indices of one-hot ones."""
    if a.is_floating_point() and b.is_floating_point():
        return a @ b.mT
    if a.is_floating_point():
        return _gram(b, a).mT
    if b.is_floating_point():
        return b.mT.gather(1, a[..., None].expand(-1, -1, b.shape[1]))
    return (a[:, :, None] == b[:, None, :]).float()


def _row_gradient(calls: Sequence[PassedBack], parameter: nn.Parameter, row: int) -> Tensor:
    """The gradient of any parameter in one row, by running its modules once more."""
    one = slice(row, row + 1)
    total: Any = 0
    for call in calls:
        with torch.enable_grad():
            output: Tensor = call.module(call.input[one])
        total = total + torch.autograd.grad(output, parameter, call.gradient[one])[0]
    return total
