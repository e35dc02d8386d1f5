"""The ledger of requests to forget: how things stand, in tables of SQLite.

Every change is one transaction that alters a table and appends one entry to the chain of hashes. Nothing of the forget
data is kept: a hash of the whole set, a keyed hash of each row, and where it was read from.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from gru_unlearn.common.files import hash_text
from gru_unlearn.common.places import LEDGER_FILE, check_ledger_place
from gru_unlearn.common.versions import versions
from gru_unlearn.errors import UserError
from gru_unlearn.ledger.hash_chain import CHANGED, CREATED, EVENTS, START, BrokenLedger, ChainEntry, Link, canonical
from gru_unlearn.results.file_model import JsonObject
from gru_unlearn.results.ledger_summary import DeletionRequest, LedgerSettings, Outcome
from gru_unlearn.results.provenance import ModelSource
from gru_unlearn.results.run_folder import RunFolder

Baseline = Mapping[str, Mapping[str, float]]
"""Kind of rows to keep → hash of a row → the first model's probability of its answer."""

_TABLES = """
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
"""A ``mark`` is the hash of a row."""

_INSERT = """
INSERT INTO requests VALUES (:number, :id, :date, :reason, :source, :rows, :data_sha256, :state, :attempt)
"""


class Ledger(AbstractContextManager["Ledger"]):
    """An open ledger. Several processes may read and write one at a time; every method leaves it whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / LEDGER_FILE
        self.connection = sqlite3.connect(self.file, isolation_level=None, timeout=30)
        # Broken UTF-8 must come to light as a broken hash, not as an error of the database.
        self.connection.text_factory = lambda content: content.decode("utf-8", "surrogateescape")
        self.connection.execute("PRAGMA synchronous = EXTRA")  # a transaction that returned survives a loss of power

    @classmethod
    def create(cls, folder: Path, settings: LedgerSettings, *, key: bytes, baseline: Baseline, weights: str) -> Self:
        """A new ledger with its first entry; the folder must be there and hold none."""
        ledger = cls(folder)
        with ledger._transaction():
            for statement in _TABLES.split(";"):
                ledger.connection.execute(statement)
            ledger.connection.execute("INSERT INTO key VALUES (?)", (key,))
            ledger._note_settings(CREATED, settings, baseline, {"weights_after": weights})
        return ledger

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The ledger in a folder.

        Raises:
            UserError: there is none.
            BrokenLedger: its file is no database that can be read.
        """
        check_ledger_place(folder)
        ledger = cls(folder)
        try:
            ledger.connection.execute("SELECT 1 FROM chain, requests, settings, forget_rows, kept_rows, key LIMIT 0")
        except sqlite3.Error as error:
            raise BrokenLedger(f"{ledger.file} cannot be read as a ledger ({error})") from None
        return ledger

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    # --- reading ---------------------------------------------------------------------------------------------------

    @property
    def key(self) -> bytes:
        """Key of the rows' hashes."""
        return bytes(self.connection.execute("SELECT value FROM key").fetchone()[0])

    def chain(self) -> list[Link]:
        """The chain as it is stored, in order."""
        return self.connection.execute("SELECT number, entry, sha256 FROM chain ORDER BY number").fetchall()

    def entries(self) -> list[ChainEntry]:
        """The chain's contents in order."""
        return [ChainEntry.model_validate_json(text) for _, text, _ in self.chain()]

    def last(self, *events: str, id: str = "") -> ChainEntry:
        """The newest entry of one of these events, about one request or any. There must be one."""
        for entry in reversed(self.entries()):
            if entry.event in events and id in ("", entry.id):
                return entry
        raise BrokenLedger(f"{self.file} does not hold: no entry tells of {' or '.join(events)} {id}".rstrip())

    def requests(self, *states: str) -> list[DeletionRequest]:
        """All requests, or those in one of these states, in the order in which they came."""
        names = DeletionRequest.model_fields
        rows = self.connection.execute("SELECT * FROM requests ORDER BY number")
        requests = [DeletionRequest.model_construct(**dict(zip(names, row, strict=True))) for row in rows]
        return [request for request in requests if not states or request.state in states]

    def request(self, id: str) -> DeletionRequest:
        """The request with this id.

        Raises:
            UserError: there is none.
        """
        requests = {request.id: request for request in self.requests()}
        if id not in requests:
            raise UserError(f"no request {id!r} in the ledger; there are: {', '.join(requests) or 'none yet'}")
        return requests[id]

    @property
    def settings_sha256(self) -> str:
        """Of the settings in force."""
        return self.last(CREATED, CHANGED).settings_sha256

    def settings(self, sha256: str = "") -> LedgerSettings:
        """The settings in force, or those with this hash.

        Raises:
            BrokenLedger: they are not there, or were changed.
        """
        wanted = sha256 or self.settings_sha256
        content = self.connection.execute("SELECT content FROM settings WHERE sha256 = ?", (wanted,)).fetchone()
        if content is None:
            raise BrokenLedger(f"the settings {wanted} are not in the ledger any more")
        return LedgerSettings.model_validate_json(content[0])

    def named_rows(self, up_to: int = 2**62) -> set[str]:
        """Hashes of all rows that requests name which are done, or have at most this number and were not withdrawn.

        Done ones always count: where an earlier request is tried again after them, their rows must not be kept by it.
        """
        rows = self.connection.execute(
            "SELECT mark FROM forget_rows JOIN requests ON request = number "
            "WHERE state = 'done' OR (state != 'withdrawn' AND number <= ?)",
            (up_to,),
        )
        return {row_hash for (row_hash,) in rows}

    def rows_of(self, request: int) -> set[str]:
        """Hashes of the rows that the request with this number names."""
        rows = self.connection.execute("SELECT mark FROM forget_rows WHERE request = ?", (request,))
        return {row_hash for (row_hash,) in rows}

    def baseline(self, name: str) -> dict[str, float]:
        """Hash of a row to keep, of one kind → the first model's probability of its answer."""
        return dict(self.connection.execute("SELECT mark, probability FROM kept_rows WHERE name = ?", (name,)))

    def baseline_sha256(self) -> str:
        """Of all such probabilities."""
        rows = self.connection.execute("SELECT name, mark, probability FROM kept_rows ORDER BY name, mark")
        return hash_text(canonical(list(rows)))

    def newest_model(self) -> ModelSource:
        """The model that the last request done left, or the first one."""
        entry = self.last("done", CREATED)
        source = str(self.settings().unlearning["model"])
        if entry.model is not None:
            source = str((self.folder / entry.model).resolve())
        return ModelSource(source=source, sha256=entry.weights_after)

    # --- writing ---------------------------------------------------------------------------------------------------

    def add(self, asked: DeletionRequest, row_hashes: Collection[str]) -> DeletionRequest:
        """A new request; its number, and its id where it has none, are given here. ``row_hashes``: of its rows.

        Raises:
            UserError: the id is taken.
        """
        with self._transaction():
            taken = [request.id for request in self.requests()]
            number = 1 + len(taken)
            request = asked.model_copy(update={"number": number, "id": asked.id or f"request-{number}"})
            if request.id in taken:
                raise UserError(f"request {request.id!r} is in the ledger already: choose another --id")
            self.connection.execute(_INSERT, request.model_dump())
            rows = [(number, row_hash) for row_hash in set(row_hashes)]
            self.connection.executemany("INSERT INTO forget_rows VALUES (?, ?)", rows)
            self._append("added", describe(request, row_hashes))
        return request

    def move(self, event: str, request: DeletionRequest, outcome: Outcome | None = None) -> None:
        """Note what happened to a request, and its new state.

        Raises:
            UserError: that cannot happen to a request in the state that it is in by now.
        """
        allowed, after = EVENTS[event]
        told = (outcome or Outcome()).model_dump(exclude_unset=True)
        with self._transaction():
            now = self.connection.execute("SELECT state, attempt FROM requests WHERE number = ?", (request.number,))
            state, attempt = now.fetchone()
            if state not in allowed:
                can = " or ".join(map(str, allowed))
                raise UserError(f"request {request.id} is {state}: it can be {event} only when {can}")
            changed = (after, attempt + (event == "retried"), request.number)
            self.connection.execute("UPDATE requests SET state = ?, attempt = ? WHERE number = ?", changed)
            about: JsonObject = {"request": request.number, "id": request.id, "data_sha256": request.data_sha256}
            self._append(event, about | told)

    def change(self, settings: LedgerSettings, baseline: Baseline) -> None:
        """New settings for all requests that start from now on."""
        with self._transaction():
            self._note_settings(CHANGED, settings, baseline, {})

    def _note_settings(self, event: str, settings: LedgerSettings, baseline: Baseline, details: JsonObject) -> None:
        content = canonical(settings.model_dump(exclude_unset=True))
        sha256 = hash_text(content)
        self.connection.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (sha256, content))
        for name, rows in baseline.items():
            self.connection.execute("DELETE FROM kept_rows WHERE name = ?", (name,))
            stored = [(name, row_hash, probability) for row_hash, probability in rows.items()]
            self.connection.executemany("INSERT INTO kept_rows VALUES (?, ?, ?)", stored)
        self._append(event, details | {"settings_sha256": sha256, "kept_rows_sha256": self.baseline_sha256()})

    def _append(self, event: str, details: JsonObject) -> None:
        chain = self.chain()
        content: JsonObject = {
            "entry": len(chain) + 1,
            "previous": chain[-1][2] if chain else START,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "event": event,
            "versions": dict(versions()),
            **details,
        }
        if "settings_sha256" not in content:
            content["settings_sha256"] = self.settings_sha256
        text = canonical(ChainEntry.model_validate(content).model_dump(exclude_unset=True))
        self.connection.execute("INSERT INTO chain VALUES (?, ?, ?)", (len(chain) + 1, text, hash_text(text)))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            yield


def describe(request: DeletionRequest, row_hashes: Iterable[str]) -> JsonObject:
    """What the chain says of a request when it comes; reason and source enter as hashes, to stay private."""
    return {
        "request": request.number,
        "id": request.id,
        "data_sha256": request.data_sha256,
        "date": request.date,
        "rows": request.rows,
        "reason_sha256": hash_text(request.reason),
        "source_sha256": hash_text(request.source),
        "marks_sha256": hash_text(canonical(sorted(set(row_hashes)))),
    }


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """This process alone works on the ledger in a folder.

    Raises:
        UserError: another one does.
    """
    try:
        with FileLock(RunFolder(folder).lock_file, timeout=0):
            yield
    except Timeout:
        raise UserError(f"ledger {folder} is in use by another process") from None
