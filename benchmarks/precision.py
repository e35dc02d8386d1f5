"""Does a checkpoint's type change what is forgotten? The same runs from its weights in float32, bfloat16 and float16.

    python benchmarks/precision.py --model MODEL --forget ROWS --retain ROWS --out runs/precision

NPO with GRU, 8 forget and 8 retain rows a step, for each learning rate and seed: by default from each type of
checkpoint (``stored``), and with the weights kept in bfloat16 from the bfloat16 one (``kept``). Forgetting is the fall
of the forget rows' mean probability along a run. Each run has its own folder and is not repeated where it is finished;
OUT/summary.json and OUT/table.md are written anew after each.
"""

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from gru_unlearn.common.files import whole_folder, write_json, write_text
from gru_unlearn.common.versions import versions
from gru_unlearn.models.loading import quiet
from gru_unlearn.results.run_summary import RunSummary
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.runs.unlearn_job import unlearn

VARIANTS = {
    "float32": ("float32", {}),
    "bfloat16, stored": ("bfloat16", {}),
    "float16, stored": ("float16", {}),
    "bfloat16, kept": ("bfloat16", {"dtype": "bfloat16"}),
}
"""Name → type of the checkpoint, settings."""


@dataclass(frozen=True)
class Cell:
    """One run."""

    variant: str
    rate: float
    seed: int

    @property
    def folder(self):
        return f"{self.variant.replace(', ', '-')}-{self.rate:g}-{self.seed}"


def checkpoint(model, kind, out):
    """The model's folder, with its weights stored in this type."""
    folder = out / "checkpoints" / kind
    if not folder.is_dir():
        with whole_folder(folder) as part:
            AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).to(getattr(torch, kind)).save_pretrained(
                part
            )
            AutoTokenizer.from_pretrained(model).save_pretrained(part)
    return folder


def run(cell, args):
    """Forget and retain probability before and after, and how much of the steps rounding left."""
    folder = args.out / "runs" / cell.folder
    summary = RunSummary.read(folder / "summary.json")
    if summary is None:
        kind, settings = VARIANTS[cell.variant]
        rows = {"forget": args.forget, "retain": args.retain}
        given = {
            "model": str(checkpoint(args.model, kind, args.out)),
            "objective": "npo",
            "rectification": "gru",
            "learning_rate": cell.rate,
            "seed": cell.seed,
            "max_steps": args.steps,
            "warmup_steps": 0.1,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 1,
            "save_strategy": "no",
            "report_examples": 0,
            "output_dir": str(folder),
        }
        if args.pad_token is not None:
            given["pad_token"] = args.pad_token
        summary = unlearn(prepare(make_recipe(rows | given | settings), overwrite=True), Console(quiet=True))
        if not args.keep_models:
            for file in (folder / "model").glob("*.safetensors"):
                file.unlink()
    start, end = summary.start, summary.end
    return {
        **vars(cell),
        "forget_before": start.forget_prob,
        "forget_after": end.forget_prob,
        "retain_before": start.retain_prob,
        "retain_after": end.retain_prob,
        "forgotten": start.forget_prob - end.forget_prob,
        "surviving_share": summary.results.surviving_share,
    }


def table(rows):
    """Markdown: forgetting of each variant, its mean over seeds, and its share of float32's."""
    lines = [
        "| learning rate | checkpoint | forget before → after | forgotten (each seed) | of float32's | retain after |",
        "|---|---|---|---|---|---|",
    ]
    for rate in sorted({row["rate"] for row in rows}):
        whole = _of(rows, rate, "float32")
        for variant in VARIANTS:
            found = _of(rows, rate, variant)
            if found:
                lines.append(_line(rate, variant, found, whole))
    return "\n".join(lines) + "\n"


def _of(rows, rate, variant):
    return [row for row in rows if (row["rate"], row["variant"]) == (rate, variant)]


def _line(rate, variant, found, whole):
    def mean(name, among=found):
        return statistics.fmean(row[name] for row in among)

    seeds = ", ".join(f"{row['forgotten']:.4f}" for row in found)
    compared = "–"
    if len(whole) == len(found) and mean("forgotten", whole):
        compared = f"{mean('forgotten') / mean('forgotten', whole):.1%}"
    change = f"{mean('forget_before'):.4f} → {mean('forget_after'):.4f}"
    forgotten = f"{mean('forgotten'):.4f} ({seeds})"
    return f"| {rate:g} | {variant} | {change} | {forgotten} | {compared} | {mean('retain_after'):.4f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--forget", required=True)
    parser.add_argument("--retain", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-5, 5e-5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--pad-token", help="for a tokenizer without a padding token")
    parser.add_argument("--keep-models", action="store_true")
    args = parser.parse_args()
    quiet()
    rows = []
    for seed in args.seeds:
        for rate in args.rates:
            for variant in args.variants:
                rows.append(run(Cell(variant, rate, seed), args))
                write_json(args.out / "summary.json", {"versions": versions(), "device": device(), "runs": rows})
                write_text(args.out / "table.md", table(rows))
    print(table(rows))


def device():
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
