"""What can go wrong in a way that a person can mend, and the exit codes that scripts may rely on."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input, found before any long work: one line that says what is wrong, where, and what to do. Exit code 2."""

    exit_code = 2


class NonFiniteError(Exception):
    """Loss or gradients became NaN or infinite; nothing was stepped or saved after it. Exit code 3."""

    exit_code = 3


def nearest(wrong: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'npo'?"``, or the choices where nothing comes close: the end of an 'unknown name' message."""
    choices = sorted(choices)
    close = difflib.get_close_matches(wrong, choices, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; choose from: {', '.join(choices)}"
