"""Task vectors between checkpoints on disk, shard by shard: plain negation, and TRU, its rectified form.

A task vector is what fine-tuning changed: T = θ_tuned − θ_target (Ilharco et al., arXiv 2212.04089). Subtracting it
unlearns the task. TRU (task-vector rectified unlearning, arXiv 2503.09117) does so without retain data: for each group
of forget rows, the part of its vector that would also undo the *other* groups is taken out first.

Reading order: :mod:`checkpoint` (folders of safetensors), :mod:`rectify` (the algebra, in two passes over them). Apart
from these stand :mod:`low_rank` and :mod:`difference`: what a run changed, in the form of LoRA.
"""

from gru_unlearn.task_vectors.checkpoint import Checkpoint
from gru_unlearn.task_vectors.rectify import (
    GRANULARITIES,
    GroupConflict,
    measure_conflicts,
    negate_task_vector,
    rectify_task_vectors,
    save_task_vector,
)

__all__ = [
    "GRANULARITIES",
    "Checkpoint",
    "GroupConflict",
    "measure_conflicts",
    "negate_task_vector",
    "rectify_task_vectors",
    "save_task_vector",
]
