"""Models in GGUF files: read once, and kept in the cache as a folder like any other, by the file's SHA-256."""

import re
from functools import lru_cache, partial
from pathlib import Path

from gru_unlearn.common.files import default_cache, hash_file, made_once
from gru_unlearn.common.notices import tell
from gru_unlearn.common.places import GGUF
from gru_unlearn.errors import UserError
from gru_unlearn.results.conversion import CONVERSION_FILE, Conversion

_PART = re.compile(r"-\d{5}-of-\d{5}$")


def is_gguf(path: Path) -> bool:
    """Whether a path is that of a GGUF file, by its name."""
    return path.suffix.lower() == GGUF and path.is_file()


def gguf_in(folder: Path, name: str) -> Path | None:
    """The GGUF file that a folder without safetensors holds; None where it holds none, or safetensors.

    Raises:
        UserError: it holds several.
    """
    files = sorted(filter(is_gguf, folder.iterdir()))
    if not files or any(folder.glob("*.safetensors")):
        return None
    if len(files) > 1:
        few = ", ".join(file.name for file in files[:4])
        raise UserError(f"{name}: {len(files)} GGUF files in it ({few}): name one of them")
    return files[0]


def from_gguf(file: Path, name: str) -> Path:
    """The folder of a GGUF file's model: safetensors and tokenizer, made now if it is not in the cache.

    Args:
        file: that holds all of the model.
        name: for messages.

    Raises:
        UserError: the package gguf is missing, or transformers cannot read the file.
    """
    if _PART.search(file.stem):
        raise UserError(f"{name}: one part of a model: join all with llama-gguf-split --merge, and name the whole file")
    status = file.stat()
    sha256 = _hash(file.resolve(), status.st_size, status.st_mtime_ns)
    folder = made_once(place_of(sha256), partial(_convert, file, sha256, name), "a model that is read from GGUF")
    tell_type(folder, name)
    return folder


def place_of(sha256: str) -> Path:
    """Where the model of the GGUF file with this hash belongs, whether it is there or not."""
    return default_cache() / f"gguf-{sha256[:16]}"


def conversion_of(folder: Path) -> Conversion | None:
    """Of which file a folder of weights was made; None: of none."""
    return Conversion.read(folder / CONVERSION_FILE)


def tell_type(folder: Path, name: str) -> None:
    """Say in which type the file held a model's weights, where it is another one now."""
    conversion = conversion_of(folder)
    if conversion is not None and conversion.was_quantised:
        tell(f"{name}: {conversion.file} is stored as {conversion.stored_as}: read into float32")


@lru_cache
def _hash(file: Path, _size: int, _changed: int) -> str:
    """Of a file that has this size and was changed then: hashed once by a process."""
    return hash_file(file)


def _convert(file: Path, sha256: str, name: str, folder: Path) -> None:
    from gru_unlearn.models.gguf_reading import convert  # noqa: PLC0415 - brings transformers' models

    convert(file, sha256, folder, name)
