"""Which versions made a result."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "gru-unlearn",
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "scipy",
    "rouge-score",
)
"""Those that can change a result."""


def versions() -> dict[str, str]:
    """Versions of Python and of the :data:`PACKAGES` that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
