"""What happened to a ledger, as a chain of hashes.

An entry is a line of canonical JSON that holds the SHA-256 of the line before it; whoever changes, takes out or swaps
an entry breaks all hashes behind it.
"""

import json
from collections.abc import Sequence
from typing import Any

from gru_unlearn.common.files import hash_text
from gru_unlearn.results.ledger_summary import Outcome

START = "0" * 64
"""What the first entry holds as the hash of the entry before it."""

CREATED, CHANGED = "created", "settings changed"
"""Events that are about no request."""

EVENTS: dict[str, tuple[tuple[str | None, ...], str]] = {
    "added": ((None,), "pending"),
    "started": (("pending",), "running"),
    "done": (("running",), "done"),
    "refused": (("running",), "refused"),
    "failed": (("running",), "failed"),
    "retried": (("running", "refused", "failed"), "pending"),
    "withdrawn": (("pending", "running", "refused", "failed"), "withdrawn"),
}
"""Event → states of the request in which it may happen, and the state after it."""

JUDGED = ("done", "refused")
"""Events with which a model was judged."""

Link = tuple[int, str, str]
"""An entry's number, its text, and the SHA-256 noted with it."""


class BrokenLedger(Exception):
    """The chain, the tables or a model on disk are not what was written. Exit code 1."""

    exit_code = 1


class ChainEntry(Outcome):
    """One event."""

    entry: int
    previous: str
    time: str
    event: str
    settings_sha256: str
    versions: dict[str, str]
    request: int | None = None
    id: str = ""
    data_sha256: str = ""
    kept_rows_sha256: str = ""
    """where settings were noted: of the first model's probabilities"""


def canonical(value: Any) -> str:
    """JSON with sorted keys, no spaces and ASCII only: one text for one value.

    Raises:
        ValueError: NaN or infinity in it.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def first_break(chain: Sequence[Link]) -> str | None:
    """What is wrong with the first entry that does not hold; None if all hold."""
    before = START
    for expected, (number, text, digest) in enumerate(chain, start=1):
        if number != expected:
            return f"entry {expected} is missing"
        if hash_text(text) != digest:
            return f"entry {number} was changed: its SHA-256 is not the one noted with it"
        content = json.loads(text)
        if content["previous"] != before:
            return f"entry {number} does not follow on entry {number - 1}: it names another entry before it"
        if content["entry"] != number:
            return f"entry {number} is entry {content['entry']} moved here"
        before = digest
    return None if chain else "entry 1 is missing"
