"""How a model is asked, as flags of whatever looks at models: each goes before what the model's own run had."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from gru_unlearn.common.options import option
from gru_unlearn.errors import UserError

TYPES_TO_LOAD_IN = ("auto", "float32", "bfloat16", "float16")
"""Of a model that is only looked at."""


def parse_arguments(text: str) -> dict[str, JsonValue]:
    """A JSON object, such as ``{"enable_thinking": false}``.

    Raises:
        UserError: it is none.
    """
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    raise UserError(
        f"--chat-template-kwargs needs a JSON object such as '{{\"enable_thinking\": false}}', got {text!r}"
    )


@dataclass(frozen=True, kw_only=True)
class MannerFlags:
    """Fields of a request that names a model. None: as the run did that wrote it, else the default."""

    max_length: int | None = option(
        "Most tokens of a prompt with its answer.", None, shown="the run's, else 512", least=1
    )
    question_tag: str | None = option("Before a question, without chat template; else the run's.", None)
    answer_tag: str | None = option("Before an answer, likewise.", None)
    chat_template_kwargs: dict[str, JsonValue] | None = option(
        "Arguments for the chat template, as JSON; else the run's.", None, parse=parse_arguments
    )
    pad_token: str | None = option("For tokenizers without a padding token.", None)
    eos_token: str | None = option("For tokenizers without an end-of-sequence token.", None)
    allow_truncation: bool | None = option(
        "Take what max-length leaves of an answer.", None, flags=("--allow-truncation/--no-allow-truncation",)
    )
    attn_implementation: str | None = option("eager, sdpa, flash_attention_2; else the run's.", None)
    published_ends: bool | None = option(
        "Label what a chat template writes behind an answer, as OpenUnlearning; else the run's.",
        None,
        flags=("--published-ends/--no-published-ends",),
    )
