"""What a forward pass keeps for the backward pass, and what exists a second time while it is computed with; in bytes.

Counted for Llama-shaped models: RMS norm, rotary positions, gated MLP, PyTorch's fused attention.
"""

from typing import NamedTuple

from gru_unlearn.results.plan_summary import Setup, Shape

PRECISIONS = {"float32": 4, "mixed": 4, "bfloat16": 2}
"""Name → bytes of a weight that is computed with, and of its gradient. ``mixed``: float32 weights, computed with in
bfloat16 (``--bf16``, the default where GPU or processor can)."""

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
units: q, k, v and the result; heads that share keys and values keep less. MLP units: gate, its activation, up and their
product. A frozen matrix keeps no input, but an adapter beside it does, as a float32 copy of its own.
"""

LOGIT_BYTES = 12
"""Per supervised position and vocabulary entry, in float32: log-probabilities, and on the way back two gradients.
Positions without a label have no logits."""


class Activations(NamedTuple):
    """Of one side; the other side's graph is gone, because passes run one after the other."""

    kept: int
    """by the forward pass"""
    recomputed: int
    """by the backward pass again, a layer at a time"""


def activations(shape: Shape, setup: Setup) -> Activations:
    """What a pass keeps; with checkpointing that is every layer's input."""
    layer = _layer(shape, setup)
    if not setup.checkpointing:
        return Activations(layer * shape.layers, 0)
    return Activations(setup.tokens * shape.hidden * PRECISIONS[setup.precision] * shape.layers, layer)


def _layer(shape: Shape, setup: Setup) -> int:
    method = "full" if setup.trains_all else "lora"
    per_hidden, per_attention, per_mlp = LAYER_BYTES[method, setup.precision]
    units = per_hidden * shape.hidden + per_attention * shape.attention + per_mlp * shape.intermediate
    shared_keys = 2 * _compute_bytes(setup) * (shape.attention - shape.key_value)
    return setup.tokens * (units - shared_keys)


def logits(shape: Shape, setup: Setup) -> int:
    """At supervised positions alone."""
    return int(setup.tokens * setup.answer_share) * shape.vocabulary * LOGIT_BYTES


def working_weights(shape: Shape, setup: Setup) -> int:
    """Weights that exist a second time while they are computed with."""
    if setup.devices > 1:
        return _gathered(shape, setup)
    if setup.method == "qlora":
        return shape.hidden * shape.intermediate * 2  # one matrix at a time is widened
    if setup.precision == "mixed":  # autocast keeps its bfloat16 copies, which the backward pass needs
        return (shape.matrices + shape.vocabulary * shape.hidden) * 2
    return 0


def _gathered(shape: Shape, setup: Setup) -> int:
    """FSDP2 gathers the layer at work and the next one; embeddings and head, the outermost unit, stay gathered."""
    outside = shape.parameters - shape.layers * shape.per_layer
    gathered = 2 * shape.per_layer + outside
    if not setup.trains_all:
        return gathered * PRECISIONS[setup.precision]
    # On the way back a layer's whole gradient and the outermost one's exist before they are cut up.
    return (gathered + shape.per_layer + outside) * _compute_bytes(setup)


def _compute_bytes(setup: Setup) -> int:
    return 4 if setup.precision == "float32" else 2
