"""How much memory an unlearning run needs, by part, from the model's shape alone: calculated, nothing is loaded or run.

Per device, in bytes. What is certain is exact: weights, gradients, optimizer state, retain direction, copy of the
parameters. What a forward pass keeps for the backward pass is an estimate (:mod:`forward_memory`).
``benchmarks/plan_against_measured.py`` compares the calculation with measured peaks. The device's own share (context,
libraries, fragments) is not in it; :data:`HOLES` says how much that may be on a CPU.
"""

from dataclasses import dataclass
from functools import cached_property

from gru_unlearn.capacity.forward_memory import PRECISIONS, activations, logits, working_weights
from gru_unlearn.geometry import Rectification, parse_rectification
from gru_unlearn.results.plan_summary import DIRECTION_BYTES, Memory, Setup, Shape
from gru_unlearn.robustness import Robust, parse_robust

STEPPED_BYTES = 4
"""Whatever is trained is stepped as float32: adapters, which PEFT keeps in it whatever the base is, and weights, of
bfloat16 ones with their lower halves beside them."""
FOUR_BIT_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""NF4 with double quantisation (arXiv 2305.14314): 4 bits, an 8-bit scale for 64 weights, 32 bits for 256 scales."""

EIGHT_BIT_STATE = 2 * (1 + 4 / 256)
"""Bytes of AdamW's two moments for a parameter in bitsandbytes' 8-bit form: a float32 scale for 256 of them each.
Embeddings keep 32 bits, as transformers sets it."""

HOLES = 1.4
"""On a CPU, what a process holds against what it uses at its peak, at most: batches of uneven length leave holes in the
C library's heap (``benchmarks/memory_over_a_run.py``)."""

DAMPING = 5
"""Float32 copies of a matrix while its step is damped: the step, without NaN, what is taken, the result, the sum."""

ANCHOR_BYTES = 4 * (32 + 1) + 4 * 32
"""Of a supervised token: the log-probabilities of its 32 likeliest tokens and of all others, and which those are."""

USABLE = 0.9
"""Share of a device that a run may fill. The rest is left to the context, communication and fragments."""

IN_FLIGHT = 3
"""Gradients of tensors whose part of r is on its way to the host at once, each with that part beside it."""


def predict(shape: Shape, setup: Setup) -> Memory:
    """Memory on each device for AdamW, in bytes.

    The peak is the larger of two moments. In a forget pass: all that stays, what the forward pass kept, and the logits,
    with the window's gradients if an earlier pass made some. At the step: all that stays, the gradients, and in update
    space the copy of the parameters.
    """
    parts, kept = _Parts(shape, setup), activations(shape, setup)
    working, of_logits = working_weights(shape, setup), logits(shape, setup)
    # The logits' part is over before the first layer is computed again, and a graph is gone when gradients are whole.
    graph = kept.kept + max(of_logits, kept.recomputed) + parts.from_earlier_passes
    in_pass = working + max(graph, parts.gradients) + parts.folding
    at_step = parts.gradients + parts.widened_gradients + parts.update_copy + parts.passing
    at_step += parts.copy_to_damp + max(parts.scratch, parts.damping)
    return Memory(
        weights=parts.weights,
        gradients=parts.gradients,
        optimizer=parts.optimizer,
        retain_direction=parts.on_device,
        update_copy=parts.update_copy,
        working_weights=working,
        activations=kept.kept + kept.recomputed,
        logits=of_logits,
        peak=parts.weights + parts.optimizer + parts.on_device + parts.signs + max(in_pass, at_step),
        host=parts.on_host + parts.anchors,
        robust=parts.signs + parts.copy_to_damp,
    )


def fits(memory: Memory, device_bytes: int) -> bool:
    """Whether the peak leaves a device the share that it needs for itself."""
    return memory.peak <= USABLE * device_bytes


