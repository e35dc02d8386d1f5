"""Conversations as text: by the tokenizer's chat template, or with tags where it has none."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from gru_unlearn.data.records import Turn

Render = Callable[[Sequence[Turn]], str]
"""From turns to text."""

BETWEEN_TURNS = "\n\n"
"""Without a chat template: what keeps a turn apart from the one before it, unless it is the answer to a question."""

FAULTS_OF_TEMPLATES = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What a template may raise: its own refusals, and what its expressions do with turns that they did not expect."""


class RowRefusal(Exception):
    """Why a row cannot be encoded; whoever knows its file and number says them."""


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How a conversation becomes text, and what of it is answer."""

    question_tag: str = "Question: "
    answer_tag: str = "\nAnswer: "
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=lambda: {"date_string": "26 Jul 2024"})
    """Passed to the chat template. The fixed date keeps templates that print today's date reproducible, those too that
    ask for it by ``strftime_now``."""
    published_ends: bool = False
    """Label all that a chat template writes behind the last answer, and an end-of-sequence behind that unless it is
    one: what OpenUnlearning's data code (``preprocess_chat_instance``) does, for numbers that must equal its own."""


def renderer(tokenizer: PreTrainedTokenizerBase, text_format: TextFormat) -> Render:
    """How this tokenizer's conversations become text. Raises :class:`RowRefusal` for one that its template refuses."""
    if not tokenizer.chat_template:
        return lambda turns: _with_tags(turns, text_format)
    template = _on_a_fixed_day(tokenizer.get_chat_template(), text_format.chat_template_kwargs.get("date_string"))

    def by_template(turns: Sequence[Turn]) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            text = tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, **text_format.chat_template_kwargs
            )
        except FAULTS_OF_TEMPLATES as error:
            sentence = " ".join(str(error).split()) or type(error).__name__
            raise RowRefusal(f"the chat template does not take this conversation: {sentence}") from None
        return str(text)

    return by_template


DAY = datetime(2024, 7, 26)
"""What a template takes for today, unless its argument ``date_string`` says otherwise."""


def _on_a_fixed_day(template: str, date_string: object) -> str:
    """The template, with a ``strftime_now`` of its own: else its prompts would be others tomorrow."""
    if "strftime_now" not in template:
        return template
    day = DAY
    with suppress(ValueError):
        day = datetime.strptime(str(date_string), "%d %b %Y")
    formats = re.findall(r"""strftime_now\(\s*(?:'([^']*)'|"([^"]*)")""", template)
    written = {one: day.strftime(one) for one in map("".join, formats)}
    table = json.dumps(written, ensure_ascii=False)
    macro = f"{{% macro strftime_now(format) %}}{{{{ {table}.get(format, '{day:%Y-%m-%d}') }}}}{{% endmacro %}}"
    return macro + "{{ '' }}" + template  # an expression, behind which no line break is trimmed away


def _with_tags(turns: Sequence[Turn], text_format: TextFormat) -> str:
    tags = {"system": "", "user": text_format.question_tag, "assistant": text_format.answer_tag}
    parts: list[str] = []
    before = ""
    for turn in turns:
        answers = before == "user" and turn.role == "assistant"
        if parts and not answers:
            parts.append(BETWEEN_TURNS)
        parts.append(tags[turn.role] + turn.content)
        before = turn.role
    return "".join(parts)
