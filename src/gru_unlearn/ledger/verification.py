"""Whether a ledger, and the models on disk, are what was written."""

from itertools import pairwise
from pathlib import Path

from gru_unlearn.ledger.database import Ledger
from gru_unlearn.ledger.hash_chain import CREATED, BrokenLedger, ChainEntry
from gru_unlearn.ledger.ledger_setup import first_model
from gru_unlearn.ledger.replay import check
from gru_unlearn.models.weights import hash_weights


def verify_ledger(folder: Path, head: str | None = None) -> list[str]:
    """Check chain, tables and models on disk; returns what a reader should know although nothing is wrong.

    ``head``: hash of an entry, noted elsewhere, that must be there.

    Raises:
        BrokenLedger: names the first thing that does not hold.
    """
    with Ledger.open(folder) as ledger:
        check(ledger)
        chain, entries = ledger.chain(), ledger.entries()
        notes = [f"{len(chain)} entries hold; head {chain[-1][2]}"]
        if head is not None:
            hashes = [digest for *_, digest in chain]
            if head not in hashes:
                raise BrokenLedger(f"{ledger.file} does not hold: no entry has the noted hash {head}")
            after = len(chain) - 1 - hashes.index(head)
            notes.append(f"the noted hash is that of entry {len(chain) - after}; {after} entries came after it")
        adopted = [entry for entry in entries if entry.event in (CREATED, "done")]
        for before, entry in pairwise(adopted):
            if entry.weights_before != before.weights_after:
                raise BrokenLedger(f"entry {entry.entry} does not start from the model of entry {before.entry}")
        notes += [_verify_model(ledger, entry, newest=entry is adopted[-1]) for entry in adopted]
    return notes


def _verify_model(ledger: Ledger, entry: ChainEntry, *, newest: bool) -> str:
    name = f"the model of {entry.id}" if entry.id else "the first model"
    found = first_model(ledger) if entry.model is None else ledger.folder / entry.model
    if found is None or not list(found.glob("*.safetensors")):
        if newest:
            raise BrokenLedger(f"entry {entry.entry}: {name}, the newest, is not on disk")
        return f"{name} is not on disk any more: not checked"
    if hash_weights(found) != entry.weights_after:
        raise BrokenLedger(f"entry {entry.entry}: {name} on disk is not the one that was noted (its hash differs)")
    return f"{name} is as noted in entry {entry.entry}"
