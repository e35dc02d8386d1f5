"""What ``gru export`` is asked."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExportRequest:
    """What to publish, and how; the fields are the options of ``gru export``."""

    run: Path
    out: Path
    merge: bool = False
    dtype: str | None = None
    max_shard_size: str | None = None
    base_model: str | None = None
    license: str | None = None
    evaluations: tuple[Path, ...] = ()
    push: str | None = None
    private: bool = False
    trust_remote_code: bool = False
