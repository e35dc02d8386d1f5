"""Records → their texts in pieces: what a model is asked, what it answers, how its turn ends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from transformers import PreTrainedTokenizerBase

from gru_unlearn.data.answer_spans import ANSWER_PLACE, AnswerSpan, ends_among, find_answers
from gru_unlearn.data.records import Record, Turn
from gru_unlearn.data.rendering import RowRefusal, TextFormat, renderer

FRAMES_KEPT = 512
"""Conversations without their answer that are remembered: a scored prompt has many answers, one after another."""

EXCHANGE = (Turn("user", "a"), Turn("assistant", "b"))
"""Shows how a turn ends."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text, of an answer (or its end) or of none."""

    text: str
    is_answer: bool


class Transcripts:
    """How one tokenizer's conversations read."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text_format: TextFormat) -> None:
        self.format, self.eos = text_format, str(tokenizer.eos_token)
        self._render = renderer(tokenizer, text_format)
        self._frame = lru_cache(FRAMES_KEPT)(self._render_around)
        added = [str(token) for token in tokenizer.added_tokens_decoder.values()]
        self._ends = ends_among({*tokenizer.all_special_tokens, *added})

    def pieces(self, record: Record) -> list[Piece]:
        """For each answer of a conversation what stands before it, itself, and its end; a plain text is one piece.

        Joined, they are the conversation's text up to the end of its last turn.

        Raises:
            RowRefusal: the chat template does not take the conversation, or shows an answer otherwise than it is.
        """
        if not record.turns:
            return [Piece(record.text, is_answer=True)]
        turns = tuple(map(self._without_end, record.turns))
        text = self._render(turns)
        return list(self._parted(text, find_answers(turns, text, self._frame, self._ends)))

    @cached_property
    def end_of_turn(self) -> str:
        """What the chat template writes behind an answer to end its turn; else the end-of-sequence token."""
        try:
            text = self._render(EXCHANGE)
            (span,) = find_answers(EXCHANGE, text, self._frame, self._ends)
        except RowRefusal:
            return self.eos
        return text[span.end : span.close].strip() or self.eos

    @property
    def end_token(self) -> str | None:
        """The token that ends a turn, where it is one."""
        found = self._ends.search(self.end_of_turn)
        return found and found.group()

    def _render_around(self, before: Sequence[Turn], behind: Sequence[Turn]) -> str:
        return self._render((*before, ANSWER_PLACE, *behind))

    def _parted(self, text: str, spans: Sequence[AnswerSpan]) -> Iterator[Piece]:
        done = 0
        for span in spans:
            close = span.close
            if self.format.published_ends and span is spans[-1]:
                close = len(text)
            yield Piece(text[done : span.start], is_answer=False)
            yield Piece(text[span.start : span.end], is_answer=True)
            yield Piece(text[span.end : close], is_answer=True)
            done = close

    def _without_end(self, turn: Turn) -> Turn:
        """An answer without an end of its own: its turn has one already.

        Raises:
            RowRefusal: nothing is left of the answer, or it has an end in its midst, where a model would stop.
        """
        if turn.role != "assistant":
            return turn
        ends = {self.end_of_turn, self.eos}
        said = _without_last(turn.content, ends)
        for end in ends:
            if end.strip() and end in said:
                raise RowRefusal(f"an answer holds {end!r}, which ends a turn: take it out")
        if turn.content.strip() and not said.strip():
            raise RowRefusal("an answer is nothing but the end of a turn")
        return replace(turn, content=said)


def _without_last(text: str, ends: set[str]) -> str:
    """The text without ends at its end."""
    found = [end for end in ends if end.strip() and text.rstrip().endswith(end)]
    if not found:
        return text
    return _without_last(text.rstrip().removesuffix(found[0]), ends)
