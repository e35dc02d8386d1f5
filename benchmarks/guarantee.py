"""Does the guarantee survive the optimizer? ⟨r, Δθ⟩ of every step, rectified in gradient space and in update space.

    python benchmarks/guarantee.py --out runs/guarantee

NPO on the built-in benchmark, the same batches for all. Below zero, the step lowers the retain loss to first order.
Writes OUT/summary.json and OUT/guarantee.svg (needs matplotlib: pip install "gru-unlearn[figures]").
"""

import argparse
import statistics
from itertools import accumulate
from pathlib import Path

import matplotlib
from rich.console import Console

from gru_unlearn.common.files import write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.comparison.demo_job import builtin_run
from gru_unlearn.models.loading import quiet
from gru_unlearn.reporting import make_table
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.runs.unlearn_job import unlearn

matplotlib.use("svg")
from matplotlib import pyplot

RECTIFICATIONS = ("gru", "gru/update", "gru/element", "gru/element/update")
STYLES = {
    "gru": ("C0", "-"),
    "gru/update": ("C0", "--"),
    "gru/element": ("C1", "-"),
    "gru/element/update": ("C1", "--"),
}


def changes(rectification, seed, steps, out):
    """⟨r, Δθ⟩ step by step, and the cosine of u and r."""
    folder = out / f"{rectification.replace('/', '-')}-{seed}"
    settings = builtin_run("npo", rectification, folder, seed) | {
        "max_steps": steps,
        "logging_steps": 1,
        "eval_strategy": "no",
        "stop_when_forgotten": False,
        "retain_model": None,
    }
    log = unlearn(prepare(make_recipe(settings), overwrite=True), Console(quiet=True)).log
    return {"change": [row.get("retain_change") for row in log], "cosine": [row.cosine for row in log]}


def draw(runs, path):
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for name, seeds in runs.items():
        colour, line = STYLES[name]
        for number, run in enumerate(seeds):
            label = name if number == 0 else None
            thick = 1.6 if number == 0 else 0.6
            axes[0].plot(run["change"], line, color=colour, label=label, linewidth=thick)
            axes[1].plot(list(accumulate(run["change"])), line, color=colour, linewidth=thick)
    axes[0].set(xlabel="step", ylabel="⟨r, Δθ⟩", title="First-order change of the retain loss", yscale="symlog")
    axes[0].set_yscale("symlog", linthresh=1e-4)
    axes[1].set(xlabel="step", ylabel="sum of ⟨r, Δθ⟩", title="Summed over the run")
    for panel in axes:
        panel.axhline(0, color="black", linewidth=0.6)
        panel.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs/guarantee"))
    options = parser.parse_args()
    quiet()
    runs = {
        name: [changes(name, seed, options.steps, options.out) for seed in range(options.seeds)]
        for name in RECTIFICATIONS
    }
    rows = []
    for name, seeds in runs.items():
        harmful = [100 * sum(change > 0 for change in run["change"]) / len(run["change"]) for run in seeds]
        total = [sum(run["change"]) for run in seeds]
        rows.append((name, f"{statistics.median(harmful):.0f} %", f"{statistics.median(total):+.4f}",
                     f"{min(total):+.4f} to {max(total):+.4f}"))  # fmt: skip
    headings = ("rectification", "steps with ⟨r, Δθ⟩ > 0", "sum of ⟨r, Δθ⟩", "range over seeds")
    Console().print(make_table("Median over seeds", headings, rows))
    draw(runs, options.out / "guarantee.svg")
    write_json(options.out / "summary.json", {"runs": runs, "steps": options.steps, "versions": versions()})
    print(f"Results: {options.out}/summary.json · figure: {options.out}/guarantee.svg")


if __name__ == "__main__":
    main()
