"""Make every trial of an attack on every model, and keep row by row what came out."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
from rich.console import Console

from gru_unlearn.attacks.battery import RETAIN_MODEL, UNLEARNED, Battery
from gru_unlearn.attacks.probing import PROBABILITY, Probed, Trial, Variants
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import Missing
from gru_unlearn.models.loading import free_memory
from gru_unlearn.results.attack_summary import AttackedRows, AttackPart, LeftOut, RecoveryCurve
from gru_unlearn.results.row_kinds import FORGET

ByModel = Mapping[str, Probed]


def make_trials(attack: str, variants: Variants, battery: Battery, console: Console) -> AttackPart:
    """Each variant on each model; one that cannot be had, or fails on one of them, is left out with the reason."""
    reasons = {variant: trial for variant, trial in variants.items() if isinstance(trial, str)}
    trials = {variant: trial for variant, trial in variants.items() if not isinstance(trial, str)}
    found = _try_all(attack, trials, reasons, battery, console)
    free_memory()

    part = AttackPart(rows=[], curves=[], left_out=[])
    for variant, by_model in found.items():
        if variant not in reasons:
            part.rows += _rows_of(attack, variant, by_model)
            part.curves += _curves_of(attack, variant, by_model)
    part.left_out += [LeftOut(attack=attack, variant=variant, why=why) for variant, why in reasons.items()]
    return part


def _try_all(
    attack: str, trials: Mapping[str, Trial], reasons: dict[str, str], battery: Battery, console: Console
) -> dict[str, dict[str, Probed]]:
    """Variant → model → what came out; where it fails, the reason is added to ``reasons``."""
    from gru_unlearn.reporting.progress import stages  # noqa: PLC0415 - brings Trainer's callbacks, slow to import

    found: dict[str, dict[str, Probed]] = {variant: {} for variant in trials}
    with stages(console, attack) as on_progress:
        for model, subject in battery.subjects.items():
            on_model = partial(on_progress, subject.label)
            for done, (variant, trial) in enumerate(trials.items()):
                on_model(done, len(trials))
                try:
                    found[variant][model] = trial(subject)
                except (Missing, UserError) as reason:
                    reasons[variant] = f"{subject.label}: {reason}"
            on_model(len(trials), len(trials))
            subject.release()
    return found


def _rows_of(attack: str, variant: str, by_model: ByModel) -> Iterator[AttackedRows]:
    """One entry per measure that all models have."""
    first, *others = by_model.values()
    for measure in first.values:
        if any(measure not in other.values for other in others):
            continue
        rows = AttackedRows(
            attack=attack,
            variant=variant,
            measure=measure,
            numbers=first.numbers,
            values={model: dict(probed.values[measure]) for model, probed in by_model.items()},
            said={model: probed.said for model, probed in by_model.items() if probed.said},
        )
        if first.steps and measure == PROBABILITY:
            worst = _worst_point(by_model)
            rows.step = first.steps[worst]
            rows.values = {model: {FORGET.key: probed.path[worst]} for model, probed in by_model.items()}
        yield rows


def _worst_point(by_model: ByModel) -> int:
    """Where on the path the unlearned model is farthest above the retain model, if there is one; not the beginning."""
    means = {model: np.mean(probed.path, axis=1) for model, probed in by_model.items()}
    return 1 + int(np.argmax((means[UNLEARNED] - means.get(RETAIN_MODEL, 0.0))[1:]))


def _curves_of(attack: str, variant: str, by_model: ByModel) -> Iterator[RecoveryCurve]:
    about = {"attack": attack, "variant": variant, "measure": PROBABILITY}
    for model, probed in by_model.items():
        if probed.steps:
            means = [float(np.mean(values)) for values in probed.path]
            yield RecoveryCurve.model_validate(about | {"model": model, "steps": probed.steps, "values": means})
