"""Reference pages written from the program itself, so that they cannot fall behind it.

A page holds a comment, ``<!-- generated: NAME ARGUMENTS -->``; when the site is built, the Markdown of the function
NAME stands in its place.
"""

import html
import inspect
import pkgutil
import re
from collections.abc import Iterable
from importlib import import_module

import click
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from transformers import TrainingArguments

from gru_unlearn.benchmark.all_metrics import metrics_by_key
from gru_unlearn.cli.main import app as command_line
from gru_unlearn.cli.settings_flags import ONLY_HELP, SettingsCommand
from gru_unlearn.runs.recipe import describe_setting, setting_names
from gru_unlearn.training.inherited_settings import INHERITED


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill the marked places while Sphinx reads the pages."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-signature", _readable)
    app.connect("autodoc-process-docstring", _before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    source[0] = re.sub(
        r"^<!-- generated: (\w+) ?(.*?) -->$",
        lambda marker: GENERATORS[marker[1]](*marker[2].split()),
        source[0],
        flags=re.MULTILINE,
    )


def commands() -> str:
    """Every command of ``gru``: what it does, its arguments and its flags."""
    context = command_line.make_context("gru", [], resilient_parsing=True)
    return "\n\n".join(_command(command, name, context) for name, command in command_line.commands.items())


def _command(command: click.Command, name: str, parent: click.Context) -> str:
    """Heading, text and table of a command; of those below it, where it has any."""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    context.meta[ONLY_HELP] = True
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    heading = "#" * (len(context.command_path.split()))
    parts = [f"{heading} {context.command_path}", _plain(command.help), f"```text\n{usage}\n```"]
    if isinstance(command, click.Group):
        parts += [_command(inner, name, context) for name, inner in command.commands.items()]
        return "\n\n".join(parts)
    if isinstance(command, SettingsCommand):
        parts.append("Every [setting](settings.md) is a flag, too.")
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [(f"`{record[0]}`", _plain(record[1])) for record in records if record]
    return "\n\n".join([*parts, _table(("", ""), rows)])


def settings(whose: str) -> str:
    """Settings of a run: ``ours``, or those that transformers' ``TrainingArguments`` adds (``inherited``)."""
    own = set(inspect.get_annotations(TrainingArguments)) - _redefined()
    names = [name for name in setting_names() if (name in own) == (whose == "inherited")]
    heads = ("setting", "default", "what it is")
    if whose == "ours":
        return _table(heads, map(_setting, names))
    return _table((*heads, "here"), [(*_setting(name), _standing(name)) for name in names])


def _setting(name: str) -> tuple[str, str, str]:
    """Of one setting: name, default, what it is."""
    default, text = describe_setting(name)
    if default:
        default = f"`{default}`"
    return f"`{name}`", default, _plain(text)


def _standing(name: str) -> str:
    """What an inherited setting does here."""
    verdict, note = INHERITED[name]
    if not note:
        return verdict
    return f"{verdict}: {_plain(note)}"


def _redefined() -> set[str]:
    """Settings of transformers that have a default or a meaning of their own here."""
    from gru_unlearn.training import UnlearningConfig  # noqa: PLC0415

    return set(inspect.get_annotations(UnlearningConfig))


def metrics() -> str:
    """Every metric of every suite, as a list of definitions."""
    entries = []
    for metric in metrics_by_key().values():
        about = [metric.definition, f"Range: {metric.range}", f"Better: {metric.better}", f"Source: {metric.source}"]
        entries.append(f"`{metric.key}`\n: {'. '.join(_plain(part) for part in about)}.")
    return "\n\n".join(entries)


def api(package: str) -> str:
    """A package's docstring and its public names."""
    module = import_module(package)
    names = [name for name in module.__all__ if not name.startswith("__")]
    lines = [f".. automodule:: {package}", ""]
    for name in names:
        lines += _directive(package, name, getattr(module, name))
    return "\n".join(["```{eval-rst}", *lines, "```"])


def _directive(package: str, name: str, value: object) -> list[str]:
    if inspect.isclass(value):
        return [f".. autoclass:: {package}.{name}{_SHORT.get(name, '')}", "   :members:", ""]
    if inspect.isfunction(value):
        return [f".. autofunction:: {package}.{name}", ""]
    if home := _home(package, name):
        return [f".. autodata:: {home}.{name}", "   :no-value:", ""]
    return [f".. py:data:: {package}.{name}", f"   :value: {value!r}", ""]


_SHORT = {"UnlearningConfig": "(**settings)"}
"""Signatures of more than a hundred names, which the list of settings explains better."""


def _home(package: str, name: str) -> str | None:
    """The module that documents a constant, if any does."""
    modules = [package, *(f"{package}.{found.name}" for found in pkgutil.iter_modules(import_module(package).__path__))]
    return next((m for m in modules if ("", name) in ModuleAnalyzer.for_module(m).find_attr_docs()), None)


def _readable(
    _app: Sphinx, _what: str, _name: str, _value: object, _options: object, *signature: str
) -> tuple[str, ...]:
    """Defaults that a dataclass makes anew are shown as ``...``: Sphinx cannot read ``<factory>``."""
    return tuple(part and part.replace("<factory>", "...") for part in signature)


COLON = "\ue000"  # stands for one while napoleon looks: what is before a colon would be taken for an attribute's type


def _before_napoleon(_app: Sphinx, what: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
    """Docstrings are sentences: ``|y|`` is a length, no substitution, and what comes before a colon is no type."""
    lines[:] = [re.sub(r"(``.*?``)|\|", lambda found: found[1] or "\\|", line) for line in lines]
    if what in ("attribute", "data", "property"):
        lines[0] = lines[0].replace(":", COLON)


def _after_napoleon(_app: Sphinx, _what: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
    lines[:] = [line.replace(COLON, ":") for line in lines]


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _plain(text: str | None) -> str:
    """Text that is not meant as Markdown: its signs stand for themselves, but for code in backticks; flags are code."""
    marked = re.sub(r"(?<![\w`-])--[a-z][\w-]*", r"`\g<0>`", " ".join((text or "").split()))
    pieces = re.split(r"(`[^`]+`)", marked)
    return "".join(piece if piece.startswith("`") else _escaped(piece) for piece in pieces)


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_\[\]$`~#])", r"\\\1", html.escape(text, quote=False))


GENERATORS = {"commands": commands, "settings": settings, "metrics": metrics, "api": api}
