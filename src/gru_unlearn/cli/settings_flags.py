"""Commands that take a recipe and every setting of a run as a flag; the featured settings stand in their ``--help``."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from gru_unlearn.cli.first_sight import check_request
from gru_unlearn.cli.flags import parameters_of
from gru_unlearn.common.options import flag_of, option
from gru_unlearn.errors import UserError
from gru_unlearn.runs.setting_names import (
    MODELS,
    ROWS,
    check_at_first_sight,
    check_names,
    choices_for,
    known_settings,
    old_names,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Featured:
    """Settings that most runs need, with help that does not wait for the libraries of the others."""

    model: str | None = option("Model folder, .gguf file, hub id, pretrained:smollm2-135m, or builtin:target.", None)
    forget: str | None = option("File, FOLDER:NAME, hub data set, or builtin:forget.", None)
    retain: str | None = option("What must stay; likewise; or made: by the model itself.", None)
    held_out: str | None = option("What must stay and is never trained on, to measure.", None)
    retain_model: str | None = option("Model that never saw the forget set.", None)
    base_model: str | None = option("Model before fine-tuning: says how much is enough, without a retain model.", None)
    control_rows: str | None = option("Rows of the same form about what nobody knows, or made; likewise.", None)
    objective: str | None = option("npo, ga, wga, simnpo, rmu, ...: --list-settings.", None)
    rectification: str | None = option("none, gru, recommended, ...: --list-settings.", None)
    robust: str | None = option("none, recommended, spectral, drift: make forgetting last.", None)
    learning_rate: str | None = option("Peak learning rate; default: auto, found by a step on trial.", None)
    max_steps: str | None = option("Optimizer steps; instead of --num-train-epochs.", None)
    num_train_epochs: str | None = option("Passes over the forget set.", None)
    per_device_train_batch_size: str | None = option("Forget rows per backward pass.", None)
    gradient_accumulation_steps: str | None = option("Backward passes per step.", None)
    seed: str | None = option("Seed of everything random.", None)
    output_dir: str | None = option("Folder of the run.", None)


@dataclass(frozen=True)
class GivenSettings:
    """What was typed: a recipe's path, if there is one, and settings as flags, which override it."""

    recipe: str | None
    flags: dict[str, str]
    needed: tuple[str, ...] = ()
    """settings that must be there"""
    options: "DataclassInstance | None" = None
    """of the command's own, as far as they were typed: a recipe may have them beside settings"""
    check_meaning: Callable[[Iterable[str]], None] | None = None
    """refuses settings that mean nothing to the command"""

    def check(self) -> None:
        """What can be told at first sight, of flags and of what stands in the recipe.

        Raises:
            UserError: see :func:`check_at_first_sight` and :func:`check_request`; or the recipe cannot be read.
        """
        settings, options = self.merged(), self.options
        if options is not None and self.recipe:
            from gru_unlearn.runs.recipe_options import with_recipe  # noqa: PLC0415 - pydantic waits for a recipe

            options, settings = with_recipe(options, settings)
        if self.check_meaning is not None:
            self.check_meaning(settings)
        check_at_first_sight(settings, [name for name in self.needed if not getattr(options, name, None)])
        if options is not None:
            check_request(options)

    def merged(self) -> dict[str, Any]:
        """The recipe's settings under those of the flags.

        Raises:
            UserError: the recipe cannot be read.
        """
        from gru_unlearn.runs.recipe_file import read_recipe  # noqa: PLC0415 - YAML waits for a recipe

        written = read_recipe(self.recipe) if self.recipe else {}
        return {**written, **self.flags}


