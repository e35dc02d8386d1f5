"""What happens around each optimizer step: the rectifier's attachment, checks, observations, and the step log."""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import TrainerCallback

from gru_unlearn.geometry import StepTelemetry

if TYPE_CHECKING:
    from gru_unlearn.training.trainer import UnlearningTrainer


class StepLog:
    """Per-step values between two logs."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def add(self, losses: dict[str, Tensor], telemetry: StepTelemetry | None) -> None:
        """Note one step."""
        row = {name: float(value) for name, value in losses.items()}
        if telemetry is not None:
            row |= {
                "conflict_rate": float(telemetry.rectified),
                "conflict_share": telemetry.conflict_share,
                "cosine": telemetry.cosine,
                "removed_share": telemetry.removed_share,
                "forget_grad_norm": telemetry.forget_norm,
                "retain_grad_norm": telemetry.retain_norm,
            }
            if telemetry.retain_change is not None:
                row["retain_change"] = telemetry.retain_change
        self.rows.append(row)

    def drain(self) -> dict[str, float]:
        """Mean of each value over the steps since the last call that have it; conflict_rate is the share of rectified
        steps."""
        rows, self.rows = self.rows, []
        names = dict.fromkeys(name for row in rows for name in row)
        seen = {name: [row[name] for row in rows if name in row] for name in names}
        return {name: sum(values) / len(values) for name, values in seen.items()}


class StepCallback(TrainerCallback):
    """Ties the rectifier and its telemetry to Trainer's events."""

    def __init__(self, trainer: "UnlearningTrainer") -> None:
        self.trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The optimizer is ready, and restored if the run resumes."""
        self.trainer._attach_rectifier()

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Gradients are accumulated, rectified and clipped."""
        self.trainer._check_finite()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """The weights have moved."""
        trainer, rectifier = self.trainer, self.trainer.rectifier
        if rectifier is not None and hasattr(rectifier.rule, "observe"):
            rectifier.rule.observe(float(trainer._window_losses["retain_loss"]))
        trainer._step_log.add(trainer._window_losses, rectifier.telemetry if rectifier else None)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop where enough is forgotten."""
        stop_at = self.trainer.args.stop_at_forget_prob
        if stop_at is not None and kwargs["metrics"].get("eval_forget_prob", 1.0) <= stop_at:
            control.should_training_stop = True
