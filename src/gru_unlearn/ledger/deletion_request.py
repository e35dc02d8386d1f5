"""A request to forget: its states, and what the chain may tell of it."""

from collections.abc import Iterable

from gru_unlearn.common.files import hash_text
from gru_unlearn.ledger.hash_chain import canonical
from gru_unlearn.results.file_model import JsonObject
from gru_unlearn.results.ledger_summary import Asked

TRANSITIONS: dict[str, tuple[tuple[str | None, ...], str]] = {
    "added": ((None,), "pending"),
    "started": (("pending",), "running"),
    "done": (("running",), "done"),
    "refused": (("running",), "refused"),
    "failed": (("running",), "failed"),
    "retried": (("running", "refused", "failed"), "pending"),
    "withdrawn": (("pending", "running", "refused", "failed"), "withdrawn"),
}
"""Event → states of the request in which it may happen, and the state after it."""


class DeletionRequest(Asked):
    """A request in a ledger."""

    @property
    def version(self) -> str:
        """Name of the run's folder below ``versions``."""
        again = f"-attempt-{self.attempt}" if self.attempt > 1 else ""
        return f"{self.number:04d}-{self.id}{again}"

    def described(self, row_hashes: Iterable[str]) -> JsonObject:
        """What the chain says of it when it comes; reason and source enter as hashes, to stay private."""
        return {
            "request": self.number,
            "id": self.id,
            "data_sha256": self.data_sha256,
            "date": self.date,
            "rows": self.rows,
            "reason_sha256": hash_text(self.reason),
            "source_sha256": hash_text(self.source),
            "marks_sha256": hash_text(canonical(sorted(set(row_hashes)))),
        }
