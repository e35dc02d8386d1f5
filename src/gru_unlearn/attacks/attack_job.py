"""Run the attacks, keep each one's outcome as soon as it is done, and write what came of it all."""

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rich.console import Console

from gru_unlearn.attacks.attack_request import AttackRequest
from gru_unlearn.attacks.attacked_evidence import attack_verdict
from gru_unlearn.attacks.battery import BASE, RETAIN_MODEL, TARGET, UNLEARNED, Battery, make_battery
from gru_unlearn.attacks.headline import headline_of
from gru_unlearn.attacks.inside import inside
from gru_unlearn.attacks.membership import membership
from gru_unlearn.attacks.probing import Variants, no_attack
from gru_unlearn.attacks.prompts import prompts, sampling
from gru_unlearn.attacks.recovery import recovery
from gru_unlearn.attacks.relearning import relearning
from gru_unlearn.attacks.rounding import quantization
from gru_unlearn.attacks.trials import make_trials
from gru_unlearn.common.files import write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.reporting.prose import say
from gru_unlearn.results.attack_summary import AttackedRows, AttackPart, AttackResult, AttackSummary
from gru_unlearn.results.file_model import as_json
from gru_unlearn.results.row_kinds import FORGET
from gru_unlearn.results.run_folder import Claim, RunFolder

NONE = "none"
"""What is there before any attack, made and kept like an attack."""

ATTACKS: dict[str, Callable[[Battery], Variants]] = {
    "relearning": relearning,
    "quantization": quantization,
    "sampling": sampling,
    "prompts": prompts,
    "inside": inside,
    "membership": membership,
}


@dataclass(frozen=True, slots=True)
class PreparedAttack:
    """Attacks of which all inputs were found and checked; nothing has been written yet."""

    battery: Battery
    claim: Claim


def prepare_attack(request: AttackRequest, output: Path, *, overwrite: bool = False) -> PreparedAttack:
    """Find models and rows, check settings and the output folder.

    Raises:
        UserError: the first thing that cannot work.
    """
    battery = make_battery(request)
    models = [subject.folder for subject in battery.subjects.values()]
    claim = RunFolder(output).claim(battery.identity, overwrite=overwrite, inputs=(*models, *request.rows.values()))
    return PreparedAttack(battery, claim)


def run_attacks(prepared: PreparedAttack, console: Console, *, reuse: bool = True) -> AttackSummary:
    """Run the attacks and return the summary; it also stands in ``summary.json``, single rows in ``rows.json``.

    Interrupted attacks go on with those that are not done. With ``reuse``, what an earlier attack found on target,
    retain model and base is not found anew.

    Raises:
        UserError: another process holds the folder.
    """
    battery = prepared.battery
    with prepared.claim.held() as folder:
        started = time.perf_counter()
        for remark in battery.remarks():
            say(console, remark)
        kept = folder.path / "parts"
        names = (NONE, *battery.request.attacks)
        parts = {name: _make_part(name, battery, kept, console, reuse=reuse) for name in names}
        summary = _summarise(battery, parts, time.perf_counter() - started)
        rows = chain.from_iterable(part.rows for part in parts.values())
        write_json(folder.rows_file, [row.model_dump(exclude_unset=True) for row in rows])
        folder.finish(summary)
        shutil.rmtree(kept)
    return summary


def _make_part(name: str, battery: Battery, kept: Path, console: Console, *, reuse: bool) -> AttackPart:
    """An attack's outcome, from its file if it was done before."""
    file = kept / f"{name}.json"
    known = AttackPart.read(file)
    if known is not None:
        say(console, f"{name}: done before")
        return known
    started = time.perf_counter()
    attack = ATTACKS.get(name, no_attack)
    part = make_trials(name, attack(battery), battery, console, reuse=reuse)
    part.seconds = round(time.perf_counter() - started, 2)
    part.write(file)
    title = "before any attack" if name == NONE else name
    say(console, f"{title}: {len(part.rows)} measured in {part.seconds:.0f} s{_known(part, battery)}")
    return part


def _known(part: AttackPart, battery: Battery) -> str:
    """Of which models it was known before."""
    if not part.reused:
        return ""
    labels = " and ".join(battery.subjects[name].label for name in part.reused)
    return f", {labels} known from an earlier attack (--no-reuse measures anew)"


def _summarise(battery: Battery, parts: Mapping[str, AttackPart], seconds: float) -> AttackSummary:
    before = parts[NONE].rows
    after = chain.from_iterable(part.rows for name, part in parts.items() if name != NONE)
    models = {name: subject.provenance for name, subject in battery.subjects.items()}
    summary = AttackSummary(
        rows=len(battery.numbers),
        attacks=_results(after, before),
        before=_results(before, []),
        curves=list(chain.from_iterable(part.curves for part in parts.values())),
        left_out=list(chain.from_iterable(part.left_out for part in parts.values())),
        seconds=round(seconds, 2),
        seconds_by_attack={name: part.seconds for name, part in parts.items()},
        reused={name: part.reused for name, part in parts.items() if part.reused},
        seed=battery.request.seed,
        run=as_json(battery.request.run),
        prefixes=as_json(battery.request.prefixes),
        settings=battery.settings,
        tried=battery.tried,
        data=dict(battery.data),
        model=models[UNLEARNED],
        target=models[TARGET],
        versions=versions(),
    )
    for name in (RETAIN_MODEL, BASE):
        if name in models:
            setattr(summary, name, models[name])
    others = [part for name, part in parts.items() if name != NONE]
    summary.headline = headline_of(others, before, battery.numbers)
    summary.verdict = attack_verdict(battery, summary, before)
    return summary


def _results(rows: Iterable[AttackedRows], before: Sequence[AttackedRows]) -> list[AttackResult]:
    """One entry per attack, variant and measure; the largest share brought back first."""
    target = {one.measure: dict(zip(one.numbers, one.values[TARGET][FORGET.key], strict=True)) for one in before}
    results = [_result(one, target.get(one.measure)) for one in rows]
    return sorted(results, key=lambda result: -result.strength)


def _result(rows: AttackedRows, target: Mapping[int, float] | None) -> AttackResult:
    """What came back; ``target``: the target's value of each row without an attack, by the row's number."""
    as_it_was = {FORGET.key: [target[number] for number in rows.numbers]} if target else None
    about = rows.model_dump(include={"attack", "variant", "form", "measure", "step"}, exclude_unset=True)
    return AttackResult(**about, rows=len(rows.numbers), **recovery(rows.values, as_it_was)._asdict())
