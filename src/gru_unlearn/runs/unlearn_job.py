"""One unlearning run: check everything, train, measure along the way, save the model and a summary."""

import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, ProgressCallback, set_seed
from transformers.utils.import_utils import is_bitsandbytes_available, is_flash_attn_2_available

from gru_unlearn.data import Encoder, Example, Record, count_overlap, fingerprint, load_records
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import ScoreTable, evaluate, score
from gru_unlearn.evaluation.matched import retention_at_matched_forgetting
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.suites import own
from gru_unlearn.objectives import OBJECTIVES, inputs_of
from gru_unlearn.common.versions import versions
from gru_unlearn.common.files import write_json
from gru_unlearn.training import UnlearningTrainer, answer_logps, encoder_for, last_whole_checkpoint, to_examples
from gru_unlearn.training.inputs import FROM_ALTERNATIVES
from gru_unlearn.training.interrupt import InterruptCallback, Interrupted
from gru_unlearn.training.packages import INSTALL, require_packages
from gru_unlearn.runs.best_rule import parse_rule
from gru_unlearn.runs.keep_best import BEST_FOLDER, KeepBest
from gru_unlearn.benchmark.evaluate_job import make_suite
from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.runs.example_log import ExampleLog
from gru_unlearn.models.loading import free_memory, load_model, load_tokenizer, locate, parameter_count
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.common.processes import decided_by_first, is_first, wait_for_all
from gru_unlearn.reporting.progress import stages
from gru_unlearn.runs.training_progress import TrainingProgress
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.common.files import finish, unfinished
from gru_unlearn.results.run_folder import SUMMARY_FILE, RunFolder

ADAPTER_CONFIG = "adapter_config.json"
MODEL_FOLDER = "model"
FORGET_TARGET = "forget_target"


@dataclass(frozen=True)
class Prepared:
    """A recipe whose every input was found and checked; nothing has been written yet."""

    recipe: Recipe
    model: Path
    retain_model: Path | None
    tokenizer: PreTrainedTokenizerBase
    sets: dict[str, list[Record]]  # forget, retain, held_out: those that were given
    examples: dict[str, list[Example]]  # the same, tokenized
    suite: Suite | None  # whose metrics every evaluation measures
    identity: dict[str, Any]
    resume: bool

    @property
    def output(self) -> Path:
        """The run's folder."""
        return Path(self.recipe.config.output_dir or ".")


def prepare(recipe: Recipe, *, overwrite: bool = False) -> Prepared:
    """Load and check data, tokenizer, models' folders and output folder, cheapest first.

    Raises:
        UserError: the first thing that cannot work.
    """
    sets = {
        name: load_records(source)
        for name in ("forget", "retain", "held_out")
        if (source := getattr(recipe, name)) is not None
    }
    _check_sets(recipe, sets)
    _check_rule(recipe)
    if recipe.report_examples < 0:
        raise UserError(f"report_examples must be at least 0, got {recipe.report_examples}")
    with recipe.config.main_process_first(desc="finding models"):  # one process downloads or builds, the others find
        model = locate(recipe.model)
        retain_model = locate(recipe.retain_model, "--retain-model") if recipe.retain_model else None
    tokenizer = load_tokenizer(
        model, pad_token=recipe.pad_token, eos_token=recipe.eos_token, trust_remote_code=recipe.trust_remote_code
    )
    _check_adapters(recipe, model)
    encoder = encoder_for(tokenizer, recipe.config)
    wants_alternatives = bool(inputs_of(OBJECTIVES[recipe.config.objective]) & FROM_ALTERNATIVES)
    examples = {
        name: to_examples(records, name, encoder, recipe.config if wants_alternatives and name == "forget" else None)
        for name, records in sets.items()
    }
    identity = {
        "settings": {key: value for key, value in recipe.settings.items() if key != "output_dir"},
        "model": hash_weights(model),
        "retain_model": hash_weights(retain_model) if retain_model else None,
        **{name: fingerprint(records) for name, records in sets.items()},
    }
    output = Path(recipe.config.output_dir or ".")
    inputs = (model, retain_model, *(getattr(recipe, name) for name in sets))
    resume = decided_by_first(lambda: RunFolder(output).check(identity, overwrite=overwrite, inputs=inputs))
    suite = _make_suite(recipe, sets)
    return Prepared(recipe, model, retain_model, tokenizer, sets, examples, suite, identity, resume)


