"""How much relearning brings back of each model that a comparison on the built-in benchmark saved.

    gru compare --objectives npo --rectifications recommended --robustness none,recommended --learning-rates 5e-4 \
        --suite none --output-dir runs/robust
    python benchmarks/relearning_rates.py runs/robust --json relearning.json --svg relearning.svg

Copies of each model are fine-tuned on a quarter of the forget rows, or on the retain and held-out rows that are most
like the others, at several learning rates. Recovered is (unlearned - retain model) / (target - retain model) of mean
probability of the forget rows that no copy was trained on, the retain model attacked alike; the strongest attack at its
strongest step counts. Runs that stand in the JSON file are not attacked again. The picture has the way there: at each
step what the stronger of the learning rates has brought back, mean over the seeds.
"""

import argparse
import copy
from collections import defaultdict
from itertools import islice
from pathlib import Path
from random import Random
from statistics import fmean

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gru_unlearn.attacks.relearning import nearest
from gru_unlearn.attacks.relearnt_copies import endless_batches
from gru_unlearn.common.files import read_json, write_json
from gru_unlearn.comparison.panel_picture import picture
from gru_unlearn.comparison.pareto import PANEL
from gru_unlearn.data import Encoder, load_records
from gru_unlearn.reporting import chart
from gru_unlearn.results.comparison_summary import ComparisonSummary
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary
from gru_unlearn.training import answer_logps
from gru_unlearn.training.builtin import builtin_benchmark
from gru_unlearn.training.fine_tuning import FineTuning

EVERY = 5


