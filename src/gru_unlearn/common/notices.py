"""What a person should know although nothing is wrong."""

import warnings


class Notice(UserWarning):
    """Told in one line by the command, once."""


def tell(message: str) -> None:
    """Say something in one line."""
    warnings.warn(message, Notice, stacklevel=3)
