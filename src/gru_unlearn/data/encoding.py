"""Records → token ids and labels: on answers and the ends of their turns, on nothing else, proven row by row."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NotRequired, TypedDict

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from gru_unlearn.common.sequences import common_prefix_length
from gru_unlearn.data.continuations import cut_text
from gru_unlearn.data.records import Record
from gru_unlearn.data.rendering import RowRefusal, TextFormat
from gru_unlearn.data.text_tokens import TextTokens
from gru_unlearn.data.transcripts import Piece, Transcripts
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import IGNORE_INDEX

AT_ONCE = 512
"""Rows that are tokenized together."""


class Example(TypedDict):
    """One row, encoded: two equally long lists, and what a run attaches to it."""

    input_ids: list[int]
    labels: list[int]
    """the token itself where it is supervised, ``IGNORE_INDEX`` elsewhere"""
    closing: NotRequired[int]
    """how many tokens at the end close the answer: they are supervised, but not of its text"""
    alternative: NotRequired["Example"]
    """the same conversation with another last answer"""
    reference: NotRequired[float]
    """log-probability of the supervised tokens under the model before unlearning"""
    token_reference: NotRequired[Tensor]
    """the same for each of them, [T]"""
    base_probability: NotRequired[float]
    """of the answer, to the model before it was fine-tuned, which never saw it"""
    anchor_logps: NotRequired[Tensor]
    """what the retain loss of this name needs of the model before unlearning, [T, K+1]"""
    anchor_tokens: NotRequired[Tensor]
    """likewise, [T, K]"""
    alternative_reference: NotRequired[float]
    """the same of the alternative"""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A row without a limit of length."""

    ids: list[int]
    labels: list[int]
    start: int
    """where the last answer begins"""
    closing: int
    """see :class:`Example`"""


class CutAnswers(UserError):
    """``max_length`` cuts answers away.

    Attributes:
        longest: tokens of the longest row.
    """

    def __init__(self, message: str, longest: int) -> None:
        super().__init__(message)
        self.longest = longest


