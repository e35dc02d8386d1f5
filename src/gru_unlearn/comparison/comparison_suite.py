"""The suite on which a comparison evaluates the models that its runs save."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from gru_unlearn.benchmark.evaluate_job import EvaluationRequest, load_for_scoring, make_suite
from gru_unlearn.data import fingerprint
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.evaluation import Evaluation, ScoreTable, evaluate, score
from gru_unlearn.results.comparison_summary import SuiteUsed
from gru_unlearn.results.file_model import JsonObject
from gru_unlearn.runs.recipe import make_recipe

CHOICES = ("none", "builtin", "tofu", "own")

SHOWN_METRICS = ("forget_quality", "model_utility", "extraction_strength")


def suite_request(
    settings: JsonObject, suite: str | None, data: str | None, forget_split: str
) -> EvaluationRequest | None:
    """How the saved models are evaluated: by default on the built-in suite if the data are built in, else not at all.

    Raises:
        UserError: an unknown suite, or settings that no run can have.
    """
    if suite is None or suite == "":
        suite = "builtin" if str(settings.get("forget")).startswith("builtin:") else "none"
    if suite not in CHOICES:
        raise UserError(f"unknown suite {suite!r}{nearest(suite, CHOICES)}")
    if suite == "none":
        return None
    recipe = make_recipe(settings)
    return EvaluationRequest(
        model=recipe.model,
        suite=suite,
        data=data,
        forget_split=forget_split,
        forget=recipe.forget,
        retain=recipe.retain,
        retain_model=recipe.retain_model,
        batch_size=recipe.config.per_device_eval_batch_size,
        max_length=recipe.config.max_length,
        dtype=recipe.dtype,
        trust_remote_code=recipe.trust_remote_code,
    )


def suite_used(request: EvaluationRequest | None) -> SuiteUsed | None:
    """What an evaluation is known by: the request, without what changes no result, and the rows."""
    if request is None:
        return None
    asked = {name: value for name, value in asdict(request).items() if name not in ("model", "batch_size")}
    data = {}
    for name, rows in make_suite(request).sets.items():
        data[name] = fingerprint(item.record for item in rows.items)
    return SuiteUsed(request=asked, data=data)


def score_retain_model(request: EvaluationRequest, folder: Path) -> ScoreTable:
    """The scores that a suite's metrics compare with."""
    model, encoder = load_for_scoring(request, folder)
    return score(model, encoder, make_suite(request), batch_size=request.batch_size, retain_model=True)


def evaluate_on_suite(request: EvaluationRequest, folder: Path, retain_table: ScoreTable) -> Evaluation:
    """All metrics of a saved model."""
    asked = replace(request, model=str(folder))
    model, encoder = load_for_scoring(asked, folder)
    return evaluate(model, encoder, make_suite(asked), retain_table=retain_table, batch_size=asked.batch_size)


def shown_metrics(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Those that a comparison shows; None where one is missing."""
    return {name: metrics.get(name) for name in SHOWN_METRICS}
