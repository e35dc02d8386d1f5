"""How much memory an unlearning run needs, by part, from the model's shape alone: calculated, nothing is loaded or run.

Per device, in bytes. What is certain is exact: weights, gradients, optimizer state, retain direction, copy of the
parameters. What a forward pass keeps for the backward pass is counted for Llama-shaped models (RMS norm, rotary
positions, gated MLP, PyTorch's fused attention) and is an estimate for others. ``benchmarks/plan_against_measured.py``
compares the calculation with measured peaks. The device's own share (context, libraries, fragments) is not in it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PretrainedConfig

from gru_unlearn.errors import UserError, first_line
from gru_unlearn.geometry import parse_rectification
from gru_unlearn.models.locating import BUILTIN, locate_builtin

PRECISIONS = {"float32": 4, "mixed": 4, "bfloat16": 2}
"""Name → bytes of a weight. ``mixed``: float32 weights, computed with in bfloat16 (``--bf16``)."""

ADAPTER_BYTES = 4
"""PEFT keeps adapters in float32 whatever the base is."""
FOUR_BIT_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""NF4 with double quantisation (arXiv 2305.14314): 4 bits, an 8-bit scale for 64 weights, 32 bits for 256 scales."""

LAYER_BYTES = {
    ("full", "float32"): (24, 16, 16),
    ("full", "mixed"): (26, 8, 8),
    ("full", "bfloat16"): (16, 8, 8),
    ("lora", "float32"): (16, 16, 16),
    ("lora", "mixed"): (20, 8, 8),
    ("lora", "bfloat16"): (28, 12, 10),
}
"""Bytes that one layer keeps for the backward pass: (per hidden unit, per attention unit, per MLP unit) of each token.

Hidden units: for each of two norms its input, the normalised input and the output that the next matrices read (float32
inside the norm also where weights are bfloat16; under autocast each matrix keeps its own bfloat16 copy). Attention
units: q, k, v and the result; heads that share keys and values keep less (:func:`_shared_keys`). MLP units: gate, its
activation, up and their product. A frozen matrix keeps no input, but an adapter beside it does, as a float32 copy of
its own.
"""

EIGHT_BIT_STATE = 2 * (1 + 4 / 256)
"""Bytes of AdamW's two moments for a parameter in bitsandbytes' 8-bit form: a float32 scale for 256 of them each.
Embeddings keep 32 bits, as transformers sets it."""

OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit")
"""``paged``: may be moved to the host where a GPU gets short of memory; counted as if it stayed."""

DIRECTION_BYTES = {"float32": 4, "bfloat16": 2}
IN_FLIGHT = 3
"""Gradients of tensors whose part of r is on its way to the host at once, each with that part beside it."""

LOGIT_BYTES = 12
"""Per supervised position and vocabulary entry, in float32: log-probabilities, and on the way back two gradients.
Positions without a label have no logits."""

PRESETS: dict[str, dict[str, Any]] = {
    "llama-1b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": True,
    },
    "llama-8b": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256,
    },
    "llama-70b": {
        "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
        "num_key_value_heads": 8, "vocab_size": 128256,
    },
}  # fmt: skip
"""Shapes of Llama-3.2-1B, Llama-3.1-8B and Llama-3.1-70B, as in their published configurations."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model decides its memory. All counts are numbers of parameters unless said otherwise."""

    parameters: int
    per_layer: int
    matrices: int
    """in the linear layers except the output head: what 4-bit loading compresses and adapters stand beside"""
    adapter_per_rank: int
    """of LoRA at rank 1 beside all those matrices: the sum of their inputs and outputs"""
    largest: int
    """of the largest tensor"""
    layers: int
    hidden: int
    attention: int
    """heads times their size"""
    key_value: int
    """the same of keys and values, which heads may share"""
    intermediate: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to run: what is trained, in which numbers, on how many devices, with which batches.

    ``rows`` are the forget rows of one pass on one device, ``retain_rows`` those of its retain pass (None: as
    ``gru unlearn`` chooses); ``length`` is in tokens, padding included, of which ``answer_share`` is supervised.
    """

    method: str = "full"
    precision: str = "mixed"
    devices: int = 1
    checkpointing: bool = False
    rectification: str = "gru"
    rows: int = 4
    retain_rows: int | None = None
    accumulation: int = 8
    length: int = 512
    answer_share: float = 0.5
    lora_r: int = 16
    optim: str = "adamw"
    retain_direction_dtype: str | None = None
    retain_direction_device: str | None = None

    @property
    def largest_pass(self) -> int:
        """Rows of the larger of both passes; the rectification ``recommended`` takes four times as many retain rows."""
        factor = 4 if self.rectification == "recommended" else 1
        retain_rows = self.retain_rows or factor * self.rows
        return max(self.rows, retain_rows)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each device, by part, and on the host. Not all parts are alive at once, so :attr:`peak` may be less than
    their sum."""

    weights: int
    gradients: int
    optimizer: int
    retain_direction: int
    update_copy: int
    working_weights: int
    """copies of weights for computing: whole layers under FSDP2, bfloat16 copies under autocast, one 4-bit matrix"""
    activations: int
    logits: int
    peak: int
    host: int
    """of r in main memory for each device, where it is kept there"""


