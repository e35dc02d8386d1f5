"""The same unlearning run in OpenUnlearning and here: losses of every step, answers and weights side by side.

    python benchmarks/same_run.py --checkout ../open-unlearning --python ../open-unlearning/.venv/bin/python \
        --model ../shared/reference/tofu-tiny/models/target --forget ../shared/data/tofu:forget01 \
        --retain '../shared/reference/tofu-tiny/rows:retain_seen[:160]' --out runs/same

``--checkout`` is a copy of that repository, ``--python`` an interpreter with the libraries that it pins (flash-attn,
bitsandbytes, deepspeed and lm-eval may be missing). Its own ``src/train.py`` runs there, with its configurations, data
code, collator, trainers and optimizer; ``same_run_there.py`` only gives it the order of rows that the run here draws,
and notes its losses. float32 on a CPU, one thread. Prints a table in Markdown and writes ``same_run.json``.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from gru_unlearn.common.files import write_json
from gru_unlearn.data import Encoder, Example, PairSampler, Record, load_records
from gru_unlearn.objectives import IDK_ANSWERS
from gru_unlearn.training.scores import answer_logps

THERE = Path(__file__).with_name("same_run_there.py")
RATE, WEIGHT_DECAY = "2e-4", "0.01"


@dataclass(frozen=True)
class Method:
    """One objective: what is said there, what is said here, and what our losses are multiplied by to be theirs."""

    there: tuple[str, ...]
    here: tuple[str, ...]
    gamma: float = 1.0
    retain_weight: float = 1.0
    """as here: α / γ"""


def scaled(gamma: float, alpha: float) -> tuple[str, ...]:
    """Flags for a loss that is γ there and 1 here: the bound on its gradient and AdamW's ε are those of that scale."""
    return (
        f"--retain-weight={alpha / gamma:g}",
        f"--max-grad-norm={1 / gamma:g}",
        f"--adam-epsilon={1e-8 / gamma:g}",
    )


ALTERNATES = (
    "trainer=DPO",
    "data.forget.TOFU_QA_forget.handler=QAwithAlternateDataset",
    "+data.forget.TOFU_QA_forget.args.alternate_key=alternate",
)
METHODS = {
    "ga": Method(("trainer=GradAscent",), ("--objective=ga",), retain_weight=0),
    "graddiff": Method(("trainer=GradDiff",), ("--objective=graddiff", "--retain-weight=1")),
    "npo": Method(("trainer=NPO",), ("--objective=npo", "--objective-args=beta=0.1", "--retain-weight=1")),
    "simnpo": Method(
        ("trainer=SimNPO",),
        ("--objective=simnpo", "--objective-args=beta=4.5,delta=0", *scaled(0.125, 1)),
        gamma=0.125,
        retain_weight=8,
    ),
    "dpo": Method(ALTERNATES, ("--objective=dpo", "--objective-args=beta=0.1", "--retain-weight=1")),
    "wga": Method(("trainer=WGA",), ("--objective=wga", "--objective-args=beta=1", "--retain-weight=1")),
    "satimp": Method(
        ("trainer=SatImp",),
        ("--objective=satimp", "--objective-args=beta1=5,beta2=1", *scaled(0.1, 1)),
        gamma=0.1,
        retain_weight=10,
    ),
    "ceu": Method(
        ("trainer=CEU", "trainer.method_args.ignore_first_n_answer_tokens=0"), ("--objective=ceu",), retain_weight=0
    ),
    "undial": Method(("trainer=UNDIAL",), ("--objective=undial", "--objective-args=beta=10"), retain_weight=0),
}


@dataclass(frozen=True)
class Schedule:
    """How long both runs are, in what pieces."""

    epochs: int
    batch: int
    accumulation: int
    warmup: int

    def there(self) -> list[str]:
        """As overrides."""
        return [
            f"trainer.args.num_train_epochs={self.epochs}",
            f"trainer.args.per_device_train_batch_size={self.batch}",
            f"trainer.args.gradient_accumulation_steps={self.accumulation}",
            "trainer.args.warmup_epochs=null",  # its way to steps divides by the number of GPUs
            f"+trainer.args.warmup_steps={self.warmup}",
        ]

    def here(self) -> list[str]:
        """As flags."""
        return [
            f"--num-train-epochs={self.epochs}",
            f"--per-device-train-batch-size={self.batch}",
            f"--gradient-accumulation-steps={self.accumulation}",
            f"--warmup-steps={self.warmup}",
        ]


