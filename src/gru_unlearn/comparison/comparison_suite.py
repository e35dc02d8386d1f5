"""The suite on which a comparison evaluates the models that its runs save."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.benchmark.suite_choice import make_suite
from gru_unlearn.data import fingerprint
from gru_unlearn.evaluation import Evaluation, ScoreTable, evaluate, score
from gru_unlearn.evaluation.scoring import Progress
from gru_unlearn.models.model_settings import ASKING, ModelSettings
from gru_unlearn.models.subject import Subject
from gru_unlearn.results.comparison_summary import SuiteUsed
from gru_unlearn.results.file_model import JsonObject
from gru_unlearn.runs.recipe import make_recipe


def suite_request(
    settings: JsonObject, suite: str | None, data: str | None, forget_split: str
) -> EvaluationRequest | None:
    """How the saved models are evaluated: by default on the built-in suite if the data are built in, else not at all.

    Raises:
        UserError: settings that no run can have.
    """
    suite = suite or ("builtin" if str(settings.get("forget")).startswith("builtin:") else "none")
    if suite == "none":
        return None
    recipe = make_recipe(settings)
    names = ("model", "forget", "retain", "retain_model", "dtype", "trust_remote_code")
    return EvaluationRequest(
        **{name: getattr(recipe, name) for name in names},
        suite=suite,
        data=data,
        forget_split=forget_split,
        batch_size=recipe.config.per_device_eval_batch_size,
        max_length=recipe.config.max_length,
    )


def asked_alike(request: EvaluationRequest, settings: ModelSettings) -> EvaluationRequest:
    """The request, which asks every model as the runs do; what is a default stays unsaid."""
    usual = ModelSettings().asked
    unusual: dict[str, Any] = {name: value for name, value in settings.asked.items() if value != usual[name]}
    return replace(request, **unusual)


class SuiteJob(BaseModel):
    """How to evaluate, what that is known by, and the file of the retain model's scores."""

    request: EvaluationRequest
    used: SuiteUsed
    retain_scores: Path


def suite_job(request: EvaluationRequest, retain_scores: Path) -> SuiteJob:
    """It is known by the request, without what changes no result, and the rows."""
    asked = {name: value for name, value in vars(request).items() if name not in ("model", "batch_size")}
    asked = {name: value for name, value in asked.items() if value is not None or name not in ASKING}
    data = {}
    for name, rows in make_suite(request).sets.items():
        data[name] = fingerprint(item.record for item in rows.items)
    return SuiteJob(request=request, used=SuiteUsed(request=asked, data=data), retain_scores=retain_scores)


def score_retain_model(request: EvaluationRequest, folder: Path) -> ScoreTable:
    """The scores that a suite's metrics compare with."""
    subject, suite = _subject(request, folder), make_suite(request)
    return score(subject.load(), subject.encoder, suite, batch_size=request.batch_size, retain_model=True)


def evaluate_on_suite(
    request: EvaluationRequest, folder: Path, retain_table: ScoreTable | None, on_progress: Progress | None = None
) -> Evaluation:
    """All metrics of a saved model."""
    subject, suite, size = _subject(request, folder), make_suite(request), request.batch_size
    return evaluate(
        subject.load(), subject.encoder, suite, retain_table=retain_table, batch_size=size, on_progress=on_progress
    )


def _subject(request: EvaluationRequest, folder: Path) -> Subject:
    return Subject("model", str(folder), folder, ModelSettings.among(vars(request)))
