"""Publish a run's model: weights, tokenizer and a model card, checked by loading them again, whole or absent."""

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, try_to_load_from_cache
from rich.console import Console

from gru_unlearn.common.files import finish, hash_file, read_json, unfinished, write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.errors import UserError
from gru_unlearn.models.locating import holds_adapters, locate
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.publishing.card import model_card
from gru_unlearn.publishing.export_request import ExportRequest
from gru_unlearn.publishing.hub import check_push, check_repository, push
from gru_unlearn.publishing.model_files import DTYPES, ModelFiles, write_model_files
from gru_unlearn.publishing.privacy import (
    SOURCES,
    command_line,
    evaluation_metrics,
    public_attacks,
    public_name,
    public_settings,
    run_metrics,
)
from gru_unlearn.publishing.reports import ATTACK_FOLDER
from gru_unlearn.results.run_folder import RUN_FILE, SUMMARY_FILE

MODEL_FOLDER, CARD_FILE = "model", "README.md"
COMMANDS = ("unlearn", "tru")
SHOWN_SETTINGS = (
    "learning_rate", "lr_scheduler_type", "optim", "per_device_train_batch_size", "gradient_accumulation_steps", "seed",
)  # fmt: skip


@dataclass(frozen=True)
class PreparedExport:
    """A request whose every input was found and checked; nothing has been written yet."""

    request: ExportRequest
    run: dict[str, Any]
    """the run's summary"""
    weights: str
    """SHA-256 of the run's model, see :func:`hash_weights`"""
    model: ModelFiles
    evaluations: dict[str, dict[str, dict[str, Any]]]
    """suite → after, before, retain_model → summary"""
    attack: dict[str, Any] | None

    @property
    def name(self) -> str:
        """What the card calls the model."""
        return (self.request.push or self.request.out.resolve().name).rpartition("/")[2]


def prepare_export(request: ExportRequest) -> PreparedExport:
    """Check everything that can be checked without loading a model, cheapest first.

    Raises:
        UserError: the first thing that cannot work.
    """
    _check_options(request)
    run = read_run(request.run)
    folder = request.run / MODEL_FOLDER
    weights = hash_weights(locate(str(folder), "RUN"))
    model = _model_files(request, folder, run)
    evaluations = _assign(request.evaluations, run, weights)
    attack = _read_object(request.run / ATTACK_FOLDER / SUMMARY_FILE)
    if attack is not None and attack.get("model", {}).get("sha256") != weights:
        raise UserError(f"{request.run / ATTACK_FOLDER}: of another model than the run's: attack again, or delete it")
    if request.push:
        check_push(request.push)
    return PreparedExport(request, run, weights, model, evaluations, attack)


def _model_files(request: ExportRequest, folder: Path, run: Mapping[str, Any]) -> ModelFiles:
    base = _base_of_adapters(run) if holds_adapters(folder) else None
    if base is None and request.merge:
        raise UserError(f"--merge: {folder} holds a whole model, there are no adapters to merge")
    if base is not None and not request.merge and (request.dtype or request.max_shard_size):
        raise UserError("--dtype and --max-shard-size are for whole models: the run trained adapters, add --merge")
    name = request.base_model or public_name(run["model"]["source"], "model")
    return ModelFiles(
        folder=folder,
        base=base,
        base_name=None if name is None or name.startswith("builtin:") else name,
        merge=request.merge,
        dtype=request.dtype,
        max_shard_size=request.max_shard_size,
        trust_remote_code=request.trust_remote_code,
    )


def _check_options(request: ExportRequest) -> None:
    if request.dtype and request.dtype not in DTYPES:
        raise UserError(f"--dtype: unknown type {request.dtype!r}; choose from: {', '.join(DTYPES)}")
    if request.max_shard_size and not re.fullmatch(r"[1-9]\d*[KMG]B", request.max_shard_size):
        raise UserError(f"--max-shard-size {request.max_shard_size}: expected a size such as 500MB or 5GB")
    if request.private and not request.push:
        raise UserError("--private goes with --push: it makes the new repository private")
    if request.base_model:
        check_repository(request.base_model, "--base-model")
    if request.out.is_file() or (request.out.is_dir() and any(request.out.iterdir())):
        raise UserError(f"--out {request.out} is there already and is not empty: name a new folder")


