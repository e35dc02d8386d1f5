"""Make a ledger, and change what holds for the requests to come."""

import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from gru_unlearn.errors import UserError
from gru_unlearn.ledger.adoption import score_baseline
from gru_unlearn.ledger.database import Baseline, Ledger, sole_use
from gru_unlearn.ledger.hash_chain import CREATED
from gru_unlearn.ledger.ledger_request import NOTHING_TO_CHANGE, Limits
from gru_unlearn.ledger.replay import check
from gru_unlearn.ledger.standing import write_summary
from gru_unlearn.models.locating import holds_adapters, locate
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.reporting.prose import say
from gru_unlearn.results.file_model import JsonObject
from gru_unlearn.results.ledger_summary import LedgerSettings, LedgerSummary
from gru_unlearn.results.row_kinds import KEPT
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.runs.control_set import names_mark
from gru_unlearn.runs.idle_settings import idle_settings, refuse_idle
from gru_unlearn.runs.recipe import Recipe, make_recipe
from gru_unlearn.runs.setting_names import MADE

FORCED = {"allow_overlap": True, "report_examples": 0}
"""The ledger takes forget rows out of the other sets itself, and no row may be written down in a run's folder."""

OF_A_FOLDER = ("train_rows", "made_rows", "retain_choice")
"""Settings by which a run finds its rows itself, and writes them down in its folder."""

ON_ITS_OWN: JsonObject = {"held_out": None}
"""What a run on its own would otherwise find itself."""

_PATHS = ("model", "retain_model", "base_model", "retain", "held_out", "control_rows", "eval_data")


def create_ledger(folder: Path, settings: JsonObject, limits: Limits, console: Console) -> LedgerSummary:
    """Make a ledger in a new folder: check the settings, score the first model on the rows to keep, write an entry.

    ``settings`` are those of ``gru unlearn`` for every request: with model and retain, without forget and output_dir.

    Raises:
        UserError: settings, data, model or folder that cannot work.
    """
    if folder.is_file() or not RunFolder(folder).is_empty:
        raise UserError(f"{folder} is not empty: a ledger needs a new folder")
    recipe, settings = _check_settings(settings)
    refuse_idle(recipe)
    first = locate(recipe.model, trust_remote_code=recipe.trust_remote_code)
    if holds_adapters(first):
        raise UserError(f"--model {recipe.model} is an adapter: a ledger starts from whole weights, merge it first")
    key = secrets.token_bytes(32)
    baseline = score_baseline(recipe, key, first, console)
    folder.mkdir(parents=True, exist_ok=True)
    with sole_use(folder):
        held = LedgerSettings(unlearning=settings, **vars(limits))
        with Ledger.create(folder, held, key=key, baseline=baseline, weights=hash_weights(first)) as ledger:
            return write_summary(ledger)


def change_settings(folder: Path, settings: JsonObject, limits: Mapping[str, float], console: Console) -> LedgerSummary:
    """Other settings or limits for the requests that start from now on; what is not named stays.

    New retain or held-out rows are scored with the first model, which must still be there then.

    Raises:
        UserError: nothing named, a setting that cannot work, another first model, or the first model is gone.
    """
    if not settings and not limits:
        raise UserError(NOTHING_TO_CHANGE)
    if "model" in settings:
        raise UserError("the first model of a ledger cannot be changed: gru requests init makes another ledger")
    with Ledger.open(folder) as ledger, sole_use(folder):
        check(ledger)
        for one in ledger.requests("running"):
            raise UserError(
                f"request {one.id} is running: finish it (gru requests run), or gru requests retry it first"
            )
        before = ledger.settings()
        now = before.model_dump(include={"utility_floor", "forget_ceiling"}) | dict(limits)
        recipe, unlearning = _check_settings(before.unlearning | settings)
        refuse_idle(recipe, known=_idle_in(before.unlearning) - settings.keys())
        baseline: Baseline = {}
        if any(kind.key in settings for kind in KEPT):
            first = locate(recipe.model, trust_remote_code=recipe.trust_remote_code)
            if hash_weights(first) != ledger.last(CREATED).weights_after:
                raise UserError(f"{recipe.model} is not the first model of this ledger any more: new rows need it")
            baseline = score_baseline(recipe, ledger.key, first, console)
        after = LedgerSettings(unlearning=unlearning, **vars(Limits(**now)))
        ledger.change(after, baseline)
        for line in differences(before, after):
            say(console, line)
        return write_summary(ledger)


def differences(before: LedgerSettings, after: LedgerSettings) -> list[str]:
    """What a change of settings changed, a line each: ``learning_rate: 1e-05 → 2e-05, from the next request on``."""
    was, now = ({**one.unlearning, **one.model_dump(exclude={"unlearning"})} for one in (before, after))
    changed = [name for name in now if was.get(name) != now[name]]
    if not changed:
        return ["Nothing changed: all of it was so before."]
    return [f"{name}: {_shown(was, name)} → {now[name]}, from the next request on" for name in changed]


def _shown(settings: JsonObject, name: str) -> object:
    return settings.get(name, "its default")


def _check_settings(settings: JsonObject) -> tuple[Recipe, JsonObject]:
    """The settings as a recipe (its forget set is yet to come), and with absolute paths."""
    for name in ("forget", "output_dir", *FORCED):
        if name in settings:
            raise UserError(f"{name} is not a setting of a ledger: each request brings its own, or the ledger sets it")
    found_by_run = [name for name in OF_A_FOLDER if name in settings]
    if found_by_run or settings.get("retain") == MADE:
        raise UserError(
            f"{(*found_by_run, 'retain made')[0]}: rows that a run finds itself are written down in its folder, and a "
            "ledger writes down none: pass --retain ROWS"
        )
    if not settings.get("retain"):
        raise UserError("no retain set given: pass --retain, the rows that must stay")
    found = dict(settings)
    for name in _PATHS:
        if name in found:
            found[name] = absolute(str(found[name]))
    recipe = make_recipe(found | {"forget": "yet to come"})
    if recipe.stop_when_forgotten and not names_mark(recipe):
        raise UserError(
            "--stop-when-forgotten needs --retain-model, whose forget probability is the mark (or --base-model, or "
            "--control-rows)"
        )
    return recipe, found


def _idle_in(settings: JsonObject) -> set[str]:
    """What did nothing before a change, and may stay so: earlier versions let it in."""
    try:
        recipe, _ = _check_settings(settings)
    except UserError:  # no settings of today, which the change may mend
        return set()
    return set(idle_settings(recipe))


def recipe_for(unlearning: JsonObject, model: str, forget: str, output: Path) -> Recipe:
    """What one request's run does."""
    given = {"model": model, "forget": forget, "output_dir": str(output)}
    recipe = make_recipe({**unlearning, **given, **FORCED})
    if not recipe.config.on_its_own:
        return recipe
    return make_recipe({**ON_ITS_OWN, **unlearning, **given, **FORCED})


def first_model(ledger: Ledger) -> Path | None:
    """Where the model that the ledger began with is; None where it is not on disk any more."""
    try:
        return locate(str(ledger.settings().unlearning["model"]))
    except UserError:
        return None


def absolute(source: str) -> str:
    """A source or model with its path made absolute, so that the ledger works from any folder; others as they are."""
    match = re.fullmatch(r"(.+?)((?:\[\d*:\d*\])?)", source)
    path, rows = match.groups() if match else (source, "")
    head, colon, name = path.partition(":")
    for part, rest in ((path, ""), (head, colon + name)):
        if Path(part).expanduser().exists():
            return str(Path(part).expanduser().resolve()) + rest + rows
    return source
