"""What a model's folder holds, in one hash."""

import filecmp
from pathlib import Path

from gru_unlearn.common.files import hash_file, hash_json, read_json
from gru_unlearn.common.notices import tell
from gru_unlearn.errors import UserError
from gru_unlearn.models.locating import ADAPTER_CONFIG, base_at_hand, holds_adapters
from gru_unlearn.results.manner import Manner

HASHED = (".safetensors", ".py")
CONFIGURATION = ("config.json", "generation_config.json", ADAPTER_CONFIG)
"""Files beside weights and code that decide what a model says."""


def hash_weights(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's weights, configuration and code files.

    An adapter's base model is hashed too if it is a folder, and otherwise enters by its name. That it is not the one
    that the adapters were trained on is told.

    Raises:
        UserError: no weights in the folder, or a patch whose base is another model.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix in HASHED or file.name in CONFIGURATION)
    if not any(file.suffix == ".safetensors" for file in files):
        raise UserError(f"{folder}: no *.safetensors weights")
    parts: list[object] = [(file.name, hash_file(file)) for file in files]
    base = base_at_hand(folder) if holds_adapters(folder) else None
    if base is not None and base != folder:
        parts.append(hash_weights(base))
        _check_base(folder, base, str(parts[-1]))
    return hash_json(parts)


def same_weights(one: Path, other: Path) -> bool:
    """Whether two folders hold the same model: they are one folder, or their weights are equal byte for byte.

    Files of different models differ early, so that this is fast where it says no.
    """
    if one.resolve() == other.resolve():
        return True
    files, others = (sorted(folder.glob("*.safetensors")) for folder in (one, other))
    if len(files) != len(others) or holds_adapters(one) != holds_adapters(other):
        return False
    if not all(filecmp.cmp(*pair, shallow=False) for pair in zip(files, others, strict=True)):
        return False
    return not holds_adapters(one) or _base(one) == _base(other)


def _base(adapters: Path) -> Path:
    """What adapters belong to, as their configuration names it; symbolic links are followed."""
    return Path(read_json(adapters / ADAPTER_CONFIG)["base_model_name_or_path"] or ".").resolve()


def require_base(folder: Path, base: Path) -> None:
    """Whether a patch goes on this model; other adapters may go on any.

    Raises:
        UserError: it does not.
    """
    manner = Manner.beside(folder)
    if manner is not None and manner.base is not None and manner.base.bound:
        _check_base(folder, base, hash_weights(base))


def _check_base(folder: Path, base: Path, found: str) -> None:
    manner = Manner.beside(folder)
    if manner is None or manner.base is None or manner.base.sha256 == found:
        return
    if manner.base.bound:
        raise UserError(
            f"{folder}: a patch of the model with the SHA-256 {manner.base.sha256[:12]}…, and {base} is another one "
            f"({found[:12]}…; weights, configuration and code count): write the right folder into its {ADAPTER_CONFIG}"
        )
    tell(
        f"{folder}: its base {base} is not the model that the adapters were trained on (weights, configuration or "
        "code differ): what they give together is another model than the run's"
    )
