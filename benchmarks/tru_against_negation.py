"""TRU against the plain negated task vector at matched forgetting, on the built-in benchmark.

    python benchmarks/tru_against_negation.py
    python benchmarks/tru_against_negation.py --learning-rates 1e-4 --groups 2 10 --seeds 2 --out runs/tru-groups

For every learning rate, number of epochs and number of groups, and for every seed, all task models are fine-tuned with
the same settings (batch 8, linear schedule), and one task vector is made by each method:

- negated: of one model tuned on all forget rows (arXiv 2212.04089);
- sum: the groups' vectors added up, not rectified: what grouping does by itself;
- tru, tru-tensor: rectified over the whole model, or tensor by tensor.

Only a vector's direction counts, because α is chosen: by bisection, until the forget probability is that of the retain
model (α to within 4 %; RMF is interpolated in that interval). Writes OUT/summary.json.
"""

import argparse
import math
import shutil
import statistics
from itertools import product
from pathlib import Path

from rich.console import Console

from gru_unlearn.common.files import write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.models.loading import quiet
from gru_unlearn.reporting import make_table
from gru_unlearn.runs.alpha_search import forget_mark, probabilities_at
from gru_unlearn.runs.run_results import matched_retention
from gru_unlearn.runs.task_models import VECTORS, task_folders, tune_task_models
from gru_unlearn.runs.tru_options import TruOptions
from gru_unlearn.runs.tru_preparation import prepare_tru
from gru_unlearn.task_vectors import Checkpoint, measure_conflicts, save_task_vector

METHODS = {
    "negated": {"rectified": False},
    "sum": {"rectified": False},
    "tru": {"granularity": "model"},
    "tru-tensor": {"granularity": "tensor"},
}
KEPT = ("rmf", "rmf_held_out")
STEP = 1.3
PRECISION = 1.04
SHORTEST = 2.0
LONGEST = 60.0
"""‖α · v‖ between which the crossing is sought; all vectors need 4 to 12 here."""


def prepared(learning_rate, epochs, groups, seed, folder):
    settings = {
        "model": "builtin:target",
        "retain_model": "builtin:retain",
        "forget": "builtin:forget",
        "retain": "builtin:retain",
        "held_out": "builtin:held_out",
        "learning_rate": learning_rate,
        "num_train_epochs": epochs,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 64,
        "gradient_accumulation_steps": 1,
        "seed": seed,
        "output_dir": str(folder),
    }
    return prepare_tru(settings, TruOptions(groups=groups), overwrite=True)


def make_vectors(job):
    """All methods' vectors from the same task models; the mean cosine between a group and the others."""
    tune_task_models(job, Console(quiet=True))
    target, groups, rests, whole = task_folders(job)
    for method, options in METHODS.items():
        tuned = [whole] if method == "negated" else groups
        save_task_vector(target, tuned, rests, job.run.output / VECTORS / method, **options)
    return statistics.mean(conflict.cosine for conflict in measure_conflicts(target, groups, rests))


def norm(folder):
    vector = Checkpoint.open(folder)
    return math.sqrt(sum(float(vector.read(name).double().square().sum()) for name in vector.file_of))


def matched(run, method, mark, start):
    """RMF, and the length of α · v where f* is reached: geometric steps up to the first crossing, then bisection."""
    length = norm(run.output / VECTORS / method)

    def forget_at(size):
        return probabilities_at(run, method, size / length, ["forget"]).forget_prob

    low, high = SHORTEST, SHORTEST * STEP
    assert forget_at(low) > mark, "SHORTEST is too long"
    while forget_at(high) > mark:
        low, high = high, high * STEP
        if high > LONGEST:
            return {"rmf": None, "rmf_held_out": None, "length": None}
    while high / low > PRECISION:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if forget_at(middle) > mark else (low, middle)
    points = [start] + [probabilities_at(run, method, size / length, run.examples) for size in (low, high)]
    return matched_retention(points, mark) | {"length": high}


def one(learning_rate, epochs, groups, seed, out):
    folder = out / "work"
    shutil.rmtree(folder, ignore_errors=True)
    job = prepared(learning_rate, epochs, groups, seed, folder)
    cosine = make_vectors(job)
    mark = forget_mark(job.run)
    start = probabilities_at(job.run, "negated", 0.0, job.run.examples)
    base = {"learning_rate": learning_rate, "epochs": epochs, "groups": groups, "seed": seed, "cosine": cosine}
    results = [base | {"method": method} | matched(job.run, method, mark, start) for method in METHODS]
    shutil.rmtree(folder)
    return results


def middle(values):
    reached = [value for value in values if value is not None]
    if not reached:
        return "not reached"
    missed = f", {len(values) - len(reached)} not reached" if len(reached) < len(values) else ""
    return f"{statistics.median(reached):.3f} ({min(reached):.3f}–{max(reached):.3f}{missed})"


def setting(row):
    return row["learning_rate"], row["epochs"], row["groups"]


def wins(results, method, key):
    """In how many seeds of a setting the method keeps more than the negated task vector."""
    plain = {row["seed"]: row[key] or 0.0 for row in results if row["method"] == "negated"}
    return sum((row[key] or 0.0) > plain[row["seed"]] for row in results if row["method"] == method)


def report(results, console):
    rows = []
    for this in dict.fromkeys(map(setting, results)):
        same = [row for row in results if setting(row) == this]
        for method in METHODS:
            own = [row for row in same if row["method"] == method]
            cells = [middle([row[key] for row in own]) for key in KEPT]
            won = ["" if method == "negated" else f"{wins(same, method, key)}/{len(own)}" for key in KEPT]
            cosine = statistics.median(row["cosine"] for row in own)
            rows.append((f"{this[0]:g}", str(this[1]), str(this[2]), method, *cells, *won, cosine))
    headings = ("learning rate", "epochs", "groups", "method", "RMF retain", "RMF held-out", "wins", "wins", "cosine")
    console.print(make_table("Median over seeds (range); wins against negated, per seed", headings, rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[1e-4, 1e-3])
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--groups", type=int, nargs="+", default=[5])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/tru-against-negation"))
    options = parser.parse_args()
    quiet()
    console, results = Console(width=150), []
    for case in product(options.learning_rates, options.epochs, options.groups, range(options.seeds)):
        rows = one(*case, options.out)
        console.print(case, {row["method"]: row["rmf_held_out"] for row in rows})
        results += rows
        write_json(options.out / "summary.json", {"results": results, "versions": versions()})
    report(results, console)
    console.print(f"Results: {options.out}/summary.json")


if __name__ == "__main__":
    main()
