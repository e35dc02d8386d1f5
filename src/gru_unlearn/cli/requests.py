"""``gru requests``: forgetting asked for again and again, with a ledger that an auditor can check."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gru_unlearn.cli.unlearn import parse_extra

if TYPE_CHECKING:
    from rich.console import Console

    from gru_unlearn.results.ledger_summary import LedgerSummary

requests = typer.Typer(
    name="requests",
    help="Process requests to forget one after the other, with a ledger that an auditor can check.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

LedgerFolder = Annotated[Path, typer.Argument(metavar="LEDGER", help="Folder of the ledger.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the request.")]
Floor = Annotated[
    float | None,
    typer.Option("--utility-floor", help="Least share of the first model's probability of kept answers. [0.9]"),
]
Ceiling = Annotated[
    float | None,
    typer.Option("--forget-ceiling", help="Most that may be left of its probability of forget answers. [0.5]"),
]
SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


@requests.command(context_settings=SETTINGS)
def init(
    context: typer.Context, ledger: LedgerFolder, utility_floor: Floor = None, forget_ceiling: Ceiling = None
) -> None:
    """Make a ledger: gru requests init LEDGER [RECIPE.yaml] --model MODEL --retain RETAIN [--held-out ...] [FLAGS].

    Every setting of gru unlearn works as a flag and holds for all requests, but --forget and --output-dir.
    """
    settings, limits, console = _start(context, ledger, utility_floor, forget_ceiling)

    from gru_unlearn.ledger.adoption import Limits  # noqa: PLC0415
    from gru_unlearn.ledger.ledger_setup import create_ledger  # noqa: PLC0415

    summary = create_ledger(ledger, settings, Limits(**limits), console)
    _tell(console, ledger, summary)


@requests.command(context_settings=SETTINGS)
def change(
    context: typer.Context, ledger: LedgerFolder, utility_floor: Floor = None, forget_ceiling: Ceiling = None
) -> None:
    """Change settings or limits for requests to come: gru requests change LEDGER [RECIPE.yaml] [FLAGS]."""
    settings, limits, console = _start(context, ledger, utility_floor, forget_ceiling)

    from gru_unlearn.ledger.ledger_setup import change_settings  # noqa: PLC0415

    summary = change_settings(ledger, settings, limits, console)
    _tell(console, ledger, summary)


@requests.command()
def add(
    ledger: LedgerFolder,
    forget: Annotated[str, typer.Option(help="Rows to forget: file, FOLDER:NAME, hub data set, builtin:forget[:8].")],
    id: Annotated[str | None, typer.Option("--id", help="Name of the request; default: request-NUMBER.")] = None,
    reason: Annotated[str, typer.Option(help="Kept in the ledger as it is.")] = "",
    date: Annotated[str | None, typer.Option(help="Day on which it came, 2025-03-31; default: today.")] = None,
) -> None:
    """Add a request. The ledger keeps where its rows are and their hash, never the rows."""
    from gru_unlearn.ledger.intake import add_request  # noqa: PLC0415

    console = _quiet_console()
    request, remarks = add_request(ledger, forget, id=id, reason=reason, received=date)
    for remark in remarks:
        console.print(remark, soft_wrap=True, highlight=False)
    console.print(
        f"Request {request.id} added, {request.rows} rows, pending. Next: gru requests run {ledger}",
        soft_wrap=True,
        highlight=False,
    )


@requests.command()
def run(ledger: LedgerFolder) -> None:
    """Process what is pending, in order, each request on the model that the last accepted one left.

    Stops where a result breaks a limit: it is not adopted, and later requests stay pending (exit code 5). The same
    command goes on after an interruption.
    """
    from gru_unlearn.ledger.request_run import run_requests  # noqa: PLC0415

    console = _quiet_console()
    _tell(console, ledger, run_requests(ledger, console))


@requests.command()
def retry(ledger: LedgerFolder, id: Id) -> None:
    """Set a request that was refused, failed or died back to pending."""
    from gru_unlearn.ledger.intake import retry_request  # noqa: PLC0415

    request = retry_request(ledger, id)
    typer.echo(f"Request {request.id} is pending, attempt {request.attempt}. Next: gru requests run {ledger}")


@requests.command()
def withdraw(
    ledger: LedgerFolder, id: Id, reason: Annotated[str, typer.Option(help="Kept in the chain as it is.")] = ""
) -> None:
    """Take back a request that is not done; its rows count as ordinary rows again."""
    from gru_unlearn.ledger.intake import withdraw_request  # noqa: PLC0415

    request = withdraw_request(ledger, id, reason)
    typer.echo(f"Request {request.id} is withdrawn. Ledger: {ledger}/ledger.sqlite")


@requests.command()
def show(
    ledger: LedgerFolder, id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One request, fully.")] = None
) -> None:
    """Show how all requests stand, or everything about one."""
    from rich.console import Console  # noqa: PLC0415

    from gru_unlearn.ledger.database import Ledger  # noqa: PLC0415
    from gru_unlearn.ledger.standing import summarise  # noqa: PLC0415

    with Ledger.open(ledger) as opened:
        summary = summarise(opened)
        if id is None:
            _tell(Console(markup=False), ledger, summary)
            return
        request = opened.request(id)
    told = summary.requests[request.number - 1]
    Console().print_json(data=told.to_json() | {"reason": request.reason})
    typer.echo(f"Ledger: {ledger}/ledger.sqlite")


@requests.command()
def log(
    ledger: LedgerFolder,
    json: Annotated[
        bool, typer.Option("--json", help="The entries themselves, one a line, as they are hashed.")
    ] = False,
) -> None:
    """Print the chain: every event with the hashes of data and models."""
    from rich.console import Console  # noqa: PLC0415

    from gru_unlearn.ledger.database import Ledger  # noqa: PLC0415
    from gru_unlearn.ledger.ledger_tables import chain_table  # noqa: PLC0415
    from gru_unlearn.ledger.replay import check  # noqa: PLC0415

    with Ledger.open(ledger) as opened:
        if not json:
            check(opened)  # a table of a chain that does not hold would only mislead
        chain = opened.chain()
    if json:
        for _, entry, _ in chain:
            typer.echo(entry.encode("utf-8", "surrogateescape"))  # the very bytes, broken ones too
        return
    wide = Console(width=max(Console().width, 120), markup=False)
    wide.print(chain_table(chain), highlight=False)
    typer.echo(f"Head of the chain (note it elsewhere): {chain[-1][2]}\nLedger: {ledger}/ledger.sqlite")


@requests.command()
def verify(
    ledger: LedgerFolder,
    head: Annotated[str | None, typer.Option(help="Hash of an entry, noted elsewhere, that must be there.")] = None,
) -> None:
    """Recompute the chain and compare tables and models on disk with it; exit code 1 if anything does not hold."""
    from gru_unlearn.ledger.verification import verify_ledger  # noqa: PLC0415

    for note in verify_ledger(ledger, head):
        typer.echo(note)
    typer.echo(f"The ledger holds: {ledger}/ledger.sqlite")


def _start(
    context: typer.Context, ledger: Path, utility_floor: float | None, forget_ceiling: float | None
) -> tuple[dict[str, Any], dict[str, float], "Console"]:
    """Settings of recipe and flags, the limits that were given, and a console."""
    from gru_unlearn.errors import UserError  # noqa: PLC0415

    if str(ledger).startswith("-"):
        raise UserError(f"the folder of the ledger comes first: gru requests {context.info_name} LEDGER [FLAGS]")
    recipe, flags = parse_extra(context.args)

    from gru_unlearn.runs.recipe import read_recipe  # noqa: PLC0415

    given = {"utility_floor": utility_floor, "forget_ceiling": forget_ceiling}
    limits = {name: value for name, value in given.items() if value is not None}
    return (read_recipe(recipe) if recipe else {}) | flags, limits, _quiet_console()


def _quiet_console() -> "Console":
    from rich.console import Console  # noqa: PLC0415 - heavy imports wait for a command

    from gru_unlearn.models.loading import quiet  # noqa: PLC0415

    quiet()
    return Console(markup=False)  # paths and reasons may hold brackets


def _tell(console: "Console", ledger: Path, summary: "LedgerSummary") -> None:
    """How everything stands, and where it is."""
    from rich.console import Console  # noqa: PLC0415

    from gru_unlearn.ledger.ledger_tables import models_table, requests_table  # noqa: PLC0415

    if summary.requests:
        wide = Console(width=max(console.width, 100), markup=False)
        wide.print(requests_table(summary), highlight=False)
        if any(request.metrics for request in summary.requests):
            wide.print(models_table(summary), highlight=False)
    else:
        console.print(
            f"No requests yet. Next: gru requests add {ledger} --forget FILE", soft_wrap=True, highlight=False
        )
    console.print(f"Newest model: {summary.newest_model.source}", soft_wrap=True, highlight=False)
    console.print(
        f"Ledger: {ledger}/ledger.sqlite · summary: {ledger}/summary.json · head of the chain: {summary.head}",
        soft_wrap=True,
        highlight=False,
    )
