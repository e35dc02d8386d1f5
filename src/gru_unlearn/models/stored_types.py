"""In which types a folder holds its weights: read from the headers of its files, nothing is loaded."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open

from gru_unlearn.models.locating import base_at_hand, holds_adapters

TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""What safetensors calls a type → what torch and people call it. Others hold no weights that could be trained."""


def stored_types(folder: Path) -> Mapping[str, int]:
    """Type → how many weights of a model are stored in it, most first; of adapters, those of their base's folder."""
    if holds_adapters(folder):
        folder = base_at_hand(folder) or folder
    counts: Counter[str] = Counter()
    for file in folder.glob("*.safetensors"):
        counts.update(_types_in(file))
    return dict(counts.most_common())


def _types_in(file: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    with safe_open(file, "pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - no mapping
            tensor = tensors.get_slice(name)
            kind = TYPES.get(tensor.get_dtype())
            if kind:
                counts[kind] += math.prod(tensor.get_shape())
    return counts
