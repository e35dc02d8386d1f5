"""Whether a model has positions for the rows of a suite: asked of its configuration, before anything long."""

from gru_unlearn.common.modules import positions
from gru_unlearn.data.model_room import require_room
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.tasks import ids_by_set, plan_tasks
from gru_unlearn.models.subject import Subject


def require_suite_room(subject: Subject, suite: Suite, *, retain_model: bool = False) -> None:
    """Check the rows that scoring will read. Where positions have no end, that is left to the scoring itself, which
    looks again: the rows of a large suite are not encoded twice.

    Raises:
        UserError: the model has no room for one.
    """
    encoder = subject.encoder  # first: what loads a tokenizer says best what is no model for it
    model = subject.empty()
    if positions(model) is None:
        return
    tasks = plan_tasks(suite, suite.needs(retain_model), encoder)
    ids = {f"suite {suite.name}, {name}": rows for name, rows in ids_by_set(tasks).items()}
    require_room(model, ids, encoder.tokenizer, subject.label)
