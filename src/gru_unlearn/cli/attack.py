"""``gru attack``: does what an unlearned model has forgotten come back?"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gru_unlearn.attacks.attack_request import AttackRequest
from gru_unlearn.cli.flags import command, show_results, show_verdict
from gru_unlearn.common.options import option
from gru_unlearn.reporting.prose import say


@dataclass(frozen=True)
class AttackOptions:
    """What becomes of an attack."""

    out: Path | None = option("Folder of the results.", None, shown="RUN/attack")
    overwrite_output_dir: bool = option("Discard the attack in the output folder.", False)
    no_reuse: bool = option("Measure target, retain model and base anew, too, where an earlier attack did.", False)


@command(AttackRequest, AttackOptions)
def attack(request: AttackRequest, options: AttackOptions, console: Console) -> None:
    """Try to bring back what was forgotten: gru attack RUN.

    Relearning, quantization, sampling, other prompts, a look inside and membership inference, on the unlearned model,
    the target and the retain model alike. An interrupted command goes on where it stopped.
    """
    from gru_unlearn.attacks.attack_job import prepare_attack, run_attacks  # noqa: PLC0415 - heavy: wait for a command
    from gru_unlearn.attacks.attack_tables import attack_table, headline_words, strongest_attack  # noqa: PLC0415
    from gru_unlearn.results.run_folder import RunFolder  # noqa: PLC0415

    run, usual = None, Path("runs/attack")
    if request.run:
        run = RunFolder(request.run)
        usual = run.attack.path
    out = options.out or usual
    prepared = prepare_attack(request, out, overwrite=options.overwrite_output_dir)
    summary = run_attacks(prepared, console, reuse=not options.no_reuse)
    console.print(attack_table(summary))
    say(console, strongest_attack(summary))
    if summary.headline is not None:
        for line in headline_words(summary.headline):
            say(console, line)
    show_verdict(console, summary.verdict)
    shown_in = out
    if run and not request.model and out == run.attack.path and run.report_file.is_file():
        shown_in = run.path  # a run's own report shows the attacks on it
    show_results(console, out, per_row="rows.json", report_of=shown_in)
