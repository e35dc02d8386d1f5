"""Settings of an unlearning run: everything ``transformers.TrainingArguments`` has, and the few that are ours."""

import inspect
import json
from dataclasses import Field, dataclass, fields
from functools import wraps
from typing import Any, cast

from transformers import TrainingArguments

from gru_unlearn.common.options import option
from gru_unlearn.common.renamed import renamed_settings, warn_of_old_names
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.geometry import NAMES, parse_rectification
from gru_unlearn.objectives import OBJECTIVES, RETAIN_LOSSES
from gru_unlearn.training.compute_type import settle_compute_type
from gru_unlearn.training.hyperparameters import check_hyperparameters, parse_hyperparameters
from gru_unlearn.training.inherited_settings import check_accelerator, check_inherited
from gru_unlearn.training.on_its_own import AUTO, settled
from gru_unlearn.training.resolved_settings import ResolvedSettings
from gru_unlearn.training.setting_limits import check_choices, check_ranges


def _understands_old_names(config: "type[UnlearningConfig]") -> "type[UnlearningConfig]":
    """Lets the settings be given under the names that they used to have, too; what follows from them is added."""
    generated = config.__init__

    @wraps(generated)
    def __init__(self: "UnlearningConfig", *values: Any, **settings: Any) -> None:
        today = renamed_settings(settings)
        warn_of_old_names(settings)
        generated(self, *values, **settled(today))
        if today.keys() != settings.keys():  # hyper-parameters under old names are those of the named objective
            self.check_objective_args()

    config.__init__ = __init__  # type: ignore[method-assign]
    return config


class _ShortHelp(type):
    """``help()`` and ``dir()`` of a class show its own methods and properties; what ``TrainingArguments`` has works as
    ever. Settings stand in its signature."""

    def __dir__(cls) -> list[str]:
        own = vars(cls) | vars(ResolvedSettings)
        return [name for name, value in own.items() if not name.startswith("_") and _is_documented(value)]


def _is_documented(value: object) -> bool:
    return isinstance(value, property) or inspect.isfunction(value)


