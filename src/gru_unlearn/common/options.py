"""Fields of a request: what a flag says about itself, its range and its spelling, written once."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, fields
from typing import Any

from gru_unlearn.errors import UserError, nearest


def option(help: str, default: Any = MISSING, **about: Any) -> Any:
    """A field of a dataclass that is a flag, too. Without a default it must be given.

    Args:
        help: in a line.
        default: of the field.
        about: its range: ``least``, ``above``, ``most``, ``below``, ``between``, ``finite``; its names: ``choices``, of
            which the nearest is named where another one is given, or ``one_of``, which are all named; and on the
            command line: ``flags`` that are not the field's name, ``argument`` for a word without flag, ``parse`` for
            what a text means, ``shown`` in place of the default, ``place`` for what it names (model, rows, joined
            rows, ledger, folder, file), which must be there, ``needed`` where it must be given although it has a
            default, ``shows`` for a flag by which something is shown and nothing done, ``flag_value`` for what the
            flag means without a value.
    """
    return field(default=default, metadata={"help": help, **about})


def flag_of(name: str) -> str:
    """``batch_size`` → ``--batch-size``."""
    return f"--{name.replace('_', '-')}"


def parse_names(text: str) -> tuple[str, ...]:
    """``"a, b"`` → ``("a", "b")``, each once."""
    return tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))


_BOUNDS: dict[str, tuple[str, Callable[[float, Any], bool]]] = {
    "least": ("at least {}", operator.ge),
    "above": ("above {}", operator.gt),
    "most": ("at most {}", operator.le),
    "below": ("below {}", operator.lt),
    "between": ("between {0[0]} and {0[1]}", lambda value, ends: ends[0] < value < ends[1]),
    "finite": ("finite", lambda value, _: math.isfinite(value)),
}


def check_range(name: str, value: Any, about: Mapping[str, Any]) -> None:
    """Whether a value is what its field says; None always is.

    Raises:
        UserError: it is not: ``--batch-size must be at least 1, got 0``.
    """
    if value is None:
        return
    if "choices" in about and value not in about["choices"]:
        raise UserError(f"unknown {name.lstrip('-')} {value!r}{nearest(value, about['choices'])}")
    if "one_of" in about and value not in about["one_of"]:
        raise UserError(f"{name} must be one of {', '.join(about['one_of'])}, got {value!r}")
    bounds = [(*_BOUNDS[key], bound) for key, bound in about.items() if key in _BOUNDS]
    if not all(holds(value, bound) for _, holds, bound in bounds):
        words = " and ".join(text.format(bound) for text, _, bound in bounds)
        raise UserError(f"{name} must be {words}, got {value}")


def check_ranges(request: Any) -> None:
    """:func:`check_range` of every field, named by its flag.

    Raises:
        UserError: the first value that is not what its field says.
    """
    for one in fields(request):
        check_range(flag_of(one.name), getattr(request, one.name), one.metadata)
