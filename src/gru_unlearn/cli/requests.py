"""``gru requests``: forgetting asked for again and again, with a ledger that an auditor can check."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from gru_unlearn.cli.flags import InOrder, command, wide
from gru_unlearn.cli.settings_flags import GivenSettings, SettingsCommand
from gru_unlearn.errors import UserError
from gru_unlearn.ledger.ledger_request import (
    NOTHING_TO_CHANGE,
    ChangedLimits,
    LedgerFolder,
    Limits,
    NamedRequest,
    NewLedger,
    NewRequest,
    ShownChain,
    ShownRequest,
    Verification,
    WithdrawnRequest,
)

if TYPE_CHECKING:
    from gru_unlearn.results.ledger_summary import LedgerSummary


_HEAD = "Head of the chain (note it elsewhere):"


@click.group(cls=InOrder)
def requests() -> None:
    """Process requests to forget one after the other, with a ledger that an auditor can check."""


class LedgerFirst(SettingsCommand):
    """A flag before the ledger could take its folder for a value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Sort the words.

        Raises:
            UserError: a flag comes first, or a word belongs to nothing.
        """
        flag_first = bool(args) and args[0].startswith("-") and args[0] not in ctx.help_option_names
        if flag_first and not ctx.resilient_parsing:
            raise UserError(f"the folder of the ledger comes first: {ctx.command_path} LEDGER [FLAGS]")
        return super().parse_args(ctx, args)


class SomethingChanges(LedgerFirst):
    """Something must be given to be changed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Sort the words.

        Raises:
            UserError: as :class:`LedgerFirst`; or neither setting nor limit is given.
        """
        left = super().parse_args(ctx, args)
        if ctx.resilient_parsing:  # for completion, and for pages about the command
            return left
        given, limits = ctx.params["given"], [ctx.params[one.name] for one in fields(ChangedLimits)]
        if not given.recipe and not given.flags and limits.count(None) == len(limits):
            raise UserError(NOTHING_TO_CHANGE)
        return left


@command(NewLedger, Limits, group=requests, kind=LedgerFirst)
def init(at: NewLedger, limits: Limits, given: GivenSettings, console: Console) -> None:
    """Make a ledger: gru requests init LEDGER [RECIPE.yaml] --model MODEL --retain RETAIN [--held-out ...] [FLAGS].

    Every setting of gru unlearn works as a flag and holds for all requests, but --forget and --output-dir.
    """
    from gru_unlearn.ledger.ledger_setup import create_ledger  # noqa: PLC0415 - heavy imports wait for a command

    _show_state(console, at.ledger, create_ledger(at.ledger, given.merged(), limits, console))


@command(LedgerFolder, ChangedLimits, group=requests, kind=SomethingChanges)
def change(at: LedgerFolder, limits: ChangedLimits, given: GivenSettings, console: Console) -> None:
    """Change settings or limits for requests to come: gru requests change LEDGER [RECIPE.yaml] [FLAGS]."""
    from gru_unlearn.ledger.ledger_setup import change_settings  # noqa: PLC0415

    _show_state(console, at.ledger, change_settings(at.ledger, given.merged(), limits.given, console))


@command(NewRequest, group=requests)
def add(new: NewRequest, console: Console) -> None:
    """Add a request. The ledger keeps where its rows are and their hash, never the rows."""
    from gru_unlearn.ledger.intake import add_request  # noqa: PLC0415
    from gru_unlearn.reporting.tables import plural  # noqa: PLC0415

    request, remarks = add_request(new.ledger, new.forget, id=new.id, reason=new.reason, received=new.date)
    added = f"Request {request.id} added, {plural(request.rows, 'row')}, pending. Next: gru requests run {new.ledger}"
    click.echo("\n".join([*remarks, added]))


@command(LedgerFolder, group=requests)
def run(at: LedgerFolder, console: Console) -> None:
    """Process what is pending, in order, each request on the model that the last accepted one left.

    Stops where a result breaks a limit: it is not adopted, and later requests stay pending (exit code 5). The same
    command goes on after an interruption.
    """
    from gru_unlearn.ledger.request_run import run_requests  # noqa: PLC0415

    _show_state(console, at.ledger, run_requests(at.ledger, console))


@command(NamedRequest, group=requests, models=False)
def retry(one: NamedRequest, _console: Console) -> None:
    """Set a request that was refused, failed or died back to pending."""
    from gru_unlearn.ledger.intake import retry_request  # noqa: PLC0415

    request = retry_request(one.ledger, one.id)
    click.echo(f"Request {request.id} is pending, attempt {request.attempt}. Next: gru requests run {one.ledger}")


@command(WithdrawnRequest, group=requests, models=False)
def withdraw(one: WithdrawnRequest, _console: Console) -> None:
    """Take back a request that is not done; its rows count as ordinary rows again."""
    from gru_unlearn.ledger.intake import withdraw_request  # noqa: PLC0415

    request = withdraw_request(one.ledger, one.id, one.reason)
    click.echo(f"Request {request.id} is withdrawn. Ledger: {one.ledger}/ledger.sqlite")


@command(ShownRequest, group=requests, models=False)
def show(wanted: ShownRequest, console: Console) -> None:
    """Show how all requests stand, or everything about one."""
    from gru_unlearn.ledger.database import Ledger  # noqa: PLC0415
    from gru_unlearn.ledger.standing import summarise  # noqa: PLC0415

    with Ledger.open(wanted.ledger) as opened:
        summary = summarise(opened)
        if wanted.id is None:
            _show_state(console, wanted.ledger, summary)
            return
        request = opened.request(wanted.id)
    told = summary.requests[request.number - 1].to_json()
    console.print_json(data=told | {"reason": request.reason})
    click.echo(f"Ledger: {wanted.ledger}/ledger.sqlite")


@command(ShownChain, group=requests, models=False)
def log(wanted: ShownChain, console: Console) -> None:
    """Print the chain: every event with the hashes of data and models."""
    from gru_unlearn.ledger.database import Ledger  # noqa: PLC0415
    from gru_unlearn.ledger.ledger_tables import chain_table  # noqa: PLC0415
    from gru_unlearn.ledger.replay import check  # noqa: PLC0415

    with Ledger.open(wanted.ledger) as opened:
        if not wanted.json:
            check(opened)  # a table of a chain that does not hold would only mislead
        chain = opened.chain()
    if wanted.json:
        for _, entry, _ in chain:
            click.echo(entry.encode("utf-8", "surrogateescape"))  # the very bytes, broken ones too
        return
    wide(console, 80).print(chain_table(chain), highlight=False)
    click.echo(f"Ledger: {wanted.ledger}/ledger.sqlite\n{_HEAD}\n{chain[-1][2]}")


@command(Verification, group=requests, models=False)
def verify(wanted: Verification, _console: Console) -> None:
    """Recompute the chain and compare tables and models on disk with it; exit code 1 if anything does not hold."""
    from gru_unlearn.ledger.verification import verify_ledger  # noqa: PLC0415

    notes = verify_ledger(wanted.ledger, wanted.head)
    click.echo("\n".join([*notes, f"The ledger holds: {wanted.ledger}/ledger.sqlite"]))


def _show_state(console: Console, ledger: Path, summary: "LedgerSummary") -> None:
    from gru_unlearn.ledger.ledger_tables import models_tables, requests_table  # noqa: PLC0415
    from gru_unlearn.reporting.verdict_lines import verdicts_lines  # noqa: PLC0415

    if not summary.requests:
        click.echo(f"No requests yet. Next: gru requests add {ledger} --forget FILE")
    else:
        wide(console, 80).print(requests_table(summary), highlight=False)
    if any(request.metrics for request in summary.requests):
        for table in models_tables(summary):
            wide(console, 80).print(table, highlight=False)
    for line in verdicts_lines({request.id: request.verdict for request in summary.requests}):
        console.print(line, highlight=False)
    click.echo(f"Newest model: {summary.newest_model.source}")
    click.echo(f"Ledger: {ledger}/ledger.sqlite\nSummary: {ledger}/summary.json\n{_HEAD}\n{summary.head}")
