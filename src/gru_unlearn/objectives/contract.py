"""What an objective asks for, read from its signature."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from gru_unlearn.errors import nearest

Objective = Callable[..., Tensor]

INPUTS = frozenset(
    {
        *("logps", "mask", "reference", "token_reference"),
        *("logits", "targets", "reference_logits"),
        *("anchor_logps", "anchor_tokens"),
        *("alternative_logps", "alternative_mask", "alternative_reference"),
        *("hidden", "reference_hidden", "direction"),
    }
)
"""Names of everything a trainer provides; shapes and meanings are in the package's docstring."""


def inputs_of(objective: Objective) -> frozenset[str]:
    """Which of :data:`INPUTS` an objective or retain loss takes.

    Raises:
        ValueError: a parameter that is neither an input nor has a default.
    """
    return frozenset(_parameters(objective)) & INPUTS


def adds_up_tokens(objective: Objective) -> bool:
    """Whether it compares whole answers with the model before, by log-probabilities that are sums over their tokens,
    as NPO and DPO do: then its gradient grows with their number.

    Raises:
        ValueError: as :func:`inputs_of`.
    """
    return "reference" in inputs_of(objective)


def hyperparameters_of(objective: Objective) -> dict[str, Any]:
    """Hyper-parameter → default, in the order of the signature.

    Raises:
        ValueError: a parameter that is neither an input nor has a default.
    """
    return {name: p.default for name, p in _parameters(objective).items() if name not in INPUTS}


def _parameters(objective: Objective) -> dict[str, inspect.Parameter]:
    """The signature, once every parameter is known to be an input or a hyper-parameter that can be passed by name."""
    parameters = dict(inspect.signature(objective).parameters)
    title = getattr(objective, "__name__", type(objective).__name__)
    for name, parameter in parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ValueError(
                f"objective {title!r}: {str(parameter)!r} cannot be passed by name; write out each parameter"
            )
        if name not in INPUTS and parameter.default is parameter.empty:
            raise ValueError(
                f"objective {title!r}: parameter {name!r} has no default, as a hyper-parameter would, "
                f"and is not an input{nearest(name, INPUTS)}"
            )
    return parameters