class SettingsCommand(click.Command):
    """Passes on :class:`GivenSettings` beside what its own flags say.

    Flags are ``--kebab-name value`` or ``--kebab-name=value``; of settings that may be true or false also ``--name``
    and ``--no-name``. A word that ends in .yaml is the recipe. The fields of ``featured`` stand in the help text, the
    settings that are ``needed`` must have a value, the fields of ``in_recipe`` may stand in a recipe, too, and
    ``check_meaning`` refuses settings that mean nothing to the command.
    """

    def __init__(
        self,
        name: str,
        *,
        featured: type | None = None,
        needed: tuple[str, ...] = (),
        in_recipe: "type[DataclassInstance] | None" = None,
        check_meaning: Callable[[Iterable[str]], None] | None = None,
        **about: Any,
    ) -> None:
        super().__init__(name, **about)
        self.needed = needed
        self.in_recipe, self.check_meaning = in_recipe, check_meaning
        self.context_settings = {"allow_extra_args": True, "ignore_unknown_options": True}
        self.context_settings["token_normalize_func"] = lambda flag: flag.replace("_", "-")
        self.own = {str(parameter.name) for parameter in self.params}
        self.featured = [] if featured is None else list(parameters_of(featured))

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Where only help is wanted, the featured settings; else all."""
        if ctx.meta.get(ONLY_HELP):
            return [*self.featured, *super().get_params(ctx)]
        return [*self.all_settings, *super().get_params(ctx)]

    @cached_property
    def all_settings(self) -> list[click.Parameter]:
        """A flag for each setting, today's names and old ones."""
        switches, refused = known_settings().switches, known_settings().refused
        spelled = {parameter.name: parameter for parameter in self.featured}
        found: list[click.Parameter] = []
        for name in (*known_settings().names, *old_names()):
            if name in self.own:
                continue
            kind = Switch if name in switches else Setting
            featured = spelled.get(name)
            flags = [*(featured.opts if featured else [flag_of(name)]), name]
            found.append(kind(flags, hidden=name in refused or name in old_names()))
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Sort the words.

        Raises:
            UserError: a word that belongs to nothing.
        """
        ctx.meta[ONLY_HELP] = not set(args).isdisjoint(ctx.help_option_names)
        recipe, words = self._take_recipe(ctx, args)
        super().parse_args(ctx, words)
        if ctx.args and not ctx.resilient_parsing:
            _refuse(ctx.args[0])
        settings = {name: ctx.params.pop(name) for name in list(ctx.params) if name not in self.own}
        given = {name: value for name, value in settings.items() if value is not None}
        ctx.params["given"] = GivenSettings(recipe, given, self.needed, self._options_of(ctx), self.check_meaning)
        return ctx.args

    def _options_of(self, ctx: click.Context) -> "DataclassInstance | None":
        """The options that may stand in a recipe, as they were typed."""
        if self.in_recipe is None or ctx.resilient_parsing:
            return None
        return self.in_recipe(**{one.name: ctx.params[one.name] for one in fields(self.in_recipe)})

    def _take_recipe(self, ctx: click.Context, words: list[str]) -> tuple[str | None, list[str]]:
        """The first word that is a recipe and no flag's value; and the others."""
        with_value: set[str] = set()
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and not (parameter.is_flag or parameter.flag_value is not None):
                with_value.update(parameter.opts)
        for place, word in enumerate(words):
            is_value = place > 0 and words[place - 1].replace("_", "-") in with_value
            if word.endswith((".yaml", ".yml")) and not is_value:
                return word, words[:place] + words[place + 1 :]
        return None, words


class Setting(click.Option):
    """A setting with a value, which a shell completes where it is a name or a place."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What the value may be; files and folders where a model or rows are."""
        if self.name in (*MODELS, *ROWS, "output_dir"):
            return [CompletionItem(incomplete, type="file")]
        choices = choices_for(str(self.name)) or []
        return [CompletionItem(choice) for choice in choices if choice.startswith(incomplete)]


class Switch(click.Option):
    """A setting that may be true or false: its flag needs no value, and ``--no-`` before its name says false."""

    def __init__(self, flags: list[str], **about: Any) -> None:
        super().__init__(flags, is_flag=False, flag_value="true", **about)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """The flag and its contrary, of which the last one holds."""
        super().add_to_parser(parser, ctx)
        contrary = [f"--no-{flag[2:]}" for flag in self.opts]
        parser.add_option(obj=self, opts=contrary, dest=self.name, action="store_const", const="false")


ONLY_HELP = "gru_unlearn.only_help"
"""Where a context keeps that nothing but the help text is wanted."""


def _refuse(word: str) -> None:
    if not word.startswith("--") or word == "--":
        raise UserError(f"unexpected argument {word!r}: flags look like --learning-rate 1e-5, a recipe ends in .yaml")
    check_names([word[2:].partition("=")[0].replace("-", "_")])
