"""The models of an evaluation: found, known by their weights, and scored once: later evaluations take kept scores."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.data import Encoder
from gru_unlearn.data.cache_folder import default_cache
from gru_unlearn.evaluation import ScoreTable, score
from gru_unlearn.evaluation.cache import find_scores, keep_scores
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.score_key import cache_key
from gru_unlearn.models.loading import load_model, load_tokenizer
from gru_unlearn.models.locating import locate
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.reporting.progress import stages
from gru_unlearn.results.provenance import ModelSource


@dataclass(frozen=True)
class ScoredModel:
    """One model of an evaluation: the one in question, or the retain model."""

    name: str
    """``model`` or ``retain_model``"""
    folder: Path
    source: ModelSource
    encoder: Encoder
    key: str
    """of its scores in the cache: changes with all that may change them; empty where there are none"""

    @property
    def label(self) -> str:
        """For people."""
        return self.name.replace("_", " ")


def find_models(request: EvaluationRequest, suite: Suite | None) -> dict[str, ScoredModel]:
    """The models that a request names, by ``model`` and ``retain_model``; without a suite they have no kept scores.

    Raises:
        UserError: one is not there, or has no tokenizer that loads.
    """
    models = {}
    for name, source in (("model", request.model), ("retain_model", request.retain_model)):
        if source:
            folder = locate(source, f"--{name.replace('_', '-')}")
            weights, encoder = hash_weights(folder), _encoder(request, folder)
            key = _key(request, suite, name, weights, encoder)
            models[name] = ScoredModel(name, folder, ModelSource(source=source, sha256=weights), encoder, key)
    return models


def _key(request: EvaluationRequest, suite: Suite | None, name: str, weights: str, encoder: Encoder) -> str:
    if suite is None:
        return ""
    settings = {
        "dtype": request.dtype,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "trust_remote_code": str(request.trust_remote_code),
    }
    return cache_key(weights, suite, encoder, retain_model=name == "retain_model", settings=settings)


def kept_scores(models: Iterable[ScoredModel], console: Console) -> dict[str, ScoreTable]:
    """Scores of earlier evaluations, by the models' names; says which are taken."""
    folder = scores_folder()
    kept = {}
    for model in models:
        table = find_scores(folder, model.key)
        if table is not None:
            kept[model.name] = table
            told = f"scores of an earlier run reused, from {folder} (--no-reuse computes them anew)"
            console.print(f"{model.label}: {told}", soft_wrap=True)
    return kept


def score_model(request: EvaluationRequest, suite: Suite, model: ScoredModel, console: Console) -> ScoreTable:
    """Score a model, and keep the scores for later evaluations."""
    loaded = _load(request, model.folder)
    with stages(console, model.label) as on_progress:
        table = score(
            loaded,
            model.encoder,
            suite,
            retain_model=model.name == "retain_model",
            batch_size=request.batch_size,
            on_progress=on_progress,
        )
    try:
        keep_scores(scores_folder(), model.key, table)
    except OSError as error:  # an evaluation does not fail for want of a cache
        console.print(f"{model.label}: scores are not kept for later runs ({error})", soft_wrap=True)
    return table


def scores_folder() -> Path:
    """Where score tables are kept for later runs."""
    return default_cache() / "scores"


def load_for_scoring(request: EvaluationRequest, folder: Path) -> tuple[Any, Encoder]:
    """A model, on the GPU where there is one, and the encoder of its tokenizer."""
    return _load(request, folder), _encoder(request, folder)


def _load(request: EvaluationRequest, folder: Path) -> Any:
    model: Any = load_model(folder, dtype=request.dtype, trust_remote_code=request.trust_remote_code)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _encoder(request: EvaluationRequest, folder: Path) -> Encoder:
    tokenizer = load_tokenizer(folder, trust_remote_code=request.trust_remote_code)
    return Encoder(tokenizer, max_length=request.max_length)
