"""What makes forgetting last, as a value and as one word: ``spectral``, ``drift=0.5``, ``spectral=0.25+drift=0.5``."""

import math
from dataclasses import dataclass, fields

RECOMMENDED = "spectral+drift"
"""What ``recommended`` stands for; the evidence is in docs/robustness.md."""

DEFAULTS = {"spectral": 0.25, "drift": 0.5}
"""What a part's word alone stands for."""

NAMES = ("none", "recommended", *DEFAULTS)


@dataclass(frozen=True, slots=True)
class Robust:
    """Which parts, and how much of each; 0: not at all.

    Args:
        spectral: share of each matrix's components, the leading ones, that are damped in its step (:mod:`spectral`).
        drift: c, how far the weights are carried off, in learning rates a step (:mod:`drift`).

    Raises:
        ValueError: a number out of range, or no part at all.
    """

    spectral: float = 0.0
    drift: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.spectral < 1:
            raise ValueError(f"spectral is a share of the components, from 0 to below 1, got {self.spectral}")
        if not 0 <= self.drift < math.inf:
            raise ValueError(f"drift must be finite and not negative, got {self.drift}")
        if not (self.spectral or self.drift):
            raise ValueError("robustness without any part: leave it away")

    def __str__(self) -> str:
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return "+".join(f"{name}={value:g}" for name, value in values.items() if value)


def parse_robust(text: str) -> Robust | None:
    """``PART[=NUMBER][+PART[=NUMBER]]`` → its value; None for ``none``.

    Raises:
        ValueError: an unknown part, one that stands twice, or no number where one is expected.
    """
    if text == "none":
        return None
    if text == "recommended":
        text = RECOMMENDED
    parts: dict[str, float] = {}
    for word in text.split("+"):
        name, equals, number = word.partition("=")
        if name not in DEFAULTS:
            raise ValueError(
                f"unknown part {name!r} of robust {text!r}: none, recommended, or {' and '.join(DEFAULTS)}"
            )
        if name in parts:
            raise ValueError(f"robust {text!r} names {name} twice")
        parts[name] = _number(name, number, text) if equals else DEFAULTS[name]
    return Robust(**parts)


def _number(name: str, text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"robust {whole!r}: {name} takes a number, as in {name}={DEFAULTS[name]}") from None
    if not value > 0:
        raise ValueError(f"robust {whole!r}: {name} must be above 0, or left away")
    return value
