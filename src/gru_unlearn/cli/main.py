"""``gru``: commands, exit codes, and one clear line for every error that a person can mend.

Exit codes: 0 done; 1 unexpected, or something is not what was written; 2 bad input, nothing started; 3 non-finite loss,
gradients or weights; 4 no room left to write; 5 a request's result broke a limit; 130 interrupted.
"""

import sys
import warnings
from functools import partial
from typing import NoReturn

import click
from click.shell_completion import get_completion_class

from gru_unlearn import __version__
from gru_unlearn.cli.attack import attack
from gru_unlearn.cli.compare import compare
from gru_unlearn.cli.demo import demo
from gru_unlearn.cli.evaluate import evaluate
from gru_unlearn.cli.export import export
from gru_unlearn.cli.finetune import finetune
from gru_unlearn.cli.flags import InOrder
from gru_unlearn.cli.plan import plan
from gru_unlearn.cli.report import report
from gru_unlearn.cli.requests import requests
from gru_unlearn.cli.tru import tru
from gru_unlearn.cli.unlearn import unlearn
from gru_unlearn.common.notices import Notice
from gru_unlearn.common.processes import is_first
from gru_unlearn.common.renamed import RenamedSetting
from gru_unlearn.errors import exit_code, is_no_room


@click.group(cls=InOrder, invoke_without_command=True)
@click.version_option(message=f"gru-unlearn {__version__}", version=__version__, help="Show the version.")
@click.option(
    "--completion",
    type=click.Choice(("bash", "zsh", "fish")),
    is_eager=True,
    expose_value=False,
    callback=lambda context, _option, shell: _print_completion(context, shell),
    help='Print what makes a shell complete commands, flags and names: eval "$(gru --completion bash)".',
)
@click.option("--debug", is_flag=True, help="Show tracebacks and the libraries' own messages.")
@click.pass_context
def app(context: click.Context, debug: bool) -> None:
    """Make a language model forget on request, and keep the rest of it."""
    if not debug:
        warnings.filterwarnings("ignore")
        for told in (RenamedSetting, Notice):
            warnings.filterwarnings("always", category=told)
        warnings.showwarning = partial(_tell_once, set())
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (demo, finetune, unlearn, evaluate, attack, report, compare, tru, plan, export, requests):
    app.add_command(command)


def _print_completion(context: click.Context, shell: str | None) -> None:
    """The script of click's own completion for a shell."""
    found = get_completion_class(shell) if shell else None
    if found is None or context.resilient_parsing:
        return
    click.echo(found(context.command, {}, "gru", "_GRU_COMPLETE").source())
    context.exit()


def _tell_once(told: set[str], message: Warning | str, *_: object, **__: object) -> None:
    """Old names and notices are told in one line each, of many processes by the first."""
    if is_first() and str(message) not in told:
        click.echo(message)
    told.add(str(message))


def main() -> None:
    """Entry point of the ``gru`` command."""
    debug = "--debug" in sys.argv
    # --debug may stand anywhere on the line, as people type it; here it comes first.
    arguments = sorted(sys.argv[1:], key=lambda argument: argument != "--debug")
    try:
        code = app(args=arguments, prog_name="gru", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", 130)
    except Exception as error:
        if debug:
            raise
        _fail(_one_line(error), exit_code(error))
    else:
        sys.exit(code or 0)


def _one_line(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        return " ".join(error.format_message().split())
    if hasattr(error, "exit_code"):  # ours
        return " ".join(str(error).split())
    lines = str(error).strip().splitlines() or [""]
    if is_no_room(error):
        return f"no room left to write ({lines[0]}): make room and start the same command again"
    return f"unexpected {type(error).__name__}: {lines[0]} (add --debug for the traceback)"


def _fail(message: str, code: int) -> NoReturn:
    if message and (code != 2 or is_first()):  # of many processes, one tells of bad input
        click.echo(f"gru: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
