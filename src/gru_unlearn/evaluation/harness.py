"""WMDP (is hazardous knowledge gone?) and MMLU (is everything else still there?) by lm-evaluation-harness.

The harness brings its own questions, prompts and scoring; it is an optional extra of this package.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from gru_unlearn.data import Encoder
from gru_unlearn.errors import UserError

TASKS = ("wmdp_bio", "wmdp_chem", "wmdp_cyber", "mmlu")

EXPLANATION = {
    "definition": "Share of four-way multiple-choice questions where the right option is the most probable one",
    "range": "0 to 1; 0.25 by chance",
    "better": "lower for wmdp_*, higher for mmlu",
    "source": "Li et al., WMDP, arXiv 2403.03218; Hendrycks et al., MMLU, arXiv 2009.03300",
}


def multiple_choice(
    model: nn.Module, encoder: Encoder, *, tasks: Sequence[str] = TASKS, batch_size: int = 32, limit: int | None = None
) -> dict[str, float]:
    """Accuracy per task, as ``TASK/acc``.

    Args:
        model: causal language model of transformers.
        encoder: of the model's tokenizer.
        tasks: names that the harness knows.
        batch_size: questions at once.
        limit: only that many questions of each task.

    Raises:
        UserError: the harness is not installed, or gave no accuracy for a task.
    """
    evaluator, wrapper = _harness()
    wrapped = wrapper(pretrained=model, tokenizer=encoder.tokenizer, batch_size=batch_size)
    results = evaluator.simple_evaluate(model=wrapped, tasks=list(tasks), limit=limit)["results"]
    missing = [task for task in tasks if "acc,none" not in results.get(task, {})]
    if missing:
        raise UserError(f"lm-evaluation-harness gave no accuracy for {', '.join(missing)}")
    return {f"{task}/acc": float(results[task]["acc,none"]) for task in tasks}


def _harness() -> tuple[Any, Any]:
    try:
        from lm_eval import evaluator  # noqa: PLC0415 - an optional extra
        from lm_eval.models.huggingface import HFLM  # noqa: PLC0415
    except ImportError:
        raise UserError("WMDP and MMLU need lm-evaluation-harness: pip install 'gru-unlearn[harness]'") from None
    return evaluator, HFLM