# --- the model's shape -----------------------------------------------------------------------------------------------


def model_config(model: str) -> PretrainedConfig:
    """The configuration of a preset, a folder, a ``config.json``, a built-in model, or a hub id (downloads only it).

    Raises:
        UserError: there is none, or transformers does not know its kind.
    """
    if model in PRESETS:
        return LlamaConfig(**PRESETS[model])
    source = locate_builtin(model) if model.startswith(BUILTIN) else model
    if not Path(source).exists() and model.count("/") != 1:
        raise UserError(f"--model {model}: no such file or folder; presets are {', '.join(PRESETS)}")
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # the hub client and configurations raise many types; each becomes one line
        raise UserError(f"--model {model}: no configuration that loads ({first_line(error)})") from None


def shape_of(config: PretrainedConfig) -> Shape:
    """Count parameters on the meta device, where tensors have shapes and no memory.

    Raises:
        UserError: it is not the configuration of a causal language model with numbered layers.
    """
    try:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        hidden, intermediate, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    except (ValueError, AttributeError) as error:
        raise UserError(f"no causal language model of a known shape ({first_line(error)})") from None
    head = model.get_output_embeddings()
    matrices = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    first = re.compile(r".*?\.0\.")
    return Shape(
        parameters=sum(p.numel() for p in model.parameters()),
        per_layer=sum(p.numel() for name, p in model.named_parameters() if first.match(name)),
        matrices=sum(m.weight.numel() for m in matrices),
        adapter_per_rank=sum(m.in_features + m.out_features for m in matrices),
        largest=max(p.numel() for p in model.parameters()),
        layers=config.num_hidden_layers,
        hidden=hidden,
        attention=heads * (getattr(config, "head_dim", None) or hidden // heads),
        key_value=(getattr(config, "num_key_value_heads", None) or heads)
        * (getattr(config, "head_dim", None) or hidden // heads),
        intermediate=intermediate,
        vocabulary=config.vocab_size,
    )


# --- the calculation -------------------------------------------------------------------------------------------------


def predict(shape: Shape, setup: Setup) -> Memory:
    """Memory on each device for AdamW, in bytes.

    The peak is the larger of two moments. In a forget pass: all that stays, what the forward pass kept, and the logits,
    with the window's gradients if an earlier pass made some. At the step: all that stays, the gradients, and in update
    space the copy of the parameters.
    """
    trained, weight_bytes = _trained(shape, setup)
    rectification = parse_rectification(setup.rectification)
    shared = trained * weight_bytes // setup.devices  # FSDP2 cuts every tensor into equal parts
    weights = _weights(shape, setup) // setup.devices
    optimizer = _optimizer(shape, setup, shared)
    stored_bytes = DIRECTION_BYTES.get(setup.retain_direction_dtype or "", weight_bytes)
    r = trained * stored_bytes // setup.devices * (rectification.memory if rectification else 0)
    retain, host = (0, r) if setup.retain_direction_device else (r, 0)
    copy = shared if rectification and rectification.space == "update" else 0
    working, logits = _working(shape, setup), _logits(shape, setup)
    kept, recomputed = _activations(shape, setup)

    stays = weights + optimizer + retain
    # Tensors of r that pass through: from the host, or widened to the gradients' type, one or a few at a time.
    largest = _largest_trained(shape, setup) * weight_bytes // setup.devices
    others = min(largest, shape.hidden * shape.intermediate * weight_bytes // setup.devices)
    folding = 2 * (largest + (IN_FLIGHT - 1) * others) if host else 0
    passing = largest if host or (r and stored_bytes != weight_bytes) else 0
    # Without rectification the retain pass leaves its gradient where the forget pass adds to it; r replaces that.
    from_earlier = shared if setup.accumulation > 1 or rectification is None else 0
    # The logits' part is over before the first layer is computed again, and a graph is gone when gradients are whole.
    in_pass = working + max(kept + max(logits, recomputed) + from_earlier, shared) + folding
    at_step = shared + copy + passing + _scratch(shape, setup)
    peak = stays + max(in_pass, at_step)
    return Memory(weights, shared, optimizer, retain, copy, working, kept + recomputed, logits, peak, host)


def _optimizer(shape: Shape, setup: Setup, shared: int) -> int:
    """AdamW: two moments, in the parameters' type or in 8 bits."""
    if setup.optim == "adamw":
        return 2 * shared
    trained, _ = _trained(shape, setup)
    embedding = shape.vocabulary * shape.hidden if setup.method == "full" else 0
    return int((trained - embedding) * EIGHT_BIT_STATE) + embedding * 8


def _largest_trained(shape: Shape, setup: Setup) -> int:
    return shape.largest if setup.method == "full" else setup.lora_r * max(shape.hidden, shape.intermediate)


def _shared_keys(shape: Shape, setup: Setup) -> int:
    """Bytes for each token that keys and values do not take, because heads share them."""
    return 2 * (4 if setup.precision == "float32" else 2) * (shape.attention - shape.key_value)


def _trained(shape: Shape, setup: Setup) -> tuple[int, int]:
    """Number of trained parameters and their bytes each."""
    if setup.method == "full":
        return shape.parameters, PRECISIONS[setup.precision]
    return shape.adapter_per_rank * setup.lora_r, ADAPTER_BYTES


def _weights(shape: Shape, setup: Setup) -> int:
    if setup.method == "full":
        return shape.parameters * PRECISIONS[setup.precision]
    adapters = shape.adapter_per_rank * setup.lora_r * ADAPTER_BYTES
    if setup.method == "lora":
        return shape.parameters * PRECISIONS[setup.precision] + adapters
    rest = (shape.parameters - shape.matrices) * 2  # embeddings, norms and head stay bfloat16
    return int(shape.matrices * FOUR_BIT_BYTES) + rest + adapters


def _working(shape: Shape, setup: Setup) -> int:
    """Weights that exist a second time while they are computed with."""
    compute_bytes = 4 if setup.precision == "float32" else 2
    if setup.devices > 1:
        # FSDP2 gathers the layer at work and the next one; embeddings and head, the outermost unit, stay gathered. On
        # the way back a layer's whole gradient and the outermost one's exist before they are cut up.
        outside = shape.parameters - shape.layers * shape.per_layer
        gathered = 2 * shape.per_layer + outside + (shape.per_layer + outside if setup.method == "full" else 0)
        return gathered * (compute_bytes if setup.method == "full" else PRECISIONS[setup.precision])
    if setup.method == "qlora":
        return shape.hidden * shape.intermediate * 2  # one matrix at a time is widened
    if setup.precision == "mixed":  # autocast keeps its bfloat16 copies, which the backward pass needs
        return (shape.matrices + shape.vocabulary * shape.hidden) * 2
    return 0


def _tokens(setup: Setup) -> int:
    return setup.largest_pass * setup.length


def _activations(shape: Shape, setup: Setup) -> tuple[int, int]:
    """Kept by the forward pass of one side, and what the backward pass computes again, a layer at a time.

    The other side's graph is gone, because passes run one after the other.
    """
    method = "full" if setup.method == "full" else "lora"
    per_hidden, per_attention, per_mlp = LAYER_BYTES[method, setup.precision]
    units = per_hidden * shape.hidden + per_attention * shape.attention + per_mlp * shape.intermediate
    stream_bytes = 2 if setup.precision == "bfloat16" else 4
    layer = _tokens(setup) * (units - _shared_keys(shape, setup))
    if setup.checkpointing:  # every layer's input is kept
        return _tokens(setup) * shape.hidden * stream_bytes * shape.layers, layer
    return layer * shape.layers, 0


def _logits(shape: Shape, setup: Setup) -> int:
    """At supervised positions alone."""
    return int(_tokens(setup) * setup.answer_share) * shape.vocabulary * LOGIT_BYTES


def _scratch(shape: Shape, setup: Setup) -> int:
    """Temporaries of a rectification inside tensors: up to eight float32 copies of the largest one at a time."""
    rectification = parse_rectification(setup.rectification)
    if rectification is None or rectification.granularity not in ("row", "element"):
        return 0
    return 8 * 4 * _largest_trained(shape, setup) // setup.devices