def _check_sets(recipe: Recipe, sets: dict[str, list[Record]]) -> None:
    if recipe.config.needs_retain_set and "retain" not in sets:
        raise UserError(
            f"rectification {recipe.config.rectification!r} with objective {recipe.config.objective!r} "
            "needs retain data: pass --retain"
        )
    if recipe.stop_when_forgotten and not recipe.retain_model:
        raise UserError("--stop-when-forgotten needs --retain-model, whose forget probability is the mark")
    if recipe.allow_overlap:
        return
    for one, other in (("forget", "retain"), ("forget", "held_out"), ("held_out", "retain")):
        if one in sets and other in sets and (overlap := count_overlap(sets[one], sets[other])):
            raise UserError(
                f"{overlap} of {len(sets[one])} {one} rows are also in the {other} set: "
                "take them out, or pass --allow-overlap"
            )


def _check_rule(recipe: Recipe) -> None:
    """What can be said of --keep-best before any metric exists."""
    if recipe.keep_best is None:
        return
    if FORGET_TARGET in parse_rule(recipe.keep_best).names and not recipe.retain_model:
        raise UserError(f"--keep-best reads {FORGET_TARGET}, which needs --retain-model")
    if recipe.config.eval_strategy == "no":
        raise UserError("--keep-best needs evaluations: add --eval-strategy steps --eval-steps N")


def _check_adapters(recipe: Recipe, model: Path) -> None:
    """New adapters need whole weights below them. 4-bit weights are for one device at a time, and stay as they are."""
    has_adapters = (model / ADAPTER_CONFIG).is_file()
    if has_adapters and recipe.use_peft:  # the new ones would name the base below the old ones, which would be lost
        raise UserError(f"--model {recipe.model} is a folder of adapters: merge them first (gru export --merge)")
    if not recipe.load_in_4bit:
        return
    if not recipe.use_peft:
        raise UserError("--load-in-4bit trains adapters beside weights that stay as they are: add --use-peft")
    if recipe.config.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false") == "true":
        raise UserError("--load-in-4bit does not shard: use one device, or DDP with a copy on each")


def _make_suite(recipe: Recipe, sets: dict[str, list[Record]]) -> Suite | None:
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
            unseen_split=recipe.eval_unseen_split,
        )
    )


