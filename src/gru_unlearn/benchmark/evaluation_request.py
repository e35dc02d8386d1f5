"""What ``gru evaluate`` is asked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate on what; the fields are the flags of ``gru evaluate``."""

    model: str
    suite: str = "builtin"
    data: str | None = None
    forget_split: str = "forget10"
    holdout_split: str | None = None
    forget: str | None = None
    retain: str | None = None
    holdout: str | None = None
    retain_model: str | None = None
    batch_size: int = 32
    max_length: int = 512
    limit: int | None = None
    dtype: str = "auto"
    trust_remote_code: bool = False
