"""Settings of an unlearning run: everything ``transformers.TrainingArguments`` has, and the few that are ours."""

import json
import math
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from transformers import TrainingArguments

from gru_unlearn.errors import UserError, nearest
from gru_unlearn.geometry import NAMES, Rectification, default_gradient_weight, parse_rectification
from gru_unlearn.objectives import DEFAULT_RETAIN_WEIGHT, IDK_ANSWERS, OBJECTIVES, RETAIN_LOSSES, hyperparameters_of

RETAIN_PLACEMENTS = ("inside", "after")
DIRECTION_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SAMPLING_STRATEGIES = ("random", "group_by_length")

NO_DEEPSPEED = (
    "DeepSpeed steps inside backward, which leaves no place to rectify the gradient: "
    "use FSDP2 through accelerate (fsdp_version: 2) to train on several devices"
)


@dataclass
class UnlearningConfig(TrainingArguments):
    """Arguments of :class:`UnlearningTrainer`. Objective and rectification are chosen independently.

    Defaults follow the TOFU experiments of arXiv 2503.09117: AdamW, 5 epochs of forget set, batch 4 × accumulation 8,
    linear schedule with one epoch of warm-up, weight decay 0.01.

    Raises:
        UserError: a value that cannot work, or DeepSpeed.
    """

    objective: str = field(default="npo", metadata={"help": f"Forget objective: {', '.join(OBJECTIVES)}."})
    rectification: str = field(
        default="gru",
        metadata={
            "help": f"What happens to conflicting gradients: {', '.join(NAMES)}; gru also as gru/GRANULARITY/SPACE/"
            "memory=K, for example gru/element/update."
        },
    )
    new_gradient_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the newest retain gradient in the smoothed one, in (0, 1]; 1: no smoothing; "
            "None: 0.8 for gru as published, 0.4 for rows and elements, 1 for others."
        },
    )
    retain_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Retain examples per device and backward; None: as many as forget examples, "
            "four times as many for the recommended rectification."
        },
    )
    beta: float | None = field(
        default=None, metadata={"help": "β of WGA, NPO, TNPO, SimNPO, DPO and UNDIAL; None: the objective's own."}
    )
    beta1: float | None = field(default=None, metadata={"help": "β1 of SatImp; None: its own."})
    beta2: float | None = field(default=None, metadata={"help": "β2 of SatImp; None: its own."})
    delta: float | None = field(default=None, metadata={"help": "Margin δ of SimNPO; None: the objective's own."})
    steering_coefficient: float | None = field(default=None, metadata={"help": "c of RMU; None: its own."})
    hidden_module: str | None = field(
        default=None,
        metadata={
            "help": "Module whose output RMU steers, a pattern for the end of its name; None: a layer near 7/32."
        },
    )
    trainable_params: str | None = field(
        default=None, metadata={"help": "Train only parameters whose name matches this regular expression; None: all."}
    )
    alternative_field: str = field(
        default="alternate", metadata={"help": "Field of the forget rows with another answer, for DPO, IDK and AltPO."}
    )
    retain_loss: str | None = field(
        default=None,
        metadata={"help": f"Retain loss: {', '.join(RETAIN_LOSSES)}; None: rmu for the objective rmu, else nll."},
    )
    retain_weight: float | None = field(
        default=None,
        metadata={"help": "Weight λ of the retain term; None: the objective's own (docs/objectives.md)."},
    )
    retain_placement: str = field(
        default="inside",
        metadata={
            "help": "The retain term stands 'inside' the rectified gradient, or is added 'after' the projection."
        },
    )
    retain_direction_dtype: str | None = field(
        default=None,
        metadata={"help": "Keep the retain direction as float32 or bfloat16; None: in the type of the gradients."},
    )
    retain_direction_device: str | None = field(
        default=None, metadata={"help": "Keep the retain direction on the cpu, off the GPU; None: with the weights."}
    )
    stop_at_forget_prob: float | None = field(
        default=None, metadata={"help": "Stop once an evaluation finds the mean forget probability at or below this."}
    )
    eval_max_rows: int | None = field(
        default=400, metadata={"help": "Evaluate at most so many evenly spread rows per set along the run; None: all."}
    )
    telemetry: bool = field(
        default=True,
        metadata={
            "help": "Note losses and conflicts of every step and stop before a step with NaN. Off: nothing waits for "
            "the device inside a step, and NaN is found when a model is saved."
        },
    )
    max_length: int = field(default=512, metadata={"help": "Most tokens an example may have."})
    allow_truncation: bool = field(default=False, metadata={"help": "Train on what max_length leaves of an answer."})
    question_tag: str = field(default="Question: ", metadata={"help": "Before a question, without chat template."})
    answer_tag: str = field(default="\nAnswer: ", metadata={"help": "Before an answer, without chat template."})
    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Arguments for the chat template; None: a fixed date_string."}
    )

    output_dir: str | None = field(default="runs/unlearn", metadata={"help": "Where the run keeps everything."})
    learning_rate: float = field(default=1e-5, metadata={"help": "Peak learning rate."})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's weight decay."})
    num_train_epochs: float = field(default=5.0, metadata={"help": "Passes over the forget set."})
    per_device_train_batch_size: int = field(default=4, metadata={"help": "Forget examples per device and backward."})
    gradient_accumulation_steps: int = field(default=8, metadata={"help": "Backward passes per optimizer step."})
    warmup_steps: float = field(default=0.2, metadata={"help": "Steps of warm-up; below 1: share of all steps."})
    logging_steps: float = field(default=5, metadata={"help": "Log every so many steps."})
    eval_on_start: bool = field(default=True, metadata={"help": "Evaluate before the first step."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Off: non-finite losses stop the run."})

    # TrainingArguments learns from this list which fields may arrive as JSON text.
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "chat_template_kwargs"]  # noqa: RUF012

    def __post_init__(self) -> None:
        """Check ours first: these errors must come before transformers touches devices or backends."""
        self._check_choices()
        self._check_numbers()
        if self.deepspeed:
            raise UserError(NO_DEEPSPEED)
        if self.fp16:
            raise UserError(
                "fp16 rescales gradients from step to step, which would distort the retain direction: use bf16"
            )
        self.remove_unused_columns = False  # batches are pairs, not columns
        if self.use_liger_kernel:
            self.liger_kernel_config = _without_fused_loss(self.liger_kernel_config)
        choose_transfer = self.accelerator_config is None
        super().__post_init__()
        self.dataloader_pin_memory &= self.device.type == "cuda"  # elsewhere torch only warns about it
        if choose_transfer:  # from pinned memory a batch can be on its way while the GPU is still at work
            cast(Any, self.accelerator_config).non_blocking = self.dataloader_pin_memory

    def _check_choices(self) -> None:
        for name, choices in (
            ("objective", tuple(OBJECTIVES)),
            ("retain_loss", (*RETAIN_LOSSES, None)),
            ("retain_placement", RETAIN_PLACEMENTS),
            ("retain_direction_dtype", (*DIRECTION_DTYPES, None)),
            ("retain_direction_device", ("cpu", None)),
            ("train_sampling_strategy", SAMPLING_STRATEGIES),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise UserError(f"unknown {name} {value!r}{nearest(str(value), [c for c in choices if c])}")
        try:
            parse_rectification(self.rectification)
        except ValueError as error:
            name = self.rectification.partition("/")[0]
            known = name in NAMES
            raise UserError(str(error) if known else f"unknown rectification {name!r}{nearest(name, NAMES)}") from None
        for name in self.objective_kwargs:
            if name not in hyperparameters_of(OBJECTIVES[self.objective]):
                raise UserError(f"objective {self.objective!r} has no {name}")
        if (self.resolved_retain_loss == "rmu") != (self.objective == "rmu") and self.needs_retain_set:
            raise UserError("objective rmu and retain loss rmu belong together: use both or neither")

    def _check_numbers(self) -> None:
        def require(name: str, ok: bool, rule: str) -> None:
            if not ok:
                raise UserError(f"{name} must be {rule}, got {getattr(self, name)}")

        def finite(value: float | None) -> bool:
            return value is None or math.isfinite(value)

        require("learning_rate", finite(self.learning_rate) and self.learning_rate > 0, "finite and above 0")
        require("new_gradient_weight", 0 < self.resolved_gradient_weight <= 1, "above 0 and at most 1")
        require("retain_batch_size", self.retain_batch_size is None or self.retain_batch_size >= 1, "at least 1")
        require("beta", self.beta is None or (finite(self.beta) and self.beta > 0), "finite and above 0")
        for name in ("beta1", "beta2", "delta", "steering_coefficient"):
            require(name, finite(getattr(self, name)), "finite")
        require("retain_weight", finite(self.retain_weight) and (self.retain_weight or 0) >= 0, "finite and at least 0")
        require("weight_decay", finite(self.weight_decay) and self.weight_decay >= 0, "finite and at least 0")
        require("max_grad_norm", finite(self.max_grad_norm) and self.max_grad_norm >= 0, "finite and at least 0")
        require("max_length", self.max_length >= 2, "at least 2")
        require("num_train_epochs", finite(self.num_train_epochs) and self.num_train_epochs > 0, "finite and above 0")
        require("per_device_train_batch_size", self.per_device_train_batch_size >= 1, "at least 1")
        require("gradient_accumulation_steps", self.gradient_accumulation_steps >= 1, "at least 1")
        require("eval_max_rows", self.eval_max_rows is None or self.eval_max_rows >= 1, "at least 1")
        if self.stop_at_forget_prob is not None:
            require("stop_at_forget_prob", 0 < self.stop_at_forget_prob < 1, "between 0 and 1")

    @property
    def resolved_rectification(self) -> Rectification | None:
        """The setting's value; None for ``none``."""
        return parse_rectification(self.rectification)

    @property
    def resolved_direction_dtype(self) -> torch.dtype | None:
        """The type that the retain direction is kept in; None: that of the gradients."""
        return DIRECTION_DTYPES[self.retain_direction_dtype] if self.retain_direction_dtype else None

    @property
    def resolved_gradient_weight(self) -> float:
        """γ: as set, or as published."""
        if self.new_gradient_weight is not None:
            return self.new_gradient_weight
        return default_gradient_weight(self.resolved_rectification or Rectification())

    @property
    def resolved_retain_batch_size(self) -> int:
        """Retain examples per device and backward: as set, or four times the forget examples where recommended."""
        factor = 4 if self.rectification == "recommended" else 1
        return self.retain_batch_size or factor * self.per_device_train_batch_size

    @property
    def resolved_retain_weight(self) -> float:
        """λ of the retain term: as set, or as the objective defines it."""
        return self.retain_weight if self.retain_weight is not None else DEFAULT_RETAIN_WEIGHT.get(self.objective, 0.0)

    @property
    def objective_kwargs(self) -> dict[str, float]:
        """Hyper-parameters set by the user, by the objective's parameter names."""
        names = ("beta", "beta1", "beta2", "delta", "steering_coefficient")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def resolved_retain_loss(self) -> str:
        """As set, or as the objective defines it."""
        return self.retain_loss or ("rmu" if self.objective == "rmu" else "nll")

    @property
    def fallback_alternatives(self) -> tuple[str, ...]:
        """Other answers for rows that bring none: AltPO is about answers from a file, the others can do without."""
        return () if self.objective == "altpo" else tuple(IDK_ANSWERS)

    @property
    def needs_retain_set(self) -> bool:
        """Whether any part of the method looks at retain examples."""
        return self.rectification != "none" or self.resolved_retain_weight > 0


def _without_fused_loss(kernels: dict[str, bool] | str | None) -> dict[str, bool]:
    """Liger's settings with its losses off: they would replace the model's forward, and give no log-probabilities.

    Raises:
        UserError: one of them was asked for.
    """
    chosen = json.loads(kernels) if isinstance(kernels, str) else dict(kernels or {})
    asked = [name for name in ("fused_linear_cross_entropy", "cross_entropy") if chosen.get(name)]
    if asked:
        raise UserError(
            f"liger_kernel_config: {asked[0]} gives no log-probability per token, as objectives need it: leave it off"
        )
    return chosen | {"fused_linear_cross_entropy": False, "cross_entropy": False}
