"""Make a language model forget on request, and keep the rest of it: gradient rectified unlearning.

The names below load on first use, so that importing the package (and ``gru --help``) stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gru_unlearn.geometry import GradientRectifier, StepTelemetry
    from gru_unlearn.robustness import Robustness
    from gru_unlearn.training import UnlearningConfig, UnlearningTrainer

__version__ = "0.1.0"
__all__ = ["GradientRectifier", "Robustness", "StepTelemetry", "UnlearningConfig", "UnlearningTrainer", "__version__"]

_HOME = {
    "GradientRectifier": "gru_unlearn.geometry",
    "Robustness": "gru_unlearn.robustness",
    "StepTelemetry": "gru_unlearn.geometry",
    "UnlearningConfig": "gru_unlearn.training",
    "UnlearningTrainer": "gru_unlearn.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """What is offered, also before it is loaded: for completion in notebooks."""
    return sorted({*globals(), *__all__})
