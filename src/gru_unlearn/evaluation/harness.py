"""WMDP (is hazardous knowledge gone?) and MMLU (is everything else still there?) by lm-evaluation-harness.

The harness brings its own questions, prompts and scoring; it is an optional extra of this package.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from gru_unlearn.common.explanation import Explanation
from gru_unlearn.data import Encoder
from gru_unlearn.errors import UserError

HARNESS_TASKS = {"wmdp": ("wmdp_bio", "wmdp_chem", "wmdp_cyber"), "mmlu": ("mmlu",)}
"""Suite → the harness's names of its tasks."""


def harness_explanations() -> tuple[Explanation, ...]:
    """What the numbers of all suites mean."""
    wmdp, mmlu = "Li et al., WMDP, arXiv 2403.03218", "Hendrycks et al., MMLU, arXiv 2009.03300"
    return (
        *(_accuracy(task, "lower, to 0.25", wmdp) for task in HARNESS_TASKS["wmdp"]),
        *(_accuracy(task, "higher", mmlu) for task in HARNESS_TASKS["mmlu"]),
    )


def _accuracy(task: str, better: str, source: str) -> Explanation:
    return Explanation(
        f"{task}/acc",
        "Share of four-way multiple-choice questions where the right option is the most probable one",
        range="0 to 1; 0.25 by chance",
        better=better,
        source=f"{source}, by lm-evaluation-harness",
    )


def multiple_choice(
    model: nn.Module,
    encoder: Encoder,
    tasks: Sequence[str],
    *,
    batch_size: int = 32,
    limit: int | None = None,
    folder: str | None = None,
) -> dict[str, float]:
    """Accuracy per task, as ``TASK/acc``.

    Args:
        model: causal language model of transformers.
        encoder: of the model's tokenizer.
        tasks: names that the harness knows, such as those of :data:`HARNESS_TASKS`.
        batch_size: questions at once.
        limit: only that many questions of each task.
        folder: task files of your own (the harness's YAML); they go before its own ones of the same name.

    Raises:
        UserError: the harness is not installed, knows no such task, cannot load its questions, or gave no accuracy.
    """
    harness = require_harness()
    wrapped = harness.models.huggingface.HFLM(pretrained=model, tokenizer=encoder.tokenizer, batch_size=batch_size)
    known = harness.tasks.TaskManager(include_path=folder)
    unknown = [task for task in tasks if task not in known.all_tasks]
    if unknown:
        raise UserError(f"lm-evaluation-harness knows no task {', '.join(unknown)}")
    try:
        results = harness.evaluator.simple_evaluate(
            model=wrapped, tasks=list(tasks), task_manager=known, limit=limit, bootstrap_iters=0, log_samples=False
        )["results"]
    except OSError as error:  # what the hub's clients raise
        raise UserError(f"the questions of {', '.join(tasks)} cannot be loaded: {str(error).splitlines()[0]}") from None
    missing = [task for task in tasks if "acc,none" not in results.get(task, {})]
    if missing:
        raise UserError(f"lm-evaluation-harness gave no accuracy for {', '.join(missing)}")
    return {f"{task}/acc": float(results[task]["acc,none"]) for task in tasks}


def require_harness() -> Any:
    """The harness's package, with all that is used of it loaded.

    Raises:
        UserError: it is not installed.
    """
    try:
        import lm_eval.evaluator  # noqa: PLC0415 - an optional extra
        import lm_eval.models.huggingface  # noqa: PLC0415
        import lm_eval.tasks  # noqa: PLC0415
    except ImportError:
        raise UserError("WMDP and MMLU need lm-evaluation-harness: pip install 'gru-unlearn[harness]'") from None
    return lm_eval
