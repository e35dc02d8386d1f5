"""A command is its request: flags are made of the fields of dataclasses, and what people type becomes the dataclasses.

Commands that take every setting of a run as a flag are :mod:`settings_flags`.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from itertools import chain
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import click
from rich.console import Console

from gru_unlearn.cli.first_sight import check_request, only_shows
from gru_unlearn.common.options import flag_of
from gru_unlearn.common.processes import is_first
from gru_unlearn.common.renamed import RENAMED, RenamedSetting
from gru_unlearn.errors import UserError

if TYPE_CHECKING:
    from gru_unlearn.results.verdict import Verdict

OLD_NAMES = "gru_unlearn.old_names"
"""Where a context keeps which flags were typed under an old name."""


class InOrder(click.Group):
    """Lists its commands as they were added, which is the order in which people need them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with the first sentence of its help, which is never cut."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_sentence(command)) for name, command in self.commands.items()])


def _first_sentence(command: click.Command) -> str:
    return command.get_short_help_str(limit=1000)


# --- from a dataclass to flags ---------------------------------------------------------------------------------------


def parameters_of(request: type) -> Iterator[click.Parameter]:
    """The flags and arguments that the fields of a dataclass are; old names of flags still work."""
    kinds = get_type_hints(request)
    for one in sorted(fields(request), key=lambda one: bool(one.kw_only)):  # as in a call, those come last
        kind, many = _kind(kinds[one.name])
        if one.metadata.get("argument"):
            yield _argument(one, kind, many)
            continue
        yield _option(one, kind, many)
        for old, new in RENAMED.items():
            if new == one.name:
                yield click.Option([flag_of(old)], hidden=True, expose_value=False, callback=_take_under_new_name)


def _kind(hint: Any) -> tuple[type, bool]:
    """``int | None`` → int; ``tuple[Path, ...]`` → Path, and that there may be many."""
    if isinstance(hint, UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return hint, False


def _argument(one: "Field[Any]", kind: type, many: bool) -> click.Argument:
    required, nargs = one.default is MISSING, -1 if many else 1
    return click.Argument([one.name], help=one.metadata["help"], type=_click_type(kind), required=required, nargs=nargs)


def _option(one: "Field[Any]", kind: type, many: bool) -> click.Option:
    about, default = one.metadata, one.default
    names = [*about.get("flags", (flag_of(one.name),)), one.name]
    if kind is bool:
        return click.Option(names, help=about["help"], is_flag=True, default=default)
    parse = about.get("parse")
    more = {"help": about["help"], "type": parse or _click_type(kind), "multiple": many and not parse}
    more["metavar"] = f"<{'str' if parse else kind.__name__.lower()}>"
    if default is MISSING:
        return click.Option(names, required=True, **more)
    if parse and default:
        default = ",".join(map(str, default))  # as it is typed
    if "flag_value" in about:
        more |= {"is_flag": False, "flag_value": about["flag_value"], "metavar": "[<word>]"}
    shown = about.get("shown", default not in (None, (), ""))
    return click.Option(names, default=default, show_default=shown or False, **more)


def _click_type(kind: type) -> Any:
    return click.Path(path_type=Path) if kind is Path else kind


def _take_under_new_name(context: click.Context, option: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    new = RENAMED[str(option.name)]
    context.params[new] = value
    context.meta.setdefault(OLD_NAMES, {})[flag_of(new)] = option.opts[0]
    message = f"{option.opts[0]} is an old name that still works: use {flag_of(new)} instead"
    warnings.warn(message, RenamedSetting, stacklevel=2)


# --- from what was typed to a command's call -------------------------------------------------------------------------


def command(
    *requests: type,
    group: click.Group | None = None,
    kind: type[click.Command] = click.Command,
    models: bool = True,
    **about: Any,
) -> Callable[[Callable[..., None]], click.Command]:
    """Makes a command, in a group if there is one, of a function that takes these dataclasses and a console.

    Where it loads ``models``, bars and notices of their libraries are kept out of its output.
    """

    def make(function: Callable[..., None]) -> click.Command:
        @click.pass_context
        def call(context: click.Context, /, **values: Any) -> None:
            try:
                asked = [*(_made(request, values) for request in requests), *values.values()]
                function(*asked, _console_after(asked, context, models=models))
            except UserError as error:
                message = str(error)
                for new, old in context.meta.get(OLD_NAMES, {}).items():  # a flag is named as it was typed
                    message = message.replace(f"{new} ", f"{old} ")
                if message == str(error):
                    raise
                raise UserError(message) from error

        parameters = list(chain.from_iterable(map(parameters_of, requests)))
        made = kind(function.__name__, params=parameters, callback=call, help=function.__doc__, **about)
        if group is not None:
            group.add_command(made)
        return made

    return make


def _made(request: type, values: dict[str, Any]) -> Any:
    return request(**{one.name: values.pop(one.name) for one in fields(request)})


# --- before and after ------------------------------------------------------------------------------------------------


def _console_after(asked: list[Any], context: click.Context, *, models: bool) -> Console:
    """Where a command speaks, once what it was asked was looked at; of many processes only the first does."""
    console = Console(quiet=not is_first(), markup=False)  # paths may hold brackets
    if any(map(only_shows, asked)):
        return console
    for one in asked:
        check_request(one)
    if models:
        console.print(f"{context.command_path}: loading libraries ...", highlight=False)
        from gru_unlearn.models.loading import quiet  # noqa: PLC0415 - heavy imports wait for a command

        quiet()
    return console


def wide(console: Console, columns: int) -> Console:
    """For tables of so many columns: squeezed into fewer, they would break names letter by letter."""
    return Console(width=max(console.width, columns), markup=False)


def show_verdict(console: Console, verdict: "Verdict | None") -> None:
    """What a job's numbers come to: the sentence, and what stands behind it."""
    from gru_unlearn.reporting.verdict_lines import verdict_lines  # noqa: PLC0415 - heavy imports wait for a command

    if verdict is not None:
        for line in verdict_lines(verdict):
            console.print(line, highlight=False)


def show_results(console: Console, folder: Path, *, report_of: Path | None = None, **files: str) -> None:
    """The last lines of a command: where its results are, what further ``files`` there are, and the report of a folder,
    which is written now. One place a line, so that it can be copied, or clicked at, in a narrow terminal."""
    places = {"Results": "summary.json"} | files
    lines = [f"{what.replace('_', ' ').capitalize()}: {folder}/{file}" for what, file in places.items()]
    if report_of is not None and is_first():
        from gru_unlearn.publishing.reports import report_beside  # noqa: PLC0415

        if written := report_beside(report_of, console).removeprefix(" · "):
            lines.append(written.replace("report", "Report", 1))
    console.print("\n".join(lines), soft_wrap=True)