class Attacks:
    """The rows of the benchmark, and what training on some of them does to others."""

    def __init__(self, rates, steps):
        self.rates, self.steps = rates, steps
        self.built = builtin_benchmark()
        self.encoder = Encoder(AutoTokenizer.from_pretrained(self.built.target))
        self.pad = self.encoder.tokenizer.pad_token_id
        rows = {name: load_records(str(self.built.data / f"{name}.jsonl")) for name in ("forget", "retain", "held_out")}
        count = len(rows["forget"])
        few = set(Random(0).sample(range(count), count // 4))
        measured = [row for place, row in enumerate(rows["forget"]) if place not in few]
        trained = {
            "forget rows": [rows["forget"][place] for place in sorted(few)],
            "related rows": nearest(measured, rows["retain"] + rows["held_out"], count),
        }
        self.trained = {name: self.encoder.encode_all(some, name) for name, some in trained.items()}
        self.measured = self.encoder.encode_all(measured, "forget")
        self.general = self.encoder.encode_all(load_records(str(self.built.data / "general.jsonl")), "general")
        target = load(self.built.target)
        self.known, self.known_general = self.probability(target), self.probability(target, self.general)
        self.floor = self.curves(load(self.built.retain_model))

    def probability(self, model, examples=None):
        device, rows = torch.device("cpu"), examples or self.measured
        return answer_logps(model, rows, batch_size=64, pad_token_id=self.pad, device=device).mean_probability

    def curves(self, model):
        """Attack → probability before, and after every few steps."""
        found, before = {}, self.probability(model)
        for name, rows in self.trained.items():
            for rate in self.rates:
                found[f"{name} at {rate:g}"] = [before, *self._curve(copy.deepcopy(model), rows, rate)]
        return found

    def _curve(self, model, rows, rate):
        tuning = FineTuning(model.requires_grad_(True), self.pad, learning_rate=rate)
        for batch in islice(endless_batches(rows, 8, 0), self.steps):
            tuning.step(batch)
            if tuning.steps % EVERY == 0:
                yield self.probability(model)

    def recovered(self, model):
        """Attack → share that it has brought back along its steps."""
        ways = {}
        for attack, curve in self.curves(model).items():
            pairs = zip(curve, self.floor[attack], strict=True)
            ways[attack] = [(mine - floor) / (self.known - floor) for mine, floor in pairs]
        return ways


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def measure(attacks, folder):
    run = RunFolder(folder)
    summary, model = RunSummary.read(run.summary_file), load(run.model)
    ways = attacks.recovered(model)
    shares = {attack: max(way[1:]) for attack, way in ways.items()}  # the first is before any step
    return {
        "run": folder.name,
        "steps": summary.steps,
        "rmf_held_out": summary.results.rmf_held_out,
        "general": attacks.probability(model, attacks.general) / attacks.known_general,
        "recovered": max(shares.values()),
        "strongest": max(shares, key=shares.get),
        "shares": shares,
        "ways": ways,
    }


def pictured(methods):
    """A panel for each kind of rows, a line for each method."""
    looks = {name: look for look, name in enumerate(methods)}
    lines = {kind: [] for kind in ("forget rows", "related rows")}
    for kind, its in lines.items():
        for name, rows in methods.items():
            means = [fmean(shares) for shares in zip(*(strongest_way(row, kind) for row in rows), strict=True)]
            spots = [chart.Spot(EVERY * place, share) for place, share in enumerate(means)]
            its.append(chart.Line(name, spots, looks[name]))
    spots = [spot for its in lines.values() for line in its for spot in line.points]
    drawn = [panel_of(kind, its, spots) for kind, its in lines.items()]
    return picture(drawn, PANEL, list(methods), "What relearning brings back")


def panel_of(kind, lines, spots):
    panel = chart.make_panel(
        f"relearning on {kind}",
        [spot.x for spot in spots],
        [0.0, *(spot.y for spot in spots)],
        x_label="steps of relearning",
        y_label="share brought back (less ↓)",
        width=PANEL.width,
        height=PANEL.height,
    )
    return chart.draw(panel, [chart.series(panel, [line]) for line in lines])


def strongest_way(row, kind):
    """At each step what the strongest learning rate has brought back."""
    ways = [way for attack, way in row["ways"].items() if attack.startswith(kind)]
    return [max(shares) for shares in zip(*ways, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--rates", default="1e-3,3e-3")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    attacks = Attacks([float(rate) for rate in options.rates.split(",")], options.steps)
    rows = read_json(options.json) or []
    known = {row["run"] for row in rows}
    comparison = ComparisonSummary.model_validate(read_json(options.comparison / "summary.json"))
    cells = {cell.name: cell for cell in comparison.cells if cell.done}
    for name in cells:
        if name not in known:
            rows.append(measure(attacks, options.comparison / "runs" / name))
            write_json(options.json, rows)
    methods = defaultdict(list)
    for row in rows:
        if row["run"] in cells:
            methods["{} · {} at {:g}".format(*cells[row["run"]].method)].append(row)
    print(table(methods))
    if options.svg is not None:
        options.svg.write_text(pictured(methods))
        print(f"The way there: {options.svg}")


def table(methods):
    """Means over the seeds, of the strongest attack also the least and the greatest."""
    attacks = list(next(iter(methods.values()))[0]["shares"]) if methods else []
    columns = ["method", "seeds", "recovered (least–most)", *attacks, "RMF held-out", "general", "steps"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name, its in methods.items():
        shares = [row["recovered"] for row in its]
        recovered = f"{fmean(shares):.3f} ({min(shares):.3f}–{max(shares):.3f})"
        by_attack = [f"{fmean(row['shares'][attack] for row in its):.3f}" for attack in attacks]
        others = [mean_of(its, key) for key in ("rmf_held_out", "general", "steps")]
        lines.append("| " + " | ".join([name, str(len(its)), recovered, *by_attack, *others]) + " |")
    return "\n".join(lines)


def mean_of(rows, key):
    """A run that never came to f* has no RMF: then there is no mean."""
    values = [row[key] for row in rows]
    return "–" if None in values else f"{fmean(values):.3f}"


if __name__ == "__main__":
    main()
