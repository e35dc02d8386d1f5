"""Records → token ids and labels: chat template where the tokenizer has one, tags otherwise; labels on answers only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from gru_unlearn.common.sequences import common_prefix_length
from gru_unlearn.data.records import Record, Turn
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import IGNORE_INDEX


class Example(TypedDict):
    """One row, encoded: two equally long lists, and what a run attaches to it."""

    input_ids: list[int]
    labels: list[int]
    """the token itself where it is supervised, ``IGNORE_INDEX`` elsewhere"""
    alternative: NotRequired["Example"]
    """the same conversation with another last answer"""
    reference: NotRequired[float]
    """log-probability of the supervised tokens under the model before unlearning"""
    token_reference: NotRequired[Tensor]
    """the same for each of them, [T]"""
    alternative_reference: NotRequired[float]
    """the same of the alternative"""


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How a conversation becomes text."""

    question_tag: str = "Question: "
    answer_tag: str = "\nAnswer: "
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=lambda: {"date_string": "26 Jul 2024"})
    """Passed to the chat template. The fixed date keeps templates that print today's date reproducible."""


class Encoder:
    """Tokenizes records for one tokenizer and length limit.

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
        self._prompts: dict[tuple[Turn, ...], list[int]] = {}  # rendered once, however many answers a prompt has

    def encode_all(self, records: Sequence[Record], name: str) -> list[Example]:
        """Encode a set of records; ``name`` (forget, retain, ...) begins each message.

        Raises:
            UserError: answers are cut away by ``max_length``, in part or wholly; says in how many rows.
        """
        examples: list[Example] = []
        cut = lost = longest = 0
        for record in records:
            ids, labels = self._encode(record)
            longest = max(longest, len(ids))
            if not record.turns:
                examples += self._windows(ids, labels)
                continue
            kept, left_out = labels[: self.max_length], labels[self.max_length :]
            cut += _supervises(left_out)
            lost += not _supervises(kept[1:])
            examples.append({"input_ids": ids[: self.max_length], "labels": kept})

        advice = f"max length {self.max_length} (the longest row has {longest} tokens): raise --max-length"
        if lost:
            raise UserError(f"{name}: in {lost} of {len(records)} rows no answer token is left within {advice}")
        if cut and not self.allow_truncation:
            raise UserError(
                f"{name}: in {cut} of {len(records)} rows the answer is cut by {advice} or pass --allow-truncation"
            )
        return examples

    def _windows(self, ids: Sequence[int], labels: Sequence[int]) -> Iterator[Example]:
        """A plain text in pieces that fit."""
        for start in range(0, len(ids), self.max_length):
            window = slice(start, start + self.max_length)
            if len(ids[window]) > 1:  # a lone last token has nothing to be predicted from
                yield {"input_ids": list(ids[window]), "labels": list(labels[window])}

    def prompt_ids(self, record: Record) -> list[int]:
        """Everything before the last answer, ready for generation. A plain text has an empty prompt."""
        return list(self._prompt_ids(record.turns[:-1])) if record.turns else []

    def _prompt_ids(self, turns: Sequence[Turn]) -> list[int]:
        key = tuple(turns)
        if key not in self._prompts:
            self._prompts[key] = self._tokenize(key, ends_open=True)
        return self._prompts[key]

    def _encode(self, record: Record) -> tuple[list[int], list[int]]:
        """Untruncated ids and labels. Plain text is supervised throughout, a conversation in its assistant turns."""
        if not record.turns:
            ids = self._with_eos(self.tokenizer(record.text).input_ids)
            return ids, list(ids)
        turns = record.turns
        ids = self._conversation_ids(turns)
        labels = [IGNORE_INDEX] * len(ids)
        for number, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            start = common_prefix_length(self._prompt_ids(turns[:number]), ids)
            end = len(ids)
            if number < len(turns) - 1:
                end = common_prefix_length(self._conversation_ids(turns[: number + 1]), ids)
            labels[start:end] = ids[start:end]
        return ids, labels

    def _conversation_ids(self, turns: Sequence[Turn]) -> list[int]:
        return self._with_eos(self._tokenize(turns, ends_open=False))

    def _tokenize(self, turns: Sequence[Turn], ends_open: bool) -> list[int]:
        """Token ids of a conversation, as the tokenizer gives them; or of one up to where the next answer begins."""
        if not self.tokenizer.chat_template:
            return list(self.tokenizer(self._with_tags(turns, ends_open)).input_ids)
        ids: Any = self.tokenizer.apply_chat_template(
            [{"role": turn.role, "content": turn.content} for turn in turns],
            add_generation_prompt=ends_open,
            tokenize=True,
            return_dict=False,
            **self.format.chat_template_kwargs,
        )
        return list(ids)

    def _with_tags(self, turns: Sequence[Turn], ends_open: bool) -> str:
        """A conversation as text, for tokenizers without a chat template."""
        tags = {"system": "", "user": self.format.question_tag, "assistant": self.format.answer_tag}
        text = "".join(tags[turn.role] + turn.content for turn in turns)
        if ends_open:
            text += self.format.answer_tag.rstrip(" ")
        return text

    def _with_eos(self, ids: Sequence[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        if ids and ids[-1] == end:
            return list(ids)
        return [*ids, end]


def _supervises(labels: Sequence[int]) -> bool:
    return any(label != IGNORE_INDEX for label in labels)
