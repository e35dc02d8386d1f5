"""Which distinct answers a suite's metrics need scored, encoded once each."""

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass, field

from gru_unlearn.common.words import blank_between
from gru_unlearn.data import Encoder, Example, Record
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.rows import RowSet, Suite
from gru_unlearn.evaluation.table import ANSWER, WORD_FOR_WORD, Use
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
    given: int = 0
    """of a plain text that is to be continued: how many of ``ids`` are given; 0: all before ``start``"""
    cut_at: str = ""
    gradnorm: bool = False

    @property
    def prompt(self) -> tuple[int, ...]:
        """What comes before the answer."""
        return tuple(self.ids[: self.start])

    @property
    def opening(self) -> tuple[int, ...]:
        """What generation goes on from: the prompt, or the beginning of a plain text."""
        return tuple(self.ids[: self.given or self.start])

    @property
    def due(self) -> list[int]:
        """Of a plain text that is to be continued, the tokens that should come."""
        return self.ids[self.given : self.given + self.max_new_tokens]

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
    for task in tasks.values():
        if task.max_new_tokens and not task.record.turns:
            _cut(task, encoder)
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


def _add_answers(tasks: dict[tuple[Record, bool], Task], name: str, rows: RowSet, wanted: Set[str]) -> None:
    """Note the wanted answers of a set: a new task for each that no set before has asked for."""
    for row, item in enumerate(rows.items):
        for role, number, record in item.answers():
            if role != ANSWER and role not in wanted:
                continue
            task = tasks.setdefault((record, rows.raw), Task(record, rows.raw))
            task.uses.append(Use(name, row, role, number))
            if role == ANSWER:
                _ask(task, rows, wanted)


def _ask(task: Task, rows: RowSet, wanted: Set[str]) -> None:
    """What is wanted of a row's own answer beyond its log-probabilities."""
    task.gradnorm |= "gradnorm" in wanted
    if not wanted.isdisjoint(("generation", WORD_FOR_WORD)):
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


def _cut(text: Task, encoder: Encoder) -> None:
    """Give a model no more than the beginning of a text; one that is too short for that is not continued."""
    asked = encoder.asks({"input_ids": text.ids, "labels": text.ids, "closing": text.closing})
    if asked is None:
        text.max_new_tokens = 0
        return
    text.given = _answer_start(asked)
    text.max_new_tokens = min(text.max_new_tokens, len(asked["input_ids"]) - text.given)


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
