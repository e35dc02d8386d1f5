"""Sampling: what greedy decoding hides may still be drawn (Scholten et al., arXiv 2410.03523)."""

from functools import partial

import numpy as np

from gru_unlearn.attacks.battery import Battery
from gru_unlearn.attacks.probing import NO_QUESTIONS, Probed, Variants, answers, hear, longest_answer, say
from gru_unlearn.models.subject import Subject


def sampling(battery: Battery) -> Variants:
    """Ask k times; the best of what is said counts."""
    name = f"best of {battery.request.samples}, T={battery.request.temperature:g}"
    if not battery.asks:
        return {name: NO_QUESTIONS}
    return {name: partial(_sampled, battery)}


def _sampled(battery: Battery, subject: Subject) -> Probed:
    limit = longest_answer(subject, battery.forget)
    prompts = [subject.encoder.prompt_ids(record) for record in battery.forget]
    said = []
    for sample in range(battery.request.samples):
        rows = [np.random.default_rng((battery.request.seed, sample, number)) for number in battery.numbers]
        draws = [rng.random(limit).tolist() for rng in rows]
        said.append(say(battery, subject, prompts, [limit] * len(prompts), draws))
    values, best = hear([answers(record) for record in battery.forget], said)
    return Probed(values, list(battery.numbers), best)
