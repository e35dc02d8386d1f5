"""The kinds of rows that a run knows, and what each is called: in settings and files, in numbers, and for people."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowKind:
    """One kind of rows."""

    key: str
    """in settings, ``summary.json`` and suites"""
    label: str
    """for people"""
    probability: str
    """key of their mean answer probability along a run"""
    metric: str
    """key of the same in an evaluation"""
    rmf: str = ""
    """key of retention at matched forgetting on them; empty for rows that must go"""


FORGET = RowKind("forget", "forget", "forget_prob", "forget_Q_A_Prob")
"""What must go."""
RETAIN = RowKind("retain", "retain", "retain_prob", "retain_Q_A_Prob", "rmf")
"""What must stay, and guards the run."""
HELD_OUT = RowKind("held_out", "held-out", "held_out_prob", "held_out_Q_A_Prob", "rmf_held_out")
"""What must stay, is known to the model, and that no step ever sees."""

KEPT = (HELD_OUT, RETAIN)
"""What must stay, the better witness first."""
ROW_KINDS = (FORGET, RETAIN, HELD_OUT)


def label_of(key: str) -> str:
    """A set's name for people; of sets that no run knows, the key itself."""
    if key == "control_rows":
        return "control"
    return next((kind.label for kind in ROW_KINDS if kind.key == key), key)
