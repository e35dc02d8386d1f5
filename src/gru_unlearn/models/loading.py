"""Finding, checking, hashing and loading models. Only safetensors, and no code from a model repository unless asked."""

import gc
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from gru_unlearn.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BUILTIN = "builtin:"
ADAPTED = "adapter_model.safetensors"


def quiet() -> None:
    """Keep the bars and notices of other libraries out of our own progress."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    for name in ("huggingface_hub", "lm_eval"):
        logging.getLogger(name).setLevel(logging.ERROR)


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
    adapter = (folder / "adapter_config.json").is_file()
    if not adapter and not (folder / "config.json").is_file():
        raise UserError(f"{flag} {model}: not a model folder, it has no config.json")
    _require_safetensors(folder, f"{flag} {model}")
    return folder


def _require_safetensors(folder: Path, name: str) -> None:
    """Check all that says where weights are, because loaders would follow it to other formats and other folders."""
    adapter = _read_object(folder / "adapter_config.json", name)
    if not list(folder.glob(ADAPTED if adapter else "*.safetensors")):
        raise UserError(f"{name}: no .safetensors weights in it; other weight formats are not loaded")
    files = [_read_object(folder / "config.json", name).get("transformers_weights") or "model.safetensors"]
    for index in folder.glob("*.safetensors.index.json"):
        shards = _read_object(index, name).get("weight_map")
        files += shards.values() if isinstance(shards, dict) else [None]
    for file in files:
        if not (isinstance(file, str) and Path(file).name == file and ".safetensors" in Path(file).suffixes):
            raise UserError(f"{name}: it names {file!r} as a file of its weights, which is no .safetensors file in it")
    _require_whole(folder, files[1:], name)
    base = adapter.get("base_model_name_or_path")
    if adapter and not (isinstance(base, str) and base):
        raise UserError(f"{name}: its adapter_config.json names no base model: write its folder or hub id there")
    if isinstance(base, str) and (base.startswith((".", "/", "~")) or base.count("/") > 1) and not Path(base).is_dir():
        raise UserError(f"{name}: its base {base}: no such folder")
    if isinstance(base, str) and (base_folder := Path(base)).is_dir():
        if (base_folder / "adapter_config.json").is_file():
            raise UserError(f"{name}: its base {base} is an adapter too: merge that into its own base first")
        _require_safetensors(base_folder, f"{name}: its base {base}")


def _require_whole(folder: Path, shards: Iterable[str], name: str) -> None:
    """Every file of weights is there and as long as its own header says: found now, not after minutes of loading."""
    for shard in sorted({*shards, *(file.name for file in folder.glob("*.safetensors"))}):
        try:
            with safe_open(folder / shard, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{name}: {shard} is broken or missing ({_reason(error)}): fetch or save it again"
            ) from None


def _read_object(path: Path, name: str) -> dict[str, Any]:
    """A JSON file's content; nothing where there is no file.

    Raises:
        UserError: it is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{name}: its {path.name} cannot be read")
    return content


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
        return Path(
            snapshot_download(
                model, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "README.md"]
            )
        )
    except Exception as error:  # the hub client raises many types; each becomes one line
        raise UserError(f"{flag} {model}: no such folder, and the hub does not give it ({_reason(error)})") from None


def load_tokenizer(folder: Path, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer in a model folder; ``pad_token`` and ``eos_token`` fill in where it has none.

    Raises:
        UserError: the folder has no loadable tokenizer, a named token is not in its vocabulary, or the model's
            configuration would not load either.
    """
    named = {key: value for key in ("pad_token", "eos_token") if (value := options.pop(key, None))}
    trust_remote_code = options.get("trust_remote_code", False)
    try:
        if (folder / "config.json").is_file():
            AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"{folder}: no configuration or tokenizer that loads ({_reason(error)})") from None
    for key, token in named.items():
        if token not in tokenizer.get_vocab():
            raise UserError(f"--{key.replace('_', '-')} {token!r} is not in the tokenizer's vocabulary")
        setattr(tokenizer, key, token)
    return tokenizer


def load_model(
    folder: Path,
    *,
    dtype: str = "auto",
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
    load_in_4bit: bool = False,
) -> "PreTrainedModel":
    """A causal language model from a folder of safetensors; a folder of adapters is merged into its base.

    ``load_in_4bit``: as QLoRA has it (arXiv 2305.14314), NF4 with doubly quantised scales, computed with in bfloat16.

    Raises:
        UserError: the model does not load, with the loader's first line.
    """
    options: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": attn_implementation,  # None too: it goes before what config.json says
        "trust_remote_code": trust_remote_code,
        "use_safetensors": True,
    }
    if load_in_4bit:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    if "/" in (attn_implementation or "") and not trust_remote_code:
        raise UserError(f"--attn-implementation {attn_implementation} is code from the hub: add --trust-remote-code")
    try:
        if (folder / "adapter_config.json").is_file():
            from peft import AutoPeftModelForCausalLM  # noqa: PLC0415 - slow to import

            _require_known_library(folder, trust_remote_code)
            return AutoPeftModelForCausalLM.from_pretrained(folder, **options).merge_and_unload()
        model = AutoModelForCausalLM.from_pretrained(folder, **options)
        for module in model.modules() if load_in_4bit else ():
            # On some processors bitsandbytes repacks weights to evaluate, and lets no gradient through afterwards.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 - an attribute of theirs
        return model
    except UserError:
        raise
    except Exception as error:  # loaders of many architectures raise many types; each becomes one line
        raise UserError(f"{folder}: the model does not load ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """The first line of a loader's error."""
    if "trust_remote_code" in str(error):
        return "it brings code of its own: pass --trust-remote-code if you trust it"
    return first_line(error)


def _require_known_library(folder: Path, trust_remote_code: bool) -> None:
    """An adapter may name a library for its base, which is imported."""
    mapping = _read_object(folder / "adapter_config.json", str(folder)).get("auto_mapping")
    library = str((mapping or {}).get("parent_library") or "transformers")
    if library.partition(".")[0] != "transformers" and not trust_remote_code:
        raise UserError(f"{folder}: it would import {library!r}: pass --trust-remote-code if you trust it")


def free_memory() -> None:
    """Give the memory of models that are no longer named back, to the device as well."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def parameter_count(folder: Path, trust_remote_code: bool = False) -> int:
    """Number of parameters by the configuration alone, without reading weights."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    with torch.device("meta"):  # "eager", because a configuration may name an attention that is code from the hub
        model = AutoModelForCausalLM.from_config(
            config, trust_remote_code=trust_remote_code, attn_implementation="eager"
        )
    return sum(p.numel() for p in model.parameters())
