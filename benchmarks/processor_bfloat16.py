"""What bfloat16 saves on a processor that has it, and what it changes: the same steps computed in both types.

    OMP_NUM_THREADS=1 python benchmarks/processor_bfloat16.py --model MODEL --forget ROWS --retain ROWS
    OMP_NUM_THREADS=1 python benchmarks/processor_bfloat16.py --passes    # forward and backward alone, by size

NPO with ``recommended``, the same rows and order, weights stepped in float32 both times, one type after the other. The
first step of each is not timed. Compared are seconds a step (of the clock and of the processor, which counts nothing
that other programs take), the probability of rows after the last step, scored in float32, and how far the steps went
apart: ‖Δθ₁₆ − Δθ₃₂‖ / ‖Δθ₃₂‖, and the cosine between the two.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import step_cost
import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from gru_unlearn.common.files import write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.models.loading import quiet
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_models import make_trainer, mean_probability
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.training.compute_type import processor_computes_in_bfloat16

TYPES = ("float32", "bfloat16")


@dataclass
class Measured:
    """Of one type."""

    clock: list[float] = field(default_factory=list)
    """seconds of each step"""
    processor: list[float] = field(default_factory=list)
    probability: dict[str, float] = field(default_factory=dict)
    """by kind of rows, before the first and after the last step"""


class Clock(TrainerCallback):
    """Seconds between the ends of two steps."""

    def __init__(self, measured):
        self.measured, self.last = measured, None

    def on_step_end(self, args, state, control, **kwargs):
        now = time.perf_counter(), time.process_time()
        if self.last is not None:
            self.measured.clock.append(now[0] - self.last[0])
            self.measured.processor.append(now[1] - self.last[1])
        self.last = now


def settings_for(args, kind, out):
    given = {
        "model": args.model,
        "forget": args.forget,
        "retain": args.retain,
        "objective": "npo",
        "rectification": "recommended",
        "learning_rate": args.learning_rate,
        "per_device_train_batch_size": args.rows,
        "gradient_accumulation_steps": 1,
        "max_steps": args.steps,
        "warmup_steps": 0,
        "eval_on_start": False,
        "eval_strategy": "no",
        "save_strategy": "no",
        "use_cpu": True,
        "dtype": "float32",
        "bf16": kind == "bfloat16",
        "output_dir": str(out / kind),
    }
    if args.pad_token is not None:
        given["pad_token"] = args.pad_token
    return given


def measure(args, kind, out):
    """Seconds and probabilities, and what the steps added to the weights, as one vector."""
    prepared = prepare(make_recipe(settings_for(args, kind, out)))
    measured, examples = Measured(), prepared.examples
    trainer = make_trainer(prepared, examples["forget"], [Clock(measured)], retain_dataset=examples["retain"])
    start = flat(trainer.model)
    ask(prepared, trainer.model, args, measured, "before")
    trainer.train()
    ask(prepared, trainer.model, args, measured, "after")
    return measured, flat(trainer.model) - start


def ask(prepared, model, args, measured, moment):
    """In float32: the trainer's own forward pass computes in the run's type."""
    forward, model.forward = model.forward, type(model).forward.__get__(model)
    model.eval()
    for name, rows in prepared.examples.items():
        measured.probability[f"{name} {moment}"] = mean_probability(prepared, model, rows[: args.asked])
    model.train()
    model.forward = forward


def flat(model):
    return torch.cat([parameter.detach().reshape(-1).clone() for parameter in model.parameters()])


def passes(size):
    """Seconds of the processor for a forward and backward pass of a random Llama over 8 rows of 128 tokens, by type."""
    shape = step_cost.SIZES[size]
    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocabulary,
    )
    model, seconds = LlamaForCausalLM(config), {kind: [] for kind in TYPES}
    for _ in range(6):
        for kind in TYPES:
            rows = torch.randint(0, shape.vocabulary, (8, 128))
            start = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
                loss = model(input_ids=rows, labels=rows).loss
            loss.backward()
            model.zero_grad()
            seconds[kind].append(time.process_time() - start)
    return {kind: statistics.median(times[1:]) for kind, times in seconds.items()}


def compare_passes():
    for size in ("4M", "12M", "34M"):
        plain, narrow = passes(size).values()
        print(f"{size}: {plain:.3f} s in float32, {narrow:.3f} s in bfloat16: {narrow / plain:.2f} of it")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--model", "--forget", "--retain"):
        parser.add_argument(name, required="--passes" not in sys.argv)
    parser.add_argument("--passes", action="store_true", help="only forward and backward passes of random models")
    parser.add_argument("--rows", type=int, default=8, help="forget rows a step; retain rows are four times as many")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--asked", type=int, default=16, help="rows of each kind whose probability is measured")
    parser.add_argument("--pad-token", help="for a tokenizer without a padding token")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    quiet()
    if args.passes:
        compare_passes()
        return
    with tempfile.TemporaryDirectory() as out:
        found = {kind: measure(args, kind, Path(out)) for kind in TYPES}
    plain, narrow = (found[kind][1].double() for kind in TYPES)
    apart = {
        "relative distance": float((narrow - plain).norm() / plain.norm()),
        "cosine": float(torch.nn.functional.cosine_similarity(narrow, plain, dim=0)),
    }
    for kind, (measured, _) in found.items():
        times = f"{statistics.median(measured.clock):.2f} s a step, {statistics.median(measured.processor):.2f} s of it"
        probabilities = ", ".join(f"{name} {value:.4f}" for name, value in measured.probability.items())
        print(f"{kind}: {times} on the processor; {probabilities}")
    print(", ".join(f"{name} of the steps {value:.4f}" for name, value in apart.items()))
    if args.json is not None:
        content = {
            "versions": versions(),
            "threads": torch.get_num_threads(),
            "has instructions": processor_computes_in_bfloat16(),
            **{kind: asdict(measured) for kind, (measured, _) in found.items()},
            **apart,
        }
        write_json(args.json, content)


if __name__ == "__main__":
    main()
