"""Make every attempt on every model, keep each attack's outcome as it is done, and write what came of it."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from gru_unlearn.attacks.attack_request import AttackRequest
from gru_unlearn.attacks.battery import (
    RETAIN_MODEL,
    TARGET,
    UNLEARNED,
    Battery,
    make_battery,
)
from gru_unlearn.attacks.look import FORGET, PROBABILITY, Seen, Variants, no_attack
from gru_unlearn.attacks.membership import membership
from gru_unlearn.attacks.prompts import prompts
from gru_unlearn.attacks.recovery import recovery
from gru_unlearn.attacks.relearning import relearning
from gru_unlearn.attacks.rounding import quantization
from gru_unlearn.attacks.sampling import sampling
from gru_unlearn.common.files import read_json, write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.evaluation import Missing
from gru_unlearn.models.loading import free_memory
from gru_unlearn.results.run_folder import SUMMARY_FILE, RunFolder

ROWS_FILE = "rows.json"
PARTS = "parts"
NONE = "none"

ATTACKS: dict[str, Callable[[Battery], Variants]] = {
    "relearning": relearning,
    "quantization": quantization,
    "sampling": sampling,
    "prompts": prompts,
    "membership": membership,
}


@dataclass(frozen=True)
class PreparedAttack:
    """Attacks of which all inputs were found and checked; nothing has been written yet."""

    battery: Battery
    output: Path
    resume: bool


def prepare_attack(request: AttackRequest, output: Path, *, overwrite: bool = False) -> PreparedAttack:
    """Find models and rows, check settings and the output folder.

    Raises:
        UserError: the first thing that cannot work.
    """
    for name in request.attacks:
        if name not in ATTACKS:
            raise UserError(f"unknown attack {name!r}{nearest(name, ATTACKS)}")
    if not request.attacks:
        raise UserError(f"no attack given: --attacks takes some of {','.join(ATTACKS)}")
    battery = make_battery(request)
    inputs = (*(subject.folder for subject in battery.subjects.values()), *request.rows.values())
    resume = RunFolder(output).check(battery.identity, overwrite=overwrite, inputs=inputs)
    return PreparedAttack(battery, output, resume)


def attack(prepared: PreparedAttack, console: Console) -> dict[str, Any]:
    """Run the attacks and return the summary; it also stands in ``summary.json``, single rows in ``rows.json``.

    Interrupted attacks go on with those that are not done.

    Raises:
        UserError: another process holds the folder.
    """
    battery, out = prepared.battery, prepared.output
    with RunFolder(out).held(battery.identity, resume=prepared.resume):
        started = time.perf_counter()
        todo = {NONE: no_attack, **{name: ATTACKS[name] for name in battery.request.attacks}}
        parts = {name: _part(out / PARTS / f"{name}.json", name, make, battery, console) for name, make in todo.items()}
        summary = _summary(battery, parts, time.perf_counter() - started)
        write_json(out / ROWS_FILE, [row for part in parts.values() for row in part["rows"]])
        write_json(out / SUMMARY_FILE, summary)
        shutil.rmtree(out / PARTS)
    return summary


def _part(
    file: Path, name: str, make: Callable[[Battery], Variants], battery: Battery, console: Console
) -> dict[str, Any]:
    """An attack's outcome, from its file if it was done before."""
    known = read_json(file)
    if known is not None:
        console.print(f"{name}: done before", soft_wrap=True)
        return dict(known)
    started = time.perf_counter()
    part = make_attempts(name, make(battery), battery, console)
    part["seconds"] = round(time.perf_counter() - started, 2)
    write_json(file, part)
    title = "before any attack" if name == NONE else name
    console.print(f"{title}: {len(part['rows'])} measured in {part['seconds']:.0f} s", soft_wrap=True)
    return part


