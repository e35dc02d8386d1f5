"""Resident memory along a run on rows of uneven length, and whether it stays flat after the first epoch.

    OMP_NUM_THREADS=1 python benchmarks/memory_over_a_run.py --json memory.json

Prints, for each step, what the process holds at its end, the peak within it, and what the C library has given out, each
above what it was before the model was made; then the peak that ``gru plan`` calculates for these rows. Ends with 1
where memory is not flat. ``--keep-freed``: as if freed memory were not given back every few steps. On Linux, on a CPU.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import step_cost
import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from gru_unlearn import UnlearningConfig, UnlearningTrainer
from gru_unlearn.capacity.footprint import HOLES, predict
from gru_unlearn.capacity.model_shape import shape_of
from gru_unlearn.common.files import write_json
from gru_unlearn.common.memory import heap
from gru_unlearn.common.versions import versions
from gru_unlearn.results.plan_summary import Setup
from gru_unlearn.training import steps

FLAT = {"in_use": 1.02, "peak": 1.25, "rest": 1.25}
"""What there is after the first epoch may be so much above what there was in it. What is in use tells a leak to the
megabyte. What is held, at its peak and at rest, also tells which rows met and which holes they found: it differs from
step to step, the more so the smaller the model."""

QUESTION, ANSWER = (8, 30), (8, 90)
"""Tokens of each, drawn evenly."""


def held(what="VmRSS"):
    """Resident bytes now, or at most (``VmHWM``) since the mark was reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


@dataclass
class Step:
    rest: int
    peak: int
    in_use: int


class Watch(TrainerCallback):
    """Notes what each step holds, in bytes above what there was when this was made."""

    def __init__(self):
        self.before, self.used_before, self.steps = held(), heap().in_use, []
        self.started = time.perf_counter()

    def on_step_begin(self, *_, **__):
        Path("/proc/self/clear_refs").write_text("5")

    def on_step_end(self, args, state, control, **_):
        step = Step(held() - self.before, held("VmHWM") - self.before, heap().in_use - self.used_before)
        self.steps.append(step)
        mega = [f"{value / 1e6:.0f}" for value in (step.rest, step.peak, step.in_use)]
        seconds = f"{time.perf_counter() - self.started:.0f}"
        print("| " + " | ".join([str(state.global_step), *mega, seconds]) + " |", flush=True)


def rows(count, vocabulary, rng):
    found = []
    for _ in range(count):
        question, answer = rng.randrange(*QUESTION), rng.randrange(*ANSWER)
        ids = [rng.randrange(step_cost.FIRST_WORD, vocabulary) for _ in range(question + answer)]
        found.append({"input_ids": ids, "labels": [-100] * question + ids[question:]})
    return found


def make_model(options):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=options.vocabulary,
        hidden_size=options.hidden,
        intermediate_size=options.hidden * 8 // 3,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def planned(options, model):
    """Peak bytes by ``gru plan``, for the longest rows that there can be."""
    longest, answer = QUESTION[1] + ANSWER[1] - 2, sum(ANSWER) / 2
    setup = Setup(
        precision="float32",
        rows=options.rows,
        retain_rows=options.retain_rows,
        accumulation=1,
        length=longest,
        answer_share=answer / longest,
    )
    return predict(shape_of(model.config), setup).peak


def grown(steps, kind):
    """What is held after the first epoch, which has eight steps, against what is held in it, the most of each."""
    held_at = [getattr(step, kind) for step in steps]
    return max(held_at[8:]) / max(held_at[:8])


def run(options, folder):
    rng = Random(0)
    forget, retain = rows(8 * options.rows, options.vocabulary, rng), rows(300, options.vocabulary, rng)
    watch = Watch()
    model = make_model(options)
    config = UnlearningConfig(
        output_dir=folder,
        max_steps=options.steps,
        per_device_train_batch_size=options.rows,
        retain_batch_size=options.retain_rows,
        gradient_accumulation_steps=1,
        learning_rate=1e-6,
        eval_on_start=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    training = UnlearningTrainer(
        model,
        config,
        forget_dataset=forget,
        retain_dataset=retain,
        processing_class=step_cost.make_tokenizer(),
        callbacks=[watch],
    )
    training.train()
    return watch.steps, planned(options, model)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--retain-rows", type=int, default=32)
    parser.add_argument("--keep-freed", action="store_true")
    options = parser.parse_args()
    if options.keep_freed:
        steps.give_back_freed_memory = lambda _least: None
    step_cost.header("step", "at rest, MB", "peak, MB", "in use, MB", "seconds")
    with tempfile.TemporaryDirectory() as folder:
        seen, plan = run(options, folder)
    growth = {kind: grown(seen, kind) for kind in FLAT}
    flat = all(growth[kind] <= FLAT[kind] for kind in FLAT)
    peak = max(step.peak for step in seen)
    said = ", ".join(f"{kind.replace('_', ' ')} {growth[kind]:.2f}" for kind in FLAT)
    print(f"\nthe most after the first epoch, of the most in it: {said}")
    print(f"gru plan: {plan / 1e6:.0f} MB, with holes {HOLES * plan / 1e6:.0f}; measured: {peak / 1e6:.0f} MB")
    print("flat" if flat else "NOT flat")
    if options.json:
        found = {"steps": [vars(step) for step in seen], "growth": growth, "plan": plan, "flat": flat}
        write_json(options.json, found | {"machine": step_cost.machine("cpu"), "versions": versions()})
    sys.exit(not flat)


if __name__ == "__main__":
    main()
