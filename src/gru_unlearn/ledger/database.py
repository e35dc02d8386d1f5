"""The ledger of requests to forget: how things stand in tables, and what happened as a chain of hashes.

Every change is one transaction that alters a table and appends one entry. An entry is a line of canonical JSON that
holds the SHA-256 of the line before it; whoever changes, takes out or swaps an entry breaks all hashes behind it.
Nothing of the forget data is kept: a hash of the whole set, a keyed hash of each row, and where it was read from.
"""

import hashlib
import hmac
import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gru_unlearn.common.versions import versions
from gru_unlearn.errors import UserError

LEDGER_FILE = "ledger.sqlite"
START = "0" * 64
"""What the first entry holds as the hash of the entry before it."""

CREATED, CHANGED = "created", "settings changed"

TRANSITIONS = {
    "added": ((None,), "pending"),
    "started": (("pending",), "running"),
    "done": (("running",), "done"),
    "refused": (("running",), "refused"),
    "failed": (("running",), "failed"),
    "retried": (("running", "refused", "failed"), "pending"),
    "withdrawn": (("pending", "running", "refused", "failed"), "withdrawn"),
}
"""Event → states of the request in which it may happen, and the state after it."""

_SCHEMA = """
CREATE TABLE key (value BLOB NOT NULL);
CREATE TABLE settings (sha256 TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE requests (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, date TEXT NOT NULL, reason TEXT NOT NULL, source TEXT NOT NULL,
    rows INTEGER NOT NULL, data_sha256 TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL
);
CREATE TABLE forget_rows (request INTEGER NOT NULL, mark TEXT NOT NULL, PRIMARY KEY (request, mark));
CREATE TABLE kept_rows (name TEXT NOT NULL, mark TEXT NOT NULL, probability REAL NOT NULL, PRIMARY KEY (name, mark));
CREATE TABLE chain (number INTEGER PRIMARY KEY, entry TEXT NOT NULL, sha256 TEXT NOT NULL);
"""

_SHOWN = (
    *("forget_prob_before", "forget_prob_first_model", "rows_used", "weights_before"),
    *("weights_after", "model", "metrics", "why"),
)

Entry = dict[str, Any]
Kept = Mapping[str, Mapping[str, float]]
"""Set name → mark of a row → the first model's probability of its answer."""


class BrokenLedger(Exception):
    """The chain, the tables or a model on disk are not what was written. Exit code 1."""

    exit_code = 1


@dataclass(frozen=True)
class Request:
    """One request as it stands."""

    number: int
    id: str
    date: str
    reason: str
    source: str
    rows: int
    data_sha256: str
    state: str
    attempt: int

    @property
    def version(self) -> str:
        """Name of the run's folder below ``versions``."""
        return f"{self.number:04d}-{self.id}" + (f"-attempt-{self.attempt}" if self.attempt > 1 else "")


def canonical(value: Any) -> str:
    """JSON with sorted keys, no spaces and ASCII only: one text for one value.

    Raises:
        ValueError: NaN or infinity in it.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256(text: str) -> str:
    """Of the text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def first_break(chain: Sequence[tuple[int, str, str]]) -> str | None:
    """What is wrong with the first entry that does not hold, of (number, entry, SHA-256) in order; None if all hold."""
    before = START
    for expected, (number, entry, digest) in enumerate(chain, start=1):
        if number != expected:
            return f"entry {expected} is missing"
        if sha256(entry) != digest:
            return f"entry {number} was changed: its SHA-256 is not the one noted with it"
        content = json.loads(entry)
        if content["previous"] != before:
            return f"entry {number} does not follow on entry {number - 1}: it names another entry before it"
        if content["entry"] != number:
            return f"entry {number} is entry {content['entry']} moved here"
        before = digest
    return None if chain else "entry 1 is missing"


