"""Score once, then measure: the one call that evaluates a model."""

from torch import nn

from gru_unlearn.data import Encoder
from gru_unlearn.evaluation.measure import Evaluation, measure
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.scoring import Progress, score
from gru_unlearn.evaluation.table import ScoreTable


def evaluate(
    model: nn.Module,
    encoder: Encoder,
    suite: Suite,
    *,
    retain_table: ScoreTable | None = None,
    batch_size: int = 32,
    share_prefixes: bool = True,
    across_processes: bool = False,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Score what a suite needs, once, and read all its metrics off the scores.

    Args:
        model: causal language model of transformers, on any device, in any floating-point type.
        encoder: of the model's tokenizer.
        suite: rows and metrics, such as :func:`gru_unlearn.evaluation.suites.tofu`.
        retain_table: scores of a model trained without the forget set: ``score(retain, encoder, suite,
            retain_model=True)``. Without it the metrics that compare with it are listed as missing.
        batch_size: most answers in a forward pass, or prompts in generation; no metric depends on it.
        share_prefixes: evaluate what answers to one prompt have in common once; exact up to rounding.
        across_processes: divide the prompts among the processes of torch.distributed, all of which must make this call.
        on_progress: called with the stage (score, generate, gradnorm), how much is done and how much there is.

    Returns:
        A key in ``metrics`` for each metric of the suite; one without a value is in ``missing``, with the reason.

    Raises:
        UserError: an answer does not fit the encoder's length limit.
    """
    table = score(
        model,
        encoder,
        suite,
        batch_size=batch_size,
        share_prefixes=share_prefixes,
        across_processes=across_processes,
        on_progress=on_progress,
    )
    return measure(suite.metrics, table, retain_table, suite.impossible)
