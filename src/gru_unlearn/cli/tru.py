"""``gru tru``: unlearn by rectified task vectors, without retain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gru_unlearn.cli.flags import OVERWRITE, command, show_results
from gru_unlearn.cli.settings_flags import FEATURED, GivenSettings, SettingsCommand
from gru_unlearn.common.options import option
from gru_unlearn.runs.tru_options import TruOptions

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

OF_TRU = {
    "model": FEATURED["model"],
    "forget": FEATURED["forget"],
    "retain": "Rows that should stay, only to measure.",
    "held_out": "More such rows, only to measure.",
    "retain_model": FEATURED["retain_model"],
    "learning_rate": "Peak learning rate of the fine-tunings.",
    "num_train_epochs": "Passes over each group's rows.",
    "use_peft": "Fine-tune LoRA adapters, then merge.",
    "seed": FEATURED["seed"],
    "output_dir": FEATURED["output_dir"],
}


SPELLED = {"output_dir": ("--out", "--output-dir")}


@dataclass(frozen=True)
class TruFiles:
    """What is left in the folder of the run, and what was there."""

    keep: bool = option("Leave task models and task vectors there.", False)
    overwrite_output_dir: bool = option(OVERWRITE.format("run"), False)


@command(TruOptions, TruFiles, kind=SettingsCommand, featured=OF_TRU, switches=("use_peft",), spelled=SPELLED)
def tru(options: TruOptions, files: TruFiles, given: GivenSettings, console: "Console") -> None:
    """Forget without retain data, by rectified task vectors: gru tru [RECIPE.yaml] [FLAGS].

    Splits the forget rows in groups, fine-tunes the model on each and on all others, and subtracts what each group
    does not share with the others. Settings of gru unlearn work too (gru unlearn --list-settings).
    """
    from gru_unlearn.runs.tru_job import prepare_tru  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.runs.tru_job import tru as run  # noqa: PLC0415

    prepared = prepare_tru(given.merged(), options, overwrite=files.overwrite_output_dir)
    console.print(tru_table(run(prepared, console, keep=files.keep)))
    show_results(console, prepared.run.output, model="model")


def tru_table(summary: Mapping[str, Any]) -> "Table":
    """TRU beside the plain negated task vector: what each α left of every set, and retention at matched forgetting."""
    from gru_unlearn.reporting import make_table  # noqa: PLC0415

    labels = {"forget_prob": "forget", "retain_prob": "retain", "held_out_prob": "held-out"}
    by_alpha = {method: {p["alpha"]: p for p in points} for method, points in summary["trajectory"].items()}
    shown = [key for key in labels if key in summary["trajectory"]["tru"][0]]
    rows: list[tuple[Any, ...]] = []
    for alpha in sorted({alpha for points in by_alpha.values() for alpha in points}):
        values = (by_alpha[method].get(alpha, {}).get(key) for method in by_alpha for key in shown)
        rows.append((f"α {alpha:g}", *values))
    results = summary["results"]
    for key, label in (("rmf", "RMF retain"), ("rmf_held_out", "RMF held-out")):
        if key in results["tru"]:
            cells = [("not reached" if results[m][key] is None else results[m][key]) for m in by_alpha]
            rows.append((label, *(cell for value in cells for cell in (value, *[""] * (len(shown) - 1)))))
    mark = results["forget_target"]
    title = f"TRU · {len(summary['groups'])} groups · saved with α = {results['tru']['alpha']:g}" + (
        "" if mark is None else f" · forget probability wanted: {mark:.3f}"
    )
    headings = [f"{method}: {labels[key]}" for method in ("TRU", "negated") for key in shown]
    return make_table(title, ("", *headings), rows)
