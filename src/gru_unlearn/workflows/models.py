"""Finding, checking, hashing and loading models. Only safetensors, and no code from a model repository unless asked."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from gru_unlearn.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BUILTIN = "builtin:"


def quiet() -> None:
    """Keep the bars and notices of other libraries out of our own progress."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    for name in ("huggingface_hub", "lm_eval"):
        logging.getLogger(name).setLevel(logging.ERROR)


def locate(model: str, flag: str = "--model") -> Path:
    """The local folder of a model: a folder, a hub id (downloaded by huggingface_hub), or builtin:target|retain.

    Raises:
        UserError: there is no such model, or its folder holds no config.json or no safetensors file.
    """
    if model.startswith(BUILTIN):
        return locate_builtin(model, flag)
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if folder.exists() or model.count("/") != 1 or model.startswith((".", "/", "~")):
            raise UserError(f"{flag} {model}: no such folder")
        folder = _download(model, flag)
    adapter = (folder / "adapter_config.json").is_file()
    if not adapter and not (folder / "config.json").is_file():
        raise UserError(f"{flag} {model}: not a model folder, it has no config.json")
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{flag} {model}: no .safetensors weights in it; other weight formats are not loaded")
    return folder


def locate_builtin(model: str, flag: str = "--model", on_progress: Callable[[str, float], None] | None = None) -> Path:
    """The folder of ``builtin:target`` or ``builtin:retain``, trained now if it is not in the cache."""
    name = model.removeprefix(BUILTIN)
    if name not in ("target", "retain"):
        raise UserError(f"{flag} {model}: the built-in models are builtin:target and builtin:retain")
    from gru_unlearn.training.builtin import builtin_benchmark  # noqa: PLC0415 - brings Trainer, slow to import

    built = builtin_benchmark(on_progress=on_progress)
    return built.target if name == "target" else built.retain_model


def _download(model: str, flag: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only for hub models

    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]))
    except Exception as error:  # the hub client raises many types; each becomes one line
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{flag} {model}: no such folder, and the hub does not give it ({reason})") from None


def load_tokenizer(folder: Path, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer in a model folder; ``pad_token`` and ``eos_token`` fill in where it has none.

    Raises:
        UserError: the folder has no loadable tokenizer, or a named token is not in its vocabulary.
    """
    named = {key: value for key in ("pad_token", "eos_token") if (value := options.pop(key, None))}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=options.get("trust_remote_code", False))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"{folder}: no tokenizer that loads ({str(error).strip().splitlines()[0][:200]})") from None
    for key, token in named.items():
        if token not in tokenizer.get_vocab():
            raise UserError(f"--{key.replace('_', '-')} {token!r} is not in the tokenizer's vocabulary")
        setattr(tokenizer, key, token)
    return tokenizer


def load_model(
    folder: Path, *, dtype: str = "auto", attn_implementation: str | None = None, trust_remote_code: bool = False
) -> "PreTrainedModel":
    """A causal language model from a folder of safetensors; a folder of adapters is merged into its base.

    Raises:
        UserError: the model does not load, with the loader's first line.
    """
    options: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": attn_implementation,
        "trust_remote_code": trust_remote_code,
    }
    try:
        if (folder / "adapter_config.json").is_file():
            from peft import AutoPeftModelForCausalLM  # noqa: PLC0415 - slow to import

            return AutoPeftModelForCausalLM.from_pretrained(folder, **options).merge_and_unload()
        return AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **options)
    except Exception as error:  # loaders of many architectures raise many types; each becomes one line
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{folder}: the model does not load ({reason})") from error


def parameter_count(folder: Path, trust_remote_code: bool = False) -> int:
    """Number of parameters by the configuration alone, without reading weights."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return sum(p.numel() for p in model.parameters())
