"""Sentences on the console."""

from rich.console import Console


def say(console: Console, sentence: str) -> None:
    """Broken between words on a terminal, which would break anywhere; through a pipe one line, easy to search for."""
    console.print(sentence, soft_wrap=not console.is_terminal, highlight=False, markup=False)
