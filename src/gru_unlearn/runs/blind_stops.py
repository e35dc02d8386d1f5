"""Which stops cannot end a run because its evaluations come too seldom: the stops' own rules, asked before the run."""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from gru_unlearn.runs.evaluation_schedule import LATE
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.run_size import steps_of
from gru_unlearn.training import UnlearningConfig
from gru_unlearn.training.aim import Aim
from gru_unlearn.training.course import GUARDED, Evaluated
from gru_unlearn.training.run_length import steps_an_epoch
from gru_unlearn.training.stops import Rules, Why, why_to_stop


class Blind(NamedTuple):
    """What a run's evaluations are too few for."""

    stops: list[Why]
    evaluations: int
    """between the first step and the last"""
    steps: int
    often_enough: int | None
    """steps between evaluations with which each of the stops could act; None: the run is too short for that"""


def blind_stops(recipe: Recipe, sets: Collection[str], rows: int) -> Blind | None:
    """The stops in force that can never act; None where there are none, or hardly anything can be lost between two
    looks.

    Args:
        recipe: the settings, with what the run itself has chosen.
        sets: names of the sets of rows that are evaluated.
        rows: forget rows.
    """
    config = recipe.config
    steps = steps_of(config, rows)
    looks = _looks(config, rows, steps)
    if config.eval_strategy == "no" or _longest_gap(looks, steps) <= LATE:
        return None
    rules = _rules_in_force(recipe, sets, steps)
    stops = _never_acting(looks, rules)
    if not stops:
        return None
    return Blind(stops, len(looks), steps, _often_enough(steps, rules))


def _looks(config: UnlearningConfig, rows: int, steps: int) -> list[int]:
    """The steps of all evaluations behind the first step and before the last, as Trainer has them."""
    an_epoch = steps_an_epoch(config, rows)
    every, from_step = an_epoch, config.eval_delay * an_epoch
    if config.eval_strategy == "steps":
        every, from_step = _in_steps(config.eval_steps or 1, steps), config.eval_delay
    return [step for step in range(every, steps, every) if step >= from_step]


def _in_steps(every: float, steps: int) -> int:
    """Below 1 it is a share of the run."""
    if every < 1:
        every *= steps
    return max(1, math.ceil(every))


def _longest_gap(looks: Sequence[int], steps: int) -> int:
    return max(later - earlier for earlier, later in pairwise([0, *looks, steps]))


def _rules_in_force(recipe: Recipe, sets: Collection[str], steps: int) -> dict[Why, Rules]:
    """Each stop that is wanted, alone."""
    config = recipe.config
    none = Rules(aim=None, limit=0.0, patience=0, warm=config.get_warmup_steps(steps), learning_rate=None, objective="")
    limit, patience = config.resolved_stop_below_kept, config.resolved_stop_without_progress
    found: dict[Why, Rules] = {}
    if recipe.stop_when_forgotten or config.stop_at_forget_prob is not None:
        found["forgotten"] = replace(none, aim=Aim(0.0, 0.0))
    if limit and not set(GUARDED).isdisjoint(sets):
        found["retention"] = replace(none, limit=limit)
    if patience:
        found["no_progress"] = replace(none, patience=patience)
    return found


def _never_acting(looks: Sequence[int], rules: dict[Why, Rules]) -> list[Why]:
    """Those that say nothing at the last look of the plainest course that they are made for."""
    return [why for why, rule in rules.items() if not looks or why_to_stop(_course(why, rule, looks), rule) is None]


def _course(why: Why, rule: Rules, looks: Sequence[int]) -> list[Evaluated]:
    """Enough is forgotten at once; or a little too much is lost; or nothing moves."""
    forget, kept = 1.0, 1.0
    if why == "forgotten":
        forget = 0.0
    if why == "retention":
        kept = rule.limit - 1e-6
    after = [Evaluated(step, forget, {"retain": kept}) for step in looks]
    return [Evaluated(0, 1.0, {"retain": 1.0}), *after]


def _often_enough(steps: int, rules: dict[Why, Rules]) -> int | None:
    """The rarest evaluations with which all act."""
    rarest_first = dict.fromkeys((steps - 1) // times for times in range(1, steps))  # each once: few, even of long runs
    for every in rarest_first:
        if not _never_acting(range(every, steps, every), rules):
            return every
    return None
