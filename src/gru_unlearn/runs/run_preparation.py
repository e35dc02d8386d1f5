"""From a recipe to a run of which everything was found and checked, and nothing has been written yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.benchmark.suite_choice import make_suite
from gru_unlearn.data import Example, Record, fingerprint, load_records
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.suites import own
from gru_unlearn.models.loading import load_tokenizer, parameter_count
from gru_unlearn.models.locating import locate
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.objectives import OBJECTIVES, inputs_of
from gru_unlearn.results.row_kinds import ROW_KINDS
from gru_unlearn.results.run_folder import Claim, RunFolder
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.run_checks import check_adapters, check_recipe
from gru_unlearn.training import encoder_for, to_examples
from gru_unlearn.training.inputs import FROM_ALTERNATIVES


@dataclass(frozen=True)
class Prepared:
    """A recipe whose every input was found and checked; nothing has been written yet."""

    recipe: Recipe
    model: Path
    weights: str
    """SHA-256 of the model"""
    retain_model: Path | None
    retain_weights: str | None
    tokenizer: PreTrainedTokenizerBase
    sets: dict[str, list[Record]]
    """by the keys of the kinds of rows: those that were given"""
    examples: dict[str, list[Example]]
    """the same, tokenized"""
    suite: Suite | None
    """whose metrics every evaluation measures"""
    claim: Claim

    @property
    def output(self) -> Path:
        """The run's folder."""
        return self.claim.folder.path


def prepare(recipe: Recipe, *, overwrite: bool = False) -> Prepared:
    """Load and check data, tokenizer, models' folders and output folder, cheapest first.

    Raises:
        UserError: the first thing that cannot work.
    """
    sources = {kind.key: getattr(recipe, kind.key) for kind in ROW_KINDS}
    sets = {name: load_records(source) for name, source in sources.items() if source is not None}
    check_recipe(recipe, sets)
    with recipe.config.main_process_first(desc="finding models"):  # one process downloads or builds, the others find
        model = locate(recipe.model)
        retain_model = locate(recipe.retain_model, "--retain-model") if recipe.retain_model else None
    tokenizer = load_tokenizer(
        model, pad_token=recipe.pad_token, eos_token=recipe.eos_token, trust_remote_code=recipe.trust_remote_code
    )
    check_adapters(recipe, model)
    examples = _tokenize(sets, tokenizer, recipe)

    weights = hash_weights(model)
    retain_weights = hash_weights(retain_model) if retain_model else None
    identity = {
        "settings": {key: value for key, value in recipe.settings.items() if key != "output_dir"},
        "model": weights,
        "retain_model": retain_weights,
        **{name: fingerprint(records) for name, records in sets.items()},
    }
    folder = RunFolder(Path(recipe.config.output_dir or "."))
    claim = folder.claim(identity, overwrite=overwrite, inputs=(model, retain_model, *sources.values()))
    suite = _make_suite(recipe, sets)
    return Prepared(recipe, model, weights, retain_model, retain_weights, tokenizer, sets, examples, suite, claim)


def _tokenize(
    sets: Mapping[str, Sequence[Record]], tokenizer: PreTrainedTokenizerBase, recipe: Recipe
) -> dict[str, list[Example]]:
    encoder = encoder_for(tokenizer, recipe.config)
    wants_alternatives = bool(inputs_of(OBJECTIVES[recipe.config.objective]) & FROM_ALTERNATIVES)
    examples = {}
    for name, records in sets.items():
        alternatives = recipe.config if wants_alternatives and name == "forget" else None
        examples[name] = to_examples(records, name, encoder, alternatives)
    return examples


def _make_suite(recipe: Recipe, sets: Mapping[str, Sequence[Record]]) -> Suite | None:
    if recipe.eval_suite is None:
        return None
    if recipe.eval_suite == "own":
        return own(sets["forget"], sets.get("retain", []))
    return make_suite(
        EvaluationRequest(
            model=recipe.model,
            suite=recipe.eval_suite,
            data=recipe.eval_data,
            forget_split=recipe.eval_forget_split,
            holdout_split=recipe.eval_holdout_split,
        )
    )


def describe_run(prepared: Prepared) -> list[tuple[str, object]]:
    """What a run would do, line by line, for ``--dry-run``."""
    recipe, config = prepared.recipe, prepared.recipe.config
    parameters = parameter_count(prepared.model, recipe.trust_remote_code)
    rows = [(name, f"{getattr(recipe, name)} ({len(records)} rows)") for name, records in prepared.sets.items()]
    forget = config.per_device_train_batch_size * config.gradient_accumulation_steps
    retain = config.resolved_retain_batch_size * config.gradient_accumulation_steps
    steps_per_epoch = -(-len(prepared.sets["forget"]) // forget)
    steps = config.max_steps if config.max_steps > 0 else round(steps_per_epoch * config.num_train_epochs)
    return [
        ("model", f"{recipe.model} ({parameters / 1e6:.1f} M parameters)"),
        *rows,
        ("objective", config.objective),
        ("rectification", config.rectification),
        ("trained", "LoRA adapters" if recipe.use_peft else "all weights"),
        ("steps", steps),
        ("examples per step", f"{forget} forget" + (f" + {retain} retain" if config.needs_retain_set else "")),
        ("learning rate", config.learning_rate),
        ("output", f"{prepared.output}" + (" (continues the interrupted run)" if prepared.claim.resume else "")),
    ]
