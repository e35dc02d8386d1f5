"""What can go wrong in a way that a person can mend, and the exit codes that scripts may rely on."""

import difflib
import errno
from collections.abc import Iterable


class UserError(Exception):
    """Bad input, found before any long work: one line that says what is wrong, where, and what to do. Exit code 2."""

    exit_code = 2


class NonFiniteError(Exception):
    """Loss or gradients became NaN or infinite; nothing was stepped or saved after it. Exit code 3."""

    exit_code = 3


class StorageError(Exception):
    """A file could not be written for want of room. What was finished stays whole; the same command goes on. Exit
    code 4."""

    exit_code = 4


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IN_WORDS = (*(f"(os error {number})" for number in _NO_ROOM), "PytorchStreamWriter failed", "unexpected pos",
             "database or disk is full")  # fmt: skip
"""How safetensors and tokenizers (Rust), ``torch.save`` and SQLite say it, whose errors carry no number."""


def is_no_room(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is a full disk, a spent quota or a limit on file sizes."""
    while error is not None:
        if getattr(error, "errno", None) in _NO_ROOM or any(words in str(error) for words in _IN_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def exit_code(error: BaseException) -> int:
    """What a process ends with: the error's own code, 4 without room to write, else 1."""
    return getattr(error, "exit_code", StorageError.exit_code if is_no_room(error) else 1)


def first_line(error: BaseException) -> str:
    """What an error of a library says, in at most 200 characters, to stand in a message of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def kind_in_words(value: object) -> str:
    """``a dict``, ``an int``: what came where something else was wanted."""
    kind = type(value).__name__
    article = "an" if kind[:1].lower() in set("aeio") else "a"
    return f"{article} {kind}"


def nearest(wrong: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'npo'?"``, or the choices where nothing comes close: the end of an 'unknown name' message."""
    choices = sorted(choices)
    close = difflib.get_close_matches(wrong, choices, n=5, cutoff=0.6)
    close.sort(key=lambda choice: _likeness(wrong, choice), reverse=True)
    return f"; did you mean {close[0]!r}?" if close else f"; choose from: {', '.join(choices)}"


def _likeness(wrong: str, choice: str) -> float:
    """A slip seldom comes in the first letters."""
    return difflib.SequenceMatcher(None, choice, wrong).ratio() + 0.1 * (choice[:3] == wrong[:3])
