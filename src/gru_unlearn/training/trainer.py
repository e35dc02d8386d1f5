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
from accelerate.utils.memory import clear_device_cache
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import TrainOutput

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Batch, Example, encoder_for
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.geometry import GradientRectifier
from gru_unlearn.geometry.products import local
from gru_unlearn.objectives import Objective
from gru_unlearn.objectives.causality import require_causal, require_causal_config
from gru_unlearn.robustness import Robustness
from gru_unlearn.training.aim import aim_of
from gru_unlearn.training.anchors import (
    FROM_ANCHORS,
    anchors_file,
    anchors_of_run,
    attach_anchors,
    drawn_partners,
    score_anchors,
)
from gru_unlearn.training.checkpoints import last_whole_checkpoint, load_rectifier, save_rectifier
from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.course import WORD_FOR_WORD
from gru_unlearn.training.examples import Rows, to_examples
from gru_unlearn.training.gauge import Gauge
from gru_unlearn.training.inputs import FROM_ALTERNATIVES, FROM_REFERENCE_MODEL, inputs_for, passes_of, train_only
from gru_unlearn.training.least_forgotten import LeastForgotten
from gru_unlearn.training.longest_rows import try_longest_rows
from gru_unlearn.training.method import Method, rectifier_for, robustness_for
from gru_unlearn.training.own_rate import (
    OwnRate,
    rate_to_begin_with,
    require_factors,
    start_rate,
)
from gru_unlearn.training.packages import require_packages
from gru_unlearn.training.pair_trainer import Evaluator, ExampleSets, PairTrainer
from gru_unlearn.training.rate_controller import way_of
from gru_unlearn.training.run_length import require_a_batch, steps_an_epoch
from gru_unlearn.training.scores import FROM_REFERENCE_SCORES, REFERENCE_FILE, attach_reference_scores
from gru_unlearn.training.shortcuts import last_mlp, needs_attention_mask, shortest_and_longest
from gru_unlearn.training.steps import SIDES, AccumulationWindow, StepCallback, StepLog
from gru_unlearn.training.stops import StopCallback
from gru_unlearn.training.surviving_share import RoundingProbe
from gru_unlearn.training.trainer_checks import check_engine, check_kinds, require_sets
from gru_unlearn.training.trial_step import bare, first_window, on_trial
from gru_unlearn.training.weight_pairs import WeightPairs, check_trained_types
from gru_unlearn.training.word_for_word import MOST_ASKED


