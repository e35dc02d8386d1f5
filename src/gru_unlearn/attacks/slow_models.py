"""Large models on a processor: they compute in bfloat16 where it has instructions for it, and are attacked less."""

from dataclasses import replace

import torch

from gru_unlearn.models.stored_types import stored_types
from gru_unlearn.models.subject import Subject
from gru_unlearn.runs.run_compute_type import LARGE
from gru_unlearn.training.compute_type import processor_computes_in_bfloat16


def is_slow(subject: Subject) -> bool:
    """Whether it is large and there is no GPU."""
    return not torch.cuda.is_available() and sum(stored_types(subject.folder).values()) >= LARGE


def computing_fast(subjects: dict[str, Subject]) -> dict[str, Subject]:
    """The models as they compute: all in bfloat16 where nobody says otherwise, a processor is faster so, and they are
    large enough to gain by it."""
    first = next(iter(subjects.values()))
    if first.settings.dtype != "auto" or not is_slow(first) or not processor_computes_in_bfloat16():
        return subjects
    return {name: replace(one, settings=replace(one.settings, dtype="bfloat16")) for name, one in subjects.items()}
