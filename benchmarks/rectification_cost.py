"""What one rectification costs: each family member on random vectors with the shapes of a 34 M-parameter Llama.

    OMP_NUM_THREADS=1 python benchmarks/rectification_cost.py --json rectification_cost.json

Time is the wall clock of what the rectifier adds to ``optimizer.step``: projection, and in update space the copy of the
parameters before it; the optimizer's own time is taken off. Reading telemetry and ⟨r, Δθ⟩ are switched off. Memory is
that of the retain gradients held between steps, and the kernel's high-water mark of resident memory during a
rectification above what is resident before it (Linux, glibc).
"""

import argparse
import ctypes
import os
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from gru_unlearn import GradientRectifier
from gru_unlearn.common.files import write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.geometry import GRANULARITIES

MEMBERS = [f"gru/{granularity}/{space}" for space in ("gradient", "update") for granularity in GRANULARITIES]
MEMORY = 8
MEMBERS += ["gru/element/update/metric", f"gru/memory={MEMORY}", f"gu/memory={MEMORY}"]
MEMBERS += ["pcgrad", "ngdiff", "cosine-clip"]
WARMUP = 2
LIBC, MALLOPT_MMAP_THRESHOLD = ctypes.CDLL(None), -3


def clocks():
    """Wall clock, and processor time of all threads: with one thread the second hardly feels what else is running."""
    return time.perf_counter(), time.process_time()


def elapsed(start):
    return [now - then for now, then in zip(clocks(), start, strict=True)]


class Descent(torch.optim.Optimizer):
    """θ ← θ − 1e-3 · gradient, and how long that took."""

    def step(self, closure=None):
        start = clocks()
        for p in self.param_groups[0]["params"]:
            p.detach().add_(p.grad, alpha=-1e-3)
        self.seconds = elapsed(start)


def shapes():
    config = LlamaConfig(
        vocab_size=8192, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


class Bench:
    """One model, optimizer and forget gradient, on which each member is put for as long as it is measured."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = shapes().to_empty(device="cpu")
        for p in self.model.parameters():
            nn.init.normal_(p)
            p.grad = torch.empty_like(p)
        self.forget = [torch.randn_like(p) for p in self.model.parameters()]
        self.retains = [[torch.randn_like(u).sub_(u, alpha=0.3) for u in self.forget] for _ in range(MEMORY)]
        self.optimizer = Descent(self.model.parameters(), {})
        for p in self.model.parameters():  # as Adam leaves it: ``gu`` projects in this metric
            self.optimizer.state[p]["exp_avg_sq"] = torch.rand_like(p)

    def attach(self, member):
        """A rectifier that has seen as many windows as it remembers. −u is in each r, so that they conflict."""
        rectifier = GradientRectifier(self.model, self.optimizer, member, measure_change=False)
        names, memory = list(dict(self.model.named_parameters())), rectifier.rectification.memory
        directions = {
            f"{name}@{place}" if memory > 1 else name: r
            for place, retain in enumerate(self.retains[:memory])
            for name, r in zip(names, retain, strict=True)
        }
        rectifier.load_state_dict({"retain_direction": directions})
        return rectifier

    def seconds(self):
        """Wall and processor seconds of one rectification."""
        for p, u in zip(self.model.parameters(), self.forget, strict=True):
            p.grad.copy_(u)
        start = clocks()
        self.optimizer.step()
        return [whole - own for whole, own in zip(elapsed(start), self.optimizer.seconds, strict=True)]

    def peak(self):
        LIBC.malloc_trim(0)  # pages that malloc keeps for later would hide what is allocated in them
        before = status_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to the present
        self.seconds()
        return max(0, status_bytes("VmHWM") - before)


def status_bytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def times(bench, member, repeats):
    rectifier = bench.attach(member)
    for _ in range(WARMUP):
        bench.seconds()
    wall, processor = zip(*(bench.seconds() for _ in range(repeats)), strict=True)
    assert rectifier.telemetry.rectified, f"{member}: no conflict, so that nothing was measured"
    rectifier.close()
    medians = {"seconds": statistics.median(wall), "processor_seconds": statistics.median(processor)}
    return medians | {"raw_seconds": wall, "raw_processor_seconds": processor}


def memory(bench, member):
    rectifier = bench.attach(member)
    bench.seconds()  # what a member keeps of its own is there after a step
    held = sum(r.nbytes for r in rectifier.state_dict()["retain_direction"].values())
    scratch = statistics.median(bench.peak() for _ in range(3))
    rectifier.close()
    return {"held_bytes": held, "scratch_bytes": scratch}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    load = os.getloadavg()
    bench = Bench()
    parameters = sum(u.numel() for u in bench.forget)
    rows = {member: times(bench, member, options.repeats) for member in MEMBERS}
    # From here on large tensors go back to the system at once, so that peaks count what is alive and not what malloc
    # holds. It would slow down the timing above: each temporary would be made of fresh pages.
    LIBC.mallopt(MALLOPT_MMAP_THRESHOLD, 1 << 17)
    print(f"{parameters:,} parameters, float32, {torch.get_num_threads()} threads, load before {load[0]:.1f}\n")
    print("| rectification | ms | processor ms | held, MB | scratch, MB |\n|---|---|---|---|---|")
    for member, row in rows.items():
        row.update(memory(bench, member))
        milliseconds = f"{1e3 * row['seconds']:.0f} | {1e3 * row['processor_seconds']:.0f}"
        megabytes = f"{row['held_bytes'] / 1e6:.0f} | {row['scratch_bytes'] / 1e6:.0f}"
        print(f"| `{member}` | {milliseconds} | {megabytes} |", flush=True)
    about = {"threads": torch.get_num_threads(), "cpus": os.cpu_count(), "load_before": load}
    write_json(
        options.json,
        {"parameters": parameters, "machine": about, "versions": versions(), "repeats": options.repeats, "rows": rows},
    )


if __name__ == "__main__":
    main()
