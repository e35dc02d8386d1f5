"""Records → token ids and labels: chat template where the tokenizer has one, tags otherwise; labels on answers only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from gru_unlearn.common.sequences import common_prefix_length
from gru_unlearn.data.records import Record, Turn
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import IGNORE_INDEX

Example = dict[str, Any]
"""``input_ids`` and ``labels``, two equally long lists; more fields may ride along, see :mod:`collation`."""


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
        examples, cut, lost, longest = [], 0, 0, 0
        for record in records:
            ids, labels = self._encode(record)
            longest = max(longest, len(ids))
            if not record.turns:
                for start in range(0, len(ids), self.max_length):
                    window = slice(start, start + self.max_length)
                    if len(ids[window]) > 1:  # a lone last token has nothing to be predicted from
                        examples.append({"input_ids": ids[window], "labels": labels[window]})
                continue
            cut += any(label != IGNORE_INDEX for label in labels[self.max_length :])
            ids, labels = ids[: self.max_length], labels[: self.max_length]
            lost += all(label == IGNORE_INDEX for label in labels[1:])
            examples.append({"input_ids": ids, "labels": labels})
        advice = f"max length {self.max_length} (the longest row has {longest} tokens): raise --max-length"
        if lost:
            raise UserError(f"{name}: in {lost} of {len(records)} rows no answer token is left within {advice}")
        if cut and not self.allow_truncation:
            raise UserError(
                f"{name}: in {cut} of {len(records)} rows the answer is cut by {advice} or pass --allow-truncation"
            )
        return examples

    def prompt_ids(self, record: Record) -> list[int]:
        """Everything before the last answer, ready for generation. A plain text has an empty prompt."""
        return list(self._prompt_ids(record.turns[:-1])) if record.turns else []

    def _prompt_ids(self, turns: Sequence[Turn]) -> list[int]:
        key = tuple(turns)
        if key not in self._prompts:
            self._prompts[key] = self._ids(key, generation=True)
        return self._prompts[key]

    def _encode(self, record: Record) -> tuple[list[int], list[int]]:
        """Untruncated ids and labels. Plain text is supervised throughout, a conversation in its assistant turns."""
        if not record.turns:
            ids = _with_eos(self.tokenizer(record.text).input_ids, self.tokenizer)
            return ids, list(ids)
        turns = record.turns
        ids = self._ids(turns)
        labels = [IGNORE_INDEX] * len(ids)
        for number, turn in enumerate(turns):
            if turn.role == "assistant":
                start = common_prefix_length(self._prompt_ids(turns[:number]), ids)
                end = len(ids)
                if number < len(turns) - 1:
                    end = common_prefix_length(self._ids(turns[: number + 1]), ids)
                labels[start:end] = ids[start:end]
        return ids, labels

    def _ids(self, turns: Sequence[Turn], generation: bool = False) -> list[int]:
        """Token ids of a conversation; with ``generation``, up to where the next answer begins."""
        tokenizer = self.tokenizer
        if tokenizer.chat_template:
            ids: Any = tokenizer.apply_chat_template(
                [{"role": turn.role, "content": turn.content} for turn in turns],
                add_generation_prompt=generation,
                tokenize=True,
                return_dict=False,
                **self.format.chat_template_kwargs,
            )
        else:
            tags = {"system": "", "user": self.format.question_tag, "assistant": self.format.answer_tag}
            text = "".join(tags[turn.role] + turn.content for turn in turns)
            ids = tokenizer(text + self.format.answer_tag.rstrip(" ") if generation else text).input_ids
        return list(ids) if generation else _with_eos(ids, tokenizer)


def _with_eos(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(ids) if ids and ids[-1] == tokenizer.eos_token_id else [*ids, tokenizer.eos_token_id]
