"""What one optimizer step costs: plain gradient difference, this package's methods, and GRU the published way.

    OMP_NUM_THREADS=2 python benchmarks/step_cost.py --json step_cost.json                # CPU, 4 M and 34 M parameters
    python benchmarks/step_cost.py --json step_cost.json --sizes 1.2B --device cuda       # Llama-3.2-1B's shape, bf16
    OMP_NUM_THREADS=2 python benchmarks/step_cost.py --json growth.json --growth          # how GRU's overhead grows

Every variant is a Trainer that runs its own ``train()``: data loader, training_step, rectification, clipping,
optimizer, schedule and zero_grad are all timed; evaluation, logging and saving are off. The variants of a size live in
one process and take turns step by step, each with its own copy of the same weights and with the same batches, so that
whatever else the machine does hits all of them alike. Peak memory is measured in a fresh process for each variant: the
kernel's high-water mark of resident memory, above what the process takes before the model is made.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainerCallback
from transformers.utils import logging

from gru_unlearn import UnlearningConfig, UnlearningTrainer
from gru_unlearn.common.files import write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.data import ForgetRetainDataset, PairSampler, collate_pairs

WARMUP = 3
PAD, EOS, FIRST_WORD = 0, 1, 3


@dataclass(frozen=True)
class Size:
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False
    dtype: str = "float32"


SIZES = {
    "1M": Size(96, 256, 6, 4, 4, 2048),
    "4M": Size(192, 512, 6, 6, 6, 4096),
    "12M": Size(320, 896, 7, 8, 8, 5120),
    "34M": Size(512, 1408, 8, 8, 8, 8192),
    "135M": Size(576, 1536, 30, 9, 3, 49152, tied=True),
    "1.2B": Size(2048, 8192, 16, 32, 8, 128256, tied=True, dtype="bfloat16"),
}
GROWTH_SIZES, GROWTH_TOKENS = ("1M", "4M", "12M", "34M"), (32, 64, 128, 256)


@dataclass(frozen=True)
class Work:
    """One step: rows on each side, and about how many tokens a row has; the first half of each is a prompt."""

    rows: int = 8
    tokens: int = 128


# --- variants --------------------------------------------------------------------------------------------------------


class PlainTrainer(Trainer):
    """What both re-creations share: pairs instead of one data set, in the order that this package's trainer draws."""

    def __init__(self, model, args, *, forget_dataset, retain_dataset, processing_class, callbacks):
        super().__init__(
            model=model,
            args=args,
            train_dataset=ForgetRetainDataset(forget_dataset, retain_dataset),
            data_collator=lambda pairs: collate_pairs(pairs, PAD),
            processing_class=processing_class,
            callbacks=callbacks,
        )

    def _get_train_sampler(self, *_):
        rows = self.args.per_device_train_batch_size
        return PairSampler(len(self.train_dataset.forget), len(self.train_dataset.retain), self.args.seed, rows)

    def floating_point_ops(self, _inputs):
        return 0


