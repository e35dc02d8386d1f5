"""Which distinct answers a suite's metrics need scored, encoded once each."""

from collections.abc import Collection
from dataclasses import dataclass, field

from gru_unlearn.data import Encoder, Example, Record
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.table import ANSWER, ROLES, Use
from gru_unlearn.objectives import IGNORE_INDEX


@dataclass(slots=True)
class Task:
    """One distinct (prompt, answer), and what is wanted of it."""

    record: Record
    uses: list[Use] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    start: int = 0
    """where the answer begins in ``ids``"""
    max_new_tokens: int = 0
    """longest generation from the prompt; 0: none wanted"""
    gradnorm: bool = False

    @property
    def prompt(self) -> tuple[int, ...]:
        """What comes before the answer."""
        return tuple(self.ids[: self.start])

    @property
    def answer(self) -> list[int]:
        """What is scored."""
        return self.ids[self.start :]


def plan(suite: Suite, needs: Collection[str], encoder: Encoder) -> list[Task]:
    """All distinct (prompt, answer) pairs among the needed ones, in the order of the sets and rows.

    Raises:
        UserError: an answer does not fit the encoder's length limit.
    """
    tasks: dict[Record, Task] = {}
    for name, rows in suite.sets.items():
        wanted = {what for set_name, _, what in (need.rpartition(".") for need in needs) if set_name == name}
        roles = wanted & set(ROLES) | ({ANSWER} if wanted else set())
        known = len(tasks)
        for row, item in enumerate(rows.items):
            for role, number, record in item.answers():
                if role in roles:
                    task = tasks.setdefault(record, Task(record))
                    task.uses.append(Use(name, row, role, number))
                    if role == ANSWER:
                        task.gradnorm |= "gradnorm" in wanted
                        task.max_new_tokens = max(task.max_new_tokens, "generation" in wanted and rows.max_new_tokens)
        _encode(list(tasks.values())[known:], name, encoder)
    return list(tasks.values())


def _encode(tasks: list[Task], name: str, encoder: Encoder) -> None:
    """Fill in ``ids`` and ``start``. A plain text longer than the limit is scored in its first window."""
    conversations = [task for task in tasks if task.record.turns]
    examples = encoder.encode_all([task.record for task in conversations], name)
    texts = [task for task in tasks if not task.record.turns]
    examples += [encoder.encode_all([task.record], name)[0] for task in texts]
    for task, example in zip(conversations + texts, examples, strict=True):
        task.ids, task.start = example["input_ids"], _answer_start(example)


def _answer_start(example: Example) -> int:
    """Where the last run of labels begins, at 1 or later: nothing predicts the first token."""
    labels = example["labels"]
    return next((i for i in range(len(labels), 1, -1) if labels[i - 1] == IGNORE_INDEX), 1)