@_understands_old_names
@dataclass
class UnlearningConfig(ResolvedSettings, TrainingArguments, metaclass=_ShortHelp):
    """Arguments of :class:`UnlearningTrainer`. Objective and rectification are chosen independently.

    ``gru unlearn --list-settings`` says what each is, those of ``transformers.TrainingArguments`` as well.

    Defaults follow the TOFU experiments of arXiv 2503.09117: AdamW, 5 epochs of forget set, batch 4 × accumulation 8,
    linear schedule with one epoch of warm-up, weight decay 0.01.

    Raises:
        UserError: a value that cannot work, or an inherited setting that would not act (:mod:`inherited_settings`).
    """

    objective: str = option(f"Forget objective: {', '.join(OBJECTIVES)}.", "npo")
    rectification: str = option(
        f"What happens to conflicting gradients: {', '.join(NAMES)}; gru also as "
        "gru/GRANULARITY/SPACE/memory=K/metric, for example gru/element/update; a rule's own settings as in "
        "sago/weight=0.1. "
        "Where learning_rate is auto: recommended.",
        "gru",
    )
    robust: str = option(
        "Make forgetting last: none, recommended, spectral or spectral=SHARE, drift or drift=LEARNING_RATES, or "
        "spectral+drift.",
        "none",
    )
    new_gradient_weight: float | None = option(
        "Weight of the newest retain gradient in the smoothed one, in (0, 1]; 1: no smoothing; "
        "None: 0.8 for gru as published, 0.4 for rows and elements, 1 for others.",
        None,
    )
    retain_batch_size: int | None = option(
        "Retain examples per device and backward; None: as many as forget examples, "
        "four times as many for the recommended rectification.",
        None,
    )
    forget_candidates: int | None = option(
        "Forget examples read, without gradients, for each that a step trains on: the least forgotten are taken; 1: no "
        "choice; None: 1, 3 for the recommended rectification, 2 with others where learning_rate is auto.",
        None,
    )
    retain_every: int = option(
        "Pass retain examples at every so many optimizer steps only, from the first on; in between their gradient "
        "stays as it was.",
        1,
    )
    objective_args: dict[str, Any] | str | None = option(
        "Hyper-parameters of the objective, name=value,name=value or JSON; None: the defaults of docs/objectives.md.",
        None,
    )
    hidden_module: str | None = option(
        "Module whose output RMU steers, a pattern for the end of its name; None: a layer near 7/32.", None
    )
    trainable_params: str | None = option(
        "Train only parameters whose name matches this regular expression; None: all.", None
    )
    alternative_field: str = option(
        "Field of the forget rows with another answer, for DPO, IDK and AltPO.", "alternate"
    )
    retain_loss: str | None = option(
        f"Retain loss: {', '.join(RETAIN_LOSSES)}; None: rmu for the objective rmu, anchor with a metric, else nll.",
        None,
    )
    retain_weight: float | None = option(
        "Weight λ of the retain term; None: the objective's own (docs/objectives.md), 20 or 300 with a metric. With "
        "sago, pcgrad and pdu, which add the retain gradient themselves, that of theirs.",
        None,
    )
    retain_placement: str | None = option(
        "The retain term stands 'inside' the rectified gradient, or is added 'after' the projection; None: inside.",
        None,
    )
    retain_direction_dtype: str | None = option(
        "Keep the retain direction as float32 or bfloat16; None: in the type of the gradients.", None
    )
    retain_direction_device: str | None = option(
        "Keep the retain direction on the cpu, off the GPU; None: with the weights.", None
    )
    stop_at_forget_prob: float | None = option(
        "Stop once an evaluation finds the mean forget probability at or below this; goes before the mark.", None
    )
    go_on_to: float | None = option(
        "Once enough is forgotten, go on to this share of that probability while it costs little of the rest; None: "
        "three quarters where learning_rate is auto, a base model gives the mark and nobody said where to stop, two "
        "thirds where another does (control rows: 1), else 1.",
        None,
    )
    stop_below_kept: float | None = option(
        "Stop where held-out or retain rows have kept less than this share of their probability; 0: never; None: 0.95 "
        "where learning_rate is auto, else never.",
        None,
    )
    stop_without_progress: int | None = option(
        "Stop after so many evaluations in which the forget probability hardly fell; 0: never; None: 6 where "
        "learning_rate is auto, else never.",
        None,
    )
    eval_max_rows: int | None = option(
        "Evaluate at most so many evenly spread rows per set along the run; None: all.", 400
    )
    telemetry: bool = option(
        "Note losses and conflicts of every step and stop before a step with NaN. Off: nothing waits for "
        "the device inside a step, and NaN is found when a model is saved.",
        True,
    )
    max_length: int = option("Most tokens an example may have.", 512)
    allow_truncation: bool = option("Train on what max_length leaves of an answer.", False)
    question_tag: str = option("Before a question, without chat template.", "Question: ")
    answer_tag: str = option("Before an answer, without chat template.", "\nAnswer: ")
    chat_template_kwargs: dict[str, Any] | str | None = option(
        "Arguments for the chat template; None: a fixed date_string.", None
    )
    published_ends: bool = option("Label what a chat template writes behind an answer, as OpenUnlearning does.", False)

    output_dir: str | None = option("Where the run keeps everything.", "runs/unlearn")
    learning_rate: float | str = option(  # type: ignore[assignment]  # a number before anybody reads it
        "Peak learning rate; auto, the default of gru unlearn: found by a step on trial, and kept right along the run.",
        1e-5,
    )
    weight_decay: float = option("AdamW's weight decay.", 0.01)
    num_train_epochs: float = option("Passes over the forget set.", 5.0)
    per_device_train_batch_size: int = option("Forget examples per device and backward.", 4)
    gradient_accumulation_steps: int = option("Backward passes per optimizer step.", 8)
    warmup_steps: float = option("Steps of warm-up; below 1: share of all steps.", 0.2)
    logging_steps: float = option("Log every so many steps.", 5)
    eval_on_start: bool = option("Evaluate before the first step.", True)
    bf16: bool | None = option(  # type: ignore[assignment]  # None until it is decided, before anybody reads it
        "Compute in bfloat16 (autocast), whatever the weights' type; None: on GPUs that can, and in the commands' runs "
        "on processors that can, with models from 30 M weights on (an UnlearningConfig alone does not know the model).",
        None,
    )
    logging_nan_inf_filter: bool = option("Off: non-finite losses stop the run.", False)

    # TrainingArguments learns from this list which fields may arrive as JSON text.
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "chat_template_kwargs", "objective_args"]  # noqa: RUF012

    def __post_init__(self) -> None:
        """Check ours first: these errors must come before transformers touches devices or backends."""
        self.on_its_own = self.learning_rate == AUTO
        """whether the run finds its step size, and what follows from it, by itself"""
        check_choices(self)
        self.objective_args = parse_hyperparameters(self.objective_args)
        self._check_method()
        check_ranges(self)
        self._check_retain_every()
        self._check_stops()
        check_inherited(self)
        settle_compute_type(self)
        self.remove_unused_columns = False  # batches are pairs, not columns
        if self.use_liger_kernel:
            self.liger_kernel_config = _without_fused_loss(self.liger_kernel_config)
        choose_transfer = self.accelerator_config is None
        super().__post_init__()
        check_accelerator(self.accelerator_config)
        self.dataloader_pin_memory &= self.device.type == "cuda"  # elsewhere torch only warns about it
        if choose_transfer:  # from pinned memory a batch can be on its way while the GPU is still at work
            cast(Any, self.accelerator_config).non_blocking = self.dataloader_pin_memory

    def __repr__(self) -> str:
        """What was set otherwise than it is by itself; never a secret."""
        shown = [f"{one.name}={value!r}" for one in fields(self) if (value := _set_value(self, one)) is not None]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _check_method(self) -> None:
        try:
            parse_rectification(self.rectification)
        except ValueError as error:
            name = self.rectification.partition("/")[0]
            if name in NAMES:
                raise UserError(str(error)) from None
            raise UserError(f"unknown rectification {name!r}{nearest(name, NAMES)}") from None
        self._check_temper()
        self._check_robust()
        if (self.resolved_retain_loss == "rmu") != (self.objective == "rmu") and self.needs_retain_set:
            raise UserError("objective rmu and retain loss rmu belong together: use both or neither")

    def _check_retain_every(self) -> None:
        if self.retain_every == 1 or self.retain_term_weight == 0:
            return
        raise UserError(
            f"retain_every {self.retain_every} keeps the rectification's retain gradient between its passes, but the "
            f"retain term of weight {self.retain_term_weight:g} would be missing there: set retain_weight to 0, take "
            "a rule that weighs the retain gradient itself (sago, pcgrad, pdu), or leave retain_every at 1"
        )

    def _check_stops(self) -> None:
        if not self.stop_below_kept or self.eval_on_start:
            return
        raise UserError(
            "stop_below_kept compares with the model before the first step, which eval_on_start false leaves out: "
            "leave it away, or stop_below_kept"
        )

    def _check_temper(self) -> None:
        chosen = self._chosen_rectification
        if chosen is None or not chosen.temper or self._keeps_squares:
            return
        raise UserError(
            f"rectification {self.rectification!r} is tempered by the squares that AdamW keeps of each number, and "
            f"optim {self._optimizer!r} is another optimizer: leave optim away, or temper"
        )

    def _check_robust(self) -> None:
        try:
            robust = self.resolved_robust
        except ValueError as error:
            raise UserError(str(error)) from None
        if robust is not None and self.fsdp:
            raise UserError("robust looks at whole matrices, which fsdp shards: leave one of them away")
        if robust is not None and robust.drift and not self._rectifies_updates:
            raise UserError(
                f"robust {self.robust!r} carries weights off, and rectification {self.rectification!r} does not take "
                "out what harms retention: use one in update space (recommended, gru/element/update), or spectral alone"
            )

    def check_objective_args(self) -> None:
        """Check ``objective_args`` against the objective that ``objective`` names, and turn text into numbers.

        Not done by itself, because a trainer may be given an objective of one's own, which has other ones: the trainer
        checks them against the objective that it trains with.

        Raises:
            UserError: the objective has no such parameter, or the value is no finite number.
        """
        found = check_hyperparameters(OBJECTIVES[self.objective], self.hyperparameters, self.objective)
        self.objective_args = found or None


