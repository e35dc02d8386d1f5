"""What to do with conflicting gradients, as a value and as one word: ``gru``, ``gru/element/update``, ``pcgrad``."""

import math
from dataclasses import dataclass, replace

from gru_unlearn.geometry.blocks import GRANULARITIES, INSIDE_TENSORS
from gru_unlearn.geometry.family import FAMILY, Member, names_of
from gru_unlearn.geometry.retain_metric import FLOOR, TEMPER
from gru_unlearn.geometry.rules import Rule

SPACES = ("gradient", "update")

RECOMMENDED = "gru/element/update/metric=0.1/temper=0.75"
"""What ``recommended`` stands for, if you do not know what to choose; the evidence is in docs/results.md. The trainer
adds to it that four times as many retain as forget examples make a step."""

_TURNING = {"metric": FLOOR, "temper": TEMPER}
"""What turns a displacement before it is rectified, with what it is where only its name is given."""

NAMES = ("none", "recommended", *FAMILY)


@dataclass(frozen=True, slots=True)
class Rectification:
    """Rule, granularity, space and memory, chosen independently of the objective.

    Args:
        rule: name among :data:`NAMES` except none and recommended, or a rule of your own (see :mod:`rules`).
        granularity: the blocks that are rectified one by one, see :mod:`blocks`; by default the rule's own.
        space: ``gradient`` rectifies u before the optimizer sees it; ``update`` rectifies the optimizer's displacement,
            so that ⟨Δθ_b, r_b⟩ ≤ 0 holds for what really happens to the weights, whatever momentum, preconditioner,
            weight decay and clipping made of the gradient.
        memory: 1, r is the smoothed retain gradient; K, the gradients of the last K steps are held, and u is
            projected on the cone of directions that none of them forbids (see :mod:`cone`).
        metric: in update space, turn the displacement to where it costs retention little before it is rectified (see
            :mod:`retain_metric`, whose floor this is); 0: leave it.
        temper: beside a metric, in [0, 1], how far Adam's equal steps go back to momentum's (see :mod:`retain_metric`).
        settings: name and value of the rule's own settings, such as ``(("weight", 0.1),)`` for ``sago``.

    Raises:
        ValueError: an unknown name, or a combination that does not exist.
    """

    rule: str | Rule = "gru"
    granularity: str = ""
    space: str = "gradient"
    memory: int = 1
    metric: float = 0.0
    temper: float = 0.0
    settings: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.rule, str) and self.rule not in FAMILY:
            raise ValueError(f"unknown rectification {self.rule!r}: one of {', '.join(NAMES)}")
        if not self.granularity:
            object.__setattr__(self, "granularity", self.member.granularity)
        if self.granularity not in GRANULARITIES:
            raise ValueError(f"unknown granularity {self.granularity!r}: one of {', '.join(GRANULARITIES)}")
        if self.space not in SPACES:
            raise ValueError(f"unknown space {self.space!r}: one of {', '.join(SPACES)}")
        if self.memory < 1:
            raise ValueError(f"memory must be at least 1, got {self.memory}")

        member = self.member
        if self.space == "update" and not member.in_update_space:
            able = names_of(lambda other: other.in_update_space)
            raise ValueError(f"{self} has no form: only {able} work in update space")
        if self.memory > 1 and member.solver is None:
            able = names_of(lambda other: other.solver is not None)
            raise ValueError(f"{self} has no form: only {able} have a memory")
        self._check_turning()
        if self.holds_several and self.granularity in INSIDE_TENSORS:
            raise ValueError(f"memory {self.memory} works on whole tensors: granularity model, layer or tensor")
        if member.granularities is not None and self.granularity not in member.granularities:
            raise ValueError(
                f"{self} has no form: {self.rule} works at granularity {' or '.join(member.granularities)}"
            )
        self._check_settings(member)

    def _check_turning(self) -> None:
        if not 0 <= self.metric < math.inf:
            raise ValueError(f"metric must be finite and not negative, got {self.metric:g}")
        if not 0 <= self.temper <= 1:
            raise ValueError(f"temper must be from 0 to 1, got {self.temper:g}")
        if self.metric and (self.space != "update" or self.holds_several):
            raise ValueError(f"{self} has no form: a metric turns what one r rectifies in update space")
        if self.temper and not self.metric:
            raise ValueError(f"{self} has no form: what is tempered is turned in a metric")

    def _check_settings(self, member: Member) -> None:
        for name, value in self.settings:
            if name not in member.settings:
                known = ", ".join(member.settings) or "none of its own"
                raise ValueError(f"{self.rule} has no setting {name!r}: it has {known}")
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} of {self.rule} must be finite and not negative, got {value:g}")

    def with_setting(self, name: str, value: float) -> "Rectification":
        """The same with one more of the rule's own settings."""
        return replace(self, settings=(*self.settings, (name, value)))

    def make_rule(self) -> Rule:
        """The rule with its settings, anew; not for one that always holds several gradients."""
        make = self.member.make_rule
        assert make is not None, "several are held"
        return make(**dict(self.settings))

    @property
    def member(self) -> Member:
        """What its rule can do."""
        own = self.rule
        if isinstance(own, str):
            return FAMILY[own]
        return Member(lambda: own)

    @property
    def holds_several(self) -> bool:
        """Whether the last gradients themselves are held, instead of their smoothed sum."""
        return self.memory > 1 or self.member.make_rule is None

    def __str__(self) -> str:
        own = self.rule
        parts = [own if isinstance(own, str) else getattr(own, "__name__", type(own).__name__)]
        if self.granularity != self.member.granularity:
            parts.append(self.granularity)
        if self.space != "gradient":
            parts.append(self.space)
        if self.memory > 1:
            parts.append(f"memory={self.memory}")
        parts += [_turning_word(name, getattr(self, name)) for name in _TURNING if getattr(self, name)]
        parts += [f"{name}={float(value)!r}".removesuffix(".0") for name, value in self.settings]
        return "/".join(parts)


