"""Do what pages tell people to do, literally, all in one folder: ``python tools/follow_pages.py [PAGE ...]``.

Each ``gru`` command in a shell block runs as it stands. The built-in models stand in for names in capitals, and rows of
theirs for files of one's own. It must end with 0, and what was to be forgotten must be forgotten. Commands that fetch
from the hub or take hours, and everything but ``gru``, are left out, and said to be. ``--quick`` makes every run a few
steps long, and asks only that each command ends well after those before it.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from gru_unlearn.data.people import make_people
from gru_unlearn.training.builtin import builtin_benchmark

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/tutorial/first-run.md", "docs/how-to/own-data.md", "docs/how-to/customer.md")

LEFT_OUT = ("locuslab/", "tofu-", "accelerate", "--push", "gru compare")
"""Parts of commands that fetch from the hub, need devices, or take hours."""

ROWS = {"forget": 10, "retain": 120, "held_out": 60, "unseen": 10, "mine": 10, "rows": 40}
"""File → rows in it: as few as a person has whose data is to go."""

TINY = {
    "--learning-rate 1e-5": "--learning-rate 5e-4",
    "pretrained:smollm2-135m": "builtin:retain",
    "BASE_MODEL": "builtin:base",
}
"""The built-in model is a thousandth of a real one, and takes larger steps."""

SHORT = (
    (r"--max-steps \d+", "--max-steps 3"),
    (r"--num-train-epochs \d+", "--max-steps 3"),
    (r"^gru unlearn(?!.*--max-steps)", "gru unlearn --max-steps 3"),
    (r"^gru finetune", "gru finetune --max-steps 3"),
    (r"^gru attack", "gru attack --attacks quantization --max-rows 4"),
    (r"^gru export", "gru export --anyway"),  # after a few steps nothing is forgotten
)
"""What quick is made of: pattern → what stands in its place."""

LONG = ("gru tru",)
"""Has no short form."""

LEAST_FORGOTTEN = 0.5
"""Share of the way from the forget probability before down to the retain model's (else to 0) that a run must go."""


@dataclass(frozen=True)
class Step:
    """One command of a page."""

    page: str
    line: int
    words: list[str]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"


Outcome = tuple[int, str]
"""Exit code, and what was said of an error"""

Run = Callable[[list[str], Path], Outcome]
"""Runs ``gru`` with arguments in a folder."""


def steps_of(page: str, *, quick: bool = False) -> Iterator[Step]:
    """The commands of a page's shell blocks, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in re.finditer(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        first = text.count("\n", 0, block.start(1)) + 1
        for number, line in joined_lines(block[1]):
            if words := shlex.split(shortened(with_own(line)) if quick else with_own(line), comments=True):
                yield Step(page, first + number, words)


def joined_lines(block: str) -> Iterator[tuple[int, str]]:
    """Numbered lines, those that go on behind a backslash as one."""
    whole, begun = "", 0
    for number, line in enumerate(block.splitlines()):
        begun = begun if whole else number
        whole += line.removesuffix("\\")
        if not line.endswith("\\"):
            yield begun, whole
            whole = ""


def with_own(line: str) -> str:
    """A command with the built-in models in the places of those that a reader has."""
    for written, meant in TINY.items():
        line = line.replace(written, meant)
    line = re.sub(r"\bRETAIN_MODEL\b", "builtin:retain", line)
    return re.sub(r"\bMODEL\b", "builtin:target", line)


def shortened(line: str) -> str:
    """A command with a few steps in the place of many."""
    for pattern, meant in SHORT:
        line = re.sub(pattern, meant, line)
    return line


def write_rows(folder: Path) -> None:
    """The files that pages name, with rows of the built-in benchmark."""
    sets = make_people()
    learnt = [*sets["forget"][: ROWS["forget"]], *sets["retain"]]
    sources = {"mine": sets["forget"], "unseen": sets["general"], "rows": learnt}
    for name, count in ROWS.items():
        rows = sources.get(name) or sets[name]
        text = "".join(json.dumps(row) + "\n" for row in rows[:count])
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def run_apart(arguments: list[str], folder: Path) -> Outcome:
    """In a process of its own, as a reader does."""
    command = [sys.executable, "-m", "gru_unlearn", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def follow(step: Step, folder: Path, *, quick: bool = False, run: Run = run_apart) -> str | None:
    """Why a command did not do what it says; None where it did."""
    code, said = run(step.words[1:], folder)
    if code:
        return f"exit code {code}: {said.strip()}"
    if step.words[1] == "unlearn" and "--dry-run" not in step.words and not quick:
        return too_little(folder / output_of(step.words))
    return None


def is_left_out(step: Step, *, quick: bool) -> bool:
    """Whether a command is no ``gru``, or cannot be followed here."""
    parts = (*LEFT_OUT, *LONG) if quick else LEFT_OUT
    return step.words[0] != "gru" or any(part in shlex.join(step.words) for part in parts)


def output_of(words: list[str]) -> str:
    """Where an ``unlearn`` command leaves its run."""
    if "--output-dir" not in words:
        return "runs/unlearn"
    return words[words.index("--output-dir") + 1]


def too_little(run: Path) -> str | None:
    """Whether a run left what it was to take away."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    before, after = (summary["trajectory"][place]["forget_prob"] for place in (0, -1))
    wanted = summary["results"].get("forget_target") or 0.0
    if before - after >= LEAST_FORGOTTEN * (before - wanted):
        return None
    return f"{summary['steps']} steps forget too little: {before:.3f} before, {after:.3f} after, wanted {wanted:.3f}"


def main(pages: list[str], folder: Path, *, quick: bool = False, run: Run = run_apart) -> int:
    """Follow pages; how many commands did not do what they say."""
    write_rows(folder)
    wrong = 0
    for step in chain.from_iterable(steps_of(page, quick=quick) for page in pages):
        if is_left_out(step, quick=quick):
            print(f"left out  {step}", flush=True)
            continue
        reason = follow(step, folder, quick=quick, run=run)
        wrong += reason is not None
        print(f"{'as told' if reason is None else 'NOT SO '}   {step}", flush=True)
        if reason is not None:
            print(f"          {reason}", flush=True)
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", default=PAGES)
    parser.add_argument("--quick", action="store_true", help="a few steps of every run")
    asked = parser.parse_args()
    builtin_benchmark()
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(min(1, main(list(asked.pages), Path(scratch), quick=asked.quick)))