def plan(prepared: Prepared) -> dict[str, Any]:
    """What a run would do, for ``--dry-run``."""
    config = prepared.recipe.config
    window = config.per_device_train_batch_size * config.gradient_accumulation_steps
    retain = config.resolved_retain_batch_size * config.gradient_accumulation_steps
    steps_per_epoch = -(-len(prepared.sets["forget"]) // window)
    parameters = parameter_count(prepared.model, prepared.recipe.trust_remote_code)
    return {
        "model": f"{prepared.recipe.model} ({parameters / 1e6:.1f} M parameters)",
        **{name: f"{getattr(prepared.recipe, name)} ({len(rows)} rows)" for name, rows in prepared.sets.items()},
        "objective": config.objective,
        "rectification": config.rectification,
        "trained": "LoRA adapters" if prepared.recipe.use_peft else "all weights",
        "steps": config.max_steps if config.max_steps > 0 else round(steps_per_epoch * config.num_train_epochs),
        "examples per step": f"{window} forget" + (f" + {retain} retain" if config.needs_retain_set else ""),
        "learning rate": config.learning_rate,
        "output": str(prepared.output) + (" (continues the interrupted run)" if prepared.resume else ""),
    }


def unlearn(prepared: Prepared, console: Console) -> dict[str, Any]:
    """Run to the end and return the summary; it also stands in ``summary.json`` beside the model.

    A run that was interrupted goes on from its last whole checkpoint.

    Raises:
        Interrupted: Ctrl-C; the last step is in a checkpoint.
        NonFiniteError: loss, gradients or weights became NaN or infinite; earlier checkpoints stay.
        UserError: another process holds the folder.
    """
    _require_packages(prepared.recipe)
    with _in_possession(prepared):
        started = time.perf_counter()
        set_seed(prepared.recipe.config.seed)
        examples = _example_log(prepared)
        forget_target, retain_table = _judge_by_retain_model(prepared, examples)
        trainer, interrupt, progress = _make_trainer(prepared, console, forget_target)
        if prepared.suite is not None:
            trainer.evaluator = partial(_measure, prepared, retain_table)
        best = _keep_best(prepared, trainer, forget_target)
        if examples is not None:
            trainer.add_callback(examples)
        try:
            _train(prepared, trainer, interrupt, console)
        finally:
            progress.close()
        points = trajectory(trainer.state.log_history)
        if not points or points[-1]["step"] != trainer.state.global_step:
            trainer.evaluate()  # the results are those of the model that is saved, whatever the evaluation schedule
        trainer.save_model(str(unfinished(prepared.output / MODEL_FOLDER)))
        if examples is not None:
            with stages(console, "examples") as on_progress:
                examples.see("after", _saved_model(prepared, trainer, best), on_progress)
            examples.write()
        summary = _summary(prepared, trainer, forget_target, time.perf_counter() - started)
        if best is not None:
            summary["best"] = best.best.to_json() if best.best else None
            if best.best is None:
                console.print(f"No evaluation met --keep-best {prepared.recipe.keep_best!r}: the last model is saved.")
        if is_first():
            _put_in_place(prepared.output, summary)
        return summary


def _train(prepared: Prepared, trainer: UnlearningTrainer, interrupt: InterruptCallback, console: Console) -> None:
    """From the last whole checkpoint, if there is one."""
    checkpoint = last_whole_checkpoint(prepared.output)
    if prepared.resume:
        at = f"from {checkpoint.name}" if checkpoint else "from the start: it had no checkpoint yet"
        console.print(f"Continuing the interrupted run in {prepared.output}, {at}.", soft_wrap=True)
    with interrupt.listening():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if interrupt.requested:
        raise Interrupted(f"stopped at step {trainer.state.global_step}; the same command continues from there")


def _put_in_place(output: Path, summary: dict[str, Any]) -> None:
    """The model, then the summary, which marks the run as finished."""
    if summary.get("best"):
        shutil.copytree(output / BEST_FOLDER, unfinished(output / MODEL_FOLDER))
    finish(output / MODEL_FOLDER)
    write_json(output / SUMMARY_FILE, summary)
    shutil.rmtree(output / BEST_FOLDER, ignore_errors=True)


def _require_packages(recipe: Recipe) -> None:
    """What this machine must have for the run; a dry run may be on another one."""
    require_packages(recipe.config)
    if recipe.load_in_4bit and not is_bitsandbytes_available():
        raise UserError(f"--load-in-4bit needs bitsandbytes, which is missing: {INSTALL}")
    if recipe.attn_implementation == "flash_attention_2" and not is_flash_attn_2_available(kernels_fallback_ok=True):
        raise UserError(
            "--attn-implementation flash_attention_2 needs the package flash-attn and a GPU: leave it away, "
            "PyTorch's own attention (sdpa) is fused too"
        )


@contextmanager
def _in_possession(prepared: Prepared) -> Iterator[None]:
    """The run's folder is this run's: the first process holds it for all."""
    first = RunFolder(prepared.output).held(prepared.identity, resume=prepared.resume) if is_first() else nullcontext()
    with first:
        wait_for_all()
        yield


def _make_trainer(
    prepared: Prepared, console: Console, forget_target: float | None
) -> tuple[UnlearningTrainer, InterruptCallback, TrainingProgress]:
    recipe, config = prepared.recipe, prepared.recipe.config
    if recipe.stop_when_forgotten:
        config.stop_at_forget_prob = forget_target
    config.disable_tqdm = True  # our own progress instead
    interrupt = InterruptCallback()
    progress = TrainingProgress(console, f"{config.objective} · {config.rectification}")
    trainer = UnlearningTrainer(
        trainable_model(prepared),
        config,
        forget_dataset=prepared.examples["forget"],
        retain_dataset=prepared.examples.get("retain"),
        eval_dataset={"held_out": prepared.examples["held_out"]} if "held_out" in prepared.examples else None,
        processing_class=prepared.tokenizer,
        callbacks=[interrupt, progress],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer, interrupt, progress


def trainable_model(prepared: Prepared) -> Any:
    """The target, or adapters on it."""
    recipe = prepared.recipe
    model: Any = load_as_set(prepared, prepared.model)
    if not recipe.use_peft:
        return model
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - slow to import

    lora = LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=recipe.lora_target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, lora)
    except ValueError as error:
        raise UserError(str(error).splitlines()[0]) from None


def load_as_set(prepared: Prepared, folder: Path) -> PreTrainedModel:
    """A model, loaded as the run's settings say."""
    recipe = prepared.recipe
    return load_model(
        folder,
        dtype=recipe.dtype,
        attn_implementation=recipe.attn_implementation,
        trust_remote_code=recipe.trust_remote_code,
        load_in_4bit=recipe.load_in_4bit and not (folder / ADAPTER_CONFIG).is_file(),  # adapters are merged exactly
    )


def _example_log(prepared: Prepared) -> ExampleLog | None:
    config = prepared.recipe.config
    if prepared.recipe.report_examples == 0:
        return None
    return ExampleLog(
        prepared.output,
        prepared.sets,
        encoder_for(prepared.tokenizer, config),
        prepared.recipe.report_examples,
        batch_size=config.per_device_eval_batch_size,
        generate=config.world_size == 1,  # sharded models generate in step, and replicas all the same: not worth it
    )


def _saved_model(prepared: Prepared, trainer: UnlearningTrainer, best: KeepBest | None) -> Any:
    """The model that the run's folder will hold: the best one where there is one, else the last."""
    if best is None or best.best is None or best.best.step == trainer.state.global_step:
        return trainer.model
    wait_for_all()
    model: Any = load_as_set(prepared, prepared.output / BEST_FOLDER)
    return model.to(prepared.recipe.config.device)


def _judge_by_retain_model(prepared: Prepared, examples: ExampleLog | None) -> tuple[float | None, ScoreTable | None]:
    """What a model that never saw the forget set gives: f*, its mean probability of the forget answers, and its scores
    for the suite. The model is dropped again."""
    if prepared.retain_model is None:
        return None, None
    config = prepared.recipe.config
    model: Any = load_as_set(prepared, prepared.retain_model)
    model = model.to(config.device)
    scores = answer_logps(
        model,
        prepared.examples["forget"],
        batch_size=config.per_device_eval_batch_size,
        pad_token_id=prepared.tokenizer.pad_token_id,
        device=config.device,
    )
    table = None
    if prepared.suite is not None:
        encoder = encoder_for(prepared.tokenizer, config)
        table = score(model, encoder, prepared.suite, retain_model=True, batch_size=config.per_device_eval_batch_size)
    if examples is not None:
        examples.see("retain_model", model)
    del model
    free_memory()
    return scores.mean_probability, table


def _measure(
    prepared: Prepared, retain_table: ScoreTable | None, model: torch.nn.Module, encoder: Encoder
) -> dict[str, float]:
    """All metrics of the run's suite for the model as it stands; those without a value are left out."""
    batch_size = prepared.recipe.config.per_device_eval_batch_size
    assert prepared.suite is not None
    evaluation = evaluate(model, encoder, prepared.suite, retain_table=retain_table, batch_size=batch_size)
    return {name: value for name, value in evaluation.metrics.items() if value is not None}


def _keep_best(prepared: Prepared, trainer: UnlearningTrainer, forget_target: float | None) -> KeepBest | None:
    if prepared.recipe.keep_best is None:
        return None
    constants = {} if forget_target is None else {FORGET_TARGET: forget_target}
    best = KeepBest(parse_rule(prepared.recipe.keep_best), prepared.output, constants, trainer.save_model)
    trainer.add_callback(best)
    return best


def trajectory(log_history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """The evaluations of a run in order: ``step``, ``forget_prob``, ``retain_prob``, ``held_out_prob``."""
    points = {}
    for row in log_history:
        if "eval_forget_prob" in row:
            point = {key.removeprefix("eval_"): value for key, value in row.items() if key.startswith("eval_")}
            points[row["step"]] = {"step": row["step"], **point}
    return list(points.values())


def _summary(
    prepared: Prepared, trainer: UnlearningTrainer, forget_target: float | None, seconds: float
) -> dict[str, Any]:
    config = prepared.recipe.config
    history = trainer.state.log_history
    points = trajectory(history)
    conflicts = [row["conflict_rate"] for row in history if "conflict_rate" in row]
    results: dict[str, Any] = {"objective": config.objective, "rectification": config.rectification}
    results |= {key: value for key, value in (points[-1] if points else {}).items() if key != "step"}
    results["conflict_rate"] = sum(conflicts) / len(conflicts) if conflicts else None
    if forget_target is not None and points:
        results[FORGET_TARGET] = forget_target
        for name, kept in (("rmf", "retain_prob"), ("rmf_held_out", "held_out_prob")):
            if kept in points[0] and points[0]["step"] == 0:  # it is a share of what the target kept
                results[name] = retention_at_matched_forgetting(points, forget_target, kept)
    return {
        "command": "unlearn",
        "results": results,
        "steps": trainer.state.global_step,
        "seconds": round(seconds, 2),
        "seed": config.seed,
        "trajectory": points,
        "removed_share_by_layer": _removed_share_by_layer(trainer),
        "log": [row for row in history if "loss" in row],
        **provenance(prepared),
    }


def provenance(prepared: Prepared) -> dict[str, Any]:
    """What a run's result came from: settings, data and models with their hashes, versions."""
    recipe = prepared.recipe
    return {
        "settings": recipe.in_force,
        "data": {
            name: {"source": getattr(recipe, name), "rows": len(rows), "sha256": fingerprint(rows)}
            for name, rows in prepared.sets.items()
        },
        "model": {"source": recipe.model, "sha256": prepared.identity["model"]},
        "retain_model": {"source": recipe.retain_model, "sha256": prepared.identity["retain_model"]},
        "output_model": MODEL_FOLDER,
        "versions": versions(),
    }


def _removed_share_by_layer(trainer: UnlearningTrainer) -> dict[str, float] | None:
    """Of the last step; None without a rectification, or where no step was taken since the run was resumed."""
    shares = trainer.rectifier.removed_share_by_layer() if trainer.rectifier else {}
    return {layer: share for layer, share in shares.items() if math.isfinite(share)} or None
