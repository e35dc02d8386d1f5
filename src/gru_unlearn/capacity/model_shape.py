"""A model's shape, counted from its configuration alone: nothing is loaded."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PretrainedConfig

from gru_unlearn.errors import UserError, first_line
from gru_unlearn.models.locating import base_at_hand, holds_adapters, locate_named, model_inside
from gru_unlearn.objectives.causality import require_causal_config
from gru_unlearn.results.plan_summary import Shape

PRESETS = {
    "llama-1b": LlamaConfig(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128256, tie_word_embeddings=True,
    ),
    "llama-8b": LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128256,
    ),
    "llama-70b": LlamaConfig(
        hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8,
        vocab_size=128256,
    ),
}  # fmt: skip
"""Shapes of Llama-3.2-1B, Llama-3.1-8B and Llama-3.1-70B, as in their published configurations."""

FIRST_LAYER = re.compile(r".*?\.0\.")


def model_config(model: str) -> PretrainedConfig:
    """The configuration of a preset, a folder, a ``config.json``, a GGUF file, a pretrained or built-in model, or a hub
    id (downloads only it).

    Raises:
        UserError: there is none, or transformers does not know its kind.
    """
    if model in PRESETS:
        return PRESETS[model]
    source = str(locate_named(model) or model)
    if Path(source).is_dir():
        source = str(_whole(model_inside(Path(source), f"--model {model}"), f"--model {model}"))
    if not Path(source).exists() and model.count("/") != 1:
        raise UserError(f"--model {model}: no such file or folder; presets are {', '.join(PRESETS)}")
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # the hub client and configurations raise many types; each becomes one line
        raise UserError(f"--model {model}: no configuration that loads ({first_line(error)})") from None
    require_causal_config(config, f"--model {model}")
    return config


def _whole(folder: Path, name: str) -> Path:
    """The folder itself, or that of the base where it holds adapters; nothing is downloaded for a plan."""
    if not holds_adapters(folder):
        return folder
    base = base_at_hand(folder)
    if base is None:
        raise UserError(f"{name}: adapters whose base is not on this machine: name the base itself")
    return base


def shape_of(config: PretrainedConfig) -> Shape:
    """Count parameters on the meta device, where tensors have shapes and no memory.

    Raises:
        UserError: it is not the configuration of a causal language model with numbered layers.
    """
    try:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        heads = config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
        key_heads = getattr(config, "num_key_value_heads", None) or heads
        intermediate = config.intermediate_size
    except (ValueError, AttributeError) as error:
        raise UserError(f"no causal language model of a known shape ({first_line(error)})") from None
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    head = model.get_output_embeddings()
    matrices = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    return Shape(
        parameters=sum(sizes.values()),
        per_layer=sum(size for name, size in sizes.items() if FIRST_LAYER.match(name)),
        matrices=sum(matrix.weight.numel() for matrix in matrices),
        adapter_per_rank=sum(matrix.in_features + matrix.out_features for matrix in matrices),
        largest=max(sizes.values()),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        attention=heads * head_size,
        key_value=key_heads * head_size,
        intermediate=intermediate,
        vocabulary=config.vocab_size,
    )
