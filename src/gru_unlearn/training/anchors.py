"""What the retain loss ``anchor`` needs of the model before unlearning: scored once, for the rows that a run will draw.

A resumed run reads the file that its first start wrote, because its own weights have moved.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gru_unlearn.common.modules import evaluating
from gru_unlearn.data import Example, PairSampler, pad_examples
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import anchors_of, supervised_logits
from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.run_length import epochs_begun
from gru_unlearn.training.scores import count_supervised

FROM_ANCHORS = frozenset({"anchor_logps", "anchor_tokens"})
"""Inputs of losses that are made here."""

MOST_TOKENS = 32
"""K. Outside of them is 0.3 % of SmolLM2-135M's probability on TOFU rows that it was taught, and 13 % before that."""


def anchors_file(folder: str | None, side: str) -> Path:
    """Where a run keeps those of a side."""
    return Path(folder or ".") / f"anchors_{side}.safetensors"


class Anchors(NamedTuple):
    """Of some examples, one after the other, on the CPU."""

    logps: Tensor
    """float32 [N, K+1]"""
    tokens: Tensor
    """int32 [N, K]"""


def drawn_partners(sampler: PairSampler, args: UnlearningConfig, processes: int) -> list[int]:
    """The retain examples that a run will draw, sorted."""
    drawn: set[int] = set()
    for epoch in range(epochs_begun(args, len(sampler), processes)):
        if len(drawn) == sampler.retain:
            break
        sampler.set_epoch(epoch)
        for _, partners in sampler:
            drawn.update(partners)
    return sorted(drawn)


@torch.no_grad()
def score_anchors(
    model: nn.Module, examples: Sequence[Example], *, batch_size: int, pad_token_id: int, device: torch.device
) -> Anchors:
    """Ask the model as it stands, in evaluation mode (its mode is restored)."""
    logps, tokens = [], []
    with evaluating(model):
        for start in range(0, len(examples), batch_size):
            padded = pad_examples(examples[start : start + batch_size], pad_token_id)
            batch = {name: values.to(device) for name, values in padded.items()}
            logits = supervised_logits(model, batch["input_ids"], batch["attention_mask"], batch["labels"])
            top, which = anchors_of(logits, MOST_TOKENS)
            logps.append(top.cpu())
            tokens.append(which.cpu())
    return Anchors(torch.cat(logps), torch.cat(tokens))


def attach_anchors(examples: Sequence[Example], anchors: Anchors) -> None:
    """Give each example its own.

    Raises:
        UserError: they are of other examples.
    """
    lengths = [count_supervised(example) for example in examples]
    if sum(lengths) != len(anchors.logps):
        raise UserError("the anchors that the run began with are of another retain set: start in a fresh --output-dir")
    by_example = zip(anchors.logps.split(lengths), anchors.tokens.split(lengths), strict=True)
    for example, (logps, tokens) in zip(examples, by_example, strict=True):
        example["anchor_logps"], example["anchor_tokens"] = logps, tokens


def anchors_of_run(score: Callable[[], Anchors], file: Path, *, resumed: bool, writes: bool) -> Anchors:
    """Those that a run began with.

    Args:
        score: asks the model as it stands.
        file: where they are kept.
        resumed: read them there.
        writes: whether this process writes the file.

    Raises:
        UserError: a resumed run's file is gone.
    """
    if resumed:
        if not file.is_file():
            raise UserError(f"{file}, which the run's first start wrote, is gone: start anew")
        return Anchors(**load_file(str(file)))
    anchors = score()
    if writes:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(anchors._asdict(), str(file))
    return anchors
