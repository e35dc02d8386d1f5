"""What NPO and its kin need of the model before unlearning: log-probabilities of the forget answers, scored once.

So no second model is kept. A resumed run reads the file that its first start wrote, because its own weights have moved.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gru_unlearn.data import Example
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import IGNORE_INDEX
from gru_unlearn.training.scores import AnswerLogps

REFERENCE_FILE = "reference_logps.safetensors"

FROM_REFERENCE_SCORES = frozenset({"reference", "token_reference", "alternative_reference"})
"""Inputs of objectives that are such scores."""

Scorer = Callable[[Sequence[Example]], AnswerLogps]


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
    lengths = [_count_supervised(example) for example in examples]
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


def _count_supervised(example: Example) -> int:
    return sum(label != IGNORE_INDEX for label in example["labels"][1:])


def _scored(examples: Sequence[Example], score: Scorer) -> dict[str, Tensor]:
    """``by_token``: the tokens of all answers, one after the other; ``alternative`` [n]: a sum for each."""
    scores = {"by_token": torch.cat(score(examples).by_token)}
    if "alternative" in examples[0]:
        scores["alternative"] = score([example["alternative"] for example in examples]).total
    return scores
