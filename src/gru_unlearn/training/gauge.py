"""Few rows, read again and again along a run: how fast it forgets, and whether what must stay suffers."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Example
from gru_unlearn.training.scores import Scorer

Named = dict[str, float]

ROWS = 16
"""Evenly spread rows of each set that are read."""


def log_odds(probability: float) -> float:
    """ln(p / (1 − p)), p kept a millionth away from 0 and 1."""
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


class Reading(NamedTuple):
    """What the rows say at one moment: means over them of each answer's mean log-probability per token, in nats."""

    forget: float
    retain: float | None
    """None where there are no retain rows"""
    probability: float
    """mean over the forget rows of exp(mean log-probability)"""

    @property
    def log_odds(self) -> float:
        """Of the probability."""
        return log_odds(self.probability)

    def forgotten_since(self, start: "Reading") -> float:
        """Fall of the forget answers' log-probability, nats per token."""
        return start.forget - self.forget

    def harm_since(self, start: "Reading") -> float:
        """Rise of the retain rows' loss, nats per token; 0 where there are none."""
        if self.retain is None or start.retain is None:
            return 0.0
        return start.retain - self.retain


class Gauge:
    """Reads the same rows each time, forward passes only.

    Args:
        score: log-probabilities of examples under the model as it stands.
        forget, retain: the run's rows.
        agree: makes named numbers the same in all processes, which must decide alike.
    """

    def __init__(
        self, score: Scorer, forget: Sequence[Example], retain: Sequence[Example], agree: Callable[[Named], Named]
    ) -> None:
        self._score, self._agree = score, agree
        self._forget: list[Any] = evenly_spread(forget, ROWS)
        self._retain: list[Any] = evenly_spread(retain, ROWS)

    def read(self) -> Reading:
        """The rows under the model as it stands."""
        found = self._score(self._forget)
        numbers = {"forget": _mean(found.by_token), "probability": found.mean_probability}
        if self._retain:
            numbers["retain"] = _mean(self._score(self._retain).by_token)
        numbers = self._agree(numbers)
        return Reading(numbers["forget"], numbers.get("retain"), numbers["probability"])


def _mean(answers: Sequence[torch.Tensor]) -> float:
    return torch.stack([logps.mean() for logps in answers]).mean().item()
