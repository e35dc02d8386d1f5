"""Keeps the best model of a run: by the rule that the user states (:mod:`best_rule`), or one that is good enough."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from gru_unlearn.common.files import finish, unfinished
from gru_unlearn.common.processes import decided_by_first, is_first
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.results.model_metrics import Metrics
from gru_unlearn.results.run_summary import BestModel
from gru_unlearn.runs.best_rule import BestRule
from gru_unlearn.training.aim import Aim, score
from gru_unlearn.training.course import course_of

BEST_FOLDER, BEST_FILE = "best", "best.json"


class BestKeeper(TrainerCallback, ABC):
    """Saves the model at each evaluation that beats the best so far; survives a resume.

    Args:
        output: the run's folder.
        constants: further names beside the metrics of an evaluation, such as ``forget_target``.
        save: writes the model as it stands into a folder.
    """

    def __init__(self, output: Path, constants: Mapping[str, float], save: Callable[[str], None]) -> None:
        self.output, self.constants, self.save = output, constants, save
        kept = (output / BEST_FOLDER).is_dir()  # not so if a kill came between two moves
        self.best = BestModel.read(output / BEST_FILE) if kept else None

    @abstractmethod
    def score(self, metrics: Mapping[str, float], state: Any) -> float | None:
        """What to maximize, by an evaluation's metrics and Trainer's state at it; None: not to be kept."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Compare with the best so far."""
        metrics = {key.removeprefix("eval_"): value for key, value in kwargs["metrics"].items()}
        metrics |= self.constants
        score = decided_by_first(lambda: self.score(metrics, state))
        if score is None or (self.best is not None and score <= self.best.score):
            return
        self.best = BestModel(step=state.global_step, score=score, metrics=Metrics.model_validate(metrics))
        self.save(str(unfinished(self.output / BEST_FOLDER)))  # every process takes part, where weights are sharded
        if is_first():
            finish(self.output / BEST_FOLDER)
            self.best.write(self.output / BEST_FILE)


class KeepBest(BestKeeper):
    """By a rule over the metrics of an evaluation.

    Args:
        rule: what is best.
        more: as :class:`BestKeeper` takes them; the rule may read the constants.

    Raises:
        UserError: from the first evaluation on, the rule reads a metric that there is not.
    """

    def __init__(self, rule: BestRule, *more: Any) -> None:
        super().__init__(*more)
        self.rule = rule

    def __str__(self) -> str:
        """As it may be typed."""
        return f"--keep-best {str(self.rule)!r}"

    def score(self, metrics: Mapping[str, float], state: Any) -> float | None:
        """The rule's own."""
        unknown = sorted(self.rule.names - metrics.keys())
        if unknown:
            raise UserError(f"--keep-best: no metric {unknown[0]!r} in this run{nearest(unknown[0], metrics)}")
        return self.rule.score(metrics)


class KeepGoodEnough(BestKeeper):
    """What a run on its own keeps: of the models that have kept enough of the rest, the one that kept most among those
    that forgot enough; as long as none did, the one that forgot most.

    Args:
        aim: of the run; None: no model ever forgot enough.
        limit: share of their probability that rows which must stay have to keep.
        more: as :class:`BestKeeper` takes them.
    """

    def __init__(self, aim: Aim | None, limit: float, *more: Any) -> None:
        super().__init__(*more)
        self.aim, self.limit = aim, limit

    def __str__(self) -> str:
        """In words."""
        return f"the retention limit of {self.limit:g} (--stop-below-kept)"

    def score(self, metrics: Mapping[str, float], state: Any) -> float | None:
        """That of the model as it stands (:func:`gru_unlearn.training.aim.score`)."""
        if "forget_prob" not in metrics:
            return None
        return score(course_of(state.log_history), self.aim, self.limit)
