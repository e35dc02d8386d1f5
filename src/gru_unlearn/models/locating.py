"""Finding a model, and checking all that says where its weights are: loaders would follow it to other formats and other
folders. Only safetensors are accepted."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import JsonValue
from safetensors import SafetensorError, safe_open

from gru_unlearn.common.files import UnreadableFile, read_json
from gru_unlearn.errors import UserError, first_line

BUILTIN = "builtin:"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
LOADED_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "README.md"]
"""What is fetched from the hub."""


def locate(model: str, flag: str = "--model") -> Path:
    """The local folder of a model: a folder, a hub id (downloaded by huggingface_hub), or builtin:target|retain.

    Raises:
        UserError: there is no such model, or its folder lacks config.json, or holds its weights in other formats than
            safetensors, or elsewhere.
    """
    if model.startswith(BUILTIN):
        return locate_builtin(model, flag)
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if folder.exists() or model.count("/") != 1 or model.startswith((".", "/", "~")):
            raise UserError(f"{flag} {model}: no such folder")
        folder = _download(model, flag)
    if not holds_adapters(folder) and not (folder / "config.json").is_file():
        raise UserError(f"{flag} {model}: not a model folder, it has no config.json")
    _check_weights(folder, f"{flag} {model}")
    return folder


def locate_builtin(model: str, flag: str = "--model") -> Path:
    """The folder of ``builtin:target`` or ``builtin:retain``, trained now if it is not in the cache."""
    name = model.removeprefix(BUILTIN)
    if name not in ("target", "retain"):
        raise UserError(f"{flag} {model}: the built-in models are builtin:target and builtin:retain")
    from gru_unlearn.training.builtin import builtin_benchmark  # noqa: PLC0415 - brings Trainer, slow to import

    built = builtin_benchmark()
    return {"target": built.target, "retain": built.retain_model}[name]


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


def _download(model: str, flag: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only for hub models

    try:
        return Path(snapshot_download(model, allow_patterns=LOADED_FILES))
    except Exception as error:  # the hub client raises many types; each becomes one line
        reason = first_line(error)
        raise UserError(f"{flag} {model}: no such folder, and the hub does not give it ({reason})") from None


def _check_weights(folder: Path, name: str) -> None:
    """All weights are safetensors, inside the folder and whole; those of an adapter's base as well."""
    adapter = read_object(folder / ADAPTER_CONFIG, name)
    if not any(folder.glob(ADAPTER_WEIGHTS if adapter else "*.safetensors")):
        raise UserError(f"{name}: no .safetensors weights in it; other weight formats are not loaded")
    whole = read_object(folder / "config.json", name).get("transformers_weights") or "model.safetensors"
    shards = _shards(folder, name)
    _check_inside(whole, name)
    _check_whole(folder, [_check_inside(shard, name) for shard in shards], name)
    if adapter:
        _check_base(adapter.get("base_model_name_or_path"), name)


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


def _check_base(base: JsonValue, name: str) -> None:
    """An adapter's base: a name on the hub, or a folder of whole weights."""
    if not (isinstance(base, str) and base):
        raise UserError(f"{name}: its {ADAPTER_CONFIG} names no base model: write its folder or hub id there")
    folder, named = Path(base), f"{name}: its base {base}"
    if folder.is_dir():
        if holds_adapters(folder):
            raise UserError(f"{named} is an adapter too: merge that into its own base first")
        _check_weights(folder, named)
    elif base.startswith((".", "/", "~")) or base.count("/") > 1:
        raise UserError(f"{named}: no such folder")