def read_run(folder: Path) -> dict[str, Any]:
    """The summary of a finished run.

    Raises:
        UserError: there is none, or it is not that of a run.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a run is a folder written by gru unlearn")
    summary = _read_object(folder / SUMMARY_FILE)
    if summary is None:
        started = (folder / RUN_FILE).is_file()
        raise UserError(f"{folder}: " + ("the run is not finished" if started else "not a run, it has no summary.json"))
    lacking = {"results", "trajectory", "settings", "data", "model"} - summary.keys()
    if summary.get("command") not in COMMANDS or lacking:
        raise UserError(f"{folder}: its summary.json is not that of gru {' or gru '.join(COMMANDS)}")
    return summary


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        content = read_json(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{path}: expected an object")
    return content


def _base_of_adapters(run: Mapping[str, Any]) -> Path:
    """The folder of the model that the adapters were trained on, found again and the same as then."""
    source = run["model"]["source"]
    folder = locate(source, "the adapters' base model")
    if hash_weights(folder) != run["model"]["sha256"]:
        raise UserError(f"{source}: not the model that the run's adapters were trained on, its SHA-256 differs")
    return folder


def _assign(folders: Sequence[Path], run: Mapping[str, Any], weights: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Evaluations by suite, and by which of the run's models they are of: told by the weights' hash.

    Raises:
        UserError: no evaluation, one of another model, or two of a suite that do not go together.
    """
    whose = {
        "after": weights,
        "before": run["model"]["sha256"],
        "retain_model": (run["retain_model"] or {}).get("sha256"),
    }
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for folder in folders:
        summary = _read_object(folder / SUMMARY_FILE)
        if summary is None or summary.get("command") != "evaluate":
            raise UserError(f"--evaluation {folder}: not a finished evaluation by gru evaluate")
        when = next((name for name, sha256 in whose.items() if sha256 == summary["model"]["sha256"]), None)
        if when is None:
            raise UserError(f"--evaluation {folder}: of another model than the run's, its target or its retain model")
        suite = found.setdefault(summary["suite"], {})
        if when in suite or any(other.get("data") != summary.get("data") for other in suite.values()):
            raise UserError(f"--evaluation {folder}: a second one of the same model, or on other rows than the first")
        suite[when] = summary
    for name, suite in found.items():
        if "after" not in suite:
            raise UserError(f"--evaluation: none of suite {name} is of the run's model itself")
    return found


# --- the export ------------------------------------------------------------------------------------------------------


def export(prepared: PreparedExport, console: Console) -> dict[str, Any]:
    """Write, load again, compare, and only then give the folder its name; upload it if asked.

    Returns:
        The summary, as it stands in ``summary.json`` of the folder: it names no path of this machine.

    Raises:
        NonFiniteError: a weight or a score is NaN or infinite.
        UserError: a conversion changes the model more than it may, or a file would tell a path of this machine.
        UploadError: the hub did not take it; the folder is whole.
    """
    request = prepared.request
    started = time.perf_counter()
    with _whole_or_absent(request.out.resolve()) as folder:
        checks = write_model_files(prepared.model, folder, console.print)
        summary = _summary(prepared, folder, checks) | {"seconds": round(time.perf_counter() - started, 2)}
        write_json(folder / SUMMARY_FILE, summary)
        (folder / CARD_FILE).write_text(model_card(summary), encoding="utf-8")
        _refuse_paths(prepared, folder)
    if request.push:
        console.print(f"Uploading to {request.push} ...")
        address = push(request.out, request.push, private=request.private)
        console.print(f"Published: {address}", soft_wrap=True)
    return summary


