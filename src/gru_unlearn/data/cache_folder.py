"""Where things are kept that can be made again: the built-in benchmark's models, and score tables."""

import os
from pathlib import Path


def default_cache() -> Path:
    """``$GRU_UNLEARN_CACHE``, else ``gru-unlearn`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("GRU_UNLEARN_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gru-unlearn"
