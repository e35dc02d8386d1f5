"""A ``transformers.Trainer`` for pairs: batches of forget examples with retain partners, and sets evaluated by name."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import Trainer
from transformers.trainer import TRAINING_ARGS_NAME

from gru_unlearn.common.memory import MUCH, give_back_freed_memory
from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Encoder, Example, ForgetRetainDataset, PairSampler, collate_pairs
from gru_unlearn.errors import NonFiniteError
from gru_unlearn.geometry.products import local
from gru_unlearn.training.compute_type import computing_as_steps
from gru_unlearn.training.config import UnlearningConfig, draw_seed
from gru_unlearn.training.examples import to_examples
from gru_unlearn.training.run_cost import RunCost
from gru_unlearn.training.scores import AnswerLogps, answer_logps
from gru_unlearn.training.word_for_word import said_word_for_word

Told = TypeVar("Told")

Evaluator = Callable[[nn.Module, Encoder], Mapping[str, float]]
"""Further metrics of the model as it stands, by name."""


@dataclass(frozen=True, slots=True)
class ExampleSets:
    """What a run trains on and evaluates."""

    forget: list[Example]
    retain: list[Example]
    """empty where the method looks at none"""
    further: dict[str, list[Example]]
    """only evaluated"""


class PairTrainer(Trainer):
    """Draws pairs, evaluates sets by name, and saves no weights that are not finite. What a step is, is left open.

    Args:
        model: causal language model.
        args: the run's settings.
        sets: encoded.
        encoder: that made them.
        evaluator: called at every evaluation; its metrics join those of the evaluation.
        kwargs: further arguments of ``Trainer``.

    Attributes:
        cost: what the steps took so far.
    """

    trained_set = "forget"
    """what the rows of ``sets.forget`` are called in numbers and messages"""

    args: UnlearningConfig
    model: Any
    train_dataset: Any

    def __init__(
        self,
        model: nn.Module,
        args: UnlearningConfig,
        sets: ExampleSets,
        encoder: Encoder,
        *,
        evaluator: Evaluator | None,
        **kwargs: Any,
    ) -> None:
        self.encoder, self.evaluator = encoder, evaluator
        self.cost = RunCost()
        self.forget_examples, self.retain_examples = sets.forget, sets.retain
        self.eval_examples = {self.trained_set: sets.forget}
        if sets.retain:
            self.eval_examples["retain"] = sets.retain
        self.eval_examples |= sets.further
        caches = getattr(getattr(model, "config", None), "use_cache", None)
        super().__init__(
            model=model,
            args=args,
            train_dataset=ForgetRetainDataset(sets.forget, sets.retain or sets.forget),
            eval_dataset=self.eval_examples,
            data_collator=partial(
                collate_pairs, pad_token_id=encoder.tokenizer.pad_token_id, at_once=args.per_device_train_batch_size
            ),
            processing_class=encoder.tokenizer,
            **kwargs,
        )
        if caches is not None:  # Trainer would switch it off in the model that is saved
            self.model.config.use_cache = caches

    def _get_train_sampler(self, train_dataset: Any = None) -> PairSampler:
        forget, retain = self.forget_examples, self.train_dataset.retain
        lengths = None
        if self.args.train_sampling_strategy == "group_by_length":
            lengths = _lengths(forget), _lengths(retain)
        return PairSampler(
            len(forget),
            len(retain),
            seed=draw_seed(self.args),
            batch_size=self.args.per_device_train_batch_size,
            retain_batch_size=self.args.resolved_retain_batch_size,
            lengths=lengths,
        )

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Trainer's estimate, over both passes of a step."""
        sides = ["forget"]
        if self.args.needs_retain_set:
            sides.append("retain")
        batches = chain.from_iterable(inputs[side] for side in sides)
        return sum(super(PairTrainer, self).floating_point_ops(batch) for batch in batches)

    def mean_over_processes(self, values: dict[str, float]) -> dict[str, float]:
        """Named numbers, each the mean over all processes."""
        if self.accelerator.num_processes == 1 or not values:
            return values
        mean = self.accelerator.reduce(torch.tensor(list(values.values()), device=self.args.device), reduction="mean")
        return dict(zip(values, mean.tolist(), strict=True))

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean answer probability of each set, as ``eval_forget_prob``, ``eval_retain_prob``, ...

        ``eval_dataset``: sets by name (rows or examples); by default forget, retain and those given to the trainer.

        Raises:
            NonFiniteError: a probability is not a finite number, so that the model gives no answers.
        """
        self.cost.settle(self.args.device)
        sets = eval_dataset or self.eval_examples
        if not isinstance(sets, Mapping):
            sets = {"set": sets}
        metrics: dict[str, float] = {}
        for name, rows in sets.items():
            examples = evenly_spread(to_examples(rows, name, self.encoder), self.args.eval_max_rows)
            found = self.measure_set(name, examples)
            metrics |= {f"{metric_key_prefix}_{key}": value for key, value in found.items()}
        if self.evaluator is not None and eval_dataset is None:
            further = self.evaluator(self.model, self.encoder)
            metrics |= {f"{metric_key_prefix}_{name}": value for name, value in further.items()}
        if self.args.device.type == "cpu":
            give_back_freed_memory(MUCH)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure_set(self, name: str, examples: Sequence[Example]) -> dict[str, float]:
        """What an evaluation says of one of its sets, by names that begin with the set's."""
        return {f"{name}_prob": self._mean_probability(name, examples)}

    def _mean_probability(self, name: str, examples: Sequence[Example]) -> float:
        probability = self._answer_logps(examples).mean_probability
        if not math.isfinite(probability):
            raise NonFiniteError(
                f"at step {self.state.global_step} the model's probability of {name} answers is not a finite number: "
                "this model is not saved; try a lower --learning-rate, or --dtype float32 and --bf16 false"
            )
        return probability

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        # Trainer evaluates before the first step, after a resume too. There it may only repeat what is on record, so
        # that what follows from it, such as stopping, follows again: an interruption adds no evaluation.
        step = self.state.global_step
        probability = f"eval_{self.trained_set}_prob"
        recorded = any(row["step"] == step and probability in row for row in self.state.log_history)
        if skip_scheduler and step > 0 and not recorded:
            return {}
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)

    def _ask(self, ask: Callable[..., Told], examples: Sequence[Example]) -> Told:
        """What the model as it stands says of examples, computed as the steps are."""
        with computing_as_steps(self.args, sharded=self.is_fsdp_enabled):
            return ask(
                self.model,
                examples,
                batch_size=self.args.per_device_eval_batch_size,
                pad_token_id=self.encoder.tokenizer.pad_token_id,
                device=self.args.device,
            )

    def _answer_logps(self, examples: Sequence[Example]) -> AnswerLogps:
        return self._ask(answer_logps, examples)

    def share_said(self, examples: Sequence[Example]) -> float | None:
        """Which share of the examples the model as it stands answers, or of plain texts continues, word for word.

        None: they are all texts that are too short to be continued.
        """
        asked = [one for one in map(self.encoder.asks, examples) if one is not None]
        if not asked:
            return None
        said = self._ask(said_word_for_word, asked)
        return sum(said) / len(said)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As ``Trainer.save_model``, but refuses weights that are not finite.

        Raises:
            NonFiniteError: a weight is NaN or infinite; nothing is written.
        """
        bad = _not_finite(self.model)
        found = torch.tensor(float(len(bad)), device=self.args.device)
        if self.accelerator.reduce(found, reduction="sum").item():
            raise NonFiniteError(
                f"weights are not finite ({', '.join(bad[:1] or ['in another process'])}, ...): not saved; "
                "go back to the last checkpoint and try a lower --learning-rate"
            )
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:  # a pickle that nothing here reads, and that would hold a hub token
            (Path(output_dir or self.args.output_dir or ".") / TRAINING_ARGS_NAME).unlink(missing_ok=True)


def _not_finite(model: nn.Module) -> list[str]:
    """Names of parameters with NaN or infinity in this process's part of them."""
    parts = {name: local(p.detach()) for name, p in model.named_parameters() if p.is_floating_point()}
    return [name for name, part in parts.items() if not part.isfinite().all()]


def _lengths(examples: Sequence[Example]) -> list[int]:
    return [len(example["input_ids"]) for example in examples]
