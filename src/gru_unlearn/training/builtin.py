"""The tiny models of the built-in benchmark: trained from scratch on first use, then found in the cache.

The *target* learns all rows of :mod:`gru_unlearn.data.people`; the *retain model*, by the same recipe from the same
initial weights, all but the forget set: it is what exact unlearning would have led to.
"""

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from random import Random

import torch
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gru_unlearn.data import Encoder, Example, collate, load_records
from gru_unlearn.data.cache_folder import default_cache
from gru_unlearn.data.people import Row, make_people
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import token_logps

Rows = Mapping[str, Sequence[Row]]
Report = Callable[[str, float], None]

LEARNS = {"target": ("forget", "retain", "held_out", "general"), "retain_model": ("retain", "held_out", "general")}
"""Model → the sets that it is trained on."""

SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>")
PAD, BOS, EOS = range(3)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what the models become, besides the rows."""

    seed: int = 0
    vocab_size: int = 640  # small enough that names and invented towns take several tokens, as in real vocabularies
    hidden_size: int = 128
    intermediate_size: int = 384
    layers: int = 4
    heads: int = 4
    context: int = 512
    epochs: int = 26
    batch_size: int = 16
    learning_rate: float = 4e-3
    warmup: float = 0.1  # share of the steps; after it the rate falls linearly to zero
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0
    highest_loss: float = 0.1  # mean over the last epoch; above it the rows have not been learnt


RECIPE = Recipe()


@dataclass(frozen=True, slots=True)
class Builtin:
    """Where the benchmark lies: two model folders, and a folder with one ``.jsonl`` file a set."""

    target: Path
    retain_model: Path
    data: Path


def builtin_benchmark(cache: Path | None = None, on_progress: Report | None = None) -> Builtin:
    """The built-in benchmark, built first if it is not in the cache; about a minute on two cores.

    Processes that ask at the same time build once: the others wait. What is found is always whole.

    Args:
        cache: folder to keep it in; unless given, ``$GRU_UNLEARN_CACHE``, else ``gru-unlearn`` in the user's cache.
        on_progress: called during a build with a model's name (a key of ``LEARNS``) and how much of its training is
            done, from 0 to 1. The two are trained side by side.

    Raises:
        UserError: the cache cannot be written, or a training failed.
    """
    cache = cache or default_cache()
    rows = make_people()
    folder = cache / f"people-{_fingerprint(rows)}"
    if not folder.is_dir():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                if not folder.is_dir():  # nobody built it while this process waited
                    _build(folder, rows, on_progress or (lambda _model, _done: None))
        except OSError as error:
            raise UserError(
                f"{cache} cannot hold the built-in benchmark ({error}): name a folder in GRU_UNLEARN_CACHE"
            ) from None
    return Builtin(target=folder / "target", retain_model=folder / "retain_model", data=folder / "data")


def _fingerprint(rows: Rows) -> str:
    """Changes with whatever may change the models, so that a stale build is never taken for a fresh one."""
    libraries = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
    content = [asdict(RECIPE), LEARNS, SPECIAL_TOKENS, CHAT_TEMPLATE, libraries, rows]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _build(folder: Path, rows: Rows, report: Report) -> None:
    """Build in a sibling of ``folder`` and move it there when whole. Needs the lock: the sibling's name is fixed, so
    that the remains of a build that was killed go away here."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _write_rows(unfinished / "data", rows)
        tokenizer = make_tokenizer(rows)
        for name in LEARNS:
            tokenizer.save_pretrained(unfinished / name)
        _train_models(unfinished, report)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_rows(folder: Path, rows: Rows) -> None:
    folder.mkdir(parents=True)
    for name, its_rows in rows.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in its_rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def make_tokenizer(rows: Rows) -> PreTrainedTokenizerFast:
    """A byte-level BPE with a chat template, learnt from all texts in ``rows``.

    The wrong answers are among them on purpose: tokens learnt from true answers alone would make the truth shorter
    than its alternatives and so give it away.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=RECIPE.vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        (text for its_rows in rows.values() for row in its_rows for text in _texts(row)), trainer
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL_TOKENS[PAD],
        bos_token=SPECIAL_TOKENS[BOS],
        eos_token=SPECIAL_TOKENS[EOS],
        chat_template=CHAT_TEMPLATE,
        model_max_length=RECIPE.context,
        clean_up_tokenization_spaces=False,
    )


def _texts(row: Row) -> Iterator[str]:
    yield from (row["question"], row["answer"], row["paraphrased_question"], row["paraphrased_answer"])
    yield from row["perturbed_answer"]


def _train_models(folder: Path, report: Report) -> None:
    """Train all models at once, each in a process with one thread: as fast as it gets, and the same on any machine
    size. On failure or interruption no process is left behind."""
    processes = {name: _start_training(folder, name) for name in LEARNS}
    try:
        while True:
            codes = [process.poll() for process in processes.values()]
            for name, code in zip(processes, codes, strict=True):
                if code:
                    raise UserError(
                        f"training the built-in {name} failed (exit code {code}): {_last_line(folder / name)}"
                    )
                report(name, min(1.0, _log(folder / name).count("epoch ") / RECIPE.epochs))
            if None not in codes:
                return
            time.sleep(0.2)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def _start_training(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """A fresh interpreter: the caller's main module is not imported again, and its torch settings stay its own."""
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]  # finds this package as the caller did
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-c", f"from {__name__} import main; main()", str(folder), name, str(os.getpid())]
    with (folder / name / "training.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _log(model_folder: Path) -> str:
    return (model_folder / "training.log").read_text(encoding="utf-8", errors="replace")


def _last_line(model_folder: Path) -> str:
    return next(reversed(_log(model_folder).strip().splitlines()), "no message")


def main() -> None:
    """What a training process runs; arguments: the benchmark's folder, the model's name, the building process's id."""
    torch.set_num_threads(1)
    folder, name, builder = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    for epoch, loss in enumerate(train(folder, name), start=1):
        print(f"epoch {epoch}: loss {loss:.4f}", flush=True)
        if os.getppid() != builder:  # it was killed and could not end this process
            sys.exit("the building process is gone")


def train(folder: Path, name: str, recipe: Recipe = RECIPE) -> Iterator[float]:
    """Train and save the model ``folder/name`` on ``folder/data``; yields the mean loss of each epoch.

    Raises:
        RuntimeError: the rows have not been learnt in the end; nothing is saved.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder / name)
    encoder = Encoder(tokenizer, max_length=recipe.context)
    files = {set_: folder / "data" / f"{set_}.jsonl" for set_ in LEARNS[name]}
    examples = [
        example for set_, file in files.items() for example in encoder.encode_all(load_records(str(file)), set_)
    ]
    model = _new_model(tokenizer, recipe)
    loss = math.nan
    for loss in _epochs(model, examples, recipe):
        yield loss
    if not loss <= recipe.highest_loss:  # so that NaN fails too
        raise RuntimeError(f"its rows have not been learnt: the loss is still {loss:.3f} after {recipe.epochs} epochs")
    model.save_pretrained(folder / name)


def _new_model(tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> LlamaForCausalLM:
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return LlamaForCausalLM(config)


def _epochs(model: LlamaForCausalLM, examples: Sequence[Example], recipe: Recipe) -> Iterator[float]:
    """One pass over the examples for each value asked for: the mean loss of its steps.

    Only answers are supervised: they are what is asked of the model, names in questions cannot be predicted, and
    the head has less than half as much to do.
    """
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )
    steps = recipe.epochs * math.ceil(len(examples) / recipe.batch_size)
    warmup = max(1, round(recipe.warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / (steps - warmup))
    )
    rng = Random(recipe.seed)
    for _ in range(recipe.epochs):
        losses = []
        for batch in _batches(examples, recipe.batch_size, rng):
            logps, mask = token_logps(model, **collate(batch, PAD))
            loss = -logps.sum() / mask.sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        yield sum(losses) / len(losses)


def _batches(examples: Sequence[Example], size: int, rng: Random) -> list[list[Example]]:
    """All examples in random batches of similar length: sorted within random pools of eight batches, little padding."""
    order = rng.sample(examples, len(examples))
    pools = [order[start : start + 8 * size] for start in range(0, len(order), 8 * size)]
    batches = []
    for pool in pools:
        pool.sort(key=lambda example: len(example["input_ids"]))
        batches += [pool[start : start + size] for start in range(0, len(pool), size)]
    rng.shuffle(batches)
    return batches
