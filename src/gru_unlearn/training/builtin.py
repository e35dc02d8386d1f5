"""The tiny models of the built-in benchmark: trained from scratch on first use, then found in the cache.

The *target* learns all rows of :mod:`gru_unlearn.data.people`; the *retain model*, by the same recipe from the same
initial weights, all but the forget set: it is what exact unlearning would have led to.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from gru_unlearn.common.files import default_cache, made_once
from gru_unlearn.common.supervision import Child, none_left_behind
from gru_unlearn.data.people import SEED, make_people
from gru_unlearn.errors import UserError
from gru_unlearn.training.builtin_recipe import (
    BASE,
    CHAT_TEMPLATE,
    EPOCH,
    LEARNS,
    RECIPE,
    SPECIAL_TOKENS,
    BenchmarkRows,
    make_tokenizer,
    train_in_this_process,
)

OTHERS_SEED = SEED + 1
"""Of the people that the base model knows."""
OnProgress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Builtin:
    """Where the benchmark lies: two model folders, and a folder with one ``.jsonl`` file a set."""

    target: Path
    retain_model: Path
    data: Path


def builtin_benchmark(cache: Path | None = None, on_progress: OnProgress | None = None) -> Builtin:
    """The built-in benchmark, built first if it is not in the cache; about a minute on two cores.

    Processes that ask at the same time build once: the others wait. What is found is always whole.

    Args:
        cache: folder to keep it in; unless given, ``$GRU_UNLEARN_CACHE``, else ``gru-unlearn`` in the user's cache.
        on_progress: called during a build with a model's name (a key of ``LEARNS``) and how much of its training is
            done, from 0 to 1. The two are trained side by side.

    Raises:
        UserError: the cache cannot be written, or a training failed.
    """
    rows, report = make_people(), on_progress or (lambda _model, _done: None)
    place = (cache or default_cache()) / f"people-{_fingerprint(rows)}"
    folder = made_once(place, lambda part: _build_benchmark(part, rows, report), "the built-in benchmark")
    return Builtin(target=folder / "target", retain_model=folder / "retain_model", data=folder / "data")


def builtin_base(cache: Path | None = None) -> Path:
    """The folder of ``builtin:base``, trained now if it is not in the cache: it reads and answers as the two others
    do, by the same recipe, and was taught other people.

    So it is to them what a model before fine-tuning is to a fine-tuned one: it knows the form and none of the rows.

    Raises:
        UserError: the cache cannot be written, or the training failed.
    """
    rows, others = make_people(), make_people(OTHERS_SEED)
    place = (cache or default_cache()) / f"people-base-{_fingerprint({**rows, 'others': others['forget']})}"
    return made_once(place, lambda part: _build_base(part, rows, others), "the built-in base model") / BASE


def _build_base(folder: Path, rows: BenchmarkRows, others: BenchmarkRows) -> None:
    _write_rows(folder / "data", others)
    make_tokenizer(rows).save_pretrained(folder / BASE)
    _train_models(folder, lambda _model, _done: None, [BASE])


def _fingerprint(rows: BenchmarkRows) -> str:
    """Changes with whatever may change the models, so that a stale build is never taken for a fresh one."""
    libraries = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
    content = [asdict(RECIPE), LEARNS, SPECIAL_TOKENS, CHAT_TEMPLATE, libraries, rows]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _build_benchmark(folder: Path, rows: BenchmarkRows, report: OnProgress) -> None:
    _write_rows(folder / "data", rows)
    tokenizer = make_tokenizer(rows)
    for name in LEARNS:
        tokenizer.save_pretrained(folder / name)
    _train_models(folder, report)


def _write_rows(folder: Path, rows: BenchmarkRows) -> None:
    folder.mkdir(parents=True)
    for name, its_rows in rows.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in its_rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def _train_models(folder: Path, report: OnProgress, names: Iterable[str] = tuple(LEARNS)) -> None:
    """Train all models at once, each in a process with one thread: as fast as it gets, and the same on any machine
    size. On failure or interruption no process is left behind."""
    children: dict[str, Child] = {}
    with none_left_behind(children.values()):
        for name in names:
            children[name] = _start_training(folder, name)
        while True:
            ended = [_has_ended(name, child, report) for name, child in children.items()]
            if all(ended):
                return
            time.sleep(0.2)


def _start_training(folder: Path, name: str) -> Child:
    """A fresh interpreter: the caller's main module is not imported again, and its torch settings stay its own."""
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]  # finds this package as the caller did
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    entry = train_in_this_process
    program = f"from {entry.__module__} import {entry.__name__} as train; train()"
    command = [sys.executable, "-c", program, str(folder), name, str(os.getpid())]
    return Child(command, folder / name / "training.log", environment)


def _has_ended(name: str, child: Child, report: OnProgress) -> bool:
    """Whether a training is done; reports how far it is, and raises if it failed."""
    code = child.exit_code
    if code:
        reason = child.last_line or "no message"
        raise UserError(f"training the built-in {name} failed (exit code {code}): {reason}")
    epochs = child.log.read_text(encoding="utf-8", errors="replace").count(EPOCH)
    report(name, min(1.0, epochs / RECIPE.epochs))
    return code is not None
