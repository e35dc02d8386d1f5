"""Make every trial of an attack on every model, and keep row by row what came out."""

from collections.abc import Iterator, Mapping

import numpy as np
from rich.console import Console

from gru_unlearn.attacks.battery import UNLEARNED, Battery
from gru_unlearn.attacks.probing import Name, Probed, Trial, Variants
from gru_unlearn.attacks.recovery import zero_line_of
from gru_unlearn.attacks.yardsticks import Outcomes, file_of, keep_outcomes, kept_outcomes
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import Missing
from gru_unlearn.models.loading import free_memory
from gru_unlearn.models.subject import Subject
from gru_unlearn.reporting.prose import say
from gru_unlearn.results.attack_summary import AttackedRows, AttackPart, LeftOut, RecoveryCurve, Relearnt
from gru_unlearn.results.row_kinds import FORGET

ByModel = Mapping[str, Probed]

WON_BACK = "prob of rows trained on"
"""What a curve shows that says what winning back costs."""


def make_trials(
    attack: str, variants: Variants, battery: Battery, console: Console, *, reuse: bool = True
) -> AttackPart:
    """Each variant on each model; one that cannot be had, or fails on one of them, is left out with the reason.

    Args:
        attack: its name.
        variants: of it.
        battery: what it is made on.
        console: for progress.
        reuse: take what was found before on the models beside the unlearned one (:mod:`yardsticks`).
    """
    reasons = {name: trial for name, trial in variants.items() if isinstance(trial, str)}
    trials = {name: trial for name, trial in variants.items() if not isinstance(trial, str)}
    part = AttackPart(rows=[], curves=[], left_out=[], reused=[])
    found: dict[Name, dict[str, Probed]] = {name: {} for name in trials}
    for model, subject in battery.attacked_by(attack).items():
        outcomes = None
        if reuse and model != UNLEARNED:
            outcomes = kept_outcomes(file_of(attack, battery, subject))
        if outcomes is None:
            outcomes = _try_all(attack, trials, battery, subject, console)
        else:
            part.reused.append(model)
        for name, outcome in outcomes.items():
            if isinstance(outcome, str):
                reasons[name] = f"{subject.label}: {outcome}"
            else:
                found[name][model] = outcome
    free_memory()

    for name, by_model in found.items():
        if name not in reasons:
            about = _about(attack, name)
            part.rows += _rows_of(about, by_model)
            part.curves += _curves_of(about, by_model)
            part.relearnt += _relearnt(about, by_model)
    part.left_out += [LeftOut(**_about(attack, name), why=why) for name, why in reasons.items()]
    return part


def _about(attack: str, name: Name) -> dict[str, str]:
    """Which attack, in which form."""
    if isinstance(name, str):
        return {"attack": attack, "variant": name}
    variant, form = name
    return {"attack": attack, "variant": variant, "form": form}


def _try_all(
    attack: str, trials: Mapping[Name, Trial], battery: Battery, subject: Subject, console: Console
) -> Outcomes:
    """Variant → what came out of one model, or why nothing did; kept for the next attack."""
    from gru_unlearn.reporting.progress import stages  # noqa: PLC0415 - brings Trainer's callbacks, slow to import

    found: dict[Name, Probed | str] = {}
    with stages(console, attack) as on_progress:
        for done, (name, trial) in enumerate(trials.items()):
            on_progress(subject.label, done, len(trials))
            try:
                found[name] = trial(subject)
            except (Missing, UserError) as reason:
                found[name] = str(reason)
        on_progress(subject.label, len(trials), len(trials))
    subject.release()
    if subject.name == UNLEARNED:
        return found
    try:
        keep_outcomes(file_of(attack, battery, subject), found)
    except OSError as error:  # an attack does not fail for want of a cache
        say(console, f"{attack}: what came out of the {subject.label} is not kept for later attacks ({error})")
    return found


def _rows_of(about: Mapping[str, str], by_model: ByModel) -> Iterator[AttackedRows]:
    """One entry per measure that all models have."""
    first, *others = by_model.values()
    for measure in first.values:
        if any(measure not in other.values for other in others):
            continue
        values = {model: dict(probed.values[measure]) for model, probed in by_model.items()}
        rows = AttackedRows.model_validate({**about, "measure": measure, "numbers": first.numbers, "values": values})
        said = {model: probed.said for model, probed in by_model.items() if probed.said}
        if said:
            rows.said = said
        if first.steps and measure == first.along:
            worst = _worst_point(by_model)
            rows.step = first.steps[worst]
            rows.values = {model: {FORGET.key: probed.path[worst]} for model, probed in by_model.items()}
        yield rows


def _worst_point(by_model: ByModel) -> int:
    """Where on the path the unlearned model is farthest above the zero line, if there is one; not the beginning."""
    above, zero_line = np.mean(by_model[UNLEARNED].path, axis=1), zero_line_of(by_model)
    if zero_line is not None:
        above = above - np.mean(by_model[zero_line].path, axis=1)
    return 1 + int(np.argmax(above[1:]))


def _curves_of(about: Mapping[str, str], by_model: ByModel) -> Iterator[RecoveryCurve]:
    for model, probed in by_model.items():
        if probed.steps:
            curve = {"measure": probed.along, "model": model, "steps": probed.steps}
            means = [float(np.mean(values)) for values in probed.path]
            yield RecoveryCurve.model_validate({**about, **curve, "values": means})
        if probed.won_back is not None:
            curve = {"measure": WON_BACK, "model": model, "steps": probed.won_back.steps}
            means = [float(np.mean(values)) for values in probed.won_back.values]
            yield RecoveryCurve.model_validate({**about, **curve, "values": means})


def _relearnt(about: Mapping[str, str], by_model: ByModel) -> Iterator[Relearnt]:
    """How the rows came back that were trained on."""
    progress = {model: probed.won_back for model, probed in by_model.items() if probed.won_back is not None}
    if UNLEARNED in progress:
        numbers, steps, _ = progress[UNLEARNED]
        paths = {model: its.values for model, its in progress.items()}
        yield Relearnt.model_validate({**about, "numbers": numbers, "steps": steps, "paths": paths})
