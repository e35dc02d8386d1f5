"""What happens around each optimizer step: the rectifier's attachment, checks, observations, and the step log."""

from collections import defaultdict
from typing import Any, Protocol

from torch import Tensor
from transformers import TrainerCallback

from gru_unlearn.geometry import GradientRectifier, StepTelemetry


class StepLog:
    """Per-step values between two logs. They stay on the device until somebody reads the log."""

    def __init__(self) -> None:
        self.steps: list[tuple[dict[str, Tensor], Tensor | None]] = []

    def add(self, losses: dict[str, Tensor], measured: Tensor | None) -> None:
        """Note one step: its losses, and what the rectifier measured."""
        self.steps.append((losses, measured))

    def drain(self) -> dict[str, float]:
        """Mean of each value over the steps since the last call that have it; conflict_rate is the share of rectified
        steps."""
        seen = defaultdict(list)
        for losses, measured in self.steps:
            for name, value in _as_numbers(losses, measured).items():
                seen[name].append(value)
        self.steps = []
        return {name: sum(values) / len(values) for name, values in seen.items()}


def _as_numbers(losses: dict[str, Tensor], measured: Tensor | None) -> dict[str, float]:
    """One step as numbers."""
    values = {name: float(value) for name, value in losses.items()}
    if measured is None:
        return values
    telemetry = StepTelemetry.of(measured.tolist())
    values |= {
        "conflict_rate": float(telemetry.rectified),
        "conflict_share": telemetry.conflict_share,
        "cosine": telemetry.cosine,
        "removed_share": telemetry.removed_share,
        "forget_grad_norm": telemetry.forget_norm,
        "retain_grad_norm": telemetry.retain_norm,
    }
    if telemetry.retain_change is not None:
        values["retain_change"] = telemetry.retain_change
    return values


class Steps(Protocol):
    """What happens around a step, as a trainer does it."""

    rectifier: GradientRectifier | None

    def prepare_first_step(self) -> None:
        """Model and optimizer are ready, and restored if the run resumes."""

    def check_finite(self) -> None:
        """Gradients are accumulated, rectified and clipped: may they be stepped along?"""

    def note_step(self) -> None:
        """The weights have moved."""


class StepCallback(TrainerCallback):
    """Ties the rectifier and its telemetry to Trainer's events."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Before the first step."""
        self.steps.prepare_first_step()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """⟨r, Δθ⟩ costs two passes over the weights: it is measured at the steps that will be logged."""
        if self.steps.rectifier is None:
            return
        logs = args.telemetry and args.logging_strategy != "no"
        self.steps.rectifier.measure_change = logs and (state.global_step + 1) % max(1, state.logging_steps) == 0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before the optimizer's step."""
        if args.telemetry:
            self.steps.check_finite()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After it."""
        self.steps.note_step()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop where enough is forgotten."""
        stop_at = args.stop_at_forget_prob
        if stop_at is not None and kwargs["metrics"].get("eval_forget_prob", 1.0) <= stop_at:
            control.should_training_stop = True
