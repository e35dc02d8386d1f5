"""From a recipe to a run of which everything was found and checked, and nothing has been written yet."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from pydantic import JsonValue
from transformers.utils.import_utils import is_bitsandbytes_available, is_flash_attn_2_available

from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.benchmark.suite_choice import make_suite
from gru_unlearn.benchmark.suite_room import require_suite_room
from gru_unlearn.data import Encoder, Example, Record, check_apart, describe_rows
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.suites import own
from gru_unlearn.models.loading import parameter_count
from gru_unlearn.models.locating import holds_adapters
from gru_unlearn.models.subject import Subject, find_subjects
from gru_unlearn.objectives import OBJECTIVES, inputs_of
from gru_unlearn.results.provenance import HowFound
from gru_unlearn.results.row_kinds import ROW_KINDS
from gru_unlearn.results.run_folder import Claim, Identity, RunFolder
from gru_unlearn.runs.control_set import ControlSet, control_records, identity_of_mark, make_control_set, with_controls
from gru_unlearn.runs.footing import find_footing
from gru_unlearn.runs.idle_settings import refuse_idle
from gru_unlearn.runs.model_checks import check_models
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.recipe_manner import asking_alike, explicit_settings
from gru_unlearn.runs.retain_rows import RunRows, found_file, makes_rows, read_rows_of, rows_to_come, settle_rows
from gru_unlearn.runs.row_length import with_room_for_rows
from gru_unlearn.runs.rule_names import check_rule
from gru_unlearn.runs.run_compute_type import choose_compute_type
from gru_unlearn.runs.run_size import passes_a_step, rate_in_words, steps_in_words
from gru_unlearn.runs.setting_names import MODELS
from gru_unlearn.runs.weight_type import weight_type
from gru_unlearn.training import UnlearningConfig, to_examples
from gru_unlearn.training.inputs import FROM_ALTERNATIVES
from gru_unlearn.training.packages import INSTALL, require_packages
from gru_unlearn.training.run_length import require_a_batch


@dataclass(frozen=True)
class Prepared:
    """A recipe whose every input was found and checked; nothing has been written yet."""

    recipe: Recipe
    model: Subject
    """the target"""
    retain_model: Subject | None
    sets: dict[str, list[Record]]
    """by the keys of the kinds of rows: those that there are"""
    examples: dict[str, list[Example]]
    """the same, tokenized"""
    suite: Suite | None
    """whose metrics every evaluation measures"""
    claim: Claim
    base_model: Subject | None = None
    """the model before fine-tuning"""
    control: ControlSet | None = None
    """what gives the mark, where neither of these models does"""
    found: Mapping[str, HowFound] = field(default_factory=dict)
    """how, of sets that the run found by itself"""

    @property
    def output(self) -> Path:
        """The run's folder."""
        return self.claim.folder.path

    def source_of(self, name: str) -> str | None:
        """Where the rows of a set are: what its setting names, or the file beside the run."""
        if name in self.found:
            return str(found_file(self.claim.folder, name, self.found[name]))
        source: str | None = getattr(self.recipe, name)
        return source

    @property
    def run_rows(self) -> RunRows:
        """Its rows, and how those came about that were not given."""
        return RunRows(self.sets, self.found)


