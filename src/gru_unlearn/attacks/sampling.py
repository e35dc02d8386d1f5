"""Sampling: what greedy decoding hides may still be drawn (Scholten et al., arXiv 2410.03523)."""

from functools import partial

import numpy as np

from gru_unlearn.attacks.battery import Battery, Subject
from gru_unlearn.attacks.look import NO_QUESTIONS, Seen, Variants, answers, hear, longest_answer
from gru_unlearn.evaluation.generation import continuations


def sampling(battery: Battery) -> Variants:
    """Ask k times; the best of what is said counts."""
    request = battery.request
    name = f"best of {request.samples}, T={request.temperature:g}"
    return {name: partial(_sampled, battery) if battery.asks else NO_QUESTIONS}


def _sampled(battery: Battery, subject: Subject) -> Seen:
    request = battery.request
    limit = longest_answer(subject, battery.forget)
    prompts = [subject.encoder.prompt_ids(record) for record in battery.forget]
    drawn = [
        continuations(
            subject.model,
            subject.encoder,
            prompts,
            [limit] * len(prompts),
            request.batch_size,
            temperature=request.temperature,
            draws=[np.random.default_rng((request.seed, sample, n)).random(limit).tolist() for n in battery.numbers],
        )
        for sample in range(request.samples)
    ]
    values, best = hear([answers(record) for record in battery.forget], drawn)
    return Seen(values, list(battery.numbers), best)
