"""Unlearning in the Hugging Face ecosystem: a thin ``transformers.Trainer`` around the gradient rectifier.

One optimizer step: for each micro-batch the retain pass (folded into the retain direction, its graph freed) and then
the forget pass; once per accumulation window the projection, then clipping, then the optimizer.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import TrainOutput

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Batch, Encoder, Example, ForgetRetainDataset, PairSampler, collate_pairs
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.geometry import GradientRectifier
from gru_unlearn.geometry.products import local
from gru_unlearn.objectives import Objective
from gru_unlearn.training.checkpoints import last_whole_checkpoint, load_rectifier, save_rectifier
from gru_unlearn.training.config import NO_DEEPSPEED, UnlearningConfig
from gru_unlearn.training.examples import Rows, encoder_for, to_examples
from gru_unlearn.training.inputs import FROM_ALTERNATIVES, FROM_REFERENCE_MODEL, inputs_for, train_only
from gru_unlearn.training.method import Method
from gru_unlearn.training.packages import require_packages, uses_bitsandbytes
from gru_unlearn.training.reference import FROM_REFERENCE_SCORES, REFERENCE_FILE, attach_reference_scores
from gru_unlearn.training.scores import AnswerLogps, answer_logps
from gru_unlearn.training.shortcuts import last_mlp, needs_attention_mask, shortest_and_longest
from gru_unlearn.training.steps import StepCallback, StepLog
from gru_unlearn.training.windows import Window

Evaluator = Callable[[nn.Module, Encoder], Mapping[str, float]]
"""Further metrics of the model as it stands, by name."""


class UnlearningTrainer(Trainer):
    """Trains a model to forget ``forget_dataset`` while ``retain_dataset`` guards what must stay.

    Args:
        model: causal language model, a PEFT model included.
        args: the run's settings.
        forget_dataset: rows (question/answer, prompt/completion, messages or text), :class:`Record` objects, or
            examples with ``input_ids`` and ``labels``; a ``datasets.Dataset`` of such rows works too.
        retain_dataset: likewise; needed unless the method looks at no retain example.
        eval_dataset: further sets by name whose answer probability is tracked beside forget and retain.
        processing_class: the model's tokenizer.
        objective: a forget objective of your own (see ``gru_unlearn.objectives``) instead of ``args.objective``.
        evaluator: called at every evaluation; its metrics join those of the evaluation.

    Raises:
        UserError: data or settings that cannot work, before any training.
        NonFiniteError: from :meth:`train`, when loss or gradients become NaN or infinite; that step is not taken.
    """

    args: UnlearningConfig
    model: Any
    train_dataset: Any

    def __init__(
        self,
        model: PreTrainedModel | nn.Module,
        args: UnlearningConfig,
        *,
        forget_dataset: Rows,
        retain_dataset: Rows | None = None,
        eval_dataset: Mapping[str, Rows] | None = None,
        processing_class: PreTrainedTokenizerBase,
        objective: Objective | None = None,
        evaluator: Evaluator | None = None,
        callbacks: list[TrainerCallback] | None = None,
        **kwargs: Any,
    ) -> None:
        require_packages(args)
        self.encoder = encoder_for(processing_class, args)
        self.evaluator = evaluator
        self._method = Method(args, objective)
        self._encode(args, forget_dataset, retain_dataset or [], eval_dataset or {})
        if args.trainable_params is not None:
            train_only(model, args.trainable_params)
        self.rectifier: GradientRectifier | None = None
        self._reference_model: nn.Module | None = None
        self._checkpoint_to_resume: str | None = None
        self._inputs = inputs_for(model, args, self._method.needs, self._reference)
        self._grad_norm: Any = 0.0
        self._step_log = StepLog()
        super().__init__(
            model=model,
            args=args,
            train_dataset=ForgetRetainDataset(self.forget_examples, self.retain_examples or self.forget_examples),
            eval_dataset=self.eval_examples,
            data_collator=partial(collate_pairs, pad_token_id=processing_class.pad_token_id),
            processing_class=processing_class,
            callbacks=[StepCallback(self), *(callbacks or [])],
            **kwargs,
        )
        self._check_engine()

    def _encode(self, args: UnlearningConfig, forget: Rows, retain: Rows, further: Mapping[str, Rows]) -> None:
        """Tokenize all sets."""
        alternatives = args if self._method.of_forget & FROM_ALTERNATIVES else None
        self.forget_examples = to_examples(forget, "forget", self.encoder, alternatives)
        self.retain_examples = to_examples(retain, "retain", self.encoder)
        if not self.forget_examples:
            raise UserError("the forget set is empty: there is nothing to forget")
        if args.needs_retain_set and not self.retain_examples:
            raise UserError(
                f"rectification {args.rectification!r} with objective {args.objective!r} needs a retain set"
            )
        self.eval_examples = {"forget": self.forget_examples}
        if self.retain_examples:
            self.eval_examples["retain"] = self.retain_examples
        for name, rows in further.items():
            self.eval_examples[name] = to_examples(rows, name, self.encoder)

    def _check_engine(self) -> None:
        """What only Trainer knows, from accelerate's launcher and from its own arguments together."""
        if self.is_deepspeed_enabled:
            raise UserError(NO_DEEPSPEED)
        if self.is_fsdp_enabled and uses_bitsandbytes(self.args.optim):
            raise UserError("bitsandbytes does not know FSDP2's sharded tensors: leave --optim at its default")
        if self.args.fsdp and not self.accelerator.is_fsdp2:
            raise UserError("fsdp works as FSDP2 on GPUs only: start with accelerate launch, fsdp_version: 2")

    # --- before the first step -----------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As ``Trainer.train``. What the method needs of the model before unlearning is taken first.

        ``resume_from_checkpoint``: a folder, or True for the last whole one in the run's folder.
        """
        if resume_from_checkpoint is True:
            folder = self.args.output_dir or "."
            if (last := last_whole_checkpoint(folder)) is None:
                raise UserError(f"no whole checkpoint in {folder} to resume from")
            resume_from_checkpoint = str(last)
        self._checkpoint_to_resume = str(resume_from_checkpoint) if resume_from_checkpoint else None
        if not self.is_fsdp_enabled:
            self._attach_reference_scores()
        if self._method.needs & FROM_REFERENCE_MODEL and not _has_adapters(self.model):
            self._keep_reference_model()
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _attach_reference_scores(self) -> None:
        if not self._method.of_forget & FROM_REFERENCE_SCORES:
            return
        folder, resumed = Path(self.args.output_dir or "."), self._checkpoint_to_resume is not None
        if resumed and self.is_fsdp_enabled and not (folder / REFERENCE_FILE).is_file():  # the weights have moved
            raise UserError(f"{folder / REFERENCE_FILE}, which the run's first start wrote, is gone: start anew")
        attach_reference_scores(
            self.forget_examples, self._answer_logps, folder, resumed=resumed, writes=self.args.should_save
        )

    def _keep_reference_model(self) -> None:
        if self.is_fsdp_enabled and self.args.device.type != "cpu":
            raise UserError(
                "this objective or retain loss needs a copy of the model before unlearning, which is not sharded: "
                "train adapters (--use-peft), or choose another one"
            )
        self._reference_model = copy.deepcopy(self.model).requires_grad_(False).eval()

    def prepare_first_step(self) -> None:
        """Called when model and optimizer are where they will work, sharded or not, and restored if resuming."""
        self._attach_rectifier()  # before any forward pass: FSDP2 leaves whole parameters behind, not the optimizer's
        if self.is_fsdp_enabled:  # only now every process has its weights: until here one may have held them all
            self._attach_reference_scores()
        probe = shortest_and_longest(self.forget_examples, self.model, self.encoder.tokenizer.pad_token_id)
        self._inputs.hide_padding = needs_attention_mask(self.model, probe)
        self._inputs.last_mlp = last_mlp(self.model, probe)

    def _attach_rectifier(self) -> None:
        rectification = self.args.resolved_rectification
        if rectification is None:
            return
        after = self.args.resolved_retain_weight if self.args.retain_placement == "after" else 0.0
        if self.rectifier is not None:
            self.rectifier.close()
        optimizer: Any = getattr(self.optimizer, "optimizer", self.optimizer)  # the one that accelerate wraps
        self.rectifier = GradientRectifier(
            self.accelerator.unwrap_model(self.model_wrapped),
            optimizer,
            rectification,
            new_gradient_weight=self.args.new_gradient_weight,
            retain_dtype=self.args.resolved_direction_dtype,
            retain_device=self.args.retain_direction_device,
            replicas=dist.group.WORLD if self._is_replicated else None,
            retain_step=after,
        )
        if self._checkpoint_to_resume:
            load_rectifier(self.rectifier, self._checkpoint_to_resume)

    def _get_train_sampler(self, train_dataset: Any = None) -> PairSampler:
        forget, retain = self.forget_examples, self.train_dataset.retain
        lengths = None
        if self.args.train_sampling_strategy == "group_by_length":
            lengths = _lengths(forget), _lengths(retain)
        return PairSampler(
            len(forget),
            len(retain),
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            batch_size=self.args.per_device_train_batch_size,
            retain_batch_size=self.args.resolved_retain_batch_size,
            lengths=lengths,
        )

    # --- one step ------------------------------------------------------------------------------------------------

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """Fetch a window's micro-batches and note its sizes: losses are means over the window, however it is cut."""
        if self.control.should_training_stop and self.state.global_step:  # resumed at its end: not a step more
            return [], None
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        self._window = Window(batches, self.accelerator)
        return batches, num_items

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Retain pass, then forget pass, so that only one graph is alive at a time. Returns the loss to log."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        if self.accelerator.is_fsdp2:
            # Sums that FSDP2 defers stand beside p.grad, where the retain pass would collect those of the forget pass.
            cast(Any, model).set_requires_gradient_sync(True)
        total = torch.zeros((), device=self.args.device)
        if self.args.needs_retain_set:
            with self._retain_gradients(model) as weight:
                loss = self._window.mean(self._retain_losses(model, inputs["retain"]), "retain")
                self.accelerator.backward(loss * weight)
            total += self.args.resolved_retain_weight * self._window.note("retain_loss", loss)
        loss = self._window.mean(self._forget_losses(model, inputs["forget"]), "forget")
        self.accelerator.backward(loss)
        return total + self._window.note("forget_loss", loss)

    @contextlib.contextmanager
    def _retain_gradients(self, model: nn.Module) -> Iterator[float]:
        """Where the retain gradient goes: to the rectifier if there is one, else straight into the gradient.

        Yields the factor on the loss. Replicas (DDP) keep their own part: the rectifier averages r once a step, and
        what goes into the gradient is averaged with the forget pass.
        """
        weight = self.args.resolved_retain_weight
        with cast(Any, model).no_sync() if self._is_replicated else contextlib.nullcontext():
            if self.rectifier is None:
                yield weight
            else:
                inside = weight if self.args.retain_placement == "inside" else 0.0
                with self.rectifier.retain(gradient_share=inside):
                    yield 1.0

    @property
    def _is_replicated(self) -> bool:
        return isinstance(self.model_wrapped, nn.parallel.DistributedDataParallel)

    def _forget_losses(self, model: nn.Module, batch: Batch) -> Tensor:
        with self.compute_loss_context_manager():
            inputs = self._inputs(self._method.of_forget, model, batch)
        return self._method.forget_losses(inputs)

    def _retain_losses(self, model: nn.Module, batch: Batch) -> Tensor:
        with self.compute_loss_context_manager():
            inputs = self._inputs(self._method.of_retain, model, batch)
        return self._method.retain_losses(inputs)

    @contextlib.contextmanager
    def _reference(self) -> Iterator[nn.Module]:
        """The model before unlearning: the base with its adapters off, else the frozen copy."""
        if self._reference_model is not None:
            yield self._reference_model
        else:
            with self.accelerator.unwrap_model(self.model).disable_adapter():
                yield self.model

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        if self.rectifier is not None:
            self.rectifier.rectify()
        return super()._clip_grad_norm(model)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        if self.rectifier is not None:
            self.rectifier.rectify()  # nobody clips where max_grad_norm is 0
        self._grad_norm = super()._get_grad_norm(model, grad_norm)
        return self._grad_norm

    def check_finite(self) -> None:
        """Stop, in all processes together, before a step that would write NaN or infinity into the weights."""
        total = sum(self._window.losses.values(), start=local(torch.as_tensor(self._grad_norm)))
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(total, reduction="sum")
        if not math.isfinite(total.item()):
            shown = ", ".join(f"{name} {value.item():g}" for name, value in self._window.losses.items())
            raise NonFiniteError(
                f"loss or gradients are not finite at step {self.state.global_step + 1} ({shown}): "
                "nothing was stepped or saved; try a lower --learning-rate"
            )

    def note_step(self) -> None:
        """Called when the weights have moved: what the step was goes to the rectifier's rule and to the log."""
        losses, rectifier = self._window.losses, self.rectifier
        if rectifier is not None and hasattr(rectifier.rule, "observe"):
            loss = {"retain_loss": losses["retain_loss"].item()}  # of this process's rows
            rectifier.rule.observe(self._mean_over_processes(loss)["retain_loss"])
        if self.args.telemetry:
            self._step_log.add(losses, rectifier.measured() if rectifier else None)

    # --- what is logged, evaluated and saved ------------------------------------------------------------------------

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means of losses and telemetry since the last log to Trainer's training log."""
        if "loss" in logs:
            logs |= self._mean_over_processes(self._step_log.drain())
        super().log(logs, *args, **kwargs)

    def _mean_over_processes(self, values: dict[str, float]) -> dict[str, float]:
        if self.accelerator.num_processes == 1 or not values:
            return values
        mean = self.accelerator.reduce(torch.tensor(list(values.values()), device=self.args.device), reduction="mean")
        return dict(zip(values, mean.tolist(), strict=True))

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Mean answer probability of each set, as ``eval_forget_prob``, ``eval_retain_prob``, ...

        ``eval_dataset``: sets by name (rows or examples); by default forget, retain and those given to the trainer.
        """
        sets = eval_dataset or self.eval_examples
        if not isinstance(sets, Mapping):
            sets = {"set": sets}
        metrics = {}
        for name, rows in sets.items():
            examples = evenly_spread(to_examples(rows, name, self.encoder), self.args.eval_max_rows)
            metrics[f"{metric_key_prefix}_{name}_prob"] = self._answer_logps(examples).mean_probability
        if self.evaluator is not None and eval_dataset is None:
            found = self.evaluator(self.model, self.encoder)
            metrics |= {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        # Trainer evaluates before the first step, after a resume too. There it may only repeat what is on record, so
        # that what follows from it, such as stopping, follows again: an interruption adds no evaluation.
        step = self.state.global_step
        recorded = any(row["step"] == step and "eval_forget_prob" in row for row in self.state.log_history)
        if skip_scheduler and step > 0 and not recorded:
            return {}
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)

    def _answer_logps(self, examples: Sequence[Example]) -> AnswerLogps:
        return answer_logps(
            self.model,
            examples,
            batch_size=self.args.per_device_eval_batch_size,
            pad_token_id=self.encoder.tokenizer.pad_token_id,
            device=self.args.device,
        )

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Trainer's estimate, over both passes of a step."""
        sides = ("retain", "forget") if self.args.needs_retain_set else ("forget",)
        return sum(super(UnlearningTrainer, self).floating_point_ops(inputs[side]) for side in sides)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # Before Trainer's own part, because the state file it writes last marks the checkpoint as whole.
        if self.rectifier is not None:
            save_rectifier(self.rectifier, Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}")
        super()._save_checkpoint(model, trial)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As ``Trainer.save_model``, but refuses weights that are not finite.

        Raises:
            NonFiniteError: a weight is NaN or infinite; nothing is written.
        """
        bad = _not_finite(self.model)
        found = torch.tensor(float(len(bad)), device=self.args.device)
        if self.accelerator.num_processes > 1:
            found = self.accelerator.reduce(found, reduction="sum")
        if found.item():
            raise NonFiniteError(
                f"weights are not finite ({', '.join(bad[:1] or ['in another process'])}, ...): not saved; "
                "go back to the last checkpoint and try a lower --learning-rate"
            )
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:  # a pickle that nothing here reads, and that would hold a hub token
            (Path(output_dir or self.args.output_dir or ".") / TRAINING_ARGS_NAME).unlink(missing_ok=True)


def _not_finite(model: nn.Module) -> list[str]:
    """Names of trained parameters with NaN or infinity in this process's part of them."""
    trained = {name: local(p.detach()) for name, p in model.named_parameters() if p.requires_grad}
    return [name for name, part in trained.items() if not part.isfinite().all()]


def _lengths(examples: Sequence[Example]) -> list[int]:
    return [len(example["input_ids"]) for example in examples]


def _has_adapters(model: nn.Module) -> bool:
    return hasattr(model, "disable_adapter")
