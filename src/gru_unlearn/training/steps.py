"""What happens around each optimizer step: the rectifier's attachment, checks, observations, and the step log."""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import TrainerCallback

from gru_unlearn.geometry import StepTelemetry

if TYPE_CHECKING:
    from gru_unlearn.training.trainer import UnlearningTrainer


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
        rows = [self._row(losses, measured) for losses, measured in self.steps]
        self.steps = []
        names = dict.fromkeys(name for row in rows for name in row)
        seen = {name: [row[name] for row in rows if name in row] for name in names}
        return {name: sum(values) / len(values) for name, values in seen.items()}

    @staticmethod
    def _row(losses: dict[str, Tensor], measured: Tensor | None) -> dict[str, float]:
        row = {name: float(value) for name, value in losses.items()}
        if measured is None:
            return row
        telemetry = StepTelemetry.of(measured.tolist())
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
        return row


class StepCallback(TrainerCallback):
    """Ties the rectifier and its telemetry to Trainer's events."""

    def __init__(self, trainer: "UnlearningTrainer") -> None:
        self.trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Model and optimizer are ready, and restored if the run resumes."""
        self.trainer._before_first_step()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """⟨r, Δθ⟩ costs two passes over the weights: it is measured at the steps that will be logged."""
        if self.trainer.rectifier is not None:
            logged = args.telemetry and args.logging_strategy != "no"
            self.trainer.rectifier.measure_change = (
                logged and (state.global_step + 1) % max(1, state.logging_steps) == 0
            )

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Gradients are accumulated, rectified and clipped."""
        if args.telemetry:
            self.trainer._check_finite()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The weights have moved."""
        trainer, rectifier = self.trainer, self.trainer.rectifier
        if rectifier is not None and hasattr(rectifier.rule, "observe"):
            loss = {"retain_loss": trainer._window_losses["retain_loss"].item()}  # of this process's rows
            rectifier.rule.observe(trainer._mean_over_processes(loss)["retain_loss"])
        if args.telemetry:
            trainer._step_log.add(trainer._window_losses, rectifier.measured() if rectifier else None)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop where enough is forgotten."""
        stop_at = self.trainer.args.stop_at_forget_prob
        if stop_at is not None and kwargs["metrics"].get("eval_forget_prob", 1.0) <= stop_at:
            control.should_training_stop = True
