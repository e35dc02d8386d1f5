"""Asking a model as the run did that wrote it: what stands beside the model, under what is given now."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue
from transformers.utils.import_utils import is_flash_attn_2_available

from gru_unlearn.common.notices import tell
from gru_unlearn.common.options import check_range, flag_of
from gru_unlearn.models.model_settings import ASKING, ModelSettings
from gru_unlearn.results.file_model import JsonObject, validated
from gru_unlearn.results.manner import MANNER_FILE, Manner


def settings_for(folder: Path, given: Mapping[str, JsonValue]) -> ModelSettings:
    """How the model in a folder is loaded and asked: as ``given`` (None is not), else as its run did, else by default.

    What is given and not what the run had is told.

    Raises:
        UserError: the file beside the model is damaged.
    """
    explicit = {name: value for name, value in given.items() if value is not None}
    had = asked_by_run(folder)
    if had is None:
        return ModelSettings.among(explicit)
    kept = {name: value for name, value in had.items() if name not in explicit}
    _drop_attention_of_elsewhere(folder, kept, trusted=bool(explicit.get("trust_remote_code")))
    settings = ModelSettings.among({**kept, **explicit})
    _tell_difference(folder, {name: value for name, value in had.items() if name in explicit}, settings)
    return settings


def tell_if_asked_otherwise(folder: Path, settings: ModelSettings) -> None:
    """Say where a model that is asked like another one was asked otherwise by its own run."""
    _tell_difference(folder, asked_by_run(folder) or {}, settings)


def asked_by_run(folder: Path) -> JsonObject | None:
    """What the run that wrote a model asked it with, each setting by its name; None where no run says it.

    Raises:
        UserError: the file beside the model is damaged.
    """
    manner, file = Manner.beside(folder), folder / MANNER_FILE
    if manner is None:
        return None
    unknown = [name for name in manner.asked if name not in ASKING]
    if unknown:
        tell(f"{file}: {', '.join(unknown)}: not known to this version, and left out")
    settings = validated(file, manner.asked, lambda _: ModelSettings.among(manner.asked))
    check_range(f"{file}: max_length", settings.max_length, {"least": 1})
    return {name: value for name, value in settings.asked.items() if name in manner.asked}


def _tell_difference(folder: Path, had: JsonObject, settings: ModelSettings) -> None:
    now = settings.asked
    different = [name for name, value in had.items() if now[name] != value]
    if different:
        words = ", ".join(f"{flag_of(name)} {now[name]!r}, not {had[name]!r}" for name in different)
        tell(f"{folder} is asked otherwise than its run asked: {words}")


def _drop_attention_of_elsewhere(folder: Path, kept: JsonObject, *, trusted: bool) -> None:
    """An implementation of attention that this machine lacks, or that is code from the hub, is not insisted on."""
    name = str(kept.get("attn_implementation") or "")
    is_here = trusted if "/" in name else name != "flash_attention_2" or is_flash_attn_2_available()
    if not is_here:
        del kept["attn_implementation"]
        tell(f"{folder}: its run used the attention {name}, which is not to be had here: the usual one is used")
