"""What is published about an export: its summary, in public terms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import CardData, ModelCard, try_to_load_from_cache
from pydantic import JsonValue

from gru_unlearn.common.files import hash_file
from gru_unlearn.common.versions import versions
from gru_unlearn.publishing.command_line import given_settings, public_command
from gru_unlearn.publishing.export_inputs import PreparedExport, UnlearningSummary
from gru_unlearn.publishing.privacy import SOURCES, Settings, public_name, public_settings
from gru_unlearn.publishing.published_numbers import attack_results, evaluation_scores, metrics_of_run
from gru_unlearn.results.export_summary import Checks, ExportedMethod, ExportSummary, PublicModel, PublicRows
from gru_unlearn.results.provenance import ModelSource, RowsSource
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary, TruSummary
from gru_unlearn.runs.setting_names import MADE

CARD_FILE = "README.md"
SHOWN_SETTINGS = (
    "learning_rate", "lr_scheduler_type", "optim", "per_device_train_batch_size", "gradient_accumulation_steps", "seed",
)  # fmt: skip
LORA_SETTINGS = ("lora_r", "lora_alpha", "lora_target_modules", "load_in_4bit")


def describe_export(prepared: PreparedExport, folder: Path, checks: Checks, seconds: float) -> ExportSummary:
    """All that the card says, once ``folder`` holds the files."""
    run, request = prepared.run, prepared.request
    base, retain_model, base_model = _base(prepared), _public_model(run.retain_model), _public_model(run.base_model)
    data = {name: _public_rows(rows) for name, rows in run.data.items()}
    models = {"model": base, "retain_model": retain_model, "base_model": base_model}
    command, left_out = _repetition(prepared, {**models, **data})
    card = _card_of_base(prepared)
    return ExportSummary(
        name=prepared.name,
        repository=request.push,
        kind="adapters" if prepared.model.adapters else "model",
        run_sha256=prepared.weights,
        base=base,
        retain_model=retain_model,
        **_other_mark(run, base_model),
        data=data,
        method=_exported_method(run),
        metrics=metrics_of_run(run),
        evaluations={suite: evaluation_scores(found) for suite, found in prepared.evaluations.items()},
        attacks=attack_results(prepared.attack),
        verdict=prepared.verdict,
        reproduce=command,
        left_out=left_out,
        checks=checks,
        license=_licence(request.license, card),
        language=card.get("language"),
        files={file.name: hash_file(file) for file in sorted(folder.iterdir())},
        versions=run.versions,
        export_versions=versions(),
        seconds=seconds,
    )


def _other_mark(run: UnlearningSummary, base_model: PublicModel | None) -> dict[str, Any]:
    """What stands in for a retain model; nothing where there is one, or no mark."""
    mark = run.known_mark
    if mark is None or mark.kind == "retain_model":
        return {}
    return {"mark": mark, "base_model": base_model}


def _base(prepared: PreparedExport) -> PublicModel:
    base = _public_model(prepared.run.model)
    assert base is not None  # a run knows what it began with
    base.name = prepared.request.base_model or base.name
    if prepared.patch is not None and prepared.patch.base.sha256 != base.sha256:  # it goes on the base of adapters
        return PublicModel(name=None, sha256=prepared.patch.base.sha256)
    return base


def _public_model(model: ModelSource | None) -> PublicModel | None:
    if model is None or model.sha256 is None:
        return None
    return PublicModel(name=public_name(model.source, "model"), sha256=model.sha256)


def _public_rows(rows: RowsSource) -> PublicRows:
    name = MADE if rows.found == "made" else public_name(rows.source, "dataset")
    return PublicRows(rows=rows.rows, sha256=rows.sha256, name=name)


def _repetition(
    prepared: PreparedExport, known: Mapping[str, PublicModel | PublicRows | None]
) -> tuple[str, list[str]]:
    """The command that repeats the run, and the settings that it does not show."""
    settings, left_out = public_settings(_given(prepared))
    found = {name for name, rows in prepared.run.data.items() if rows.found == "set aside"}
    sources = {name: source.name for name in SOURCES if name not in found and (source := known.get(name)) is not None}
    return public_command(prepared.run.command, sources, settings), left_out


def _given(prepared: PreparedExport) -> Settings:
    """What was set and not left to its default."""
    given = given_settings(RunFolder(prepared.request.run))
    if not isinstance(prepared.run, TruSummary):
        return given
    from gru_unlearn.runs.tru_preparation import FIXED  # noqa: PLC0415 - brings Trainer, slow to import

    return {name: value for name, value in given.items() if name not in FIXED}


def _exported_method(run: UnlearningSummary) -> ExportedMethod:
    if isinstance(run, TruSummary):
        way: dict[str, JsonValue] = {"groups": len(run.groups), "alpha": run.results.tru.alpha}
        way["granularity"] = run.options["granularity"]
    else:
        results = run.results
        way = {"objective": results.objective, "rectification": results.rectification, "steps": run.saved_step}
        if results.robust is not None:
            way["robust"] = results.robust
    names = [*SHOWN_SETTINGS]
    if run.settings.get("use_peft"):
        names += LORA_SETTINGS
    settings = {name: run.settings[name] for name in names if run.settings.get(name) is not None}
    if isinstance(run, RunSummary) and run.learning_rate is not None:
        settings["learning_rate"] = run.learning_rate.at(run.saved_step)
    return ExportedMethod.model_validate({"command": run.command, **way, **settings})


# --- licence and language --------------------------------------------------------------------------------------------


def _licence(given: str | None, card: CardData) -> dict[str, JsonValue]:
    """As given, or as the base model's own card says."""
    if given:
        return {"license": given}
    return {name: card.get(name) for name in ("license", "license_name", "license_link") if card.get(name)}


def _card_of_base(prepared: PreparedExport) -> CardData:
    """The base model's own, empty where it is not on this machine."""
    folder = prepared.model.base or Path(prepared.run.model.source or "").expanduser()
    file: object = folder / CARD_FILE
    if not (folder / CARD_FILE).is_file():
        name = prepared.model.base_name
        file = try_to_load_from_cache(name, CARD_FILE) if name else None
    if not isinstance(file, str | Path):
        return CardData()
    try:
        return ModelCard.load(file, ignore_metadata_errors=True).data
    except ValueError:  # its metadata are no mapping
        return CardData()