def make_attempts(name: str, variants: Variants, battery: Battery, console: Console) -> dict[str, Any]:
    """Each variant on each model: ``rows`` with single values, ``curves``, and what is ``left_out``, and why."""
    from gru_unlearn.reporting.progress import stages  # noqa: PLC0415 - brings Trainer's callbacks, slow to import

    left_out = {variant: attempt for variant, attempt in variants.items() if isinstance(attempt, str)}
    attempts = {variant: attempt for variant, attempt in variants.items() if not isinstance(attempt, str)}
    seen: dict[str, dict[str, Seen]] = {variant: {} for variant in attempts}
    with stages(console, name) as on_progress:
        for model, subject in battery.subjects.items():
            for done, (variant, attempt) in enumerate(attempts.items()):
                on_progress(model.replace("_", " "), done, len(attempts))
                try:
                    seen[variant][model] = attempt(subject)
                except (Missing, UserError) as reason:
                    left_out[variant] = f"{model.replace('_', ' ')}: {reason}"
            on_progress(model.replace("_", " "), len(attempts), len(attempts))
            subject.release()
    free_memory()
    whole = {variant: by_model for variant, by_model in seen.items() if variant not in left_out}
    return {
        "rows": [row for variant, by_model in whole.items() for row in _rows(name, variant, by_model)],
        "curves": [
            {"attack": name, "variant": variant, "measure": PROBABILITY, "model": model}
            | {"steps": one.steps, "values": [float(np.mean(values)) for values in one.path]}
            for variant, by_model in whole.items()
            for model, one in by_model.items()
            if one.steps
        ],
        "left_out": [{"attack": name, "variant": variant, "why": why} for variant, why in left_out.items()],
    }


def _rows(name: str, variant: str, by_model: Mapping[str, Seen]) -> Iterator[dict[str, Any]]:
    """One entry per measure that all models have."""
    first, *others = by_model.values()
    for measure in [measure for measure in first.values if all(measure in one.values for one in others)]:
        row: dict[str, Any] = {"attack": name, "variant": variant, "measure": measure, "numbers": first.numbers}
        row["values"] = {model: one.values[measure] for model, one in by_model.items()}
        if first.steps and measure == PROBABILITY:
            worst = _worst_point(by_model)
            row["step"] = first.steps[worst]
            row["values"] = {model: {FORGET: one.path[worst]} for model, one in by_model.items()}
        yield row | {"said": {model: one.said for model, one in by_model.items() if one.said}}


def _worst_point(by_model: Mapping[str, Seen]) -> int:
    """Where on the path the unlearned model is farthest above the retain model, if there is one; not the beginning."""
    means = {model: np.mean(one.path, axis=1) for model, one in by_model.items()}
    return 1 + int(np.argmax((means[UNLEARNED] - means.get(RETAIN_MODEL, 0.0))[1:]))


def _results(rows: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry per attack, variant and measure; the largest share brought back first."""
    target = {row["measure"]: dict(zip(row["numbers"], row["values"][TARGET][FORGET], strict=True)) for row in before}
    lines = []
    for row in rows:
        by_number = target.get(row["measure"])
        as_it_was = {FORGET: [by_number[number] for number in row["numbers"]]} if by_number else None
        line = {key: row[key] for key in ("attack", "variant", "measure", "step") if key in row}
        line["rows"] = len(row["numbers"])
        lines.append(line | recovery(row["values"], as_it_was)._asdict())
    return sorted(lines, key=lambda line: (line["recovered"] is None, -(line["recovered"] or 0)))


def _summary(battery: Battery, parts: Mapping[str, Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    before = parts[NONE]["rows"]
    rows = [row for name, part in parts.items() if name != NONE for row in part["rows"]]
    sha256 = battery.identity["data"]
    return {
        "command": "attack",
        "rows": len(battery.numbers),
        "attacks": _results(rows, before),
        "before": _results(before, []),
        "curves": [curve for part in parts.values() for curve in part["curves"]],
        "left_out": [reason for part in parts.values() for reason in part["left_out"]],
        "seconds": round(seconds, 2),
        "seconds_by_attack": {name: part["seconds"] for name, part in parts.items()},
        "seed": battery.request.seed,
        "run": None if battery.request.run is None else str(battery.request.run),
        "prefixes": None if battery.request.prefixes is None else str(battery.request.prefixes),
        "settings": battery.identity["settings"],
        "data": {name: {"rows": len(rows), "sha256": sha256[name]} for name, rows in battery.sets.items()},
        **{
            "model" if name == UNLEARNED else name: {"source": subject.source, "sha256": subject.sha256}
            for name, subject in battery.subjects.items()
        },
        "versions": versions(),
    }
