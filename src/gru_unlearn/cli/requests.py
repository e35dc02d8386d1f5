"""``gru requests``: forgetting asked for again and again, with a ledger that an auditor can check."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gru_unlearn.cli.flags import InOrder, command, wide
from gru_unlearn.cli.settings_flags import GivenSettings, SettingsCommand
from gru_unlearn.common.options import option
from gru_unlearn.errors import UserError
from gru_unlearn.ledger.limits import ChangedLimits, Limits

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class LedgerFolder:
    """Which ledger."""

    ledger: Path = option("Folder of the ledger.", argument=True)


@dataclass(frozen=True)
class NewRequest(LedgerFolder):
    """A request to forget."""

    forget: str = option("Rows to forget: file, FOLDER:NAME, hub data set, builtin:forget[:8].")
    id: str | None = option("Name of the request; default: request-NUMBER.", None)
    reason: str = option("Kept in the ledger as it is.", "")
    date: str | None = option("Day on which it came, 2025-03-31; default: today.", None)


@dataclass(frozen=True)
class OneRequest(LedgerFolder):
    """A request that is there."""

    id: str = option("Id of the request.", argument=True)


@dataclass(frozen=True)
class Withdrawal(OneRequest):
    """A request that is taken back."""

    reason: str = option("Kept in the chain as it is.", "")


@dataclass(frozen=True)
class Shown(LedgerFolder):
    """All requests, or one."""

    id: str | None = option("One request, fully.", None, argument=True)


@dataclass(frozen=True)
class ShownChain(LedgerFolder):
    """The chain, as a table or as it is hashed."""

    json: bool = option("The entries themselves, one a line, as they are hashed.", False)


@dataclass(frozen=True)
class Verification(LedgerFolder):
    """What is compared with the ledger."""

    head: str | None = option("Hash of an entry, noted elsewhere, that must be there.", None)


@click.group(cls=InOrder)
def requests() -> None:
    """Process requests to forget one after the other, with a ledger that an auditor can check."""


# --- settings and limits ---------------------------------------------------------------------------------------------


class LedgerFirst(SettingsCommand):
    """A flag before the ledger could take its folder for a value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Sort the words.

        Raises:
            UserError: a flag comes first, or a word belongs to nothing.
        """
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            raise UserError(f"the folder of the ledger comes first: {ctx.command_path} LEDGER [FLAGS]")
        return super().parse_args(ctx, args)


@command(LedgerFolder, Limits, kind=LedgerFirst, featured={})
def init(at: LedgerFolder, limits: Limits, given: GivenSettings, console: "Console") -> None:
    """Make a ledger: gru requests init LEDGER [RECIPE.yaml] --model MODEL --retain RETAIN [--held-out ...] [FLAGS].

    Every setting of gru unlearn works as a flag and holds for all requests, but --forget and --output-dir.
    """
    from gru_unlearn.ledger.requests_job import init as make  # noqa: PLC0415 - heavy imports wait for a command

    _show_state(console, at.ledger, make(at.ledger, given.merged(), limits, console))


@command(LedgerFolder, ChangedLimits, kind=LedgerFirst, featured={})
def change(at: LedgerFolder, limits: ChangedLimits, given: GivenSettings, console: "Console") -> None:
    """Change settings or limits for requests to come: gru requests change LEDGER [RECIPE.yaml] [FLAGS]."""
    from gru_unlearn.ledger.requests_job import change as alter  # noqa: PLC0415

    _show_state(console, at.ledger, alter(at.ledger, given.merged(), limits.given, console))


# --- requests --------------------------------------------------------------------------------------------------------


@command(NewRequest)
def add(new: NewRequest, console: "Console") -> None:
    """Add a request. The ledger keeps where its rows are and their hash, never the rows."""
    from gru_unlearn.ledger.requests_job import add as append  # noqa: PLC0415

    request, remarks = append(new.ledger, new.forget, id=new.id, reason=new.reason, received=new.date)
    for remark in remarks:
        click.echo(remark)
    count = f"{request.rows} rows, pending"
    click.echo(f"Request {request.id} added, {count}. Next: gru requests run {new.ledger}")


@command(LedgerFolder)
def run(at: LedgerFolder, console: "Console") -> None:
    """Process what is pending, in order, each request on the model that the last accepted one left.

    Stops where a result breaks a limit: it is not adopted, and later requests stay pending (exit code 5). The same
    command goes on after an interruption.
    """
    from gru_unlearn.ledger.requests_job import run as process  # noqa: PLC0415

    _show_state(console, at.ledger, process(at.ledger, console))


@command(OneRequest, models=False)
def retry(one: OneRequest, console: "Console") -> None:
    """Set a request that was refused, failed or died back to pending."""
    from gru_unlearn.ledger.requests_job import retry as again  # noqa: PLC0415

    request = again(one.ledger, one.id)
    click.echo(f"Request {request.id} is pending, attempt {request.attempt}. Next: gru requests run {one.ledger}")


@command(Withdrawal, models=False)
def withdraw(one: Withdrawal, console: "Console") -> None:
    """Take back a request that is not done; its rows count as ordinary rows again."""
    from gru_unlearn.ledger.requests_job import withdraw as take_back  # noqa: PLC0415

    request = take_back(one.ledger, one.id, one.reason)
    click.echo(f"Request {request.id} is withdrawn. Ledger: {one.ledger}/ledger.sqlite")


# --- looking at it ---------------------------------------------------------------------------------------------------


@command(Shown, models=False)
def show(wanted: Shown, console: "Console") -> None:
    """Show how all requests stand, or everything about one."""
    from gru_unlearn.ledger.database import Ledger  # noqa: PLC0415

    with Ledger.open(wanted.ledger) as opened:
        summary = opened.summary()
        if wanted.id is None:
            _show_state(console, wanted.ledger, summary)
            return
        request = opened.request(wanted.id)
    told = next(told for told in summary["requests"] if told["id"] == wanted.id)
    console.print_json(data=told | {"reason": request.reason})
    click.echo(f"Ledger: {wanted.ledger}/ledger.sqlite")


@command(ShownChain, models=False)
def log(wanted: ShownChain, console: "Console") -> None:
    """Print the chain: every event with the hashes of data and models."""
    from gru_unlearn.ledger.database import Ledger  # noqa: PLC0415
    from gru_unlearn.ledger.ledger_tables import chain_table  # noqa: PLC0415

    with Ledger.open(wanted.ledger) as opened:
        if not wanted.json:
            opened.check()  # a table of a chain that does not hold would only mislead
        chain = opened.chain()
    if wanted.json:
        for _, entry, _ in chain:
            click.echo(entry.encode("utf-8", "surrogateescape"))  # the very bytes, broken ones too
        return
    entries = [(number, json.loads(entry), digest) for number, entry, digest in chain]
    wide(console, 120).print(chain_table(entries), highlight=False)
    click.echo(f"Head of the chain (note it elsewhere): {chain[-1][2]}\nLedger: {wanted.ledger}/ledger.sqlite")


@command(Verification, models=False)
def verify(wanted: Verification, console: "Console") -> None:
    """Recompute the chain and compare tables and models on disk with it; exit code 1 if anything does not hold."""
    from gru_unlearn.ledger.requests_job import verify as check  # noqa: PLC0415

    for note in check(wanted.ledger, wanted.head):
        click.echo(note)
    click.echo(f"The ledger holds: {wanted.ledger}/ledger.sqlite")


for subcommand in (init, change, add, run, retry, withdraw, show, log, verify):
    requests.add_command(subcommand)


def _show_state(console: "Console", ledger: Path, summary: Mapping[str, Any]) -> None:
    """How everything stands, and where it is."""
    from gru_unlearn.ledger.ledger_tables import models_table, requests_table  # noqa: PLC0415

    if summary["requests"]:
        wide(console, 100).print(requests_table(summary), highlight=False)
        if any("metrics" in told for told in summary["requests"]):
            wide(console, 100).print(models_table(summary), highlight=False)
    else:
        click.echo(f"No requests yet. Next: gru requests add {ledger} --forget FILE")
    click.echo(f"Newest model: {summary['newest_model']['source']}")
    places = f"Ledger: {ledger}/ledger.sqlite · summary: {ledger}/summary.json"
    click.echo(f"{places} · head of the chain: {summary['head']}")
