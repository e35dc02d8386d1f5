"""A trainer's learning rate where it is auto: found before the first step, kept right along the run."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gru_unlearn.errors import UserError
from gru_unlearn.training.aim import aim_of
from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.gauge import Gauge
from gru_unlearn.training.on_its_own import AUTO
from gru_unlearn.training.rate_controller import EVERY, RateState, look
from gru_unlearn.training.rate_probe import BOLD_SHARE, HARDLY_KNOWN, KNOWN, SHARE, find_rate, words
from gru_unlearn.training.trial_step import TrialStep

PROVISIONAL = 1e-4
"""In the place of auto until the optimizer is there and the probe has run."""


class Stepper(Protocol):
    """What a trainer offers."""

    args: UnlearningConfig
    lr_scheduler: Any
    state: Any
    say: Callable[[str], object]
    """tells people a line"""

    def take_first_step(self) -> None:
        """The gradients of the first window, rectified and clipped, and the optimizer's step."""

    def begin_at(self, rate: float) -> None:
        """Make optimizer and schedule anew for a learning rate; nothing is left of a step that was taken on trial."""


class OwnRate:
    """Finds and keeps the learning rate of one run.

    Args:
        trainer: at work.
        gauge: its rows.
        way: steps that the way to what is enough should take.

    Attributes:
        state: None until it is found or read.
    """

    def __init__(self, trainer: Stepper, gauge: Gauge, way: int) -> None:
        self._trainer, self._gauge, self._way = trainer, gauge, way
        self.state: RateState | None = None

    def begin(self, checkpoint: str | None, trial: AbstractContextManager[TrialStep]) -> None:
        """Find the rate, or read what the checkpoint keeps of it: optimizer and schedule have it from there.

        Raises:
            UserError: no rate moves the answers, or the checkpoint does not say.
        """
        trainer = self._trainer
        if checkpoint is not None:
            self.state = RateState.load(Path(checkpoint))
            return
        trainer.say("Finding a learning rate: one step on trial, and readings along its direction ...")
        share = SHARE
        rectification = trainer.args.resolved_rectification
        if rectification is not None and rectification.metric > 0:
            share = BOLD_SHARE
        with trial as step:
            self.state = find_rate(step, self._gauge, trainer.take_first_step, self._way, share)
        trainer.args.learning_rate = self.state.chosen
        trainer.begin_at(self.state.chosen)
        trainer.state.log_history.append({"step": 0, "learning_rate_set": self.state.chosen})
        trainer.say(self.why)
        if self.state.start.probability < KNOWN:
            trainer.say(HARDLY_KNOWN.format(self.state.start.probability))

    @property
    def why(self) -> str:
        """What was chosen and why, in a line; empty before."""
        return words(self.state) if self.state is not None else ""

    def after_step(self) -> None:
        """Look, where it is time, and move."""
        state, trainer = self.state, self._trainer
        step = trainer.state.global_step
        if state is None or step % EVERY or step >= trainer.state.max_steps:
            return
        reading = self._gauge.read()
        aim = aim_of(trainer.args)
        move = look(state, step, reading, None if aim is None else aim.enough)
        if move is None:
            return
        self._set(move.learning_rate)
        trainer.state.log_history.append({"step": step, "learning_rate_set": move.learning_rate})
        trainer.say(f"Step {step}: learning rate {move.learning_rate:.2g} from here on, {move.why}.")

    def _set(self, rate: float) -> None:
        """In the schedule, whose factors are on its base rates, and in the optimizer, which has their product."""
        scheduler = self._trainer.lr_scheduler
        factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
        scheduler.base_lrs = [rate for _ in factors]
        scheduler._last_lr = [rate * factor for factor in factors]
        for group, now in zip(scheduler.optimizer.param_groups, scheduler._last_lr, strict=True):
            group["initial_lr"], group["lr"] = rate, now


def rate_to_begin_with(checkpoint: str | None) -> float:
    """The rate with which optimizer and schedule are made: what a checkpoint's run chose, or a provisional one.

    Raises:
        UserError: the checkpoint does not say.
    """
    if checkpoint is None:
        return PROVISIONAL
    return RateState.load(Path(checkpoint)).chosen


def start_rate(optimizer: Optimizer, rate: float) -> None:
    """Give an optimizer a learning rate as if it had been made with it, so that a schedule can be made for it."""
    optimizer.defaults["lr"] = rate
    for group in optimizer.param_groups:
        group["lr"] = rate
        group.pop("initial_lr", None)


_NUMBER = "pass --learning-rate as a number"


def refuse_where_it_cannot(trained_set: str, *, sharded: bool) -> None:
    """Whether a run can find its learning rate by itself.

    Raises:
        UserError: it cannot.
    """
    if trained_set != "forget":
        raise UserError(f"learning rate {AUTO} is for forgetting: {_NUMBER}")
    if sharded:
        raise UserError(f"learning rate {AUTO} does not work with sharded weights (FSDP2): {_NUMBER}")


def require_factors(scheduler: object) -> None:
    """Whether a schedule is a factor on the learning rate, so that this may be another one.

    Raises:
        UserError: it is not: one of the user's own.
    """
    if not isinstance(scheduler, LambdaLR):
        raise UserError(f"learning rate {AUTO} does not work with a schedule of your own: {_NUMBER}")