def prepare(
    recipe: Recipe,
    *,
    overwrite: bool = False,
    idle_settings: bool = True,
    like: Identity | None = None,
    rehearsed: bool = False,
) -> Prepared:
    """Load and check data, tokenizer, models' folders and output folder, cheapest first.

    Args:
        recipe: the settings.
        overwrite: discard a run in the output folder.
        idle_settings: accept settings that do nothing, as those that the runs of a comparison share.
        like: identity of a run that this one computes like; None: of the unfinished one in the output folder, if any.
        rehearsed: load no model: retain rows that it would make are left out unless the cache holds them.

    Raises:
        UserError: the first thing that cannot work.
    """
    given = read_rows_of(recipe)
    _check_recipe(recipe, given)
    if not idle_settings:
        refuse_idle(recipe)
    controls = control_records(recipe, given)
    to_come = rows_to_come(recipe, given)
    suite = _make_suite(recipe, to_come)
    check_rule(recipe, to_come, suite)
    folder = RunFolder(Path(recipe.config.output_dir or "."))
    if like is None and not overwrite:
        like = folder.started_with()
    recipe, models, computed_in = find_models(recipe, like)
    model, retain_model, base_model = models["model"], models.get("retain_model"), models.get("base_model")
    for name in models.keys() - {"model"}:
        model.refuse_as_yardstick(models[name])
    rows = settle_rows(recipe, given, model, None if overwrite else folder, rehearsed=rehearsed)
    if to_come.keys() != given.keys():
        suite = _make_suite(recipe, rows.sets)
    sets = rows.sets
    examples = with_room_for_rows(recipe, models.values(), lambda: _tokenize(sets, model.encoder, recipe.config))
    recipe, footing = find_footing(recipe, model, examples, suite, like)
    control = make_control_set(recipe, controls, model.encoder)
    require_a_batch(recipe.config, len(examples["forget"]), "forget")
    check_models(recipe, models, with_controls(examples, control))
    if suite is not None:
        for name in models.keys() - {"base_model"}:
            require_suite_room(models[name], suite, retain_model=name == "retain_model")

    identity = {
        "settings": {key: value for key, value in recipe.settings.items() if key != "output_dir"},
        "model": model.sha256,
        "retain_model": retain_model and retain_model.sha256,
        **rows.identity,
        **identity_of_mark(base_model, control),
        **computed_in,
        **footing,
    }
    folders = [subject.folder for subject in models.values()]
    sources = [getattr(recipe, name) for name in (*[kind.key for kind in ROW_KINDS], "train_rows", "control_rows")]
    claim = folder.claim(identity, overwrite=overwrite, inputs=(recipe.model, *folders, *sources))
    return Prepared(recipe, model, retain_model, sets, examples, suite, claim, base_model, control, rows.found)


def find_models(recipe: Recipe, like: Identity | None) -> tuple[Recipe, dict[str, Subject], Mapping[str, JsonValue]]:
    """The models of a recipe by name, and what follows from them: the recipe with types of weights and of computing and
    with how they are asked, and what the run's identity says of that.

    Args:
        recipe: names the models.
        like: identity of a run that this one computes like.

    Raises:
        UserError: there is no such model, or none that this recipe can train.
    """
    with recipe.config.main_process_first(desc="finding models"):  # one process downloads or builds, the others find
        sources = {name: getattr(recipe, name) for name in MODELS}
        models = find_subjects(explicit_settings(recipe), **sources)
    recipe, computed_in = choose_compute_type(recipe, models["model"].folder, like)
    recipe = replace(recipe, dtype=weight_type(recipe, models["model"].folder))
    for subject in models.values():
        subject.settings = replace(subject.settings, dtype=recipe.dtype)
    model = models["model"]
    recipe = asking_alike(recipe, model.settings, model.folder)
    _check_adapters(recipe, model.folder)
    return recipe, models, computed_in


def _tokenize(
    sets: Mapping[str, Sequence[Record]], encoder: Encoder, config: UnlearningConfig
) -> dict[str, list[Example]]:
    alternatives = {}
    if inputs_of(OBJECTIVES[config.objective]) & FROM_ALTERNATIVES:
        alternatives["forget"] = config
    return {name: to_examples(records, name, encoder, alternatives.get(name)) for name, records in sets.items()}


def _make_suite(recipe: Recipe, sets: Mapping[str, Sequence[Record]]) -> Suite | None:
    if recipe.eval_suite is None:
        return None
    if recipe.eval_suite == "own":
        return own(sets["forget"], sets.get("retain", []))
    request = EvaluationRequest(
        suite=recipe.eval_suite,
        data=recipe.eval_data,
        forget_split=recipe.eval_forget_split,
        unseen_split=recipe.eval_unseen_split,
    )
    return make_suite(request)


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_recipe(recipe: Recipe, sets: Mapping[str, Sequence[Record]]) -> None:
    """Whether a recipe and its rows go together."""
    if recipe.config.needs_retain_set and "retain" not in sets and not makes_rows(recipe):
        raise UserError(
            f"rectification {recipe.config.rectification!r} with objective {recipe.config.objective!r} "
            "needs retain data: pass --retain, with rows or the word made (rows that the model makes itself), or "
            "--train-rows"
        )
    if not recipe.allow_overlap:
        _check_overlap(sets)
    if recipe.report_examples < 0:
        raise UserError(f"report_examples must be at least 0, got {recipe.report_examples}")