class Ledger:
    """An open ledger. Several processes may read and write one at a time; every method leaves it whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.connection = sqlite3.connect(folder / LEDGER_FILE, isolation_level=None, timeout=30)
        # Broken UTF-8 must come to light as a broken hash, not as an error of the database.
        self.connection.text_factory = lambda content: content.decode("utf-8", "surrogateescape")
        self.connection.execute("PRAGMA synchronous = EXTRA")  # a transaction that returned survives a loss of power

    @classmethod
    def create(cls, folder: Path, settings: Mapping[str, Any], *, key: bytes, kept: Kept, **details: Any) -> "Ledger":
        """A new ledger with its first entry; the folder must be there and hold none."""
        ledger = cls(folder)
        with ledger._transaction():
            for statement in _SCHEMA.split(";"):
                ledger.connection.execute(statement)
            ledger.connection.execute("INSERT INTO key VALUES (?)", (key,))
            ledger._note_settings(CREATED, settings, kept, details)
        return ledger

    @classmethod
    def open(cls, folder: Path) -> "Ledger":
        """The ledger in a folder.

        Raises:
            UserError: there is none.
            BrokenLedger: its file is no database that can be read.
        """
        if not (folder / LEDGER_FILE).is_file():
            raise UserError(f"{folder} holds no ledger: gru requests init {folder} ... makes one")
        ledger = cls(folder)
        try:
            ledger.connection.execute("SELECT 1 FROM chain, requests, settings, forget_rows, kept_rows, key LIMIT 0")
        except sqlite3.Error as error:
            raise BrokenLedger(f"{folder / LEDGER_FILE} cannot be read as a ledger ({error})") from None
        return ledger

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    # --- reading ---------------------------------------------------------------------------------------------------

    @property
    def key(self) -> bytes:
        """Key of the rows' marks."""
        return bytes(self.connection.execute("SELECT value FROM key").fetchone()[0])

    def chain(self) -> list[tuple[int, str, str]]:
        """(number, entry, SHA-256 of the entry) in order, as they are stored."""
        return self.connection.execute("SELECT number, entry, sha256 FROM chain ORDER BY number").fetchall()

    def entries(self) -> list[Entry]:
        """The entries' contents in order."""
        return [json.loads(entry) for _, entry, _ in self.chain()]

    @property
    def head(self) -> str:
        """SHA-256 of the last entry."""
        return self.chain()[-1][2]

    def requests(self) -> list[Request]:
        """All requests in the order in which they came."""
        rows = self.connection.execute(
            "SELECT number, id, date, reason, source, rows, data_sha256, state, attempt FROM requests ORDER BY number"
        )
        return [Request(*row) for row in rows]

    def request(self, id: str) -> Request:
        """The request with this id.

        Raises:
            UserError: there is none.
        """
        for request in self.requests():
            if request.id == id:
                return request
        known = ", ".join(request.id for request in self.requests()) or "none yet"
        raise UserError(f"no request {id!r} in the ledger; there are: {known}")

    def last(self, *events: str, request: Request | None = None) -> Entry | None:
        """The newest entry of one of these events, about one request or any."""
        return newest(self.entries(), *events, request=request)

    def settings(self, sha: str | None = None) -> dict[str, Any]:
        """The settings in force, or those with this hash."""
        wanted = sha or self._settings_sha256
        content = self.connection.execute("SELECT content FROM settings WHERE sha256 = ?", (wanted,)).fetchone()
        if content is None:
            raise BrokenLedger(f"the settings {wanted} are not in the ledger any more")
        return json.loads(content[0])

    @property
    def _settings_sha256(self) -> str:
        entry = self.last(CREATED, CHANGED)
        assert entry is not None
        return str(entry["settings_sha256"])

    def marks(self, up_to: int | None = None) -> set[str]:
        """Marks of all rows that requests name; of those done or with at most this number. Withdrawn ones do not count.

        Done ones always do: where an earlier request is tried again after them, their rows must not be kept by it.
        """
        rows = self.connection.execute(
            "SELECT mark FROM forget_rows JOIN requests ON request = number "
            "WHERE state = 'done' OR (state != 'withdrawn' AND number <= ?)",
            (2**62 if up_to is None else up_to,),
        )
        return {mark for (mark,) in rows}

    def kept(self, name: str) -> dict[str, float]:
        """Mark of a row of the retain or held-out set → the first model's probability of its answer."""
        return dict(self.connection.execute("SELECT mark, probability FROM kept_rows WHERE name = ?", (name,)))

    def newest_model(self) -> tuple[str, str]:
        """The model that the last request done left, or the first one: source, and hash of its weights."""
        entry = self.last("done", CREATED)
        assert entry is not None
        if entry["event"] == CREATED:
            return str(self.settings()["unlearning"]["model"]), str(entry["weights_after"])
        return str((self.folder / entry["model"]).resolve()), str(entry["weights_after"])

    def summary(self) -> dict[str, Any]:
        """How the ledger stands: settings, every request with its newest numbers, newest model, head of the chain."""
        source, weights = self.newest_model()
        entries = self.entries()
        return {
            "command": "requests",
            "requests": [_told(request, entries) for request in self.requests()],
            "newest_model": {"source": source, "sha256": weights},
            "entries": len(entries),
            "head": self.head,
            "settings": self.settings(),
            "settings_sha256": self._settings_sha256,
            "versions": versions(),
        }

    # --- writing ---------------------------------------------------------------------------------------------------

    def add(self, *, id: str | None, date: str, reason: str, source: str, data_sha256: str, marks: Sequence[str],
            rows: int) -> Request:  # fmt: skip
        """A new request, pending.

        Raises:
            UserError: the id is taken.
        """
        with self._transaction():
            requests = self.requests()
            number = 1 + len(requests)
            id = id or f"request-{number}"
            if id in {request.id for request in requests}:
                raise UserError(f"request {id!r} is in the ledger already: choose another --id")
            request = Request(number, id, date, reason, source, rows, data_sha256, "pending", 1)
            self.connection.execute(
                "INSERT INTO requests VALUES (:number, :id, :date, :reason, :source, :rows, :data_sha256, :state, "
                ":attempt)",
                vars(request),
            )
            self.connection.executemany("INSERT INTO forget_rows VALUES (?, ?)", {(number, mark) for mark in marks})
            self._append("added", request, **_described(request, marks))
        return request

    def move(self, event: str, request: Request, **details: Any) -> Request:
        """Note what happened to a request, and its new state.

        Raises:
            UserError: that cannot happen to a request in its state.
        """
        with self._transaction():
            now = self.request(request.id)
            allowed, state = TRANSITIONS[event]
            if now.state not in allowed:
                raise UserError(f"request {now.id} is {now.state}: it can be {event} only when {' or '.join(allowed)}")  # type: ignore[arg-type]
            self.connection.execute(
                "UPDATE requests SET state = ?, attempt = ? WHERE number = ?",
                (state, now.attempt + (event == "retried"), now.number),
            )
            self._append(event, now, **details)
        return self.request(request.id)

    def change(self, settings: Mapping[str, Any], kept: Kept) -> None:
        """New settings for all requests that start from now on."""
        with self._transaction():
            self._note_settings(CHANGED, settings, kept, {})

    def _note_settings(self, event: str, settings: Mapping[str, Any], kept: Kept, details: Mapping[str, Any]) -> None:
        content = canonical(settings)
        self.connection.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (sha256(content), content))
        for name, rows in kept.items():
            self.connection.execute("DELETE FROM kept_rows WHERE name = ?", (name,))
            self.connection.executemany(
                "INSERT INTO kept_rows VALUES (?, ?, ?)", [(name, *row) for row in rows.items()]
            )
        self._append(event, settings_sha256=sha256(content), kept_rows_sha256=self._kept_sha256(), **details)

    def _kept_sha256(self) -> str:
        rows = self.connection.execute("SELECT name, mark, probability FROM kept_rows ORDER BY name, mark")
        return sha256(canonical(list(rows)))

    def _append(self, event: str, request: Request | None = None, **details: Any) -> None:
        chain = self.chain()
        about = {} if request is None else {"request": request.number, "id": request.id}
        about |= {"data_sha256": request.data_sha256} if request is not None else {}
        content = {
            "entry": len(chain) + 1,
            "previous": chain[-1][2] if chain else START,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "event": event,
            "settings_sha256": details.pop("settings_sha256", None) or self._settings_sha256,
            "versions": versions(),
        }
        entry = canonical(content | about | details)
        self.connection.execute("INSERT INTO chain VALUES (?, ?, ?)", (len(chain) + 1, entry, sha256(entry)))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.rollback()
            raise
        self.connection.commit()

    # --- checking --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Recompute the chain, and compare the tables with it.

        Raises:
            BrokenLedger: names the first entry, or the first thing in a table, that does not hold.
        """
        try:
            wrong = first_break(self.chain()) or self._first_disagreement()
        except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
            wrong = f"it cannot be read to the end ({error})"
        if wrong:
            raise BrokenLedger(f"{self.folder / LEDGER_FILE} does not hold: {wrong}")

    def check_head(self, noted: str) -> int:
        """How many entries came after the one whose hash was noted elsewhere.

        Raises:
            BrokenLedger: no entry has that hash: the end of the chain was cut off, or all of it written anew.
        """
        hashes = [digest for *_, digest in self.chain()]
        if noted not in hashes:
            raise BrokenLedger(f"{self.folder / LEDGER_FILE} does not hold: no entry has the noted hash {noted}")
        return len(hashes) - 1 - hashes.index(noted)

    def _first_disagreement(self) -> str | None:
        """Replay the chain; say where a table tells something else."""
        states: dict[int, tuple[str, int]] = {}
        for entry in self.entries():
            if (number := entry.get("request")) is not None:
                state, attempt = states.get(number, (None, 1))
                allowed, after = TRANSITIONS[entry["event"]]
                if state not in allowed:
                    return f"entry {entry['entry']}: request {entry['id']} cannot be {entry['event']} when {state}"
                states[number] = (after, attempt + (entry["event"] == "retried"))
            if sha256(canonical(self.settings(entry["settings_sha256"]))) != entry["settings_sha256"]:
                return f"the settings of entry {entry['entry']} were changed"
        return self._requests_against(states) or self._kept_against()

    def _requests_against(self, states: Mapping[int, tuple[str, int]]) -> str | None:
        added = {entry["request"]: entry for entry in self.entries() if entry["event"] == "added"}
        requests = self.requests()
        if [request.number for request in requests] != sorted(added):
            return "the table of requests has other requests than the chain"
        for request in requests:
            entry = added[request.number]
            marks = self.connection.execute("SELECT mark FROM forget_rows WHERE request = ?", (request.number,))
            told = _described(request, [mark for (mark,) in marks]) | {
                "id": request.id,
                "data_sha256": request.data_sha256,
            }
            if wrong := [name for name, value in told.items() if entry[name] != value]:
                return f"request {request.id}: {', '.join(wrong)} differs from entry {entry['entry']}"
            if (request.state, request.attempt) != states[request.number]:
                return f"request {request.id} is {request.state} in the table, {states[request.number][0]} by the chain"
        return None

    def _kept_against(self) -> str | None:
        entry = self.last(CREATED, CHANGED)
        assert entry is not None
        same = self._kept_sha256() == entry["kept_rows_sha256"]
        return None if same else f"the first model's probabilities differ from entry {entry['entry']}"


def newest(entries: Sequence[Entry], *events: str, request: Request | None = None) -> Entry | None:
    """The last entry of one of these events, about one request or any."""
    found = (entry for entry in reversed(entries) if entry["event"] in events)
    return next((entry for entry in found if request is None or entry.get("request") == request.number), None)


def _told(request: Request, entries: Sequence[Entry]) -> dict[str, Any]:
    """A request, without its reason, and what the newest entries about it measured."""
    told = {name: value for name, value in vars(request).items() if name != "reason"}
    about = (newest(entries, "started", request=request), newest(entries, *TRANSITIONS, request=request))
    known = {name: value for entry in about for name, value in (entry or {}).items()}
    return told | {name: known[name] for name in _SHOWN if name in known}


def _described(request: Request, marks: Iterable[str]) -> dict[str, Any]:
    """What the chain says of a request beside its id and data; reason and source enter as hashes, to stay private."""
    return {
        "date": request.date,
        "rows": request.rows,
        "reason_sha256": sha256(request.reason),
        "source_sha256": sha256(request.source),
        "marks_sha256": sha256(canonical(sorted(set(marks)))),
    }


def new_key() -> bytes:
    """A random key for the marks of a ledger's rows."""
    return secrets.token_bytes(32)


def mark(key: bytes, fingerprint: str) -> str:
    """A row's mark: HMAC-SHA256 of its fingerprint, so that it can be matched only with the ledger at hand."""
    return hmac.new(key, fingerprint.encode(), hashlib.sha256).hexdigest()
