"""Where the time of an evaluation goes, how it grows with the rows, and what scoring once saves.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/evaluation_speed.py \
        --models ../shared/reference/openunlearning/models --rows ../shared/reference/openunlearning/rows \
        --tofu ../shared/data/tofu

``--models`` holds the folders ``target`` and ``retain``; ``--rows`` the files of a TOFU run with 40 rows a set;
``--tofu`` the whole data set. ``--process`` times the command instead, from its start to its end: with nothing kept
from earlier, and with the retain model's scores kept. Prints tables in Markdown.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

STARTED = time.perf_counter()

import torch  # noqa: E402 - its import is part of what is timed
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from gru_unlearn.data import Encoder  # noqa: E402
from gru_unlearn.evaluation import RowSet, Suite, evaluate, score  # noqa: E402
from gru_unlearn.evaluation.metrics import rouge_l  # noqa: E402 - forgotten before each run
from gru_unlearn.evaluation.suites import read_sets, tofu, tofu_metrics  # noqa: E402

STAGES = ("encode", "score", "generate", "gradnorm", "metrics")


def stage_times(run):
    """Seconds per stage of ``run(on_progress=...)``; encoding comes before the first report, metrics after the last."""
    marks = {}
    rouge_l.cache_clear()

    def on_progress(stage, done, total):
        now = time.perf_counter()
        marks.setdefault(stage, [now, now])[1] = now

    start = time.perf_counter()
    run(on_progress=on_progress)
    end = time.perf_counter()
    times, before = {}, start
    for stage in ("score", "generate", "gradnorm"):
        if stage in marks:
            times[stage] = marks[stage][1] - (marks["score"][0] if stage == "score" else before)
            before = marks[stage][1]
    return {"encode": marks["score"][0] - start, **times, "metrics": end - before, "total": end - start}


@contextmanager
def counted(model):
    """Forward passes and tokens (with padding) that go through the model."""
    work = {"passes": 0, "tokens": 0}

    def count(_module, _args, kwargs):
        work["passes"] += 1
        work["tokens"] += kwargs["input_ids"].numel()

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    yield work
    hook.remove()


def table(header, rows):
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row) + " |")
    print()


def stages(models, encoder, suite, batch_size, repeats):
    """Stage by stage, the retain model's own scores apart: best run and spread of the totals."""
    retain = []
    for _ in range(repeats):
        start = time.perf_counter()
        retain_table = score(models["retain"], encoder, suite, retain_model=True, batch_size=batch_size)
        retain.append(time.perf_counter() - start)

    run = partial(evaluate, models["target"], encoder, suite, retain_table=retain_table, batch_size=batch_size)
    found = [stage_times(run) for _ in range(repeats)]
    best = min(found, key=lambda times: times["total"])
    totals = [times["total"] for times in found]
    print(f"## {len(suite.metrics)} metrics, batch size {batch_size}, best of {repeats} runs, seconds\n")
    table((*STAGES, "total", "retain model"), [[*(best[stage] for stage in STAGES), best["total"], min(retain)]])
    print(f"totals: {', '.join(f'{t:.2f}' for t in totals)} (median {statistics.median(totals):.2f}); ", end="")
    print(f"retain model: {', '.join(f'{t:.2f}' for t in retain)}\n")


def growth(model, encoder, data, batch_size):
    """Time against rows per set (real authors and world facts have no more than 100 and 117)."""
    files = {"forget": "forget10_perturbed", "retain": "retain_perturbed", "ra": "real_authors_perturbed"}
    files |= {"wf": "world_facts_perturbed", "holdout": "retain90[3000:3400]"}
    full = read_sets(data, files)
    rows = []
    for count in (40, 100, 200, 400):
        suite = Suite("tofu", {name: RowSet(rows.items[:count]) for name, rows in full.items()}, tofu_metrics())
        with counted(model) as work:
            times = stage_times(partial(evaluate, model, encoder, suite, batch_size=batch_size))
        rows.append([count, *(times[stage] for stage in STAGES), times["total"], *work.values(), peak_memory()])
    print("## Rows per set, seconds, and peak memory so far in MB\n")
    table(("rows", *STAGES, "total", "passes", "tokens", "peak"), rows)


def savings(model, encoder, suite, batch_size):
    """Scoring once against one pass per metric, both without and with shared prefixes."""
    rows = []
    for share in (True, False):
        with counted(model) as once:
            score(model, encoder, suite, batch_size=batch_size, share_prefixes=share)
        with counted(model) as each:
            for metric in suite.metrics:
                if metric.key != "model_utility":  # its components are metrics of their own
                    score(model, encoder, replace(suite, metrics=[metric]), batch_size=batch_size, share_prefixes=share)
        name = "shared" if share else "not shared"
        rows += [[name, "once", *once.values()], [name, "per metric", *each.values()]]
    print("## Forward passes and tokens\n")
    table(("prefixes", "scoring", "passes", "tokens"), rows)


def processes(models, rows, repeats):
    """Whole processes of ``gru evaluate``, in turn with an empty cache and with the retain model's scores in it."""
    found = {"nothing": [], "retain model's scores": []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        evaluate_process(models / "retain", models, rows, work / "primed", work / "out")  # not timed
        for _ in range(repeats):
            for name, times in found.items():
                cache = work / "cache"
                shutil.rmtree(cache, ignore_errors=True)
                if name != "nothing":
                    shutil.copytree(work / "primed", cache)
                *seconds, reused = evaluate_process(models / "target", models, rows, cache, work / "out")
                assert reused == ([] if name == "nothing" else ["retain_model"]), reused
                times.append(seconds)
    print(f"## gru evaluate, the whole process, {repeats} runs, seconds; processor time does not count waiting\n")
    lines = []
    for name, times in found.items():
        elapsed, processor = zip(*times, strict=True)
        lines.append([name, statistics.median(elapsed), min(elapsed), max(elapsed), statistics.median(processor)])
    table(("kept from earlier", "median", "least", "most", "processor time, median"), lines)


def evaluate_process(model, models, rows, cache, out):
    """Seconds that a process takes, by the clock and of the processor, and which scores it reused."""
    arguments = ["--suite", "tofu", "--data", rows, "--forget-split", "forget01", "--unseen-split", "holdout01"]
    arguments += ["--model", model, "--retain-model", models / "retain", "--out", out, "--overwrite-output-dir"]
    command = [sys.executable, "-m", "gru_unlearn", "evaluate", *map(str, arguments)]
    start, used = time.perf_counter(), os.times()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"GRU_UNLEARN_CACHE": str(cache)})
    seconds, now = time.perf_counter() - start, os.times()
    processor = now.children_user + now.children_system - used.children_user - used.children_system
    return seconds, processor, json.loads((out / "summary.json").read_text())["scores_reused"]


def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--tofu")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--process", action="store_true", help="time gru evaluate as a process, and nothing else")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(options.models)
    if options.process:
        processes(folder, options.rows, options.repeats)
        return
    models = {name: AutoModelForCausalLM.from_pretrained(folder / name).eval() for name in ("target", "retain")}
    encoder = Encoder(AutoTokenizer.from_pretrained(folder / "target"))
    suite = tofu(options.rows, "forget01", "holdout01")
    print(f"imports, two models and rows: {time.perf_counter() - STARTED:.2f} s\n")
    stages(models, encoder, suite, options.batch_size, options.repeats)
    savings(models["target"], encoder, suite, options.batch_size)
    if options.tofu:
        growth(models["target"], encoder, options.tofu, options.batch_size)
    print(f"peak memory: {peak_memory()} MB")


if __name__ == "__main__":
    main()
