"""Training a prepared run to its end, from its last whole checkpoint if there is one."""

from contextlib import closing

from rich.console import Console

from gru_unlearn.reporting.prose import say
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.runs.training_progress import StepBar
from gru_unlearn.training import UnlearningTrainer, last_whole_checkpoint
from gru_unlearn.training.interrupt import InterruptCallback, Interrupted


def train_to_the_end(prepared: Prepared, trainer: UnlearningTrainer, progress: StepBar, console: Console) -> None:
    """Train, and say where an interrupted run goes on.

    Raises:
        Interrupted: Ctrl-C; the last step is in a checkpoint.
        NonFiniteError: loss, gradients or weights became NaN or infinite; earlier checkpoints stay.
    """
    interrupt = InterruptCallback()
    trainer.add_callback(interrupt)
    checkpoint = last_whole_checkpoint(prepared.output)
    if prepared.claim.resume:
        at = f"from {checkpoint.name}" if checkpoint else "from the start: it had no checkpoint yet"
        say(console, f"Continuing the interrupted run in {prepared.output}, {at}.")
    with closing(progress), interrupt.listening():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if not interrupt.requested:
            progress.arrived(trainer.stops.found)
    if interrupt.requested:
        raise Interrupted(f"stopped at step {trainer.state.global_step}; the same command continues from there")
