"""Does the answer still stand inside? What the layers before the last one know of it.

The logit lens (nostalgebraist, "interpreting GPT: the logit lens", 2020; of deleted facts: Patil et al., arXiv
2309.17410) reads a layer's hidden states as the last layer's are read. A linear probe (Alain and Bengio, arXiv
1610.01644) learns from them which answer belongs to a question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gru_unlearn.attacks.battery import Battery
from gru_unlearn.attacks.probing import NO_QUESTIONS, PROBABILITY, Probed, Variants
from gru_unlearn.attacks.recovery import Floats
from gru_unlearn.common.modules import input_embeddings, output_head
from gru_unlearn.common.sequences import in_parts
from gru_unlearn.data import Record, Turn
from gru_unlearn.data.model_room import ids_of, require_room
from gru_unlearn.evaluation import Missing
from gru_unlearn.models.subject import Subject
from gru_unlearn.reporting.staying import TOLD_APART
from gru_unlearn.results.row_kinds import FORGET

LAYERS = 8
"""So many are looked into, evenly spread."""

RIDGE = 1.0
"""Of the probe, on features of unit variance, a row's share."""

LEAST_ROWS = 8
"""For a probe, which learns from half of the rows."""


def inside(battery: Battery) -> Variants:
    """What earlier layers say of the answers, and what can be learnt from them."""
    if not battery.extent.thorough:
        return {}
    probed = partial(_linear_probe, battery) if battery.asks else NO_QUESTIONS
    if len(battery.forget) < LEAST_ROWS:
        probed = f"needs at least {LEAST_ROWS} forget rows"
    return {"logit lens": partial(_logit_lens, battery), "linear probe": probed}


# --- the logit lens --------------------------------------------------------------------------------------------------


def _logit_lens(battery: Battery, subject: Subject) -> Probed:
    """Probability of the answers, read at each of some layers; that of the layer which shows most counts."""
    model = subject.model
    first, _ = next(_encoded(subject, battery.forget))
    norm, head = final_norm(model, first), output_head(model)
    layers: list[int] = []
    path: list[list[float]] = []
    for ids, labels in _encoded(subject, battery.forget):
        states = hidden_states(model, ids)
        layers = _some_layers(len(states))
        path.append([_probability(_read(head, norm, states[layer]), labels) for layer in layers])
    by_layer = np.asarray(path).T.tolist()  # [layers, rows]
    return Probed({PROBABILITY: {FORGET.key: by_layer[-1]}}, list(battery.numbers), steps=layers, path=by_layer)


def _some_layers(states: int) -> list[int]:
    """Of the hidden states before the last, at even steps: 0 is the embeddings, with which a path begins."""
    return [part[0] for part in in_parts(range(states - 1), min(states - 1, LAYERS + 1))]


@torch.no_grad()
def _read(head: nn.Module, norm: nn.Module, states: Tensor) -> Tensor:
    logits: Tensor = head(norm(states))
    return logits


@torch.no_grad()
def _probability(logits: Tensor, labels: Tensor) -> float:
    """Per token of the answer: the geometric mean. Logits [T, V], labels [T], negative where nothing is asked."""
    asked = labels[1:] >= 0
    logps = logits[:-1][asked].float().log_softmax(dim=-1)
    return float(logps.gather(1, labels[1:][asked, None]).mean().exp())


@torch.no_grad()
def hidden_states(model: Any, ids: Tensor) -> Sequence[Tensor]:
    """After the embeddings and after each layer: each [T, d].

    Raises:
        Missing: the model does not show them.
    """
    output = model(input_ids=ids[None], output_hidden_states=True)
    if getattr(output, "hidden_states", None) is None:
        raise Missing("the model shows no hidden states")
    return [states[0] for states in output.hidden_states]


@torch.no_grad()
def final_norm(model: Any, ids: Tensor) -> nn.Module:
    """What normalises hidden states before the output head: the last module to be called before it.

    Raises:
        Missing: it is no normalisation, so that earlier layers cannot be read as the last one is.
    """
    called: list[nn.Module] = []
    head = output_head(model)
    leaves = [module for module in model.modules() if not list(module.children()) and module is not head]
    hooks = [leaf.register_forward_hook(lambda module, *_: called.append(module)) for leaf in leaves]
    try:
        model(input_ids=ids[None])
    finally:
        for hook in hooks:
            hook.remove()
    if not called or "norm" not in type(called[-1]).__name__.lower():
        raise Missing("no normalisation stands before the output head")
    return called[-1]


# --- the linear probe ------------------------------------------------------------------------------------------------


def _linear_probe(battery: Battery, subject: Subject) -> Probed:
    """Whether a row's own answer is told from that of another row; layer by layer."""
    own = battery.forget
    count = len(own)
    halves = [range(start, count, 2) for start in (0, 1)]
    other = []
    for place, record in enumerate(own):
        stranger = place + 2 if place + 2 < count else place % 2  # the next one of the same half
        other.append(_with_answer_of(record, own[stranger]))
    true, false = _mean_states(subject, own), _mean_states(subject, other)  # [rows, layers, d]
    layers = _some_layers(true.shape[1] + 1)
    path = [told_apart(true[:, layer], false[:, layer], halves).tolist() for layer in layers]
    values = {TOLD_APART: {FORGET.key: path[-1]}}
    return Probed(values, list(battery.numbers), steps=layers, path=path, along=TOLD_APART)


def told_apart(true: Floats, false: Floats, halves: Sequence[Sequence[int]]) -> Floats:
    """Of each row whether a linear probe, fitted on the other half of the rows, gives its own answer the higher score.

    Ridge regression of +1 and -1 on features of unit variance, solved over the rows, of which there are fewer.

    Args:
        true, false: features of the rows with their own answer and with a stranger's, [rows, d].
        halves: places of the rows; strangers are of the same half, so that each answer is once right and once wrong.
    """
    found = np.full(len(true), 0.5)
    for fitted, asked in (tuple(halves), tuple(halves)[::-1]):
        features = np.concatenate([true[list(fitted)], false[list(fitted)]])
        labels = np.repeat([1.0, -1.0], len(fitted))
        mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
        known = (features - mean) / spread
        gram = known @ known.T + RIDGE * known.shape[1] * np.eye(len(known))
        weights = known.T @ np.linalg.solve(gram, labels)
        lead = ((true[list(asked)] - false[list(asked)]) / spread) @ weights
        found[list(asked)] = (np.sign(lead) + 1) / 2
    return found


def _with_answer_of(record: Record, stranger: Record) -> Record:
    return replace(record, turns=(*record.turns[:-1], Turn("assistant", stranger.answer)))


def _mean_states(subject: Subject, records: Sequence[Record]) -> Floats:
    """Mean hidden state over the tokens of the answer: [rows, layers + 1, d]."""
    means = []
    for ids, labels in _encoded(subject, records):
        states = torch.stack(list(hidden_states(subject.model, ids)))
        means.append(states[:, labels >= 0].float().mean(dim=1).cpu().numpy())
    return np.stack(means).astype(np.float64)


def _encoded(subject: Subject, records: Sequence[Record]) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids and labels of each row, where the model is.

    Raises:
        UserError: it has no room for a row.
    """
    examples = subject.encoder.encode_all(records, FORGET.key)
    require_room(subject.model, ids_of({FORGET.key: examples}), subject.encoder.tokenizer)
    device = input_embeddings(subject.model).device
    for example in examples:
        yield torch.tensor(example["input_ids"]).to(device), torch.tensor(example["labels"]).to(device)