class Encoder:
    """Tokenizes records for one tokenizer and length limit.

    A conversation is tokenized up to the end of its last answer's turn; what a chat template writes behind that is read
    by nobody. Its labels are those of :func:`~gru_unlearn.data.answer_spans.find_answers`, and generation begins where
    the last of them do. So training, scoring and generation see one prompt.

    Args:
        tokenizer: needs an end-of-sequence and a padding token.
        max_length: most tokens an example may have. Longer plain texts are cut into consecutive windows; an answer
            that would lose tokens is an error unless ``allow_truncation``.
        text_format: tags for tokenizers without a chat template, and arguments of the template.
        allow_truncation: train on what is left of a longer answer. An answer of which nothing is left stays an error.

    Raises:
        UserError: the tokenizer has no end-of-sequence or padding token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int = 512,
        text_format: TextFormat | None = None,
        allow_truncation: bool = False,
    ) -> None:
        for token, flag in (("eos_token", "--eos-token"), ("pad_token", "--pad-token")):
            if getattr(tokenizer, token) is None:
                raise UserError(
                    f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no {token}: name one with {flag}"
                )
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.format = text_format or TextFormat()
        self.allow_truncation = allow_truncation
        self._texts, self._tokens = Transcripts(tokenizer, self.format), TextTokens(tokenizer)

    def __repr__(self) -> str:
        """``Encoder(PreTrainedTokenizerFast, max_length=512)``."""
        return f"{type(self).__name__}({type(self.tokenizer).__name__}, max_length={self.max_length})"

    def encode_all(self, records: Sequence[Record], name: str) -> list[Example]:
        """Encode a set of records; ``name`` (forget, retain, ...) begins each message.

        Raises:
            CutAnswers: by ``max_length``, in part or wholly; says in how many rows.
            UserError: a row that the chat template does not take, or shows otherwise than it is; says which.
        """
        examples: list[Example] = []
        cut = lost = longest = 0
        for record, row in zip(records, self._encode(records, name), strict=True):
            if not record.turns:
                examples += self._windows(row.ids)
                continue
            longest = max(longest, len(row.ids))
            kept, left_out = row.labels[: self.max_length], row.labels[self.max_length :]
            cut += _supervises(left_out)
            lost += not _supervises(kept[1:])
            closing = max(0, row.closing - len(left_out))
            examples.append({"input_ids": row.ids[: self.max_length], "labels": kept, "closing": closing})

        advice = f"max length {self.max_length} (the longest row has {longest} tokens): raise --max-length"
        if lost:
            what = f"in {lost} of {len(records)} rows no answer token is left within"
            raise CutAnswers(f"{name}: {what} {advice}", longest)
        if cut and not self.allow_truncation:
            raise CutAnswers(
                f"{name}: in {cut} of {len(records)} rows the answer is cut by {advice} or pass --allow-truncation",
                longest,
            )
        return examples

    def _windows(self, ids: Sequence[int]) -> Iterator[Example]:
        """A plain text in pieces that fit, supervised throughout."""
        for start in range(0, len(ids), self.max_length):
            window = list(ids[start : start + self.max_length])
            if len(window) > 1:  # a lone last token has nothing to be predicted from
                closing = int(start + len(window) == len(ids))
                yield {"input_ids": window, "labels": list(window), "closing": closing}

    def prompt_ids(self, record: Record) -> list[int]:
        """Everything before the last answer, ready for generation. A plain text has an empty prompt.

        Raises:
            UserError: as :meth:`encode_all`.
        """
        if not record.turns:
            return []
        row = next(self._encode([record], "prompts"))
        return row.ids[: row.start]

    def asks(self, example: Example) -> Example | None:
        """What a model is asked to see whether it says an example word for word: supervised is what should come.

        That is the example itself, or of a plain text its continuation behind the beginning
        (:mod:`gru_unlearn.data.continuations`). None: the text is too short to be cut, or nothing but blanks follows.
        """
        ids = example["input_ids"]
        if example["labels"][0] == IGNORE_INDEX:
            return example
        opening = self._tokens.opening
        before = len(opening) if ids[: len(opening)] == opening else 0
        cut = cut_text(ids, opening=before, closing=example.get("closing", 0), stop=self.stop_tokens)
        if cut is None:
            return None
        due = ids[cut.given : cut.end]
        if not str(self.tokenizer.decode(due, skip_special_tokens=True)).strip():
            return None
        return {"input_ids": ids[: cut.end], "labels": [IGNORE_INDEX] * cut.given + due, "closing": 0}

    def running_text(self, prompt: str, continuation: str) -> tuple[list[int], int]:
        """The tokens of a text that goes on as one, without an end, and where its continuation begins."""
        known = self._tokens.ids([prompt, prompt + continuation])
        before, whole = (self._tokens.opened(known[text]) for text in (prompt, prompt + continuation))
        return whole, common_prefix_length(before, whole)

    @property
    def end_of_turn(self) -> str:
        """What ends an answer: what the chat template writes, such as ``<|im_end|>``, or end-of-sequence."""
        return self._texts.end_of_turn

    @cached_property
    def stop_tokens(self) -> frozenset[int]:
        """What generation ends with: end-of-sequence, and the end of a turn where that is a token."""
        ending = self._texts.end_token or self.tokenizer.eos_token
        return frozenset({self.tokenizer.eos_token_id, self.tokenizer.convert_tokens_to_ids(ending)})

    def _encode(self, records: Sequence[Record], name: str) -> Iterator[_Encoded]:
        """Untruncated ids and labels. Plain text is supervised throughout, a conversation in its assistant turns."""
        for start in range(0, len(records), AT_ONCE):
            some = records[start : start + AT_ONCE]
            wheres = [record.where or f"{name}, row {number}" for number, record in enumerate(some, start=start + 1)]
            rows = []
            for record, where in zip(some, wheres, strict=True):
                with _refused_at(where):
                    rows.append(self._texts.pieces(record))

            known = self._tokens.of_beginnings([piece.text for piece in pieces] for pieces in rows)
            for record, pieces, where in zip(some, rows, wheres, strict=True):
                with _refused_at(where):
                    parts = self._tokens.cut([piece.text for piece in pieces], known)
                    yield self._conversation(pieces, parts) if record.turns else self._plain(parts[0])

    def _plain(self, text: Sequence[int]) -> _Encoded:
        """A plain text, with one end-of-sequence."""
        ids = self._tokens.opened(text)
        while ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()
        ids.append(self.tokenizer.eos_token_id)
        return _Encoded(ids, list(ids), start=0, closing=1)

    def _conversation(self, pieces: Sequence[Piece], parts: list[list[int]]) -> _Encoded:
        """A conversation, whose last two pieces are the last answer and its end."""
        self._prove(pieces, parts)
        if not self.tokenizer.chat_template:
            parts[0] = self._tokens.opened(parts[0])
        if not any(parts[:-2]):
            raise RowRefusal("nothing stands before the answer, so there is nothing to ask")
        if self._needs_end(pieces[-1].text, parts[-1]):
            parts[-1] = [*parts[-1], self.tokenizer.eos_token_id]

        ids: list[int] = []
        labels: list[int] = []
        for piece, part in zip(pieces, parts, strict=True):
            ids += part
            labels += part if piece.is_answer else [IGNORE_INDEX] * len(part)
        closing = 1 if self.format.published_ends else len(parts[-1])
        return _Encoded(ids, labels, start=len(ids) - len(parts[-1]) - len(parts[-2]), closing=closing)

    def _needs_end(self, written: str, tokens: Sequence[int]) -> bool:
        """Whether an end-of-sequence must be put behind what the template writes to end the last turn."""
        if self.format.published_ends:
            return self.tokenizer.eos_token_id not in tokens[-1:]
        return not written

    def _prove(self, pieces: Sequence[Piece], parts: Sequence[Sequence[int]]) -> None:
        """That the labels say the answers and the ends of their turns."""
        for number, (piece, part) in enumerate(zip(pieces, parts, strict=True)):
            if piece.is_answer and not self._tokens.say(part, piece.text):
                raise RowRefusal(
                    f"the tokens of answer {1 + number // 3} do not say it: its label would be another text"
                )


@contextmanager
def _refused_at(where: str) -> Iterator[None]:
    """Inside, a refused row becomes the user's error, which says where the row stands."""
    try:
        yield
    except RowRefusal as refusal:
        raise UserError(f"{where}: {refusal}") from None


def _supervises(labels: Sequence[int]) -> bool:
    return any(label != IGNORE_INDEX for label in labels)