def _check_overlap(sets: Mapping[str, Sequence[Record]]) -> None:
    pairs = (("forget", "retain"), ("forget", "held_out"), ("held_out", "retain"))
    check_apart(sets, pairs, "take them out, or pass --allow-overlap")


def _check_adapters(recipe: Recipe, model: Path) -> None:
    """New adapters need whole weights below them. 4-bit weights are for one device at a time, and stay as they are."""
    if recipe.use_peft and holds_adapters(model):  # new ones would name the base below these, which would be lost
        raise UserError(
            f"--model {recipe.model} is a folder of adapters: merge them first (gru export --merge), or "
            "fine-tune with --merge"
        )
    if not recipe.load_in_4bit:
        return
    if not recipe.use_peft:
        raise UserError("--load-in-4bit trains adapters beside weights that stay as they are: add --use-peft")
    if recipe.config.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false") == "true":
        raise UserError("--load-in-4bit does not shard: use one device, or DDP with a copy on each")


def check_machine(recipe: Recipe, *, here: bool = True) -> None:
    """What this machine must have for the run. ``here``: its devices too; a dry run may be on another one.

    Raises:
        UserError: it is not there.
    """
    require_packages(recipe.config, here=here)
    if recipe.load_in_4bit and not is_bitsandbytes_available():
        raise UserError(f"--load-in-4bit needs bitsandbytes, which is missing: {INSTALL}")
    if recipe.attn_implementation != "flash_attention_2":
        return
    there = is_flash_attn_2_available(kernels_fallback_ok=True)
    if not (there or (not here and find_spec("flash_attn"))):
        raise UserError(
            "--attn-implementation flash_attention_2 needs the package flash-attn (pip install flash-attn) and a GPU: "
            "leave it away, PyTorch's own attention (sdpa) is fused too"
        )


# --- telling ---------------------------------------------------------------------------------------------------------


def _told_source(prepared: Prepared, name: str) -> str:
    how = prepared.found.get(name)
    if how == "made":
        return "made by the model"
    if how == "set aside":
        return "set aside from the retain rows"
    return str(getattr(prepared.recipe, name) or prepared.recipe.train_rows)


def describe_run(prepared: Prepared) -> list[tuple[str, object]]:
    """What a run would do, line by line, for ``--dry-run``."""
    recipe, config = prepared.recipe, prepared.recipe.config
    parameters = parameter_count(prepared.model.folder, recipe.trust_remote_code)
    rows = [
        (name, f"{_told_source(prepared, name)} ({describe_rows(records)})") for name, records in prepared.sets.items()
    ]
    if makes_rows(recipe) and "retain" not in prepared.sets:
        rows.append(("retain", f"made by the model when the run begins (at most {recipe.made_rows} rows)"))
    forget, passes = len(prepared.examples["forget"]), passes_a_step(config, len(prepared.examples["forget"]))
    forget = min(forget, passes * config.per_device_train_batch_size)
    per_step, output = f"{forget} forget", str(prepared.output)
    read = min(len(prepared.examples["forget"]), config.resolved_forget_candidates * forget)
    if read > forget:
        per_step += f" (the least forgotten of {read})"
    if config.needs_retain_set:
        per_step += f" + {passes * config.resolved_retain_batch_size} retain"
        if config.retain_every > 1:
            per_step += f" at every {config.retain_every}. step"
    if prepared.claim.resume:
        output += " (continues the interrupted run)"
    return [
        ("model", f"{recipe.model} ({parameters / 1e6:.1f} M parameters)"),
        *rows,
        ("objective", config.objective),
        ("rectification", config.rectification),
        ("robustness", config.robust),
        ("trained", "LoRA adapters" if recipe.use_peft else "all weights"),
        ("steps", steps_in_words(config, len(prepared.examples["forget"]))),
        ("examples per step", per_step),
        ("learning rate", rate_in_words(config)),
        ("output", output),
    ]
