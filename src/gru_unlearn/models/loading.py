"""Loading models and tokenizers from folders of safetensors, and no code from a model repository unless asked."""

import gc
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from gru_unlearn.common.memory import give_back_freed_memory
from gru_unlearn.errors import UserError, first_line
from gru_unlearn.models.adapters import load_merged, make_room
from gru_unlearn.models.completeness import require_whole
from gru_unlearn.models.locating import ADAPTER_CONFIG, base_of, holds_adapters, read_object
from gru_unlearn.objectives.causality import require_causal_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)


def quiet() -> None:
    """Keep the bars and notices of other libraries out of our own progress."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    for name in ("huggingface_hub", "lm_eval"):
        logging.getLogger(name).setLevel(logging.ERROR)


def tokenizer_folder(folder: Path, *, trust_remote_code: bool = False) -> Path | None:
    """The folder that holds a model's tokenizer; None: it has none.

    Adapters are often saved without one: then it is their base's.

    Raises:
        UserError: adapters without one, and without their base.
    """
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        return folder
    if holds_adapters(folder):
        base = base_of(folder, trust_remote_code=trust_remote_code)
        return tokenizer_folder(base, trust_remote_code=trust_remote_code)
    return None


def load_tokenizer(
    folder: Path, *, pad_token: str | None = None, eos_token: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model's folder; ``pad_token`` and ``eos_token`` fill in where it has none.

    Raises:
        UserError: the folder has no loadable tokenizer, a named token is not in its vocabulary, or the model's
            configuration would not load either.
    """
    try:
        if (folder / "config.json").is_file():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
            require_causal_config(config, str(folder))
        holder = tokenizer_folder(folder, trust_remote_code=trust_remote_code) or folder  # whose loader says what lacks
        tokenizer = AutoTokenizer.from_pretrained(holder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"{folder}: no configuration or tokenizer that loads ({_reason(error)})") from None
    for key, token in (("pad_token", pad_token), ("eos_token", eos_token)):
        if token and token not in tokenizer.get_vocab():
            raise UserError(f"--{key.replace('_', '-')} {token!r} is not in the tokenizer's vocabulary")
        if token:
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

    Adapters are merged in float32, where the sum keeps small changes, and stay in it unless ``dtype`` says otherwise.
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
    if "/" in (attn_implementation or "") and not trust_remote_code:
        raise UserError(f"--attn-implementation {attn_implementation} is code from the hub: add --trust-remote-code")
    if load_in_4bit:
        options["quantization_config"] = _nf4()
    adapters = holds_adapters(folder)
    if adapters:
        _check_library(folder, trust_remote_code)
    try:
        if adapters:
            return _merged(folder, dtype, options)
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    except Exception as error:  # loaders of many architectures raise many types; each becomes one line
        raise UserError(f"{folder}: the model does not load ({_reason(error)})") from error
    model, found = loaded
    require_whole(model, found["missing_keys"], str(folder))
    if load_in_4bit:
        _keep_trainable(model)
    return model


def _merged(folder: Path, dtype: str, options: dict[str, Any]) -> "PreTrainedModel":
    model: PreTrainedModel = load_merged(folder, options | {"dtype": "float32"})
    if dtype in ("auto", "float32"):
        return model
    for parameter in model.parameters():  # not tables of positions: they are float32 in every model
        parameter.data = parameter.data.to(getattr(torch, dtype))
    return model


def _nf4() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _keep_trainable(model: torch.nn.Module) -> None:
    """On some processors bitsandbytes repacks weights to evaluate, and lets no gradient through afterwards."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 - an attribute of theirs


def _check_library(folder: Path, trust_remote_code: bool) -> None:
    """An adapter may name a library for its base, which is imported."""
    mapping = read_object(folder / ADAPTER_CONFIG, str(folder)).get("auto_mapping")
    library = "transformers"
    if isinstance(mapping, dict):
        library = str(mapping.get("parent_library") or library)
    if library.partition(".")[0] != "transformers" and not trust_remote_code:
        raise UserError(f"{folder}: it would import {library!r}: pass --trust-remote-code if you trust it")


def _reason(error: Exception) -> str:
    """The first line of a loader's error."""
    if "trust_remote_code" in str(error):
        return "it brings code of its own: pass --trust-remote-code if you trust it"
    return first_line(error)


def free_memory() -> None:
    """Give the memory of models that are no longer named back, to the device as well."""
    gc.collect()
    give_back_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def empty_model(folder: Path, trust_remote_code: bool = False) -> "PreTrainedModel":
    """A model by its configuration alone, on the meta device, where tensors have shapes and no memory.

    Of adapters it is their base, with room for the tokens that came with them: what merging them leaves.
    """
    adapters = holds_adapters(folder)
    whole = base_of(folder, trust_remote_code=trust_remote_code) if adapters else folder
    config = AutoConfig.from_pretrained(whole, trust_remote_code=trust_remote_code)
    with torch.device("meta"):  # "eager", because a configuration may name an attention that is code from the hub
        model = AutoModelForCausalLM.from_config(
            config, trust_remote_code=trust_remote_code, attn_implementation="eager"
        )
        if adapters:
            make_room(model, folder, trust_remote_code)
    return model


def parameter_count(folder: Path, trust_remote_code: bool = False) -> int:
    """Number of parameters by the configuration alone, without reading weights."""
    return sum(p.numel() for p in empty_model(folder, trust_remote_code).parameters())
