"""Settings of ``gru unlearn`` that mean nothing in a fine-tuning."""

from collections.abc import Iterable

from gru_unlearn.common.options import flag_of
from gru_unlearn.errors import UserError

NO_MEANING = {
    "forget": "name the rows to learn with --train, those to leave out with --without",
    "retain": "all rows to learn stand under --train",
    "retain_model": "gru finetune makes one, with --without; gru unlearn takes it",
    "base_model": "gru finetune begins with --model",
    "control_rows": "nothing is forgotten here: leave it out",
    "stop_at_forget_prob": "use --stop-at-prob, for what is learnt",
    "keep_best": "the last model is saved; --stop-at-prob ends the run where enough is learnt",
} | dict.fromkeys(
    (
        *("stop_when_forgotten", "go_on_to", "stop_below_kept", "stop_without_progress"),
        *("objective", "objective_args", "hidden_module", "alternative_field"),
        *("rectification", "new_gradient_weight", "retain_direction_dtype", "retain_direction_device"),
        *("forget_candidates", "retain_batch_size", "retain_every", "retain_loss", "retain_weight", "retain_placement"),
    ),
    "a fine-tuning lowers −log p of the answers and nothing else: leave it out",
) | dict.fromkeys(
    ("eval_suite", "eval_data", "eval_forget_split", "eval_unseen_split", "report_examples"),
    "look at the finished model with gru evaluate: leave it out",
)  # fmt: skip
"""Setting → what to do instead."""


def check_meaning(settings: Iterable[str]) -> None:
    """Whether all of these settings mean something here.

    Raises:
        UserError: the first that does not.
    """
    for name in settings:
        if name in NO_MEANING:
            raise UserError(f"{flag_of(name)} has no meaning in gru finetune: {NO_MEANING[name]}")