class UnlearningTrainer(PairTrainer):
    """Trains a model to forget ``forget_dataset`` while ``retain_dataset`` guards what must stay.

    Args:
        model: causal language model, a PEFT model included.
        args: the run's settings.
        forget_dataset: rows (question/answer, prompt/completion, messages or text), :class:`Record` objects, or
            examples with ``input_ids`` and ``labels``; a ``datasets.Dataset`` of such rows works too, and so does what
            ``gru unlearn --forget`` takes: ``"mine.jsonl"``, a folder, a hub data set.
        retain_dataset: likewise; needed unless the method looks at no retain example.
        eval_dataset: further sets by name whose answer probability is tracked beside forget and retain.
        processing_class: the model's tokenizer.
        objective: a forget objective of your own (see ``gru_unlearn.objectives``) instead of ``args.objective``.
        evaluator: called at every evaluation; its metrics join those of the evaluation.

    Raises:
        TypeError: an argument of another kind, such as a model's name in place of the model.
        UserError: data or settings that cannot work, before any training.
        NonFiniteError: from :meth:`train`, when loss or gradients become NaN or infinite; that step is not taken.
    """

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
        check_kinds(model, args, processing_class, eval_dataset)
        require_packages(args)
        require_causal_config(getattr(model, "config", None), "the model")
        self._method = Method(args, objective)
        encoder = encoder_for(processing_class, args)
        fallback = args if self._method.asks["forget"] & FROM_ALTERNATIVES else None
        sets = ExampleSets(
            forget=to_examples(forget_dataset, self.trained_set, encoder, fallback),
            retain=to_examples(retain_dataset or [], "retain", encoder),
            further={name: to_examples(rows, name, encoder) for name, rows in (eval_dataset or {}).items()},
        )
        require_sets(sets, args)
        require_a_batch(args, len(sets.forget), self.trained_set)
        if args.trainable_params is not None:
            train_only(model, args.trainable_params)
        check_trained_types(model, bf16=args.bf16)
        self.rounding: RoundingProbe | None = None
        self.robustness: Robustness | None = None
        self._step_hooks: list[RemovableHandle] = []
        self.rectifier: GradientRectifier | None = None
        self._reference_model: nn.Module | None = None
        self._checkpoint_to_resume: str | None = None
        self._inputs = inputs_for(model, args, self._method.needs, self._reference)
        self._grad_norm: Any = 0.0
        self.own_rate: OwnRate | None = None
        self.say: Callable[[str], object] = print if args.process_index == 0 else _say_nothing
        self._step_log = StepLog()
        self.stops = StopCallback()
        all_callbacks = [StepCallback(self), self.stops, *(callbacks or [])]
        super().__init__(model, args, sets, encoder, evaluator=evaluator, callbacks=all_callbacks, **kwargs)
        pad = encoder.tokenizer.pad_token_id
        self._choose_forget_rows = LeastForgotten(self.forget_examples, args, self._answer_logps, pad, self.cost)
        self._pairs = WeightPairs(self.model)
        check_engine(self, in_pairs=bool(self._pairs))

    def __repr__(self) -> str:
        """``UnlearningTrainer(LlamaForCausalLM, npo, gru, 40 forget rows, 160 retain rows)``."""
        counts = [f"{len(rows)} {name} rows" for name, rows in self.eval_examples.items()]
        model, args = type(self.model).__name__, self.args
        return f"{type(self).__name__}({', '.join([model, args.objective, args.rectification, *counts])})"

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
        if self.args.on_its_own:
            self.args.learning_rate = rate_to_begin_with(self._checkpoint_to_resume)
        if not self.is_fsdp_enabled:
            self._try_longest_rows()
            self._attach_reference_scores()
            self._attach_anchors()
        if self._method.needs & FROM_REFERENCE_MODEL and not hasattr(self.model, "disable_adapter"):
            self._keep_reference_model()
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _try_longest_rows(self) -> None:
        pad = self.encoder.tokenizer.pad_token_id
        try_longest_rows(self.model, self.eval_examples, pad, self.args.device, bf16=self.args.bf16)

    def _attach_reference_scores(self) -> None:
        if not self._method.asks["forget"] & FROM_REFERENCE_SCORES:
            return
        folder, resumed = Path(self.args.output_dir or "."), self._checkpoint_to_resume is not None
        if resumed and self.is_fsdp_enabled and not (folder / REFERENCE_FILE).is_file():  # the weights have moved
            raise UserError(f"{folder / REFERENCE_FILE}, which the run's first start wrote, is gone: start anew")
        attach_reference_scores(
            self.forget_examples, self._answer_logps, folder, resumed=resumed, writes=self.args.should_save
        )

    def _attach_anchors(self) -> None:
        for side in SIDES:
            if not self._method.asks[side] & FROM_ANCHORS:
                continue
            examples, file = self.forget_examples, anchors_file(self.args.output_dir, side)
            if side == "retain":
                drawn = drawn_partners(self._get_train_sampler(), self.args, self.accelerator.num_processes)
                examples = [self.retain_examples[number] for number in drawn]
            resumed, writes = self._checkpoint_to_resume is not None, self.args.should_save
            score = partial(self._ask, score_anchors, examples)
            attach_anchors(examples, anchors_of_run(score, file, resumed=resumed, writes=writes))

    def _keep_reference_model(self) -> None:
        if self.is_fsdp_enabled and self.args.device.type != "cpu":
            raise UserError(
                "this objective or retain loss needs a copy of the model before unlearning, which is not sharded: "
                "train adapters (--use-peft), or choose another one"
            )
        self._reference_model = copy.deepcopy(self.model).requires_grad_(False).eval()

    def prepare_first_step(self) -> None:
        """Called when model and optimizer are where they will work, sharded or not, and restored if resuming."""
        self._attach_to_steps()  # before any forward pass: FSDP2 leaves whole parameters behind, not the optimizer's
        if self.is_fsdp_enabled:  # only now every process has its weights: until here one may have held them all
            require_causal(self.model, max((row["input_ids"] for row in self.forget_examples), key=len))
            self._attach_reference_scores()
            self._attach_anchors()
        probe = shortest_and_longest(self.forget_examples, self.model, self.encoder.tokenizer.pad_token_id)
        self._inputs.hide_padding = needs_attention_mask(self.model, probe)
        self._inputs.last_mlp = last_mlp(self.model, probe)
        if self.args.on_its_own:
            self._settle_rate()

    def _settle_rate(self) -> None:
        require_factors(self.lr_scheduler)
        trial = on_trial(self.accelerator.unwrap_model(self.model_wrapped), bare(self.optimizer), self._pairs)
        rows = self.forget_examples, self.retain_examples
        gauge = Gauge(self._answer_logps, *rows, self.mean_over_processes)
        way = way_of(steps_an_epoch(self.args, len(self.forget_examples), self.accelerator.num_processes))
        self.own_rate = OwnRate(self, gauge, way)
        self.own_rate.begin(self._checkpoint_to_resume, trial)

    def take_first_step(self) -> None:
        """Of the run, on trial: its rows, gradients, rectification and clipping. What was counted is uncounted."""
        model, rows = self.model_wrapped, self.cost.rows
        batches = first_window(self._get_train_sampler(), self.args, self.accelerator)
        window = [self.data_collator([self.train_dataset[pair] for pair in batch]) for batch in batches]
        window = self._choose_forget_rows(window, step=0)
        self._window = AccumulationWindow(window, self.accelerator)
        for inputs in window:
            self.training_step(model, inputs)
        norm = self._clip_grad_norm(model) if self.args.max_grad_norm else None
        self._get_grad_norm(model, norm)
        self.check_finite()
        bare(self.optimizer).step()
        self.cost.rows = rows

    def begin_at(self, rate: float) -> None:
        """Make optimizer and schedule anew for a learning rate; nothing is left of a step that was taken on trial."""
        start_rate(bare(self.optimizer), rate)
        self._attach_to_steps()
        self.lr_scheduler = None
        self.create_scheduler(self.state.max_steps)

    def keep_rate(self) -> None:
        """Called when a step is over: where the run finds its learning rate by itself, it looks after it."""
        if self.own_rate is not None:
            self.own_rate.after_step()

    def _attach_to_steps(self) -> None:
        """What surrounds the optimizer's step, in the order of its hooks: weights are joined, what the optimizer does
        is made robust and measured, then rectified, and what came of it is split."""
        optimizer = bare(self.optimizer)
        model = self.accelerator.unwrap_model(self.model_wrapped)
        self._detach_from_steps()
        if self._pairs:
            self._step_hooks.append(self._pairs.before_steps_of(optimizer))
        self.robustness = robustness_for(self.args, model, optimizer)
        if self.args.telemetry:
            self.rounding = RoundingProbe([p for p in model.parameters() if p.requires_grad], optimizer)
        replicas = dist.group.WORLD if self._is_replicated else None
        self.rectifier = rectifier_for(self.args, model, optimizer, replicas)
        if self.rectifier is not None and self._checkpoint_to_resume:
            load_rectifier(self.rectifier, self._checkpoint_to_resume)
        if self._pairs:
            self._step_hooks.append(self._pairs.after_steps_of(optimizer))

    def _detach_from_steps(self) -> None:
        for hook in self._step_hooks:
            hook.remove()
        self._step_hooks.clear()
        for part in (self.robustness, self.rounding, self.rectifier):
            if part is not None:
                part.close()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not self._pairs:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        self._pairs.load(checkpoint)
        with self._pairs.joined():
            super()._load_optimizer_and_scheduler(checkpoint)

    # --- between steps -------------------------------------------------------------------------------------------

    def measure_set(self, name: str, examples: Sequence[Example]) -> dict[str, float]:
        """On its own, a run that has forgotten enough, by probability, asks how much it still says word for word: of as
        many rows as its verdict counts, however few are measured along the run."""
        found = super().measure_set(name, examples)
        aim = aim_of(self.args)
        if (
            self.args.on_its_own
            and name == self.trained_set
            and aim is not None
            and found[f"{name}_prob"] <= aim.enough
        ):
            said = self.share_said(evenly_spread(self.forget_examples, MOST_ASKED))
            if said is not None:
                found[WORD_FOR_WORD] = said
        return found

    # --- one step ------------------------------------------------------------------------------------------------

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """Fetch a window's micro-batches and note its sizes: losses are means over the window, however it is cut."""
        if self.control.should_training_stop:  # before its first step, or resumed at its end: not a step more
            return [], None
        self.cost.begin_step()
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        batches = self._choose_forget_rows(batches, self.state.global_step)
        if self.state.global_step % self.args.retain_every:  # the rows drawn for this step are passed over
            batches = [{**both, "retain": []} for both in batches]
        self._window = AccumulationWindow(batches, self.accelerator)
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
        if self.args.needs_retain_set and inputs["retain"]:
            with self._retain_gradients(model) as weight:
                loss = self._pass_back("retain", model, inputs["retain"], weight)
            total += self.args.retain_term_weight * loss
        return total + self._pass_back("forget", model, inputs["forget"])

    def _pass_back(self, side: str, model: nn.Module, batches: Sequence[Batch], weight: float = 1.0) -> Tensor:
        """Backward passes over a side's batches, one graph after the other; the sum of their losses, without weight."""
        total = torch.zeros((), device=self.args.device)
        passes = passes_of(self._method.asks[side]) * self.accelerator.num_processes
        name = {"forget": self.trained_set}.get(side, side)
        for batch in batches:
            loss = self._mean_loss(side, model, batch)
            self.accelerator.backward(loss * weight)
            total += self._window.note(f"{name}_loss", loss)
            self.cost.rows += passes * len(batch["labels"])
            self._after_pass()
        return total

    def _after_pass(self) -> None:
        """A graph is gone, and the next one has other lengths."""
        every = self.args.torch_empty_cache_steps
        if every is not None and self.state.global_step % every == 0:
            clear_device_cache()

    @contextlib.contextmanager
    def _retain_gradients(self, model: nn.Module) -> Iterator[float]:
        """Where the retain gradient goes: to the rectifier if there is one, else straight into the gradient.

        Yields the factor on the loss. Replicas (DDP) keep their own part: the rectifier averages r once a step, and
        what goes into the gradient is averaged with the forget pass.
        """
        weight = self.args.retain_term_weight
        with cast(Any, model).no_sync() if self._is_replicated else contextlib.nullcontext():
            if self.rectifier is None:
                yield weight
            else:
                after = self.args.retain_placement == "after"
                with self.rectifier.retain(gradient_share=0.0 if after else weight):
                    yield 1.0

    @property
    def _is_replicated(self) -> bool:
        return isinstance(self.model_wrapped, nn.parallel.DistributedDataParallel)

    def _mean_loss(self, side: str, model: nn.Module, batch: Batch) -> Tensor:
        with self.compute_loss_context_manager():
            inputs = self._inputs(self._method.asks[side], model, batch)
        return self._window.mean(self._method.losses(side, inputs), side, inputs.get("hidden"))

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
        if self.rectifier is not None:
            total = total + self.rectifier.nan_if_refused()
        if not math.isfinite(self.accelerator.reduce(total, reduction="sum").item()):
            shown = ", ".join(f"{name} {value.item():g}" for name, value in self._window.losses.items())
            raise NonFiniteError(
                f"loss or gradients are not finite at step {self.state.global_step + 1} ({shown}): "
                "nothing was stepped or saved; try a lower --learning-rate"
            )

    def note_step(self) -> None:
        """Called when the weights have moved: what the step was goes to the rectifier's rule and to the log."""
        losses, rectifier = self._window.losses, self.rectifier
        if rectifier is not None and hasattr(rectifier.rule, "observe") and "retain_loss" in losses:
            loss = {"retain_loss": losses["retain_loss"].item()}  # of this process's rows
            rectifier.rule.observe(self.mean_over_processes(loss)["retain_loss"])
        if self.args.telemetry:
            surviving = self.rounding.share if self.rounding else None
            self._step_log.add(losses, rectifier.measured() if rectifier else None, surviving)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """To Trainer's log add the means of losses and telemetry since the last one; to evaluations what steps took."""
        if "loss" in logs:
            logs |= self.mean_over_processes(self._step_log.drain())
        if "eval_forget_prob" in logs:
            logs = logs | self.cost.noted
        super().log(logs, *args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # Before Trainer's own part, because the state file it writes last marks the checkpoint as whole.
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if self.rectifier is not None:
            save_rectifier(self.rectifier, folder)
        if self._pairs:
            self._pairs.save(folder)
        if self.own_rate is not None and self.own_rate.state is not None and self.args.should_save:
            self.own_rate.state.save(folder)
        self._note_cost()
        super()._save_checkpoint(model, trial)

    def _note_cost(self) -> None:
        """In the log, from which a resumed run counts on."""
        self.cost.settle(self.args.device)
        if self.cost.noted:
            self.state.log_history.append({"step": self.state.global_step, **self.cost.noted})


def _say_nothing(line: str) -> None:
    """In all processes but the first."""
