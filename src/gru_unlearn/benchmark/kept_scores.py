"""Scores of a model on a suite: made once, kept in the cache, and taken again where nothing changed."""

from pathlib import Path

import torch
from rich.console import Console

from gru_unlearn.common.files import default_cache
from gru_unlearn.evaluation import ScoreTable, score
from gru_unlearn.evaluation.cache import find_scores, keep_scores
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.score_key import cache_key
from gru_unlearn.models.subject import Subject
from gru_unlearn.reporting.progress import stages

RETAIN_MODEL = "retain_model"
"""Name of the subject that is scored for what the metrics need of a retain model alone."""


def scores_folder() -> Path:
    """Where score tables are kept for later runs."""
    return default_cache() / "scores"


def key_of_scores(subject: Subject, suite: Suite) -> str:
    """Changes with all that may change the scores."""
    settings = {
        "dtype": subject.settings.dtype,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "trust_remote_code": str(subject.settings.trust_remote_code),
    }
    for_retain = subject.name == RETAIN_MODEL
    return cache_key(subject.sha256, suite, subject.encoder, retain_model=for_retain, settings=settings)


def find_kept_scores(subject: Subject, key: str, console: Console) -> ScoreTable | None:
    """Scores of an earlier evaluation; says so where they are taken."""
    folder = scores_folder()
    table = find_scores(folder, key)
    if table is not None:
        told = f"scores of an earlier run reused, from {folder} (--no-reuse computes them anew)"
        console.print(f"{subject.label}: {told}", soft_wrap=True)
    return table


def score_subject(subject: Subject, suite: Suite, key: str, console: Console, *, batch_size: int) -> ScoreTable:
    """Score a model, and keep the scores for later evaluations."""
    with stages(console, subject.label) as on_progress:
        table = score(
            subject.load(),
            subject.encoder,
            suite,
            retain_model=subject.name == RETAIN_MODEL,
            batch_size=batch_size,
            on_progress=on_progress,
        )
    try:
        keep_scores(scores_folder(), key, table)
    except OSError as error:  # an evaluation does not fail for want of a cache
        console.print(f"{subject.label}: scores are not kept for later runs ({error})", soft_wrap=True)
    return table