@dataclass(frozen=True)
class _Parts:
    """What belongs to weights, each in bytes on one device. FSDP2 cuts every tensor into equal parts."""

    shape: Shape
    setup: Setup

    @cached_property
    def rectification(self) -> Rectification | None:
        return parse_rectification(self.setup.rectification)

    @property
    def trained(self) -> int:
        """Number of trained parameters on all devices."""
        if self.setup.trains_all:
            return self.shape.parameters
        return self.shape.adapter_per_rank * self.setup.lora_r

    @property
    def gradient_bytes(self) -> int:
        """Of the gradient of each of them."""
        if not self.setup.trains_all:
            return STEPPED_BYTES
        return PRECISIONS[self.setup.precision]

    @property
    def weights(self) -> int:
        if self.setup.trains_all:
            whole = self.trained * STEPPED_BYTES
        else:
            whole = self._base_weights + self.trained * STEPPED_BYTES
        return whole // self.setup.devices

    @property
    def _base_weights(self) -> int:
        if self.setup.method != "qlora":
            return self.shape.parameters * PRECISIONS[self.setup.precision]
        rest = (self.shape.parameters - self.shape.matrices) * 2  # embeddings, norms and head stay bfloat16
        return int(self.shape.matrices * FOUR_BIT_BYTES) + rest

    @property
    def gradients(self) -> int:
        return self.trained * self.gradient_bytes // self.setup.devices

    @property
    def widened_gradients(self) -> int:
        """What bfloat16 gradients take more at the step, where they are float32 for a moment."""
        return self._stepped - self.gradients

    @property
    def _stepped(self) -> int:
        """The trained weights as they are stepped."""
        return self.trained * STEPPED_BYTES // self.setup.devices

    @property
    def optimizer(self) -> int:
        """AdamW: two moments, in float32 or in 8 bits."""
        if self.setup.optim == "adamw":
            return 2 * self._stepped
        embedding = 0
        if self.setup.trains_all:
            embedding = self.shape.vocabulary * self.shape.hidden
        return int((self.trained - embedding) * EIGHT_BIT_STATE) + embedding * 8

    @property
    def update_copy(self) -> int:
        if self.rectification is None or self.rectification.space != "update":
            return 0
        return self._stepped

    # --- the retain direction ----------------------------------------------------------------------------------------

    @property
    def _direction_bytes(self) -> int:
        """Of each number of r."""
        return DIRECTION_BYTES.get(self.setup.retain_direction_dtype or "", self.gradient_bytes)

    @property
    def _direction(self) -> int:
        if self.rectification is None:
            return 0
        vectors = self.rectification.memory + (self.rectification.metric > 0)  # the metric is one more like r
        return self.trained * self._direction_bytes // self.setup.devices * vectors

    @property
    def on_device(self) -> int:
        return self._direction - self.on_host

    @property
    def on_host(self) -> int:
        if not self.setup.retain_direction_device:
            return 0
        return self._direction

    # --- robust steps, and anchors -----------------------------------------------------------------------------------

    @cached_property
    def robust(self) -> Robust | None:
        return parse_robust(self.setup.robust)

    @property
    def signs(self) -> int:
        """Of the drift: a byte for each trained number. Vectors, which have none, are counted too."""
        if self.robust is None or not self.robust.drift:
            return 0
        return self.trained

    @property
    def copy_to_damp(self) -> int:
        if self.robust is None or not self.robust.spectral:
            return 0
        return self._stepped

    @property
    def damping(self) -> int:
        """One matrix at a time."""
        if not self.copy_to_damp:
            return 0
        return DAMPING * STEPPED_BYTES * self._largest_trained

    @property
    def anchors(self) -> int:
        answers = int(self.setup.anchor_rows * self.setup.length * self.setup.answer_share)
        return answers * ANCHOR_BYTES

    # --- what passes by ----------------------------------------------------------------------------------------------

    @property
    def from_earlier_passes(self) -> int:
        """Gradients that a pass adds to. Without rectification the retain pass leaves its gradient there, too."""
        if self.setup.accumulation == 1 and self.rectification is not None:
            return 0
        return self.gradients

    @property
    def _largest(self) -> int:
        """The gradient of the largest trained tensor."""
        return self._largest_trained * self.gradient_bytes // self.setup.devices

    @property
    def _largest_trained(self) -> int:
        if self.setup.trains_all:
            return self.shape.largest
        return self.setup.lora_r * max(self.shape.hidden, self.shape.intermediate)

    @property
    def folding(self) -> int:
        """Parts of r that come from the host and go back, a few at a time, each with its gradient."""
        if not self.on_host:
            return 0
        matrix = self.shape.hidden * self.shape.intermediate * self.gradient_bytes // self.setup.devices
        return 2 * (self._largest + (IN_FLIGHT - 1) * min(self._largest, matrix))

    @property
    def passing(self) -> int:
        """A part of r at the step: from the host, or widened to the gradients' type."""
        widened = self.on_device > 0 and self._direction_bytes != self.gradient_bytes
        if not (self.on_host or widened):
            return 0
        return self._largest

    @property
    def scratch(self) -> int:
        """Temporaries of a rectification inside tensors: up to eight float32 copies of the largest one at a time."""
        if self.rectification is None or self.rectification.granularity not in ("row", "element"):
            return 0
        return 8 * 4 * self._largest_trained // self.setup.devices
