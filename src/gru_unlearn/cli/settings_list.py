"""``gru unlearn --list-settings``: settings in groups, with defaults and what they are, all or those with a word."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from gru_unlearn.errors import UserError
from gru_unlearn.runs.setting_groups import grouped_settings
from gru_unlearn.runs.setting_names import known_settings


def list_settings(word: str, columns: int) -> Iterator[str]:
    """Lines of the list, none longer than so many columns but for defaults that are.

    Args:
        word: only settings that have it in their name or help; empty: all.
        columns: of the terminal.

    Raises:
        UserError: no setting has the word.
    """
    from gru_unlearn.runs.bare_defaults import bare_defaults  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.runs.recipe import setting_names  # noqa: PLC0415

    found, installed = False, set(setting_names())  # another transformers may lack some
    bare = {name: default for name, default in bare_defaults().items() if name in installed}
    for title, names in grouped_settings().items():
        there = [name for name in names if name in installed]
        entries = [entry for name in there for entry in _entry(name, word, columns, bare)]
        if entries:
            yield from (title, *entries, "")
            found = True
    refused = known_settings().refused
    if not found:
        raise UserError(f"no setting has {word!r} in its name or help: --list-settings alone shows all")
    if not word:
        yield from (_wrapped(_with_a_number(bare), columns), "")
        yield _wrapped(f"Refused, each with its reason: {', '.join(refused)}.", columns)


def _entry(name: str, word: str, columns: int, bare: Mapping[str, Any]) -> list[str]:
    """A setting's lines; none if the word is nowhere in it."""
    from gru_unlearn.runs.recipe import describe_setting  # noqa: PLC0415 - heavy imports wait for a command

    default, about = describe_setting(name)
    if word.replace("-", "_").lower() not in name and word.lower() not in about.lower():
        return []
    if name in bare:
        default = str(bare[name] or "")
    shown = f"  {name} [{default}]" if default else f"  {name}"
    return [shown, _wrapped(about, columns, "      ")]


def _with_a_number(bare: Mapping[str, Any]) -> str:
    """The defaults of a run whose learning rate is given."""
    from gru_unlearn.runs.recipe import describe_setting  # noqa: PLC0415 - heavy imports wait for a command

    shown = []
    for name in bare:
        default, _ = describe_setting(name)
        if name != "learning_rate":
            shown.append(f"{name} [{default or 'none'}]")
    return f"These defaults go with learning_rate auto. With a number, and in Python: {', '.join(shown)}."


def _wrapped(text: str, columns: int, indent: str = "") -> str:
    return textwrap.fill(text, max(columns, 40), initial_indent=indent, subsequent_indent=indent)
