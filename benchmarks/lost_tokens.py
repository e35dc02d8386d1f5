"""Which tokens of the forgotten answers a model has lost: those that carry what was known, or those that carry none.

    python benchmarks/lost_tokens.py RUN ... --retain-model R --forget ROWS [--target T] [--base-model B] \
        [--pad-token TOKEN] [--max-rows N]

Told apart by the retain model, which learnt how such answers are worded and never saw these: *wording* is what it gives
a probability above 0.7, *facts* below 0.1. Each run is a folder with its model in ``model``, or a model. Printed is
the mean log-probability of both in nats, and how much of all that the answer lost to a certain one is wording.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Example, load_records
from gru_unlearn.models.subject import Subject, find_subjects
from gru_unlearn.training import answer_logps
from gru_unlearn.training.scores import AnswerLogps

WORDING, FACT = 0.7, 0.1
"""Probabilities of a token, to the retain model: above the first any model says it, below the second none but the
target."""


def scores_of(subject: Subject, examples: list[Example], pad_token_id: int) -> AnswerLogps:
    """Log-probabilities of the examples' answers under one model, loaded for that alone."""
    model = subject.load(dtype="float32")
    return answer_logps(model, examples, batch_size=16, pad_token_id=pad_token_id, device=torch.device(model.device))


def line(name: str, scores: AnswerLogps, known: Tensor) -> str:
    """A model's row of the table; ``known``: each token's probability to the retain model, all answers in a row."""
    tokens = torch.cat(scores.by_token)
    wording, facts = tokens[known > WORDING], tokens[known < FACT]
    share = wording.sum() / tokens.sum()
    return f"| {name} | {scores.mean_probability:.3f} | {wording.mean():.2f} | {facts.mean():.2f} | {share:.0%} |"


def main() -> None:
    """Read the arguments, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    for flag in ("--retain-model", "--forget"):
        parser.add_argument(flag, required=True)
    for flag in ("--target", "--base-model", "--pad-token"):
        parser.add_argument(flag)
    parser.add_argument("--max-rows", type=int, default=256)
    given = parser.parse_args()
    sources = {"retain model": given.retain_model, "base model": given.base_model, "target": given.target}
    for run in given.runs:
        model = run / "model"
        sources[str(run)] = str(model if model.is_dir() else run)
    models = find_subjects({"pad_token": given.pad_token}, {name: name for name in sources}, **sources)
    retain_model = models["retain model"]
    records = evenly_spread(load_records(given.forget), given.max_rows)
    examples = retain_model.encoder.encode_all(records, "forget")
    pad = retain_model.encoder.tokenizer.pad_token_id
    yardstick = scores_of(retain_model, examples, pad)
    known = torch.cat(yardstick.by_token).exp()
    counts = f"{int((known > WORDING).sum())} tokens of wording, {int((known < FACT).sum())} of facts"
    print(f"{len(examples)} answers, {counts}\n")
    print("| model | probability | wording | facts | of what it lacks, wording |\n|---|---|---|---|---|")
    for name, subject in models.items():
        scores = yardstick if subject is retain_model else scores_of(subject, examples, pad)
        print(line(name, scores, known), flush=True)


if __name__ == "__main__":
    main()
