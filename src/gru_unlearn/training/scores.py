"""Log-probabilities of whole answers: the probabilities tracked along a run, and what NPO and its kin need of the model
before unlearning, scored once.

So no second model is kept. A resumed run reads the file that its first start wrote, because its own weights have moved.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gru_unlearn.common.modules import evaluating
from gru_unlearn.data import Example, pad_examples
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import IGNORE_INDEX, token_logps

REFERENCE_FILE = "reference_logps.safetensors"

FROM_REFERENCE_SCORES = frozenset({"reference", "token_reference", "alternative_reference"})
"""Inputs of objectives that are such scores."""


class AnswerLogps(NamedTuple):
    """Log-probabilities of each example's supervised tokens, on CPU: n float32 tensors [T_i]."""

    by_token: list[Tensor]

    @property
    def total(self) -> Tensor:
        """Their sums, [n]."""
        return torch.stack([logps.sum() for logps in self.by_token])

    @property
    def probabilities(self) -> Tensor:
        """exp(mean log p) of each answer, [n]: the field's "probability"."""
        return torch.stack([logps.mean().exp() for logps in self.by_token])

    @property
    def mean_probability(self) -> float:
        """That of the set: the mean over answers."""
        return self.probabilities.mean().item()


Scorer = Callable[[Sequence[Example]], AnswerLogps]


@torch.no_grad()
def answer_logps(
    model: nn.Module, examples: Sequence[Example], *, batch_size: int, pad_token_id: int, device: torch.device
) -> AnswerLogps:
    """Score every example once, longest first, with the model in evaluation mode (its mode is restored)."""
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    found: dict[int, Tensor] = {}
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            padded = pad_examples([examples[i] for i in rows], pad_token_id)
            batch = {name: values.to(device) for name, values in padded.items()}
            logps, mask = token_logps(model, batch["input_ids"], batch["attention_mask"], batch["labels"])
            for row, its_logps, length in zip(rows, logps.cpu(), mask.sum(dim=1).tolist(), strict=True):
                found[row] = its_logps[:length]
    return AnswerLogps([found[row] for row in range(len(examples))])


def attach_reference_scores(
    examples: Sequence[Example], score: Scorer, folder: Path, *, resumed: bool, writes: bool
) -> None:
    """Give each example ``token_reference`` [T_i] and its sum, ``reference``; where it has an alternative, also the sum
    over that, ``alternative_reference``.

    Args:
        examples: the forget examples; changed in place.
        score: gives the log-probabilities of examples under the model as it stands.
        folder: of the run, where the scores are kept.
        resumed: read them there, if they are there.
        writes: whether this process writes the file.

    Raises:
        UserError: the file is of another forget set.
    """
    file = folder / REFERENCE_FILE
    lengths = [count_supervised(example) for example in examples]
    if resumed and file.is_file():
        scores = load_file(str(file))
        if len(scores["by_token"]) != sum(lengths):
            raise UserError(f"{file} belongs to another forget set: start in a fresh --output-dir")
    else:
        scores = _scored(examples, score)
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(scores, str(file))
    for example, by_token in zip(examples, scores["by_token"].split(lengths), strict=True):
        example["token_reference"], example["reference"] = by_token, by_token.sum().item()
    if "alternative" in scores:
        for example, total in zip(examples, scores["alternative"].tolist(), strict=True):
            example["alternative_reference"] = total


def count_supervised(example: Example) -> int:
    """Tokens of an example that are supervised and predicted."""
    return sum(label != IGNORE_INDEX for label in example["labels"][1:])


def _scored(examples: Sequence[Example], score: Scorer) -> dict[str, Tensor]:
    """``by_token``: the tokens of all answers, one after the other; ``alternative`` [n]: a sum for each."""
    scores = {"by_token": torch.cat(score(examples).by_token)}
    if "alternative" in examples[0]:
        scores["alternative"] = score([example["alternative"] for example in examples]).total
    return scores
