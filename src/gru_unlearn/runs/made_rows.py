"""Retain rows that the model itself makes: its own answers to prompts of many kinds.

Answers are greedy; questions and texts that the model draws itself come from a fixed seed. What says a forget row again
is left out, and so is what is no answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from random import Random
from typing import NamedTuple

from torch import nn

from gru_unlearn.common.modules import evaluating, positions
from gru_unlearn.common.sequences import common_prefix_length
from gru_unlearn.common.words import words
from gru_unlearn.data import Encoder, Record, canonical
from gru_unlearn.data.records import Turn
from gru_unlearn.data.repeats import ForgetWords
from gru_unlearn.data.written_rows import row_of
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.generation import continued, decoded, stop_tokens
from gru_unlearn.reporting.broken_answers import is_broken
from gru_unlearn.runs.retain_prompts import everyday_prompts, prompts_about_others, system_of

LONGEST_ANSWER, LONGEST_QUESTION, LONGEST_TEXT = 96, 40, 64
"""Tokens."""
AT_ONCE = 64
"""Prompts between two looks at whether there are enough rows."""
MOST_TIMES = 4
"""So often a forget row's question is asked about others."""

SOME_ANSWER = "an answer"

OnMade = Callable[[str, int, int], None]
"""What, how many are done, of how many."""

MADE = "made"
"""Field of a made row that says what brought it about: everyday, about others, drawn, text."""


def make_rows(
    model: nn.Module,
    encoder: Encoder,
    forget: Sequence[Record],
    count: int,
    *,
    batch_size: int,
    on_made: OnMade = lambda _what, _done, _total: None,
) -> list[Record]:
    """At most ``count`` rows; fewer where the model says too little of use. Takes no random number of torch.

    Args:
        model: causal language model of transformers, where its forward passes are.
        encoder: of its tokenizer.
        forget: rows of which nothing may come up again.
        count: how many are wanted.
        batch_size: prompts at once; changes rounding alone.
        on_made: called as rows come.
    """
    with evaluating(model):
        maker = _Maker(model, encoder, forget, count, batch_size, on_made)
        return maker.rows()


class _Prompt(NamedTuple):
    """What is asked, and how many tokens the answer may have."""

    kind: str
    question: str
    ids: list[int]
    room: int


