"""Which fields of a row hold what is learnt or forgotten: one entry for each layout that data sets really have.

A row is read by the one layout that takes up all its content. What no layout knows the name of (``id``, ``author``,
``paraphrased_answer``) is no content and stays with the row; a known content field that would be left over is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from gru_unlearn.errors import UserError


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of the fields that hold a row's content; those that are empty here do not exist in this layout."""

    known_from: str
    """who writes rows like this"""
    asked: str = ""
    """the question: text, or messages"""
    answered: str = ""
    """the answer to it: text, or messages"""
    details: str = ""
    """what may stand there besides: it goes below the question, on a line of its own"""
    messages: str = ""
    """a whole conversation"""
    text: str = ""
    """plain text"""
    repeated: str = ""
    """what may say once more what is read already"""

    @property
    def required(self) -> tuple[str, ...]:
        """Fields without which a row is not of this layout."""
        return tuple(filter(None, (self.asked, self.answered, self.messages, self.text)))

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields whose content is read."""
        more = (self.details,) if self.text else (self.details, *SYSTEM)
        return tuple(filter(None, (*self.required, *more)))


SYSTEM = ("system", "system_prompt")
"""Fields whose text comes before a conversation, in the role of the system."""

LAYOUTS = (
    Layout("TOFU, MUSE's knowmem, the built-in benchmark", asked="question", answered="answer"),
    Layout("OpenAI, TRL", asked="prompt", answered="completion"),
    Layout("OpenAI, TRL, Hugging Face", messages="messages", repeated="prompt"),
    Layout("MUSE's texts, the WMDP corpora, RWKU's passages", text="text"),
    Layout("MUSE's verbmem", asked="prompt", answered="gt"),
    Layout("KnowUnDo", asked="text", answered="labels"),
    Layout("RWKU's probes", asked="query", answered="answer"),
    Layout("LUME (SemEval 2025)", asked="input", answered="output"),
    Layout("Alpaca", asked="instruction", details="input", answered="output", repeated="text"),
    Layout("Dolly", asked="instruction", details="context", answered="response"),
    Layout("LLaMA-Factory", asked="prompt", details="query", answered="response"),
    Layout("OpenOrca", asked="question", answered="response"),
    Layout("query and response", asked="query", answered="response"),
    Layout("ShareGPT", messages="conversations"),
)

_ANSWERS = (
    "answers", "chosen", "completions", "gold", "ground_truth", "label", "outputs", "rejected", "reply", "responses",
    "solution", "summary", "target", "targets",
)  # fmt: skip
_QUESTIONS = (
    "article", "choices", "context", "document", "documents", "history", "images", "options", "passage", "prompts",
    "questions", "story", "tools",
)  # fmt: skip
_WHOLE_ROWS = ("chat", "content", "contents", "conversation", "dialog", "dialogue", "texts")

_OF_LAYOUTS = frozenset(name for layout in LAYOUTS for name in layout.fields)
CONTENT = frozenset((*_OF_LAYOUTS, *_ANSWERS, *_QUESTIONS, *_WHOLE_ROWS))
"""Names of fields that hold content, in whichever layout."""

OF_MESSAGES = frozenset(
    ("tool_calls", "function_call", "reasoning", "reasoning_content", "thinking", "refusal", "images", "audio", "value")
)
"""What a message may hold beside its content, and no conversation here can."""

_MENDS = {
    "chosen": "rename the answer that is meant to completion, and the other one to alternate if an objective pushes "
    "towards it",
    "history": "write the whole conversation as messages",
    "tools": "write what is said as messages without tools",
}  # fmt: skip
_MENDS["rejected"] = _MENDS["chosen"]


def recognise(row: Mapping[str, Any], where: str) -> Layout:
    """The layout of a row: of those whose fields it has, the one that reads all its content, the fullest first.

    Raises:
        UserError: none; ``where`` begins the message, which names what would be lost and how to mend it.
    """
    possible = [layout for layout in LAYOUTS if all(name in row for name in layout.required)]
    if not possible:
        raise UserError(_unknown(row, where))
    possible.sort(key=lambda layout: -sum(name in row for name in layout.fields))
    lost = [_lost(row, layout) for layout in possible]
    least = min(range(len(possible)), key=lambda number: len(lost[number]))
    if not lost[least]:
        return possible[least]
    read, more = listed(possible[least].required), listed(lost[least])
    raise UserError(f"{where} has {read}, and also {more}, which would be lost: {_mend(lost[least])}")


def _lost(row: Mapping[str, Any], layout: Layout) -> list[str]:
    """Fields with content that this layout does not read, but for one that only repeats what is read."""
    lost = left_over(row, layout.fields, CONTENT)
    if layout.repeated in lost and _repeats(row[layout.repeated], row, layout):
        lost.remove(layout.repeated)
    return lost


def _repeats(value: object, row: Mapping[str, Any], layout: Layout) -> bool:
    """Whether a text is one of those that are read, or holds them all and ends with the answer, as a rendering does."""
    read = list(chain.from_iterable(_texts(row.get(name)) for name in layout.fields))
    if not isinstance(value, str) or value in read:
        return value in read
    answer = str(row.get(layout.answered)).rstrip()
    return all(text in value for text in read) and value.rstrip().endswith(answer)


def _texts(value: object) -> list[str]:
    """The text itself, or what each message says."""
    if not isinstance(value, list):
        return [value] if isinstance(value, str) else []
    return [str(message.get("content")) for message in value if isinstance(message, Mapping)]


def left_over(row: Mapping[str, Any], read: Sequence[str], content: frozenset[str]) -> list[str]:
    """Fields with names of content, whatever their case, that hold something and are not read."""
    found = []
    for name, value in row.items():
        if name not in read and _plain(name) in content and holds_content(value):
            found.append(name)
    return found


def unread(row: Mapping[str, Any]) -> list[str]:
    """Fields that hold something and are no content by their names: they stay with the row."""
    return [name for name, value in row.items() if _plain(name) not in CONTENT and holds_content(value)]


def holds_content(value: object) -> bool:
    """Whether a value is text, a list or a mapping that is not empty; numbers and truth values are none."""
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, list | tuple | Mapping) and len(value) > 0


def _plain(name: object) -> str:
    return str(name).strip().lower().replace("-", "_").replace(" ", "_")


def _mend(lost: Sequence[str]) -> str:
    for name in lost:
        if mend := _MENDS.get(_plain(name)):
            return mend
    return "put it into a field that is read, or, if it is not to be learnt, take it out or rename it"


def _unknown(row: Mapping[str, Any], where: str) -> str:
    """The message for a row of no layout."""
    named = listed(row) or "(none)"  # in a file without a head line they are a row's contents
    if rows := [name for name, value in row.items() if _is_rows(value)]:
        return f"{where} is one object with rows in {listed(rows)}: save the rows you mean as a list of their own"
    if mends := [mend for name in row if (mend := _MENDS.get(_plain(name)))]:
        return f"{where} has the fields {named}: {mends[0]}"
    return f"{where} has the fields {named}; it needs question and answer, prompt and completion, messages, or text"


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], Mapping)


def listed(names: Iterable[object]) -> str:
    """Names of fields in a message: on one line, and no more than it can take."""
    return ", ".join(" ".join(str(name).split()) for name in names)[:200]
