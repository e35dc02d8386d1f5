"""Finding a model, and checking all that says where its weights are: loaders would follow it to other formats and other
folders. Only safetensors are loaded, and GGUF files by way of them."""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import JsonValue
from safetensors import SafetensorError, safe_open

from gru_unlearn.common.files import UnreadableFile, read_json
from gru_unlearn.common.notices import tell
from gru_unlearn.common.places import BUILTIN, PRETRAINED, check_model_place
from gru_unlearn.errors import UserError, first_line
from gru_unlearn.models.fetching import fetch, fetched
from gru_unlearn.models.gguf_files import from_gguf, gguf_in, is_gguf
from gru_unlearn.models.known_bases import remembered_base
from gru_unlearn.models.pretrained import locate_pretrained
from gru_unlearn.results.manner import AdapterBase, Manner
from gru_unlearn.results.run_folder import RunFolder

ADAPTER_CONFIG = "adapter_config.json"
_CODE_ELSEWHERE = re.compile(r'"([\w.-]+/[\w.-]+?)--[\w.]+"')
"""A class in another repository: ``owner/name--module.Class``."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def locate(model: str, flag: str = "--model", *, trust_remote_code: bool = False) -> Path:
    """The local folder of a model: a folder, a run's folder (its model is meant, and that is said), a GGUF file or a
    folder with one (read into the cache), a hub id (downloaded by huggingface_hub; code of its own only if it may be
    run), pretrained:NAME, or builtin:target|retain|base.

    Raises:
        UserError: there is no such model, or its folder lacks config.json, or holds its weights in other formats than
            safetensors and GGUF, or elsewhere, or adapters without their base.
    """
    check_model_place(model, flag)
    named = locate_named(model, flag)
    if named is not None:
        return named
    folder = Path(model).expanduser()
    if folder.is_dir():
        folder = model_inside(folder, f"{flag} {model}")
    else:
        folder = fetch(model, f"{flag} {model}", trust_remote_code=trust_remote_code)
    if not _is_model(folder):
        raise UserError(f"{flag} {model}: not a model folder, it has no config.json")
    _check_weights(folder, f"{flag} {model}")
    if holds_adapters(folder):
        _check_base(folder, f"{flag} {model}", trust_remote_code=trust_remote_code)
    if trust_remote_code:
        _tell_of_code_elsewhere(folder, f"{flag} {model}")
    return folder


def locate_named(model: str, flag: str = "--model") -> Path | None:
    """The folder of a model that stands in the cache, and is made there now if need be: of a GGUF file (or a folder
    with one, and no safetensors), of ``pretrained:NAME``, or of the built-in benchmark. None: it is none of these.

    Raises:
        UserError: there is no such model, or it cannot be made.
    """
    if model.startswith(BUILTIN):
        return locate_builtin(model, flag)
    if model.startswith(PRETRAINED):
        return locate_pretrained(model, flag)
    file = gguf_file(model, f"{flag} {model}")
    return None if file is None else from_gguf(file, f"{flag} {model}")


def gguf_file(model: str, name: str) -> Path | None:
    """The GGUF file that a model is read from; None: from none.

    Raises:
        UserError: a folder holds several.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return gguf_in(path, name)
    return path if is_gguf(path) else None


def model_inside(folder: Path, name: str) -> Path:
    """The model's folder in the folder of a run; any other folder as it is."""
    inside = RunFolder(folder).model
    if _is_model(folder) or not _is_model(inside):
        return folder
    tell(f"{name} is the folder of a run: taking its model, {inside}")
    return inside


def _is_model(folder: Path) -> bool:
    return holds_adapters(folder) or (folder / "config.json").is_file()


def _tell_of_code_elsewhere(folder: Path, name: str) -> None:
    """Code of its own comes with a model's commit; what it takes from another repository is the newest there is."""
    for file in ("config.json", "tokenizer_config.json"):
        mapping = json.dumps(read_object(folder / file, name).get("auto_map"))
        for repository in sorted(set(_CODE_ELSEWHERE.findall(mapping))):
            tell(f"{name}: {file} takes code from {repository}, where the newest is run: no commit is named")


def locate_builtin(model: str, flag: str = "--model") -> Path:
    """The folder of a built-in model (target, retain, base), trained now if it is not in the cache."""
    check_model_place(model, flag)
    from gru_unlearn.training.builtin import builtin_base, builtin_benchmark  # noqa: PLC0415 - brings Trainer, slow

    if model == f"{BUILTIN}base":
        return builtin_base()
    built = builtin_benchmark()
    return {"target": built.target, "retain": built.retain_model}[model.removeprefix(BUILTIN)]


def holds_adapters(folder: Path) -> bool:
    """Whether a model's folder holds adapters to another model, and not whole weights."""
    return (folder / ADAPTER_CONFIG).is_file()


def read_object(path: Path, name: str) -> dict[str, JsonValue]:
    """What a JSON file of the model ``name`` says; nothing where there is no file.

    Raises:
        UserError: it is no JSON object.
    """
    if not path.is_file():
        return {}
    with suppress(UnreadableFile):
        content = read_json(path)
        if isinstance(content, dict):
            return content
    raise UserError(f"{name}: its {path.name} cannot be read")


