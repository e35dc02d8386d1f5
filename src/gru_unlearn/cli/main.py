"""``gru``: commands, exit codes, and one clear line for every error that a person can mend.

Exit codes: 0 done; 1 unexpected, or something is not what was written; 2 bad input, nothing started; 3 non-finite loss,
gradients or weights; 4 no room left to write; 5 a request's result broke a limit; 130 interrupted.
"""

import sys
import warnings

import typer

from gru_unlearn import __version__
from gru_unlearn.cli.attack import attack
from gru_unlearn.cli.compare import compare
from gru_unlearn.cli.demo import demo
from gru_unlearn.cli.evaluate import evaluate
from gru_unlearn.cli.export import export
from gru_unlearn.cli.plan import plan
from gru_unlearn.cli.report import report
from gru_unlearn.cli.requests import requests
from gru_unlearn.cli.tru import tru
from gru_unlearn.cli.unlearn import unlearn
from gru_unlearn.common.processes import is_first
from gru_unlearn.common.renamed import RenamedSetting
from gru_unlearn.errors import exit_code, is_no_room

app = typer.Typer(
    name="gru",
    help="Make a language model forget on request, and keep the rest of it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(demo)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(unlearn)
app.command()(evaluate)
app.command()(attack)
app.command()(report)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(compare)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(tru)
app.command()(plan)
app.add_typer(requests)
app.command()(export)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gru-unlearn {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Show the version."),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks and the libraries' own messages."),
) -> None:
    """Make a language model forget on request, and keep the rest of it."""
    if not debug:
        warnings.filterwarnings("ignore")
        warnings.filterwarnings("once", category=RenamedSetting)
        warnings.showwarning = _show_in_one_line
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _show_in_one_line(message: Warning | str, *_: object, **__: object) -> None:
    if is_first():
        typer.echo(f"gru: {message}", err=True)


def main() -> None:
    """Entry point of the ``gru`` command."""
    # --debug may stand anywhere on the line, as people type it.
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(args=["--debug", *arguments] if debug else arguments, prog_name="gru", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 130)
    except Exception as error:
        if debug:
            raise
        _fail(_one_line(error), exit_code(error))
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: Exception) -> str:
    if hasattr(error, "format_message"):  # the command-line library's own usage errors
        return " ".join(error.format_message().split())
    if hasattr(error, "exit_code"):  # ours
        return " ".join(str(error).split())
    lines = str(error).strip().splitlines() or [""]
    if is_no_room(error):
        return f"no room left to write ({lines[0]}): make room and start the same command again"
    return f"unexpected {type(error).__name__}: {lines[0]} (add --debug for the traceback)"


def _fail(message: str, code: int) -> None:
    if message and (code != 2 or is_first()):  # of many processes, one tells of bad input
        typer.echo(f"gru: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
