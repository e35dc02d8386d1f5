"""A command is its request: flags are made of the fields of dataclasses, and what people type becomes the dataclasses.

Commands that take every setting of a run as a flag are :mod:`settings_flags`.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import click

from gru_unlearn.common.options import flag_of
from gru_unlearn.common.processes import is_first
from gru_unlearn.common.renamed import RENAMED, RenamedSetting
from gru_unlearn.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

OVERWRITE = "Discard the {} in the output folder."
TRUST = "Run a model's own code."
SEED = "Seed of everything random."

OLD_NAMES = "gru_unlearn.old_names"
"""Where a context keeps which flags were typed under an old name."""

# --- from a dataclass to flags ---------------------------------------------------------------------------------------


def parameters_of(request: type) -> Iterator[click.Parameter]:
    """The flags and arguments that the fields of a dataclass are; old names of flags still work."""
    kinds = get_type_hints(request)
    for one in fields(request):
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
    return click.Argument(
        [one.name],
        help=one.metadata["help"],
        type=_click_type(kind),
        required=one.default is MISSING,
        nargs=-1 if many else 1,
    )


def _option(one: "Field[Any]", kind: type, many: bool) -> click.Option:
    about, default = one.metadata, one.default
    names = [*about.get("flags", (flag_of(one.name),)), one.name]
    if kind is bool:
        return click.Option(names, help=about["help"], is_flag=True, default=default)
    if default is MISSING:
        return click.Option(names, help=about["help"], required=True, type=_click_type(kind), metavar=_metavar(kind))
    parse = about.get("parse")
    if parse and default:
        default = ",".join(map(str, default))  # as it is typed
    return click.Option(
        names,
        help=about["help"],
        default=default,
        show_default=about.get("shown", default not in (None, (), "")) or False,
        type=parse or _click_type(kind),
        metavar=_metavar(str if parse else kind),
        multiple=many and not parse,
    )


def _metavar(kind: type) -> str:
    return f"<{kind.__name__.lower()}>"


def _click_type(kind: type) -> Any:
    return click.Path(path_type=Path) if kind is Path else kind


def _take_under_new_name(context: click.Context, option: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    old, new = str(option.name), RENAMED[str(option.name)]
    context.params[new] = value
    context.meta.setdefault(OLD_NAMES, {})[flag_of(new)] = flag_of(old)
    message = f"{flag_of(old)} is an old name that still works: use {flag_of(new)} instead"
    warnings.warn(message, RenamedSetting, stacklevel=2)


# --- from what was typed to a command's call -------------------------------------------------------------------------


class InOrder(click.Group):
    """Lists its commands as they were added, which is the order in which people need them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands."""
        return list(self.commands)


def command(
    *requests: type, models: bool = True, kind: type[click.Command] = click.Command, **about: Any
) -> Callable[[Callable[..., None]], click.Command]:
    """Makes a command of a function that takes these dataclasses, made of the flags, and a console.

    Args:
        requests: dataclasses whose fields are flags.
        models: whether the command loads models: their libraries' own bars and notices are then kept out of the output.
        kind: :class:`click.Command`, or one that passes on more than flags of dataclasses.
        about: for the command's own making, such as its name.
    """

    def make(function: Callable[..., None]) -> click.Command:
        @click.pass_context
        def call(context: click.Context, /, **values: Any) -> None:
            names = [[one.name for one in fields(request)] for request in requests]
            try:
                made = [
                    request(**{name: values.pop(name) for name in own})
                    for request, own in zip(requests, names, strict=True)
                ]
                function(*made, *values.values(), open_console(models=models))
            except UserError as error:
                raise UserError(_as_typed(str(error), context)) from error

        parameters = [parameter for request in requests for parameter in parameters_of(request)]
        about.setdefault("name", function.__name__)
        return kind(params=parameters, callback=call, help=function.__doc__, **about)

    return make


def _as_typed(message: str, context: click.Context) -> str:
    """A message that names a flag as it was typed, where that is an old name."""
    for new, old in context.meta.get(OLD_NAMES, {}).items():
        message = message.replace(f"{new} ", f"{old} ")
    return message


# --- before and after ------------------------------------------------------------------------------------------------


def open_console(*, models: bool) -> "Console":
    """Where a command speaks; of many processes only the first does."""
    from rich.console import Console  # noqa: PLC0415 - heavy imports wait for a command

    if models:
        from gru_unlearn.models.loading import quiet  # noqa: PLC0415

        quiet()
    return Console(quiet=not is_first(), markup=False)  # paths may hold brackets


def wide(console: "Console", columns: int) -> "Console":
    """For tables of so many columns: squeezed into fewer, they would break names letter by letter."""
    from rich.console import Console  # noqa: PLC0415

    return Console(width=max(console.width, columns), markup=False)


def show_results(console: "Console", folder: Path, *, report_of: Path | None = None, **files: str) -> None:
    """The last line of a command: where its results are.

    Args:
        folder: of the results.
        report_of: folder whose report is written anew, and named.
        files: what else is there → its name in the folder.
    """
    places = {"Results": "summary.json"} | {what.replace("_", " "): file for what, file in files.items()}
    line = " · ".join(f"{what}: {folder}/{file}" for what, file in places.items())
    if report_of is not None:
        from gru_unlearn.publishing.reports import report_beside  # noqa: PLC0415

        line += report_beside(report_of, console) if is_first() else ""
    console.print(line, soft_wrap=True)
