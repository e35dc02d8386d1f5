"""A patch in words: what it carries, what that comes to, and how it is loaded."""

from gru_unlearn.reporting.tables import plural, shown
from gru_unlearn.results.patch_record import PatchedRows, PatchRecord
from gru_unlearn.results.row_kinds import label_of


def whose_verdict(patch: PatchRecord) -> str | None:
    """That a verdict is the patch's own; None where it is the run's adapters, and so the run's model."""
    forget = patch.rows.get("forget")
    if patch.exact or forget is None:
        return None
    asked = ""
    if forget.said is not None:
        asked = f", asked for {plural(forget.said.asked, 'answer')} to forget rows"
    words = f"The verdict is of the original with the patch{asked}. It was not attacked."
    if patch.run_verdict is not None:
        words += f" The run's own model is judged otherwise: {patch.run_verdict}"
    return words


def patch_lines(patch: PatchRecord) -> list[str]:
    """For the terminal and the model card, a sentence each."""
    return [*_carried(patch), *_measured(patch), _loaded_by(patch)]


def _carried(patch: PatchRecord) -> list[str]:
    if patch.exact:
        return [f"Patch: the adapters that the run trained, of rank {patch.rank}."]
    lines = [
        f"Patch: rank {patch.rank}; of the change of all linear layers it leaves out {shown(patch.error)} "
        "(‖ΔW − patch‖ / ‖ΔW‖)."
    ]
    if patch.embedding_rows:
        lines.append(
            f"It carries the embeddings of {plural(patch.embedding_rows, 'token')}, because the linear layers alone do "
            f"too little; of the change of that table it leaves out {shown(patch.embedding_error)}."
        )
    if patch.left_out:
        lines.append(f"Not carried at all (norms, biases, tables): {patch.left_out:.2%} of ‖ΔW‖².")
    return lines


def _measured(patch: PatchRecord) -> list[str]:
    lines = []
    for name, rows in patch.rows.items():
        lines.append(f"{label_of(name).capitalize()} rows: {_of_rows(rows)}")
    lines.append("With the patch taken off, the original gives the same log-probabilities as before, to the bit.")
    return lines


def _of_rows(rows: PatchedRows) -> str:
    return (
        f"probability {shown(rows.original)} in the original, {shown(rows.run)} in the run's model, "
        f"{shown(rows.patched)} with the patch; log-probabilities differ from the run's by {rows.left:.2g} on average, "
        f"{rows.largest:.2g} at most (the run changed them by {rows.effect:.2g})."
    )


def _loaded_by(patch: PatchRecord) -> str:
    if not patch.loads_everywhere:
        return (
            "Only PEFT and gru load it: vLLM and llama.cpp take no embeddings. --patch-parts linear, adapters "
            "(--use-peft) or a run that leaves the embeddings alone (--trainable-params) give them a patch."
        )
    return (
        f"PEFT, vLLM (--enable-lora --max-lora-rank {_served_rank(patch.rank)}) and llama.cpp (python "
        "convert_lora_to_gguf.py --base ORIGINAL PATCH) load it."
    )


def _served_rank(rank: int) -> int:
    """The smallest that vLLM can be set to."""
    return next((one for one in (8, 16, 32, 64, 128, 256, 320, 512) if one >= rank), rank)