@dataclass(frozen=True)
class Rows:
    """The rows of both runs, and files that hold them."""

    forget: list[Record]
    retain: list[Record]
    folder: Path

    def write(self, schedule: Schedule) -> None:
        """Rows with other answers to the forget questions, and the order in which a run here draws them."""
        alternates = [IDK_ANSWERS[number % len(IDK_ANSWERS)] for number in range(len(self.forget))]
        forget = [row | {"alternate": other} for row, other in zip(map(as_row, self.forget), alternates, strict=True)]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_lines(self.folder / "forget.jsonl", forget)
        write_lines(self.folder / "retain.jsonl", [as_row(record) for record in self.retain])
        sampler = PairSampler(len(self.forget), len(self.retain), seed=0, batch_size=schedule.batch)
        order = []
        for epoch in range(schedule.epochs):
            sampler.set_epoch(epoch)
            order.append([(index, partners[0]) for index, partners in sampler])
        write_json(self.folder / "order.json", order)


def as_row(record: Record) -> dict[str, str]:
    question, answer = record.turns
    return {"question": question.content, "answer": answer.content}


def write_lines(file: Path, rows: Sequence[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def readable_there(model: Path, folder: Path) -> Path:
    """The model as transformers 4.45 reads it: that looks for the template and the tokenizer's class elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in model.iterdir():
        link = folder / file.name
        if file.name != "tokenizer_config.json" and not link.exists():
            link.symlink_to(file.resolve())
    settings = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("extra_special_tokens", None)
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    template = model / "chat_template.jinja"
    if template.is_file():
        settings["chat_template"] = template.read_text(encoding="utf-8")
    write_json(folder / "tokenizer_config.json", settings)
    return folder


def overrides(model: Path, rows: Path, out: Path) -> list[str]:
    """What any run there is told besides method and schedule."""
    found = [
        "experiment=unlearn/tofu/default",
        "task_name=same",
        f"paths.output_dir={out}",
        f"model.model_args.pretrained_model_name_or_path={model}",
        f"model.tokenizer_args.pretrained_model_name_or_path={model}",
        "model.model_args.torch_dtype=float32",
        "model.model_args.attn_implementation=sdpa",
        "model.template_args.system_prompt=null",
        f"trainer.args.learning_rate={RATE}",
        f"trainer.args.weight_decay={WEIGHT_DECAY}",
        "trainer.args.optim=adamw_torch",
        "trainer.args.bf16=false",
        "trainer.args.bf16_full_eval=false",
        "trainer.args.report_to=none",
        "trainer.args.do_eval=false",
        "trainer.args.eval_on_start=false",
        "trainer.args.eval_strategy=no",
        "+trainer.args.use_cpu=true",
    ]
    for side, name in (("forget", "TOFU_QA_forget"), ("retain", "TOFU_QA_retain")):
        files = f"data.{side}.{name}.args.hf_args"
        found += [f"{files}.path=json", f"~{files}.name", f"+{files}.data_files={rows / side}.jsonl"]
    return found


def run_there(options: argparse.Namespace, method: Method, schedule: Schedule, out: Path) -> list[dict[str, Any]]:
    """Its losses, a batch each; the model is in ``out``."""
    model = readable_there(options.model.resolve(), options.out / "model_there")
    words = [*overrides(model, options.out, out), *schedule.there(), *method.there]
    command = [
        str(options.python),
        str(THERE),
        str(options.checkout.resolve()),
        str(options.out / "order.json"),
        str(out),
    ]
    run_quietly([*command, *words], out, {"HF_HOME": str(options.out / "hub"), "CUDA_VISIBLE_DEVICES": ""})
    return json.loads((out / "losses.json").read_text(encoding="utf-8"))


def run_here(options: argparse.Namespace, method: Method, schedule: Schedule, out: Path) -> list[dict[str, Any]]:
    """Our losses, a step each; the model is in ``out/model``."""
    flags = [f"--model={options.model}", f"--forget={options.out}/forget.jsonl", f"--retain={options.out}/retain.jsonl"]
    flags += ["--rectification=none", f"--learning-rate={RATE}", f"--weight-decay={WEIGHT_DECAY}", "--seed=0"]
    flags += ["--dtype=float32", "--bf16=false", "--use-cpu", "--logging-steps=1", "--save-strategy=no"]
    flags += ["--eval-on-start=false", "--eval-max-rows=40"]
    flags += [*schedule.here(), *method.here, f"--output-dir={out}", "--overwrite-output-dir"]
    run_quietly([sys.executable, "-m", "gru_unlearn", "unlearn", *flags], out, {})
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return [row for row in summary["log"] if "forget_loss" in row]


def run_quietly(command: list[str], out: Path, further: dict[str, str]) -> None:
    """Run it on one thread, offline; what it prints goes to a file, and is shown if it fails."""
    out.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"} | further
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = found.stdout + found.stderr
    out.with_suffix(".log").write_text(" ".join(command) + "\n" + said, encoding="utf-8")
    if found.returncode:
        sys.exit(f"{' '.join(command)}\nended with {found.returncode}:\n{said[-3000:]}")


@dataclass(frozen=True)
class Outcome:
    """Both runs of one method: numbers there, here, and the largest differences."""

    method: str
    first_loss: tuple[float, float]
    last_loss: tuple[float, float]
    loss_difference: float
    """largest of all steps, relative to the loss where that is above 1"""
    forget_prob: tuple[float, float]
    retain_prob: tuple[float, float]
    answer_difference: float
    """largest of all rows, of an answer's probability"""
    weight_difference: float
    """‖θ there − θ here‖ over ‖θ here − θ before‖"""


def compare(
    name: str, options: argparse.Namespace, schedule: Schedule, examples: dict[str, list[Example]], encoder: Encoder
) -> Outcome:
    """Run both and measure."""
    method = METHODS[name]
    there, here = options.out / "there" / name, options.out / "here" / name
    noted = run_there(options, method, schedule, there)
    logged = run_here(options, method, schedule, here)

    theirs = [
        mean(batch["loss"] for batch in noted[start : start + schedule.accumulation])
        for start in range(0, len(noted), schedule.accumulation)
    ]
    ours = [method.gamma * (row["forget_loss"] + method.retain_weight * row.get("retain_loss", 0)) for row in logged]
    differences = [abs(a - b) / max(1.0, abs(a)) for a, b in zip(theirs, ours, strict=True)]

    folders = {"there": there, "here": here / "model"}
    probabilities = {place: answers(folder, examples, encoder) for place, folder in folders.items()}
    means = {
        side: (probabilities["there"][side].mean().item(), probabilities["here"][side].mean().item())
        for side in examples
    }
    apart = [(probabilities["there"][side] - probabilities["here"][side]).abs().max().item() for side in examples]
    return Outcome(
        name,
        (theirs[0], ours[0]),
        (theirs[-1], ours[-1]),
        max(differences),
        means["forget"],
        means["retain"],
        max(apart),
        difference_of_weights(options.model, folders["there"], folders["here"]),
    )


def mean(values: Any) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def answers(folder: Path, examples: dict[str, list[Example]], encoder: Encoder) -> dict[str, torch.Tensor]:
    """Each row's probability, the geometric mean over its answer's tokens, under the model in a folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = {}
    for side, some in examples.items():
        scored = answer_logps(
            model, some, batch_size=40, pad_token_id=encoder.tokenizer.pad_token_id, device=torch.device("cpu")
        )
        found[side] = torch.stack([logps.mean().exp() for logps in scored.by_token])
    return found


def difference_of_weights(before: Path, there: Path, here: Path) -> float:
    start, theirs, ours = (load_file(folder / "model.safetensors") for folder in (before, there, here))
    apart = sum((theirs[name] - ours[name]).double().square().sum().item() for name in ours)
    way = sum((start[name] - ours[name]).double().square().sum().item() for name in ours)
    return (apart / way) ** 0.5


COLUMNS = (
    *("method", "loss, first step", "last step", "forget probability", "retain probability"),
    *("largest difference: losses", "answers", "weights"),
)


def show(outcomes: list[Outcome]) -> None:
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for one in outcomes:
        pairs = (one.first_loss, one.last_loss, one.forget_prob, one.retain_prob)
        cells = [f"{there:.5f} / {here:.5f}" for there, here in pairs]
        cells += [f"{value:.1e}" for value in (one.loss_difference, one.answer_difference, one.weight_difference)]
        print(f"| `{one.method}` | " + " | ".join(cells) + " |")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for flag in ("--checkout", "--python", "--model", "--out"):
        parser.add_argument(flag, required=True, type=Path)
    for flag in ("--forget", "--retain"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=5)
    options = parser.parse_args(arguments)
    options.out = options.out.resolve()
    options.python = Path(os.path.abspath(options.python))  # a virtual environment's link is not followed
    return options


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """Run all that is asked for, print and write."""
    options = parsed(arguments)
    torch.set_num_threads(1)
    schedule = Schedule(options.epochs, options.batch, options.accumulation, options.warmup)
    rows = Rows(load_records(options.forget), load_records(options.retain), options.out)
    rows.write(schedule)
    encoder = Encoder(AutoTokenizer.from_pretrained(options.model))
    examples = {
        "forget": encoder.encode_all(rows.forget, "forget"),
        "retain": encoder.encode_all(rows.retain, "retain"),
    }
    outcomes = [compare(name, options, schedule, examples, encoder) for name in options.methods.split(",")]
    write_json(options.out / "same_run.json", [asdict(one) for one in outcomes])
    show(outcomes)
    return outcomes


if __name__ == "__main__":
    main()