def _check_weights(folder: Path, name: str) -> None:
    """All weights are safetensors, inside the folder and whole."""
    adapter = read_object(folder / ADAPTER_CONFIG, name)
    if not any(folder.glob(ADAPTER_WEIGHTS if adapter else "*.safetensors")):
        raise UserError(
            f"{name}: no .safetensors weights in it; other weight formats are not loaded, but for .gguf files"
        )
    whole = read_object(folder / "config.json", name).get("transformers_weights") or "model.safetensors"
    shards = _shards(folder, name)
    _check_inside(whole, name)
    _check_whole(folder, [_check_inside(shard, name) for shard in shards], name)


def _shards(folder: Path, name: str) -> list[JsonValue]:
    """What indices name as files of the weights; None for an index that names none."""
    files: list[JsonValue] = []
    for index in folder.glob("*.safetensors.index.json"):
        shards = read_object(index, name).get("weight_map")
        if isinstance(shards, dict):
            files += shards.values()
        else:
            files.append(None)
    return files


def _check_inside(file: JsonValue, name: str) -> str:
    if isinstance(file, str) and Path(file).name == file and ".safetensors" in Path(file).suffixes:
        return file
    raise UserError(f"{name}: it names {file!r} as a file of its weights, which is no .safetensors file in it")


def _check_whole(folder: Path, shards: Iterable[str], name: str) -> None:
    """Every file of weights is there and as long as its own header says: found now, not after minutes of loading."""
    there = [file.name for file in folder.glob("*.safetensors")]
    for shard in sorted({*shards, *there}):
        try:
            with safe_open(folder / shard, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            reason = first_line(error)
            raise UserError(f"{name}: {shard} is broken or missing ({reason}): fetch or save it again") from None


# --- the base of adapters --------------------------------------------------------------------------------------------


def base_of(folder: Path, name: str = "", *, trust_remote_code: bool = False) -> Path:
    """The folder of the whole model that the adapters in a folder belong to.

    What was a folder when the adapters were trained is never looked up on the hub, where anybody may own its name.

    Args:
        folder: of the adapters.
        name: for messages.
        trust_remote_code: whether code of a hub model may be run.

    Raises:
        UserError: none is named, or it is not there any more.
    """
    name, base = name or str(folder), _named_base(folder)
    at_hand = base_at_hand(folder)
    if at_hand is not None:
        return at_hand
    if base is None:
        raise UserError(f"{name}: its {ADAPTER_CONFIG} names no base model: write its folder or hub id there")

    noted, named = _noted_base(folder), f"{name}: its base {base}"
    if noted is not None and noted.source and noted.revision and _means(base, noted):
        made_again = locate_named(noted.source, f"{named}:")
        if made_again is not None:
            return made_again
        return fetch(noted.source, named, revision=noted.revision, trust_remote_code=trust_remote_code)
    if _was_folder(folder, base):
        file = folder / ADAPTER_CONFIG
        raise UserError(f"{named}: no such folder; write where it is now as base_model_name_or_path in {file}")
    revision = read_object(folder / ADAPTER_CONFIG, name).get("revision")
    commit = revision if isinstance(revision, str) else None
    return fetch(base, named, revision=commit, trust_remote_code=trust_remote_code)


def base_at_hand(folder: Path) -> Path | None:
    """The base of adapters if it is on this machine, as named, as the run noted it, or, where no folder and no hub id
    is named, as it was when the adapters were published here; None: it is elsewhere."""
    noted, base = _noted_base(folder), _named_base(folder)
    if base is not None and Path(base).is_dir():
        return Path(base)
    if noted is not None and base is None:
        return remembered_base(noted.sha256)
    if noted is None or not _means(base, noted):
        return None
    if noted.source and noted.revision:
        return fetched(noted.source, noted.revision)
    return noted.folder if noted.folder is not None and noted.folder.is_dir() else None


def _means(base: str | None, noted: AdapterBase) -> bool:
    """Whether what an adapter's configuration names may be what the run noted, and not what somebody wrote since."""
    if base is None or base == noted.source:
        return base is not None
    path = Path(base)
    return not path.is_absolute() or path.name == noted.revision


def _named_base(folder: Path) -> str | None:
    """What an adapter's configuration calls its base."""
    base = read_object(folder / ADAPTER_CONFIG, str(folder)).get("base_model_name_or_path")
    return base if base and isinstance(base, str) else None


def _noted_base(folder: Path) -> AdapterBase | None:
    manner = Manner.beside(folder)
    return manner.base if manner is not None else None


def _was_folder(folder: Path, base: str) -> bool:
    """Whether a base that is no folder here must have been one: by its name, or because a run wrote these adapters,
    which named a hub model by its commit."""
    if base.startswith((".", "/", "~")) or base.count("/") > 1:
        return True
    noted = _noted_base(folder)
    if noted is not None:
        return noted.folder is not None
    return RunFolder(folder.parent).identity_file.is_file()


def _check_base(folder: Path, name: str, *, trust_remote_code: bool) -> None:
    """An adapter's base is a folder of whole weights."""
    base = base_of(folder, name, trust_remote_code=trust_remote_code)
    named = f"{name}: its base {base}"
    if holds_adapters(base):
        raise UserError(f"{named} is an adapter too: merge that into its own base first")
    _check_weights(base, named)
    if trust_remote_code:
        _tell_of_code_elsewhere(base, named)
