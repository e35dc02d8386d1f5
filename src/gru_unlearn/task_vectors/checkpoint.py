"""Model folders of safetensors, read one tensor and written one shard at a time."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gru_unlearn.common.files import whole_folder
from gru_unlearn.errors import NonFiniteError, UserError

INDEX_FILE = "model.safetensors.index.json"
BESIDE_WEIGHTS = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")
"""Endings of configuration, tokenizer and code files: what a model folder needs besides its weights."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model folder by its tensors' names; nothing of it is in memory."""

    folder: Path
    file_of: dict[str, str]
    """tensor → file that holds it, in the files' order"""
    shape_of: dict[str, tuple[int, ...]]
    """tensor → shape"""

    @classmethod
    def open(cls, folder: str | Path) -> "Checkpoint":
        """Look through the headers of ``model.safetensors``, or of all shards that the index names.

        Raises:
            UserError: no model folder of whole safetensors files.
        """
        folder = Path(folder)
        if (folder / "adapter_config.json").is_file():
            raise UserError(f"{folder} holds an adapter, not a model: merge it into its base first")
        named = _named_in_index(folder)
        files = sorted(set(named.values())) or _only_file(folder)
        file_of: dict[str, str] = {}
        shape_of: dict[str, tuple[int, ...]] = {}
        for file in files:
            shapes = _header(folder / file)
            file_of |= dict.fromkeys(shapes, file)
            shape_of |= shapes
        if missing := sorted(set(named) - set(file_of)):
            raise UserError(f"{folder}: its index names tensors that no file holds ({_some(missing)})")
        return cls(folder, file_of, shape_of)

    @property
    def shards(self) -> dict[str, list[str]]:
        """File → names of its tensors."""
        names: dict[str, list[str]] = {}
        for name, file in self.file_of.items():
            names.setdefault(file, []).append(name)
        return names

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU, as it was stored."""
        with safe_open(self.folder / self.file_of[name], framework="pt") as file:
            return file.get_tensor(name)

    def require_like(self, target: "Checkpoint") -> None:
        """Check that both hold tensors of the same names and shapes.

        Raises:
            UserError: they do not; says which.
        """
        advice = "both must be the same architecture, saved alike (load and save the target once if weights are tied)"
        for one, other in ((self, target), (target, self)):
            if missing := sorted(set(other.file_of) - set(one.file_of)):
                raise UserError(f"{one.folder} lacks tensors of {other.folder} ({_some(missing)}): {advice}")
        for name, shape in target.shape_of.items():
            if self.shape_of[name] != shape:
                raise UserError(f"{self.folder}: {name} has shape {self.shape_of[name]}, in {target.folder} {shape}")


def write_like(
    source: Checkpoint, out: Path, tensor: Callable[[str], Tensor], *, with_configuration: bool = True
) -> None:
    """Write a folder in the layout of ``source``, with ``tensor(name)`` for each tensor; whole, or not at all.

    Memory: one shard of what is written, and what ``tensor`` takes for one tensor.

    Args:
        source: gives the shards' names and metadata and, unless ``with_configuration`` is off, all other files.
        out: folder to write; must be new or empty.
        tensor: makes the new tensor of a name.
        with_configuration: copy configuration, tokenizer and code files too.

    Raises:
        UserError: ``out`` holds something.
        NonFiniteError: a new tensor has a NaN or an infinity; ``out`` stays as it was.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already: choose another folder")
    with whole_folder(out) as part:
        for file, names in source.shards.items():
            tensors = {name: _finite(tensor(name), name) for name in names}
            save_file(tensors, part / file, metadata=_metadata(source.folder / file))
            del tensors
        _write_index(source, part)
        if with_configuration:
            _copy_configuration(source.folder, part)


def _copy_configuration(source: Path, folder: Path) -> None:
    for path in source.iterdir():
        if path.is_file() and path.suffix in BESIDE_WEIGHTS and path.name != INDEX_FILE:
            shutil.copyfile(path, folder / path.name)


def _finite(tensor: Tensor, name: str) -> Tensor:
    if not torch.isfinite(tensor).all():
        raise NonFiniteError(f"{name} would become NaN or infinite: nothing was written; try a smaller alpha")
    return tensor.contiguous()


def _write_index(source: Checkpoint, folder: Path) -> None:
    if (source.folder / INDEX_FILE).is_file():
        size = sum((folder / file).stat().st_size for file in source.shards)
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(source.file_of.items()))}
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _named_in_index(folder: Path) -> dict[str, str]:
    """Tensor → file by the index; empty where there is none."""
    path = folder / INDEX_FILE
    if not path.is_file():
        return {}
    try:
        named: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        files = set(named.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not an index of shards") from None
    if outside := sorted(file for file in files if Path(file).name != file):  # it would be read and written there
        raise UserError(f"{path}: it names the shard {outside[0]!r}, which is not a file of this folder")
    return named


def _only_file(folder: Path) -> list[str]:
    files = [file.name for file in folder.glob("*.safetensors")] if folder.is_dir() else []
    if len(files) != 1:
        found = "several and no index" if files else "none"
        raise UserError(f"{folder}: expected one .safetensors file, or shards with {INDEX_FILE}; found {found}")
    return files


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """Tensor → shape."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def _metadata(path: Path) -> dict[str, str] | None:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def _some(names: Iterable[str]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first
