"""Where the answers stand in a conversation's text, and what ends them: found, never guessed.

A conversation is rendered once as it is, and once for each answer with a placeholder in its place. What differs is the
answer; what differs in any other way is a row that the template drops, doubles or rewrites, and is refused. Neither
generation prompts nor prefixes of the conversation are rendered: templates ignore the first and refuse the second, and
both may read otherwise than the conversation does (Qwen 3's empty think block, DeepSeek-R1's opened one).
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from gru_unlearn.common.sequences import common_prefix_length
from gru_unlearn.data.records import Turn
from gru_unlearn.data.rendering import RowRefusal

PLACEHOLDER = "\ufdd0\ufdd1"
"""Two characters that Unicode keeps out of all texts."""

ANSWER_PLACE = Turn("assistant", PLACEHOLDER)

Frame = Callable[[Sequence[Turn], Sequence[Turn]], str]
"""From the turns before an answer and those behind it to the conversation's text with the placeholder between them."""


class AnswerSpan(NamedTuple):
    """Characters of one answer in the text of its conversation."""

    start: int
    """where the prompt ends. Blanks that a template or tag writes before an answer are the answer's: tokenizers read
    them as part of its first word, and a model is asked without them"""
    end: int
    close: int
    """behind what ends the turn; equal to ``end`` where nothing does"""


def find_answers(turns: Sequence[Turn], text: str, frame: Frame, ends: re.Pattern[str]) -> list[AnswerSpan]:
    """The answers of all assistant turns, in order. The last turn is one.

    Args:
        turns: of the conversation.
        text: of the conversation.
        frame: see :data:`Frame`.
        ends: matches each token that may end a turn, see :func:`ends_among`.

    Raises:
        RowRefusal: an answer that the template leaves out, moves or changes.
    """
    if not set(PLACEHOLDER).isdisjoint(text):
        raise RowRefusal("it holds a character (U+FDD0 or U+FDD1) that Unicode keeps out of texts")
    places = [number for number, turn in enumerate(turns) if turn.role == "assistant"]
    found = []
    for count, number in enumerate(places, start=1):
        name = f"answer {count} of {len(places)}" if len(places) > 1 else "the answer"
        framed = frame(turns[:number], turns[number + 1 :])
        found.append(_find(turns[number].content, text, framed, name))
    return list(_closed(text, found, ends))


def ends_among(tokens: Collection[str]) -> re.Pattern[str]:
    """Matches the tokens that may end a turn: all that are written as a whole, but for runs of blanks."""
    longest_first = sorted((token for token in tokens if token.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _find(answer: str, text: str, framed: str, name: str) -> tuple[int, int]:
    """Where an answer begins and ends in a text that has the placeholder in its place when it is ``framed``."""
    if framed.count(PLACEHOLDER) != 1:
        what = "writes" if PLACEHOLDER in framed else "leaves out"
        raise RowRefusal(f"the chat template {what} {name}{' more than once' if what == 'writes' else ''}")
    before, _, behind = framed.partition(PLACEHOLDER)
    start, end = len(before), len(text) - len(behind)
    if start <= end and text.startswith(before) and text.endswith(behind) and _is_trimmed(text[start:end], answer):
        return start, end
    return _find_with_surroundings(answer, text, framed, name)


def _is_trimmed(shown: str, answer: str) -> bool:
    """Whether this is the answer, with or without the blanks around it."""
    return shown == answer or (shown.strip() == answer.strip() and shown in answer)


def _find_with_surroundings(answer: str, text: str, framed: str, name: str) -> tuple[int, int]:
    """The same where the answer decides what the template writes beside it: it must hold all that differs.

    So does an answer with its own thinking under Qwen 3's template, which puts an empty think block before others.
    """
    begins = common_prefix_length(text, framed)
    ends = len(text) - common_prefix_length(text[::-1], framed[::-1])
    for shown in (answer, answer.strip()):
        start = text.find(shown, max(0, ends - len(shown)), begins + len(shown))
        if shown and start >= 0:
            return start, start + len(shown)
    raise RowRefusal(f"the chat template changes {name}: what it writes is not what the row says")


def _end_of_turn(tail: str, ends: re.Pattern[str]) -> str:
    """What ends a turn, of all that stands behind the last answer: up to the first token that may, else all words."""
    found = ends.search(tail)
    return tail[: found.end()] if found else tail.rstrip()


def _end_of_earlier_turn(text: str, end: int, last: str, ends: re.Pattern[str]) -> str:
    """What ends a turn with others behind it: what ends the ``last`` one, or else a token that begins nothing.

    So does gpt-oss's ``<|end|>`` before the next ``<|start|>``; its last turn ends with ``<|return|>``.
    """
    if last and text.startswith(last, end):
        return last
    found = ends.match(text, end)
    if found and ends.match(text[found.end() :].lstrip()) and not text.startswith(found.group()):
        return found.group()
    return ""


def _closed(text: str, found: Sequence[tuple[int, int]], ends: re.Pattern[str]) -> Iterator[AnswerSpan]:
    last = _end_of_turn(text[found[-1][1] :], ends)
    done = 0
    for start, end in found:
        if start < done:
            raise RowRefusal("the chat template writes the answers in another order")
        ending = last
        if end < found[-1][1]:
            ending = _end_of_earlier_turn(text, end, last, ends)
        close = end + len(ending)
        start_with_blanks = done + len(text[done:start].rstrip(" "))
        yield AnswerSpan(start_with_blanks, end, close)
        done = close