@contextmanager
def _whole_or_absent(out: Path) -> Iterator[Path]:
    """A sibling of ``out`` that takes its name if all goes well, and vanishes if not."""
    folder = unfinished(out)
    folder.mkdir(parents=True)
    try:
        yield folder
        finish(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_paths(prepared: PreparedExport, folder: Path) -> None:
    """The last look before publishing: no text file names a folder or file of this machine."""
    run = prepared.run
    sources = [part["source"] for part in (run["model"], run["retain_model"], *run["data"].values()) if part]
    local = [
        s
        for s in sources
        if s and ("/" in s or "." in s) and not (public_name(s, "model") or public_name(s, "dataset"))
    ]
    private = {form for s in (*local, str(prepared.request.run)) for form in (s, str(Path(s).resolve())) if "/" in form}
    for file in folder.iterdir():
        if file.suffix in (".json", ".md", ".jinja", ".txt"):
            text = file.read_text(encoding="utf-8")
            if found := [path for path in private if path in text]:
                raise UserError(
                    f"{file.name} of the run's model names {found[0]}, which would be published: take it out"
                )


# --- what is published about it --------------------------------------------------------------------------------------


def _summary(prepared: PreparedExport, folder: Path, checks: Mapping[str, Any]) -> dict[str, Any]:
    """All that the card says, in public terms."""
    run, request = prepared.run, prepared.request
    data = {
        name: {"rows": part["rows"], "sha256": part["sha256"], "name": public_name(part["source"], "dataset")}
        for name, part in run["data"].items()
    }
    models = {
        name: {"name": public_name(run[name]["source"], "model"), "sha256": run[name]["sha256"]}
        for name in ("model", "retain_model")
        if (run[name] or {}).get("sha256")
    }
    if request.base_model:
        models["model"]["name"] = request.base_model
    explicit, left_out = public_settings(_explicit(prepared))
    names = {name: part["name"] for name, part in (models | data).items()}
    return {
        "command": "export",
        "name": prepared.name,
        "repository": request.push,
        "kind": "adapters" if prepared.model.adapters else "model",
        "run_sha256": prepared.weights,
        "base": models["model"],
        "retain_model": models.get("retain_model"),
        "data": data,
        "method": _method(run),
        "metrics": run_metrics(run),
        "evaluations": {suite: evaluation_metrics(found) for suite, found in prepared.evaluations.items()},
        "attacks": public_attacks(prepared.attack),
        "reproduce": command_line(run["command"], {name: names[name] for name in SOURCES if name in names}, explicit),
        "left_out": left_out,
        "checks": checks,
        **_terms(prepared),
        "files": {file.name: hash_file(file) for file in sorted(folder.iterdir())},
        "versions": run["versions"],
        "export_versions": versions(),
    }


def _explicit(prepared: PreparedExport) -> dict[str, Any]:
    """What was set and not left to its default."""
    settings: dict[str, Any] = (_read_object(prepared.request.run / RUN_FILE) or {}).get("settings", {})
    if prepared.run["command"] != "tru":
        return settings
    from gru_unlearn.runs.tru_preparation import FIXED  # noqa: PLC0415 - brings torch, slow to import

    return {name: value for name, value in settings.items() if name not in FIXED}


def _method(run: Mapping[str, Any]) -> dict[str, Any]:
    """How the model was made, for people: the settings that matter most, as they were in force."""
    settings, results = run["settings"], run["results"]
    if run["command"] == "tru":
        options = {"groups": len(run["groups"]), "alpha": results["tru"]["alpha"]}
        granularity = run["options"]["granularity"]
        method = {"command": "tru", **options, "granularity": granularity}
    else:
        names = ("objective", "rectification")
        method = {"command": "unlearn", **{name: results[name] for name in names}, "steps": run["steps"]}
    lora = ("lora_r", "lora_alpha", "lora_target_modules", "load_in_4bit") if settings.get("use_peft") else ()
    return method | {name: settings[name] for name in (*SHOWN_SETTINGS, *lora) if settings.get(name) is not None}


def _terms(prepared: PreparedExport) -> dict[str, Any]:
    """Licence and language: as given, or as the base model's own card says, where it is on this machine."""
    card = _base_card(prepared)
    licence = {name: card[name] for name in ("license", "license_name", "license_link") if card.get(name)}
    if prepared.request.license:
        licence = {"license": prepared.request.license}
    return {"license": licence, "language": card.get("language")}


def _base_card(prepared: PreparedExport) -> dict[str, Any]:
    source = prepared.run["model"]["source"]
    folder = prepared.model.base or Path(source).expanduser()
    file: Any = folder / CARD_FILE
    if not file.is_file():
        name = prepared.model.base_name
        file = try_to_load_from_cache(name, CARD_FILE) if name else None
    if not isinstance(file, str | Path):
        return {}
    try:
        return ModelCard.load(file, ignore_metadata_errors=True).data.to_dict()
    except ValueError:  # its metadata are no mapping
        return {}
