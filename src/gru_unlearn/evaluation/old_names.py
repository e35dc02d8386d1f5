"""Names of earlier versions: they still work, and say once what they are called now."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def say_renamed(old: str, new: str) -> None:
    """Warn whoever called the caller; Python shows a warning once for each line of code that causes it."""
    warnings.warn(f"{old} is now called {new}", FutureWarning, stacklevel=3)


def renamed_parameter(old: str, new: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """For functions with a parameter ``new`` that was called ``old``: both names are taken."""

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @wraps(function)
        def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            if old in kwargs:
                say_renamed(f"{function.__name__}({old}=...)", new)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate
