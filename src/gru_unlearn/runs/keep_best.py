"""Keeps the best model of a run, by the rule that the user states (:mod:`best_rule`)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from gru_unlearn.common.files import finish, unfinished
from gru_unlearn.common.processes import is_first
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.results.model_metrics import Metrics
from gru_unlearn.results.run_summary import BestModel
from gru_unlearn.runs.best_rule import BestRule

BEST_FOLDER, BEST_FILE = "best", "best.json"


class KeepBest(TrainerCallback):
    """Saves the model at each evaluation that beats the best so far; survives a resume.

    Args:
        rule: what is best.
        output: the run's folder.
        constants: further names that the rule may read, such as ``forget_target``.
        save: writes the model as it stands into a folder.

    Raises:
        UserError: from the first evaluation on, the rule reads a metric that there is not.
    """

    def __init__(
        self, rule: BestRule, output: Path, constants: Mapping[str, float], save: Callable[[str], None]
    ) -> None:
        self.rule, self.output, self.constants, self.save = rule, output, constants, save
        kept = (output / BEST_FOLDER).is_dir()  # not so if a kill came between two moves
        self.best = BestModel.read(output / BEST_FILE) if kept else None

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Compare with the best so far."""
        metrics = {key.removeprefix("eval_"): value for key, value in kwargs["metrics"].items()}
        metrics |= self.constants
        unknown = sorted(self.rule.names - metrics.keys())
        if unknown:
            raise UserError(f"--keep-best: no metric {unknown[0]!r} in this run{nearest(unknown[0], metrics)}")
        score = self.rule.score(metrics)
        if score is None or (self.best is not None and score <= self.best.score):
            return
        self.best = BestModel(step=state.global_step, score=score, metrics=Metrics.model_validate(metrics))
        self.save(str(unfinished(self.output / BEST_FOLDER)))  # every process takes part, where weights are sharded
        if is_first():
            finish(self.output / BEST_FOLDER)
            self.best.write(self.output / BEST_FILE)
