"""Which forget examples make a step: of several times as many, read without gradients, those that are least forgotten.

Drawn by turns, some are long gone when others still come word for word, and what a mean has to fall yet is taken from
both. Training on the examples with the highest loss is online hard example mining (arXiv 1604.03540); here hard is what
is still known. Where a model that never saw the rows was asked, what it says of each is taken off: of an answer that
any model would guess little is left to forget. What both change is measured in docs/results.md.

What is read depends on seed and step alone, and what is chosen on the weights, so that a resumed run chooses as the
uninterrupted one.
"""

from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor

from gru_unlearn.data import Batch, Example
from gru_unlearn.data.pairing import CANDIDATE_SHUFFLES, collate_side, endless_draw
from gru_unlearn.training.config import UnlearningConfig, draw_seed
from gru_unlearn.training.run_cost import RunCost
from gru_unlearn.training.scores import Scorer

Window = list[dict[str, list[Batch]]]
"""The micro-batches of one optimizer step."""


class LeastForgotten:
    """Chooses a run's forget examples, step by step.

    Args:
        examples: the forget set.
        args: the run's settings.
        score: gives the log-probabilities of examples under the model as it stands.
        pad_token_id: what examples are filled up with.
        cost: of the run, to which what is read is added.
    """

    def __init__(
        self, examples: Sequence[Example], args: UnlearningConfig, score: Scorer, pad_token_id: int, cost: RunCost
    ) -> None:
        self.examples, self.args, self.score = examples, args, score
        self.pad_token_id, self.cost = pad_token_id, cost

    def __call__(self, window: Window, step: int) -> Window:
        """A step's micro-batches with the examples that are chosen for it, as many as were drawn; ``step`` from 0."""
        args, times = self.args, self.args.resolved_forget_candidates
        if times == 1:
            return window
        count = sum(map(_forget_rows, window))
        share = {"process": args.process_index, "processes": args.world_size}
        read = drawn_candidates(self.examples, times * count, step, draw_seed(args), **share)
        if len(read) <= count:
            return window
        self.cost.add_read(len(read) * args.world_size)
        return self._filled(window, least_forgotten(read, count, self.score(read).probabilities))

    def _filled(self, window: Window, examples: Sequence[Example]) -> Window:
        """Micro-batches as large as before, of examples of similar length."""
        rest = iter(sorted(examples, key=lambda example: -len(example["input_ids"])))
        filled = []
        for both in window:
            taken = list(islice(rest, _forget_rows(both)))
            forget = collate_side(taken, self.pad_token_id, self.args.per_device_train_batch_size)
            filled.append({**both, "forget": forget})
        return filled


def drawn_candidates(
    examples: Sequence[Example], count: int, step: int, seed: int, *, process: int = 0, processes: int = 1
) -> list[Example]:
    """What one process reads before a step: ``count`` examples, each once, all before any comes again; where there are
    fewer, all. No other process reads the same, and all read equally many.

    Args:
        examples: the forget set.
        count: at most, in this process.
        step: number of the step, from 0.
        seed: of the run's draws.
        process, processes: this one, and how many there are.
    """
    size, wanted = len(examples), count * processes
    drawn = list(range(size))
    if wanted < size:
        drawn = list(dict.fromkeys(endless_draw(size, step * wanted, wanted, seed, CANDIDATE_SHUFFLES)))
    share = len(drawn) // processes
    return [examples[number] for number in drawn[process::processes][:share]]


def base_probabilities(examples: Sequence[Example]) -> Tensor:
    """What each answer is to the model before fine-tuning, [n]; 0 where nobody asked it."""
    return torch.tensor([example.get("base_probability", 0.0) for example in examples])


def least_forgotten(examples: Sequence[Example], count: int, probabilities: Tensor) -> list[Example]:
    """The ``count`` examples whose answers are the most probable, or the furthest above what they are to the model
    before fine-tuning, where that was asked; ``probabilities``: [n]."""
    still_known = probabilities - base_probabilities(examples)
    order = still_known.argsort(descending=True, stable=True).tolist()
    return [examples[number] for number in order[:count]]


def _forget_rows(micro_batch: Mapping[str, Sequence[Batch]]) -> int:
    return sum(len(batch["labels"]) for batch in micro_batch["forget"])
