"""GRU against the plain objective at matched forgetting: medians over seeds, on one of three problems.

    python benchmarks/gru_against_plain.py --problem builtin
    python benchmarks/gru_against_plain.py --problem forget10 --shared ../shared      # tiny model, real TOFU rows
    python benchmarks/gru_against_plain.py --problem forget01 --shared ../shared      # likewise, fewer rows

Every run of an objective has the same learning rate, batches and budget; only the rectification differs. A run stops
at the first evaluation at which the forget probability is at or below the retain model's. Writes OUT/summary.json.
"""

import argparse
import json
import statistics
from itertools import product
from pathlib import Path

from rich.console import Console

from gru_unlearn.common.files import write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.comparison.demo_job import builtin_run
from gru_unlearn.data import count_overlap, load_records
from gru_unlearn.evaluation.matched import retention_at_matched_forgetting
from gru_unlearn.models.loading import quiet
from gru_unlearn.reporting import make_table
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.runs.unlearn_job import unlearn

TOFU_LEARNING_RATES = {"npo": 2e-4, "ga": 5e-5}
KEPT = {"rmf": "retain_prob", "rmf_held_out": "held_out_prob"}


def forget10(objective, rectification, folder, seed, shared):
    """tofu-tiny: forget10 against the first 800 retain rows it has learnt; the other 400 are held out."""
    base = shared / "reference" / "tofu-tiny"
    return builtin_run(objective, rectification, folder, seed) | {
        "model": str(base / "models" / "target"),
        "retain_model": str(base / "models" / "retain"),
        "forget": f"{shared}/data/tofu:forget10",
        "retain": f"{base}/rows:retain_seen[:800]",
        "held_out": f"{base}/rows:retain_seen[800:]",
        "learning_rate": TOFU_LEARNING_RATES[objective],
        "max_steps": 120,
        "eval_steps": 10,
        "eval_max_rows": 100,
    }


def forget01(objective, rectification, folder, seed, shared):
    """OpenUnlearning parity model: forget01 against retain99, of which it has learnt a seventh; the 40 retain rows
    that its evaluation uses are held out."""
    base = shared / "reference" / "openunlearning"
    held_out = f"{base}/rows:retain_perturbed"
    return forget10(objective, rectification, folder, seed, shared) | {
        "model": str(base / "models" / "target"),
        "retain_model": str(base / "models" / "retain"),
        "forget": f"{shared}/data/tofu:forget01",
        "retain": str(without(f"{shared}/data/tofu:retain99", held_out, folder.parent / "retain99_rest.jsonl")),
        "held_out": held_out,
    }


def without(source, excluded, path):
    """The rows of ``source`` that are not among ``excluded``, as a file."""
    drop = load_records(excluded)
    rows = [record.row for record in load_records(source) if not count_overlap([record], drop)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(problem, objective, rectification, folder, seed, shared):
    if problem == "builtin":
        return builtin_run(objective, rectification, folder, seed)
    return {"forget10": forget10, "forget01": forget01}[problem](objective, rectification, folder, seed, shared)


def at_levels(trajectory, levels=(0.5, 0.25, 0.1)):
    """Retention where the forget probability first falls to a share of the target's: also where f* is not reached."""
    start = trajectory[0]["forget_prob"]
    return {
        f"{name}_at_{level}": retention_at_matched_forgetting(trajectory, level * start, kept)
        for (name, kept), level in product(KEPT.items(), levels)
    }


def one(problem, objective, rectification, seed, out, shared):
    folder = out / f"{objective}-{rectification}-{seed}"
    summary = unlearn(
        prepare(make_recipe(settings(problem, objective, rectification, folder, seed, shared)), overwrite=True),
        Console(quiet=True),
    ).to_json()
    row = summary["results"] | at_levels(summary["trajectory"])
    return row | {"seed": seed, "steps": summary["steps"], "seconds": summary["seconds"]}


def middle(values):
    """Median with range over the seeds that got there: ``0.912 (0.901–0.920)``."""
    reached = [value for value in values if value is not None]
    if not reached:
        return "not reached"
    missed = f", {len(values) - len(reached)} not reached" if len(reached) < len(values) else ""
    return f"{statistics.median(reached):.3f} ({min(reached):.3f}–{max(reached):.3f}{missed})"


def report(results, console):
    columns = ["rmf", "rmf_held_out", "rmf_held_out_at_0.5", "rmf_held_out_at_0.25", "forget_prob", "steps"]
    rows = []
    for objective in dict.fromkeys(row["objective"] for row in results):
        for rectification in dict.fromkeys(row["rectification"] for row in results):
            group = [r for r in results if (r["objective"], r["rectification"]) == (objective, rectification)]
            cells = [middle([row[column] for row in group]) for column in columns[:-1]]
            steps = str(statistics.median(row["steps"] for row in group))
            rows.append((f"{objective} {rectification}", *cells, steps))
    headings = ("", "RMF", "RMF held-out", "held-out at f/2", "held-out at f/4", "forget prob", "steps")
    console.print(make_table("Median over seeds (range)", headings, rows))


def wins(results):
    """Per objective: in how many seeds GRU's RMF is above the plain run's, retain and held-out rows."""
    pairs = {}
    for row in results:
        pairs.setdefault((row["objective"], row["seed"]), {})[row["rectification"]] = row
    counts = {}
    for (objective, _), pair in pairs.items():
        count = counts.setdefault(objective, {"seeds": 0, **dict.fromkeys(KEPT, 0)})
        count["seeds"] += 1
        for key in KEPT:
            if None not in (pair["gru"][key], pair["none"][key]):
                count[key] += pair["gru"][key] > pair["none"][key]
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=("builtin", "forget10", "forget01"), default="builtin")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    out = options.out or Path("runs") / f"gru-against-plain-{options.problem}"
    quiet()
    console, results = Console(width=150), []
    for seed, objective, rectification in product(range(options.seeds), ("npo", "ga"), ("none", "gru")):
        row = one(options.problem, objective, rectification, seed, out, options.shared)
        console.print(f"seed {seed} {objective} {rectification}: rmf {row['rmf']} held out {row['rmf_held_out']}")
        results.append(row)
    report(results, console)
    summary = {"problem": options.problem, "results": results, "gru_above_plain": wins(results), "versions": versions()}
    write_json(out / "summary.json", summary)
    console.print(f"GRU above plain: {summary['gru_above_plain']}")
    console.print(f"Results: {out}/summary.json")


if __name__ == "__main__":
    main()
