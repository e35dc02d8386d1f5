"""Tables of a ledger of requests: how each stands, what each accepted model gives, and the chain."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from gru_unlearn.reporting.tables import add_remarks, make_table


def requests_table(summary: Mapping[str, Any]) -> Table:
    """Every request: its state, and what the model knew of its rows before and after."""
    headings = ("request", "received", "rows", "state", "forget prob before", "after", "utility kept")
    rows = []
    for told in summary["requests"]:
        metrics = told.get("metrics", {})
        after = metrics.get("forget_prob", {}).get(told["id"])
        numbers = (told.get("forget_prob_before"), after, metrics.get("utility"))
        rows.append((told["id"], told["date"], told["rows"], told["state"], *numbers))
    table = make_table("Requests", headings, rows)
    add_remarks(table, ((f"{t['id']} {t['state']}", t["why"]) for t in summary["requests"] if t.get("why")))
    return table


def models_table(summary: Mapping[str, Any]) -> Table:
    """What the model after each request gives on every forget set so far and on the rows to keep."""
    judged = [told for told in summary["requests"] if "metrics" in told]
    kept = {name: label for name, label in _KEPT.items() if any(name in told["metrics"] for told in judged)}
    headings = ("after", *(told["id"] for told in judged), *kept.values(), "")
    rows = []
    for told in judged:
        forget = (told["metrics"]["forget_prob"].get(other["id"], "") for other in judged)
        unread = (f"{id}: {reason}" for id, reason in told["metrics"]["not_checked"].items())
        adopted = () if told["state"] == "done" else ("not adopted",)
        remark = ", ".join((*adopted, *unread))
        rows.append((told["id"], *forget, *(told["metrics"].get(name) for name in kept), remark))
    return make_table("Forget probability of each request's rows, and what was kept", headings, rows)


_KEPT = {
    "retain_prob": "retain prob",
    "retain_kept": "kept",
    "held_out_prob": "held-out prob",
    "held_out_kept": "kept",
}


def chain_table(chain: Sequence[tuple[int, Mapping[str, Any], str]]) -> Table:
    """(number, entry, SHA-256) of each entry, with the first twelve digits of the hashes."""
    headings = ("entry", "time", "event", "request", "data", "model before", "model after", "SHA-256")
    rows = []
    for number, entry, digest in chain:
        hashes = (entry.get(name) for name in ("data_sha256", "weights_before", "weights_after"))
        shown = [(found or "")[:12] for found in (*hashes, digest)]
        rows.append((str(number), entry["time"][:19], entry["event"], entry.get("id", ""), *shown))
    return make_table("", headings, rows)