class _Maker:
    """One model that answers itself."""

    def __init__(
        self, model: nn.Module, encoder: Encoder, forget: Sequence[Record], count: int, batch_size: int, on_made: OnMade
    ) -> None:
        self.model, self.encoder, self.forget = model, encoder, forget
        self.count, self.batch_size, self.on_made = count, batch_size, on_made
        self.system, self.words, self.rng = system_of(forget), ForgetWords(forget), Random(0)
        self.stop = stop_tokens(model, encoder)
        self.found: dict[Record, Record] = {}

    def rows(self) -> list[Record]:
        if self._asks:
            self._answer(list(_in_turn(self._prompts())))
        if self._reads:
            self._draw_texts()
        return list(self.found.values())[: self.count]

    @property
    def _reads(self) -> bool:
        """Whether plain texts are of the forget rows' kind, or all that the model was ever taught to say."""
        return any(not record.turns for record in self.forget) or not self.encoder.tokenizer.chat_template

    @property
    def _asks(self) -> bool:
        return bool(self.encoder.tokenizer.chat_template) or any(record.turns for record in self.forget)

    # --- questions -----------------------------------------------------------------------------------------------

    def _prompts(self) -> dict[str, list[str]]:
        times = min(MOST_TIMES, -(-self.count // max(1, len(self.forget))))
        return {
            "about others": prompts_about_others(self.forget, times),
            "everyday": everyday_prompts(),
            "drawn": self._drawn_questions(),
        }

    def _drawn_questions(self) -> list[str]:
        """What the model itself puts where a question begins (as arXiv 2406.08464)."""
        first, second = (self.encoder.prompt_ids(self._asked(text, "a")) for text in ("Who?", "1 + 1 ="))
        begun = first[: common_prefix_length(first, second)]
        if not begun:
            return []
        special = set(self.encoder.tokenizer.all_special_ids) | self.stop
        texts: dict[str, None] = {}
        for tokens in self._sampled(begun, LONGEST_QUESTION, "questions"):
            end = next((place for place, token in enumerate(tokens) if token in special), None)
            text = decoded(tokens[:end], self.encoder).partition("\n")[0].strip()
            if end is not None and len(words(text)) > 2:
                texts[text] = None
        return list(texts)

    def _sampled(self, begun: Sequence[int], limit: int, what: str) -> Iterator[list[int]]:
        """As many continuations of one beginning as rows are wanted, in order."""
        prompts, limits = [list(begun)] * self.count, [limit] * self.count
        draws = [[self.rng.random() for _ in range(limit)] for _ in prompts]
        drawn: dict[int, list[int]] = {}
        for number, tokens in continued(self.model, self.encoder, prompts, limits, self.batch_size, draws=draws):
            drawn[number] = tokens
            self.on_made(what, len(drawn), self.count)
        return iter([drawn[number] for number in range(self.count)])

    def _asked(self, question: str, answer: str) -> Record:
        return Record(turns=(*self.system, Turn("user", question), Turn("assistant", answer)))

    def _answer(self, prompts: Sequence[tuple[str, str]]) -> None:
        """Answer one part of the prompts after the other until there are rows enough."""
        for start in range(0, len(prompts), AT_ONCE):
            if len(self.found) >= self.count:
                return
            some = [prompt for prompt in map(self._begun, prompts[start : start + AT_ONCE]) if prompt.room > 0]
            answers: dict[int, str] = {}
            begun, room = [prompt.ids for prompt in some], [prompt.room for prompt in some]
            for number, tokens in continued(self.model, self.encoder, begun, room, self.batch_size):
                text, ended = self._first_answer(tokens)
                if ended:  # one that was cut short would teach to end there
                    answers[number] = text
            for number in sorted(answers):
                self._keep(some[number].kind, self._asked(some[number].question, answers[number]))

    def _begun(self, prompt: tuple[str, str]) -> "_Prompt":
        """A prompt as the model reads it; without room where it cannot be asked."""
        kind, question = prompt
        try:
            ids = self.encoder.prompt_ids(self._asked(question, "a"))
        except UserError:
            return _Prompt(kind, question, [], 0)
        most = min(self.encoder.max_length, positions(self.model) or self.encoder.max_length)
        return _Prompt(kind, question, ids, min(LONGEST_ANSWER, most - len(ids)))

    def _first_answer(self, tokens: Sequence[int]) -> tuple[str, bool]:
        """What was answered, and whether it came to an end: without a template, another question is one."""
        text, ended = decoded(tokens, self.encoder), not self.stop.isdisjoint(tokens[-1:])
        if self.encoder.tokenizer.chat_template:
            return text, ended
        answer, next_question, _ = text.partition(self.encoder.format.question_tag.strip() or "\n")
        return answer.strip(), ended or bool(next_question)

    # --- plain texts ---------------------------------------------------------------------------------------------

    def _draw_texts(self) -> None:
        tokenizer = self.encoder.tokenizer
        begun = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        for tokens in self._sampled([begun], LONGEST_TEXT, "texts"):
            self._keep("text", Record(text=decoded(tokens, self.encoder)))

    # --- what is of use ------------------------------------------------------------------------------------------

    def _keep(self, kind: str, record: Record) -> None:
        """Add a row, unless it is no answer, is there already, or says what must go."""
        if fault_of(record.answer) or not self._can_be_read(record):
            return
        same = canonical(record)
        if same in self.found or self.words.stand_in(record):
            return
        self.found[same] = replace(record, row={**row_of(record), MADE: kind})
        self.on_made("rows", min(len(self.found), self.count), self.count)

    def _can_be_read(self, record: Record) -> bool:
        """Whether the tokens of the row say it, as those of any row must."""
        try:
            return bool(self.encoder.encode_all([record], MADE))
        except UserError:
            return False


def fault_of(text: str) -> bool:
    """Whether a text is no answer: empty, a loop, or characters that were cut in the midst."""
    return is_broken(SOME_ANSWER, text) or "\ufffd" in text


def _in_turn(prompts: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """One prompt of each kind after the other, each with its kind."""
    pairs = [[(kind, text) for text in texts] for kind, texts in prompts.items()]
    return filter(None, chain.from_iterable(zip_longest(*pairs)))