def _set_value(config: UnlearningConfig, setting: "Field[Any]") -> Any:
    """A setting's value, if it is a plain one that is not the default; settled ones, and secrets, are left out."""
    value = getattr(config, setting.name)
    is_default = value == setting.default or not (value or setting.default)
    if setting.name in _SETTLED or setting.name.endswith("_token") or is_default:
        return None
    return value if isinstance(value, bool | int | float | str | dict) else None


_SETTLED = ("remove_unused_columns", "dataloader_pin_memory", "bf16", "disable_tqdm", "do_eval")
"""Settings that may have another value than their default as soon as there is a configuration."""


def _own_signature() -> inspect.Signature:
    """For ``help()``: our settings by name, and that there are those of transformers."""
    own = list(vars(UnlearningConfig)["__annotations__"])
    every = inspect.signature(UnlearningConfig.__init__).parameters
    parameters = [every[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in own if name in every]
    further = inspect.Parameter("training_arguments", inspect.Parameter.VAR_KEYWORD)
    return inspect.Signature([*parameters, further])


UnlearningConfig.__signature__ = _own_signature()  # type: ignore[attr-defined]


def _without_fused_loss(kernels: dict[str, bool] | str | None) -> dict[str, bool]:
    """Liger's settings without its losses, which would replace the model's forward and give no log-probabilities."""
    chosen = json.loads(kernels) if isinstance(kernels, str) else dict(kernels or {})
    asked = [name for name in ("fused_linear_cross_entropy", "cross_entropy") if chosen.get(name)]
    if asked:
        raise UserError(
            f"liger_kernel_config: {asked[0]} gives no log-probability per token, as objectives need it: leave it off"
        )
    return chosen | {"fused_linear_cross_entropy": False, "cross_entropy": False}


def draw_seed(args: TrainingArguments) -> int:
    """Of what is drawn: rows and their partners."""
    return args.seed if args.data_seed is None else args.data_seed