def _turning_word(name: str, value: float) -> str:
    return name if value == _TURNING[name] else f"{name}={value!r}".removesuffix(".0")


def parse_rectification(text: str) -> Rectification | None:
    """``RULE[/GRANULARITY][/SPACE][/memory=K][/metric[=FLOOR]][/temper[=NUMBER]][/SETTING=NUMBER]`` → its value; None
    for ``none``.

    Raises:
        ValueError: an unknown part, with what there is.
    """
    if text == "none":
        return None
    if text == "recommended":
        text = RECOMMENDED
    rule, *parts = text.split("/")
    if rule in ("none", "recommended"):
        raise ValueError(f"rectification {text!r}: {rule!r} stands alone, without granularity, space or memory")
    choices: dict[str, str | float] = {}
    settings: dict[str, float] = {}
    for part in parts:
        name, value = _choice(part, text)
        if name in choices or name in settings:
            raise ValueError(f"rectification {text!r} names its {name} twice")
        if isinstance(value, float) and name not in _TURNING:
            settings[name] = value
        else:
            choices[name] = value
    return Rectification(rule, **choices, settings=tuple(settings.items()))  # type: ignore[arg-type]


def _choice(part: str, text: str) -> tuple[str, str | int | float]:
    """``layer`` → granularity, ``layer``."""
    if part in GRANULARITIES:
        return "granularity", part
    if part in SPACES:
        return "space", part
    if part in _TURNING:
        return part, _TURNING[part]
    word, _, number = part.partition("=")
    if word == "memory" and number.isdecimal():
        return "memory", int(number)
    if word != "memory" and (found := _number(number)) is not None:
        return word, found
    raise ValueError(
        f"unknown part {part!r} in rectification {text!r}: after the name come a granularity "
        f"({', '.join(GRANULARITIES)}), a space ({', '.join(SPACES)}), memory=K, metric, temper, and settings of the "
        "rule, as in sago/weight=0.1"
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def resolve_rectification(given: str | Rectification | Rule) -> Rectification:
    """From its word, a rule of your own, or itself.

    Raises:
        TypeError: none of these.
        ValueError: an unknown part, or ``none``.
    """
    if isinstance(given, Rectification):
        return given
    if not isinstance(given, str):
        if not callable(given):
            raise TypeError(f"rectification must be a word, a Rectification or a rule, got {given!r}")
        return Rectification(given)
    parsed = parse_rectification(given)
    if parsed is None:
        raise ValueError("rectification 'none' needs no rectifier: leave it away")
    return parsed


def default_gradient_weight(rectification: Rectification) -> float:
    """γ: 0.8 as published for GRU on whole tensors; 0.4 for rows and elements, whose signs need more smoothing
    (docs/results.md); 1, no smoothing, for the rules of others."""
    member = rectification.member
    if rectification.granularity in INSIDE_TENSORS:
        return member.weight_inside
    return member.weight_of_whole
