"""Keeps a run's speed of forgetting right: a pure rule over readings of few rows, and the state that it needs."""

import math
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import BaseModel, ValidationError

from gru_unlearn.errors import UserError
from gru_unlearn.training.gauge import Reading, log_odds

EVERY = 5
"""Steps between two looks."""

LONGEST, PASSES = 20, 10
"""Steps that the way to what is enough should take, and passes over the forget rows, if those are fewer. Its measure is
the log-odds of the forget answers, which fall evenly where their probability, near 1 at first, hardly moves."""

FAST = 4.5
"""Nats by which the log-probability per token of the forget answers may fall in the steps of a whole way: from 0.95 to
0.1, 2.25 nats in all, takes at least half of them."""

NEAR = 5
"""Steps to the end of the way within which nothing is raised any more, however long it was."""

PATIENCE = 10
"""Steps before the rate is raised for the first time: those of the warm-up move little."""

LEFT = 0.1
"""Share of the probability that is enough where none is known."""

HARM, HARM_SHARE = 0.05, 0.5
"""Rise of the retain loss between two looks that is too much: nats per token, and as a share of what was forgotten."""

FACTOR = 1.5
"""By which a move changes the rate."""

MOST_FACTOR = 4.0
"""How far all moves together may go from the rate that was chosen, up or down."""

STATE_FILE = "learning_rate.json"


class Move(BaseModel):
    """One change of the learning rate."""

    step: int
    learning_rate: float
    """from this step on"""
    why: str


class RateState(BaseModel):
    """What was chosen, and all that the controller goes on from."""

    chosen: float
    rate: float
    """as it is now, without warm-up and schedule"""
    reach: float
    """learning rate at which the first step alone would halve the forget answers' probability, or cost the retain rows
    as much"""
    way: int = LONGEST
    """steps that the way to what is enough should take"""
    start: Reading
    last: Reading
    last_step: int = 0
    earlier: Reading | None = None
    """the one before the last"""
    earlier_step: int = 0
    moves: list[Move] = []

    def save(self, folder: Path) -> None:
        """Write it into a checkpoint's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STATE_FILE).write_text(self.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What :meth:`save` wrote.

        Raises:
            UserError: there is none, or it is broken.
        """
        file = folder / STATE_FILE
        try:
            return cls.model_validate_json(file.read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            raise UserError(
                f"{file}, in which a run with learning rate auto keeps what it chose, is missing or broken: "
                "start anew, or go on with --learning-rate as a number in a fresh --output-dir"
            ) from None


def way_of(steps_a_pass: int) -> int:
    """Steps that the way should take, where so many pass over all forget rows: few rows are before every step, and each
    step is of use to all."""
    return min(LONGEST, PASSES * steps_a_pass)


class Change(NamedTuple):
    """A factor on the learning rate, and the reason."""

    factor: float
    why: str


def look(state: RateState, step: int, now: Reading, enough: float | None = None) -> Move | None:
    """Note a reading, and change the state's rate where the speed is wrong.

    Args:
        state: is changed.
        step: steps taken so far.
        now: what the gauge says.
        enough: mean forget probability that is enough, where it is known: beyond it a run takes its time.
    """
    change = change_for(state, step, now, enough)
    state.earlier, state.earlier_step = state.last, state.last_step
    state.last, state.last_step = now, step
    if change is None:
        return None
    least, most = state.chosen / MOST_FACTOR, state.chosen * MOST_FACTOR
    rate = min(max(state.rate * change.factor, least), most)
    if rate == state.rate:
        return None
    state.rate = rate
    move = Move(step=step, learning_rate=rate, why=change.why)
    state.moves.append(move)
    return move


def change_for(state: RateState, step: int, now: Reading, enough: float | None = None) -> Change | None:
    """What the speed since the last look asks for; None: nothing. Arguments are those of :func:`look`."""
    steps = step - state.last_step
    fall, harm = now.forgotten_since(state.last), now.harm_since(state.last)
    speed = fall / steps
    if not all(map(math.isfinite, (fall, harm))):
        return Change(1 / FACTOR, "answers without a finite probability")
    if harm > max(HARM, HARM_SHARE * fall):
        return Change(1 / FACTOR, f"the retain loss rose by {harm:.2f} nats per token in {steps} steps")
    if speed > FAST / state.way:
        return Change(1 / FACTOR, f"forgetting too fast, {speed:.2f} nats per token and step")
    enough = LEFT * state.start.probability if enough is None else enough
    way, left = now.log_odds - log_odds(enough), max(state.way - step, NEAR)
    if step >= PATIENCE and way > _pace(state, step, now) * left:
        return Change(FACTOR, f"forgetting too slow, {speed:.3f} nats per token and step")
    return None


def _pace(state: RateState, step: int, now: Reading) -> float:
    """Fall of the log-odds in a step, never below 0: since the last look or since the one before, whichever was faster,
    because few rows go down by fits and starts."""
    paces = [(state.last.log_odds - now.log_odds) / (step - state.last_step)]
    if state.earlier is not None:
        paces.append((state.earlier.log_odds - now.log_odds) / (step - state.earlier_step))
    return max(0.0, *paces)