class SummedLoss(PlainTrainer):
    """Gradient difference as a subclass with one loss: two forward passes, a sum, one backward pass."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        (retain,), (forget,) = inputs["retain"], inputs["forget"]
        return model(**tensors(retain)).loss - model(**tensors(forget)).loss


class PublishedGru(PlainTrainer):
    """GRU by the route of its published code: gradients as dictionaries, one long host vector, restored by name.

    Rewritten from its description: float64 projection on the host, the smoothed retain gradient kept as a vector.
    """

    smoothed = None
    new_gradient_weight = 0.8

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        inputs = self._prepare_inputs(inputs)
        forget, loss = self._gradients(model, inputs["forget"][0], -1)
        retain, _ = self._gradients(model, inputs["retain"][0], 1)
        new = flattened(retain) * self.new_gradient_weight
        self.smoothed = new if self.smoothed is None else new + (1 - self.new_gradient_weight) * self.smoothed
        restore(model, projected(flattened(forget), self.smoothed))
        return loss

    def _gradients(self, model, batch, sign):
        loss = sign * model(**tensors(batch)).loss
        self.accelerator.backward(loss)
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        return gradients, loss.detach()


def tensors(batch):
    return {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}


def flattened(gradients):
    return torch.cat([gradient.reshape(-1).cpu() for gradient in gradients.values()])


def projected(forget, retain):
    u, r = forget.double(), retain.double()
    dot = torch.dot(u, r)
    return u - dot / torch.dot(r, r) * r if dot < 0 else u


def restore(model, vector):
    offset = 0
    for _, p in model.named_parameters():
        p.grad = vector[offset : offset + p.numel()].view_as(p).to(p.device, p.dtype)
        offset += p.numel()


VARIANTS = {
    "graddiff_summed": (SummedLoss, {}),
    "graddiff": (UnlearningTrainer, {"objective": "graddiff", "rectification": "none"}),
    "ga_gru": (UnlearningTrainer, {"objective": "ga", "rectification": "gru"}),
    "npo_gru": (UnlearningTrainer, {"objective": "npo", "rectification": "gru"}),
    "element_update": (UnlearningTrainer, {"objective": "ga", "rectification": "gru/element/update"}),
    "robust": (
        UnlearningTrainer,
        {"objective": "ga", "rectification": "gru/element/update", "robust": "recommended"},
    ),
    "published": (PublishedGru, {}),
    "bfloat16_r": (
        UnlearningTrainer,
        {"objective": "ga", "rectification": "gru", "retain_direction_dtype": "bfloat16"},
    ),
}


def make_trainer(variant, size, work, device, steps, folder, callbacks, **settings):
    kind, method = VARIANTS[variant]
    common = {
        "output_dir": str(Path(folder) / variant),
        "max_steps": steps,
        "per_device_train_batch_size": work.rows,
        "gradient_accumulation_steps": 1,
        "max_length": 4 * work.tokens,
        "learning_rate": 1e-6,  # the weights hardly move, so that no variant's loss runs away
        "eval_on_start": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": device == "cpu",
    }
    config = UnlearningConfig(**(common | method | settings))
    forget, retain = examples(work, SIZES[size].vocabulary)
    return kind(
        make_model(size),
        config,
        forget_dataset=forget,
        retain_dataset=retain,
        processing_class=make_tokenizer(),
        callbacks=callbacks,
    )


def make_model(size):
    shape = SIZES[size]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied,
        pad_token_id=PAD,
        eos_token_id=EOS,
        dtype=shape.dtype,
    )
    return LlamaForCausalLM(config).to(getattr(torch, shape.dtype))


def make_tokenizer():
    """Nothing is tokenized, but the trainer asks for the padding token."""
    backend = Tokenizer(models.WordLevel({"<pad>": PAD, "<eos>": EOS, "<unk>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def examples(work, vocabulary):
    """Eight batches of forget rows and as many retain rows, an eighth shorter or longer than ``work.tokens``."""
    rng = Random(0)
    sets = []
    for _ in range(2):
        rows = []
        for _ in range(8 * work.rows):
            length = work.tokens + rng.randint(-work.tokens // 8, work.tokens // 8)
            ids = [rng.randrange(FIRST_WORD, vocabulary) for _ in range(length)]
            rows.append({"input_ids": ids, "labels": [-100] * (length // 2) + ids[length // 2 :]})
        sets.append(rows)
    return sets


# --- time ------------------------------------------------------------------------------------------------------------


class Turns(TrainerCallback):
    """Makes trainers in threads take turns: each runs one whole step, then hands over to the next."""

    def __init__(self, own, following, synchronize):
        self.own, self.following, self.synchronize = own, following, synchronize
        self.started, self.seconds = None, []  # of each step: wall clock and processor

    def _hand_over(self):
        if self.started is not None:
            self.synchronize()
            self.seconds.append([now - then for now, then in zip(clocks(), self.started, strict=True)])
        self.following.release()

    def on_step_begin(self, *_, **__):
        self._hand_over()
        self.own.acquire()
        self.started = clocks()

    def on_train_end(self, *_, **__):
        self._hand_over()


def clocks():
    """Wall clock, and processor time of all threads: with one thread the second hardly feels what else is running."""
    return time.perf_counter(), time.process_time()


def step_times(size, work, device, steps, variants):
    """Wall and processor seconds of each step of each variant, run alternately in this process."""
    synchronize = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    turns = [threading.Semaphore(0) for _ in variants]
    timers = [Turns(own, turns[(i + 1) % len(turns)], synchronize) for i, own in enumerate(turns)]
    with tempfile.TemporaryDirectory() as folder:
        trainers = [
            make_trainer(name, size, work, device, WARMUP + steps, folder, [timer])
            for name, timer in zip(variants, timers, strict=True)
        ]
        threads = [threading.Thread(target=run, args=pair) for pair in zip(trainers, turns, strict=True)]
        for thread in threads:
            thread.start()
        turns[0].release()
        for thread in threads:
            thread.join()
    return {name: timer.seconds[WARMUP:] for name, timer in zip(variants, timers, strict=True)}


def run(trainer, turn):
    turn.acquire()
    try:
        trainer.train()
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # the other threads would wait for their turn for ever


# --- memory ----------------------------------------------------------------------------------------------------------


def peak_bytes(variant, size, work, device, steps=4, **settings):
    """Peak of this process, model and optimizer included, above what it takes before them.

    A tiny model steps first, so that all code is loaded and the difference is tensors.
    """
    with tempfile.TemporaryDirectory() as folder:
        make_trainer(variant, "1M", Work(rows=1, tokens=16), device, 2, folder, []).train()
        gc.collect()
        start = memory_now(device)
        trainer = make_trainer(variant, size, work, device, steps, folder, [], **settings)
        if device == "cpu":
            Path("/proc/self/clear_refs").write_text("5")  # sets the kernel's high-water mark back to the present
        else:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
        return memory_peak(device) - start


def memory_now(device):
    return torch.cuda.memory_allocated() if device == "cuda" else status_bytes("VmRSS")


def memory_peak(device):
    return torch.cuda.max_memory_allocated() if device == "cuda" else status_bytes("VmHWM")


def status_bytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


# --- processes and report --------------------------------------------------------------------------------------------


def in_fresh_process(function, *, work, **arguments):
    """The result of a function of this file, computed by a new interpreter."""
    request = json.dumps({"function": function, "work": asdict(work), **arguments})
    found = subprocess.run(
        [sys.executable, "-c", "import step_cost; step_cost.worker()", request],
        cwd=Path(__file__).parent,
        # Large tensors go back to the system at once, so that peaks count what is alive and not what malloc holds.
        env=os.environ | ({"MALLOC_MMAP_THRESHOLD_": str(1 << 17)} if function == "peak_bytes" else {}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(found.stdout.splitlines()[-1])


def worker():
    logging.set_verbosity_error()
    request = json.loads(sys.argv[1])
    function = globals()[request.pop("function")]
    print(json.dumps(function(work=Work(**request.pop("work")), **request)))


def measure(size, work, device, steps, variants):
    raw = in_fresh_process("step_times", work=work, size=size, device=device, steps=steps, variants=variants)
    rows = {}
    for name in variants:
        wall, processor = zip(*raw[name], strict=True)
        rows[name] = {
            "seconds": statistics.median(wall),
            "processor_seconds": statistics.median(processor),
            "peak_bytes": in_fresh_process("peak_bytes", work=work, variant=name, size=size, device=device),
            "raw": wall,
            "raw_processor": processor,
        }
    first = rows[variants[0]]
    for row in rows.values():
        row["ratio"] = {key: row[key] / first[key] for key in ("seconds", "processor_seconds", "peak_bytes")}
    return rows


def growth(rows_a_side, device, steps):
    """Step time of GA+GRU over that of GradDiff, as the model grows and as the rows grow longer."""
    variants = ["graddiff", "ga_gru"]
    rows = []
    points = [(size, 128) for size in GROWTH_SIZES] + [("4M", tokens) for tokens in GROWTH_TOKENS]
    for size, tokens in dict.fromkeys(points):
        raw = in_fresh_process(
            "step_times", work=Work(rows_a_side, tokens), size=size, device=device, steps=steps, variants=variants
        )
        wall, processor = ([statistics.median(step[i] for step in raw[name]) for name in variants] for i in (0, 1))
        overhead = [gru / graddiff - 1 for graddiff, gru in (wall, processor)]
        rows.append(
            {"size": size, "tokens": tokens, "overhead": overhead[0], "overhead_processor": overhead[1], "raw": raw}
        )
        print(
            f"| {size} | {tokens} | {wall[0]:.3f} | {wall[1]:.3f} | {overhead[0]:+.1%} | {overhead[1]:+.1%} |",
            flush=True,
        )
    return rows


def machine(device):
    """What ran this, and how busy it was before."""
    about = {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count()}
    about |= {"threads": torch.get_num_threads(), "load_before": os.getloadavg()}
    return about | ({"gpu": torch.cuda.get_device_name()} if device == "cuda" else {})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--sizes", default="4M,34M")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="the first is what ratios refer to")
    parser.add_argument("--rows", type=int, default=Work.rows, help="on each side of a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--growth", action="store_true")
    options = parser.parse_args()
    result = {"machine": machine(options.device), "versions": versions(), "rows": options.rows, "steps": options.steps}
    if options.growth:
        header("size", "tokens a row", "graddiff, s", "ga_gru, s", "overhead", "of processor time")
        result["growth"] = growth(options.rows, options.device, options.steps)
    else:
        header("size", "variant", "s a step", "ratio", "processor s", "ratio", "peak MB", "ratio")
        result["sizes"] = {}
        work, variants = Work(rows=options.rows), options.variants.split(",")
        for size in options.sizes.split(","):
            result["sizes"][size] = measure(size, work, options.device, options.steps, variants)
            for name, row in result["sizes"][size].items():
                print(f"| {size} | {name} | {cells(row)} |", flush=True)
    write_json(options.json, result)


def header(*names):
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))


def cells(row):
    units = {"seconds": ".3f", "processor_seconds": ".3f", "peak_bytes": ".0f"}
    shown = [
        f"{row[key] / (1e6 if key == 'peak_bytes' else 1):{unit}} | {row['ratio'][key]:.2f}"
        for key, unit in units.items()
    ]
    return " | ".join(shown)


if __name__ == "__main__":
    main()
