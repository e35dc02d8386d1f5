"""Which distinct answers a suite's metrics need scored, encoded once each."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from gru_unlearn.common.words import blank_between
from gru_unlearn.data import Encoder, Example, Record
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.rows import RowSet, Suite
from gru_unlearn.evaluation.table import ANSWER, Use
from gru_unlearn.objectives import IGNORE_INDEX


@dataclass(slots=True)
class Task:
    """One distinct (prompt, answer), and what is wanted of it."""

    record: Record
    raw: bool = False
    uses: list[Use] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    start: int = 0
    """where the answer begins in ``ids``"""
    closing: int = 0
    """how many of the last ``ids`` close the answer"""
    max_new_tokens: int = 0
    """longest generation; 0: none wanted"""
    cut_at: str = ""
    gradnorm: bool = False

    @property
    def prompt(self) -> tuple[int, ...]:
        """What comes before the answer; generation goes on from it."""
        return tuple(self.ids[: self.start])

    @property
    def answer(self) -> list[int]:
        """What is scored."""
        return self.ids[self.start :]


def plan_tasks(suite: Suite, needs: Collection[str], encoder: Encoder) -> list[Task]:
    """All distinct (prompt, answer) pairs among the needed ones, in the order of the sets and rows.

    Raises:
        UserError: an answer does not fit the encoder's length limit.
    """
    tasks: dict[tuple[Record, bool], Task] = {}
    for name, rows in suite.sets.items():
        wanted = _wanted_of(name, needs)
        known = len(tasks)
        if wanted:
            _add_answers(tasks, name, rows, wanted)
        _encode(list(tasks.values())[known:], name, encoder)
    return list(tasks.values())


def ids_by_set(tasks: Iterable[Task]) -> dict[str, list[list[int]]]:
    """The token ids of tasks, by the set that asked for them first."""
    ids: dict[str, list[list[int]]] = {}
    for task in tasks:
        ids.setdefault(task.uses[0].set, []).append(task.ids)
    return ids


def _wanted_of(name: str, needs: Collection[str]) -> set[str]:
    parted = (need.rpartition(".") for need in needs)
    return {what for set_name, _, what in parted if set_name == name}


def _add_answers(tasks: dict[tuple[Record, bool], Task], name: str, rows: RowSet, wanted: Collection[str]) -> None:
    """Note the wanted answers of a set: a new task for each that no set before has asked for."""
    for row, item in enumerate(rows.items):
        for role, number, record in item.answers():
            if role != ANSWER and role not in wanted:
                continue
            task = tasks.setdefault((record, rows.raw), Task(record, rows.raw))
            task.uses.append(Use(name, row, role, number))
            if role == ANSWER:
                _ask(task, rows, wanted)


def _ask(task: Task, rows: RowSet, wanted: Collection[str]) -> None:
    """What is wanted of a row's own answer beyond its log-probabilities."""
    task.gradnorm |= "gradnorm" in wanted
    if "generation" in wanted:
        task.max_new_tokens = max(task.max_new_tokens, rows.max_new_tokens)
        task.cut_at = rows.cut_at


def _encode(tasks: list[Task], name: str, encoder: Encoder) -> None:
    """Fill in ``ids``, ``start`` and ``closing``. A plain text longer than the limit is scored in its first window."""
    for task in tasks:
        if task.raw:
            task.ids, task.start = _running_text(task.record, encoder, name)

    chats = [task for task in tasks if not task.raw and task.record.turns]
    texts = [task for task in tasks if not task.raw and not task.record.turns]
    examples = encoder.encode_all([task.record for task in chats], name)
    examples += [encoder.encode_all([task.record], name)[0] for task in texts]
    for task, example in zip(chats + texts, examples, strict=True):
        task.ids, task.start, task.closing = example["input_ids"], _answer_start(example), example["closing"]


def _running_text(record: Record, encoder: Encoder, name: str) -> tuple[list[int], int]:
    """The token ids of prompt and answer as one text, up to the length limit, and where the answer begins."""
    gap = blank_between(record.prompt, record.answer)
    whole, start = encoder.running_text(record.prompt, gap + record.answer)
    whole = whole[: encoder.max_length]
    if not 0 < start < len(whole):
        raise UserError(f"{name}: a prompt leaves no room for its continuation in --max-length {encoder.max_length}")
    return whole, start


def _answer_start(example: Example) -> int:
    """Where the last run of labels begins, at 1 or later: nothing predicts the first token."""
    labels = example["labels"]
    ends_of_prompts = (place for place in range(len(labels), 1, -1) if labels[place - 1] == IGNORE_INDEX)
    return next(ends_of_prompts, 1)
