"""Objectives against values worked out by hand, their gradients, and the losses that published code defines."""

import math
import re
from functools import partial
from pathlib import Path

import pytest
import torch

import tiny
from gru_unlearn.data import Encoder, collate, to_record
from gru_unlearn.objectives import (
    DEFAULT_RETAIN_WEIGHT,
    IDK_ANSWERS,
    INPUTS,
    OBJECTIVES,
    RETAIN_LOSSES,
    anchors_of,
    ceu,
    dpo,
    ga,
    hyperparameters_of,
    idk,
    inputs_of,
    kl,
    nll,
    npo,
    rmu,
    rmu_retain,
    satimp,
    simnpo,
    supervised_logits,
    tnpo,
    token_logps,
    undial,
    wga,
)
from gru_unlearn.objectives.token_logps import gather_logps

DOCUMENT = Path(__file__).parents[1] / "docs" / "objectives.md"

# Two answers: two tokens of probability 1/2 and 1/4, and one token of probability 1/8 (then padding).
LOGPS = torch.tensor([[0.5, 0.25], [0.125, 1.0]], dtype=torch.float64).log()
MASK = torch.tensor([[True, True], [True, False]])
LN2 = math.log(2)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_ga_and_nll_are_the_log_probability_and_its_negative():
    torch.testing.assert_close(ga(LOGPS, MASK)[0], double(-LN2, -2 * LN2))
    torch.testing.assert_close(nll(LOGPS, MASK), -ga(LOGPS, MASK))


def test_wga_weighs_with_probability_to_the_beta():
    torch.testing.assert_close(wga(LOGPS, MASK)[0], double(-0.5 * LN2, -0.25 * 2 * LN2))
    torch.testing.assert_close(wga(LOGPS, MASK, beta=2)[1, 0], torch.tensor(-3 * LN2 / 64, dtype=torch.float64))


def test_satimp_by_hand():
    # p^5 (1 − p) ln p: 1/32 · 1/2 · −ln 2 and 1/1024 · 3/4 · −2 ln 2; then 1/32768 · 7/8 · −3 ln 2, and 0 at padding
    expected = torch.stack([double(-LN2 / 64, -1.5 * LN2 / 1024), double(-21 / 8 * LN2 / 32768, 0)])
    torch.testing.assert_close(satimp(LOGPS, MASK), expected)
    torch.testing.assert_close(satimp(LOGPS, MASK, beta1=2.0, beta2=0.0), wga(LOGPS, MASK, beta=2.0))


def test_npo_by_hand():
    # Summed log p: −3 ln 2 and −3 ln 2; against references −2 ln 2 and −3 ln 2 the log ratios are −ln 2 and 0.
    # −(2/β) ln σ(−β · ratio) with β = 1: 2 ln(1 + 1/2) and 2 ln 2.
    reference = double(-2 * LN2, -3 * LN2)
    torch.testing.assert_close(npo(LOGPS, MASK, reference, beta=1.0), double(2 * math.log(1.5), 2 * LN2))
    # β = 0.1: (2/0.1) ln(1 + 2^(−0.1)) and 20 ln 2
    torch.testing.assert_close(npo(LOGPS, MASK, reference), double(20 * math.log(1 + 2**-0.1), 20 * LN2))


def test_tnpo_by_hand_and_zero_at_padding():
    # References 1/4, 1/4 and 1/2: ratios p/p_ref 2, 1 and 1/4. β = 1: 2 ln(1 + ratio); β = 2: ln(1 + ratio²)
    reference = torch.stack([double(0.25, 0.25), double(0.5, 1.0)]).log()
    expected = torch.stack([double(2 * math.log(3), 2 * LN2), double(2 * math.log(1.25), 0)])
    torch.testing.assert_close(tnpo(LOGPS, MASK, reference, beta=1.0), expected)
    expected = torch.stack([double(math.log(5), LN2), double(math.log(17 / 16), 0)])
    torch.testing.assert_close(tnpo(LOGPS, MASK, reference, beta=2.0), expected)


def test_simnpo_by_hand():
    # Mean log p: −1.5 ln 2 and −3 ln 2. −(2/β) ln σ(−β mean − δ) = (2/β) ln(1 + exp(β mean + δ))
    expected = double(2 * math.log(1 + 2**-1.5), 2 * math.log(1 + 2**-3))
    torch.testing.assert_close(simnpo(LOGPS, MASK, beta=1.0), expected)
    expected = double(math.log(1 + 2**-3 * math.e), math.log(1 + 2**-6 * math.e))
    torch.testing.assert_close(simnpo(LOGPS, MASK, beta=2.0, delta=1.0), expected)


def test_dpo_by_hand():
    # Forget log ratios as in NPO: −ln 2 and 0. Alternatives of log p −2 ln 2 and −ln 2 (one token, then padding that
    # must not count) against −3 ln 2 and −ln 2: ratios ln 2 and 0. Margins 2 ln 2 and 0.
    # −(2/β) ln σ(β · margin) = (2/β) ln(1 + exp(−β · margin)), β = 1: 2 ln(1 + 1/4) and 2 ln 2
    forget = (LOGPS, MASK, double(-2 * LN2, -3 * LN2))
    alternative = (
        torch.stack([double(-LN2, -LN2), double(-LN2, -7)]),
        torch.tensor([[True, True], [True, False]]),
        double(-3 * LN2, -LN2),
    )
    torch.testing.assert_close(dpo(*forget, *alternative, beta=1.0), double(2 * math.log(1.25), 2 * LN2))
    torch.testing.assert_close(dpo(*forget, *alternative), double(20 * math.log(1 + 2**-0.2), 20 * LN2))


def test_dpo_is_npo_where_the_alternative_has_not_moved():
    alternative = (torch.stack([double(-1.0, -2.0), double(-3.0, 0.0)]), MASK, double(-3.0, -3.0))
    forget = (LOGPS, MASK, double(-1.0, -2.5))
    torch.testing.assert_close(dpo(*forget, *alternative, beta=0.3), npo(*forget, beta=0.3))
    assert OBJECTIVES["altpo"] is dpo


def test_idk_by_hand():
    # −mean log p over each refusal's tokens: 1.5 ln 2 and 3 ln 2; whatever stands at padding does not count
    alternative = LOGPS.clone()
    alternative[1, 1] = -5
    torch.testing.assert_close(idk(alternative, MASK), double(1.5 * LN2, 3 * LN2))


def test_undial_by_hand():
    # Reference logits (ln 4, 0, 0), token 0, β = ln 4: adjusted (0, 0, 0), so q is uniform.
    # p = (1/2, 1/4, 1/4): H(q, p) = (ln 2 + 2 ln 2 + 2 ln 2) / 3
    logits, reference = torch.tensor([[2.0, 1.0, 1.0]]) * LN2, torch.tensor([[math.log(4), 0, 0]])
    loss = undial(logits, torch.tensor([0]), reference, beta=math.log(4))
    torch.testing.assert_close(loss, torch.tensor([[5 / 3 * LN2]]))
    whole = undial(logits.bfloat16(), torch.tensor([0]), reference.bfloat16(), beta=10)
    torch.testing.assert_close(whole, torch.tensor([[2 * LN2]]), rtol=1e-2, atol=0)  # q is all but (0, 1/2, 1/2)


def test_ceu_by_hand():
    # p = (1/2, 1/4, 1/4), token 0: q = (0, 1/2, 1/2), H(q, p) = 2 ln 2. Token 1: q = (2/3, 0, 1/3), (2/3 + 2/3) ln 2
    logits = torch.tensor([[2.0, 1.0, 1.0], [2.0, 1.0, 1.0]]) * LN2
    torch.testing.assert_close(ceu(logits, torch.tensor([0, 1])), torch.tensor([[2 * LN2, 4 / 3 * LN2]]))


def test_rmu_and_its_retain_loss_by_hand():
    # Target 2 · (0.6, 0.8) = (1.2, 1.6). (1.2, 1.6) is there; (0.2, 3.6) is off by (1, 2): (1 + 4) / 2
    hidden, direction = torch.tensor([[1.2, 1.6], [0.2, 3.6]]), torch.tensor([0.6, 0.8])
    torch.testing.assert_close(rmu(hidden, direction, steering_coefficient=2.0), torch.tensor([[0.0, 2.5]]))
    # default 6.5: target (3.9, 5.2), off by (2.7, 3.6) and (3.7, 1.6): (7.29 + 12.96) / 2, (13.69 + 2.56) / 2
    torch.testing.assert_close(rmu(hidden, direction), torch.tensor([[10.125, 8.125]]))
    torch.testing.assert_close(rmu_retain(hidden, hidden + 3), torch.tensor([[9.0, 9.0]]))


def test_kl_by_hand():
    # p = (1/2, 1/2), p_ref = (1/4, 3/4): KL(p_ref ‖ p) = ¼ ln ½ + ¾ ln 3/2
    p, reference = double(0.0, 0.0)[None], double(0.0, math.log(3))[None]
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert kl(p, reference).shape == (1, 1)
    assert kl(p, reference).item() == pytest.approx(expected, rel=1e-6)
    assert kl(reference, reference).item() == pytest.approx(0, abs=1e-9)


# --- a batch with everything in it -----------------------------------------------------------------------------------

# Two rows of five positions over four tokens. Row 0: two prompt tokens, then an answer of three; row 1: one prompt
# token, an answer of one, padding. Labels are not shifted: the logits at position t predict the label at t + 1.
LABELS = [[-100, -100, 2, 0, 3], [-100, 1, -100, -100, -100]]
LOGITS = [
    [[0.3, -1.0, 0.5, 2.0], [1.5, 0.2, 0.9, -0.4], [0.7, 0.1, -0.6, 0.2], [-0.3, 0.8, 1.1, 2.5], [9.0, 9.0, -9.0, 9.0]],
    [[0.4, 1.9, -0.2, 0.6], [2.2, -0.5, 0.3, 0.1], [1.0, 1.0, 0.0, -2.0], [0.5, 3.0, 0.2, 0.7], [-4.0, 0.1, 0.2, 5.0]],
]
REFERENCE_LOGITS = [
    [[0.1, 0.4, -0.5, 1.0], [0.2, -0.8, 2.4, 0.3], [3.1, 0.6, -0.1, 0.4], [0.2, 0.5, -0.7, 1.3], [1.0, 2.0, 3.0, 4.0]],
    [[0.9, 3.3, 0.8, -0.6], [0.7, 0.7, -1.3, 0.9], [2.0, 0.1, 1.4, 0.5], [0.3, 0.2, 0.6, -2.2], [0.0, 0.4, 0.2, 7.0]],
]
ALTERNATIVE_LABELS = [[-100, -100, 1, 1, -100], [-100, 3, 0, -100, -100]]  # two tokens each
FULL_LABELS = [[-100, 1, 2, 0, 3], [-100, 1, 3, 3, 2]]  # every position supervised
DIRECTION = [0.5, 0.5, -0.5, 0.5]


def batch(order=(0, 1), labels=LABELS, logits=LOGITS):
    """Everything in the vocabulary, from the rows above in the given order. Hidden states are the logits (H = V)."""

    def answers(logits, labels):
        labels = torch.tensor([labels[i] for i in order])
        logits = torch.tensor([logits[i] for i in order])[:, :-1][labels[:, 1:] != -100]
        return logits, *gather_logps(logits, labels)

    logits, logps, mask = answers(logits, labels)
    reference_logits, token_reference, _ = answers(REFERENCE_LOGITS, labels)
    _, alternative_logps, alternative_mask = answers(LOGITS, ALTERNATIVE_LABELS)
    _, alternative_reference, _ = answers(REFERENCE_LOGITS, ALTERNATIVE_LABELS)
    kept = torch.tensor([labels[i] for i in order])
    return {
        "logps": logps,
        "mask": mask,
        "reference": token_reference.sum(dim=1),
        "token_reference": token_reference,
        "logits": logits,
        "targets": kept[:, 1:][kept[:, 1:] != -100],
        "reference_logits": reference_logits,
        **dict(zip(("anchor_logps", "anchor_tokens"), anchors_of(reference_logits, 99), strict=True)),
        "alternative_logps": alternative_logps,
        "alternative_mask": alternative_mask,
        "alternative_reference": alternative_reference.sum(dim=1),
        "hidden": logits,
        "reference_hidden": reference_logits,
        "direction": torch.tensor(DIRECTION),
    }


def window_mean(losses, mask):
    """The trainer's reduction: over examples, or over answer tokens."""
    return losses.sum() / (len(mask) if losses.ndim == 1 else mask.sum())


def evaluate(loss, inputs, **hyperparameters):
    losses = loss(**{name: inputs[name] for name in inputs_of(loss)}, **hyperparameters)
    return window_mean(losses, inputs["mask"])


ALL = {**OBJECTIVES, **{f"retain-{name}": loss for name, loss in RETAIN_LOSSES.items()}}


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_order_of_examples_changes_nothing(name):
    forwards, backwards = evaluate(ALL[name], batch((0, 1))), evaluate(ALL[name], batch((1, 0)))
    assert forwards.item() == pytest.approx(backwards.item(), rel=1e-6)
    only_first = evaluate(ALL[name], batch((0, 0)))
    assert forwards.item() != pytest.approx(only_first.item(), rel=1e-3), "both rows count"


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_window_of_two_halves_is_the_whole(name):
    whole = batch((0, 1))
    total, size = 0.0, None
    for row in (0, 1):
        half = batch((row,))
        losses = ALL[name](**{key: half[key] for key in inputs_of(ALL[name])})
        size = len(whole["mask"]) if losses.ndim == 1 else whole["mask"].sum()
        total += losses.sum() / size
    assert total.item() == pytest.approx(evaluate(ALL[name], whole).item(), rel=1e-6)


# --- parity: the loss of one step as published code defines it, in plain Python ---------------------------------------


def log_softmax(row):
    return [z - math.log(sum(math.exp(other) for other in row)) for z in row]


def softmax(row):
    return [math.exp(value) for value in log_softmax(row)]


def positions(logits, labels):
    """Per example, the (logits, token) pairs after shifting labels by one and dropping those of −100."""
    return [
        [(row_logits[t], row_labels[t + 1]) for t in range(len(row_labels) - 1) if row_labels[t + 1] != -100]
        for row_logits, row_labels in zip(logits, labels, strict=True)
    ]


def token_nlls(logits=LOGITS, labels=LABELS):
    return [[-log_softmax(row)[token] for row, token in example] for example in positions(logits, labels)]


def flat(nested):
    return [value for example in nested for value in example]


def mean(values):
    return sum(values) / len(values)


def log_sigmoid(x):
    return -math.log(1 + math.exp(-x))


def soft_cross_entropy(target, logits):
    return -sum(q * log_p for q, log_p in zip(target, log_softmax(logits), strict=True))


def weighted_ascent(weight):
    """−mean over supervised tokens of weight(p) · nll."""
    return -mean([weight(math.exp(-nll)) * nll for nll in flat(token_nlls())])


def preference(beta, preferred=None, dispreferred=LABELS):
    """−(2/β) · mean over examples of log σ(β · (preferred − dispreferred)), log ratios of summed log-probabilities."""

    def log_ratios(labels):
        pairs = zip(token_nlls(LOGITS, labels), token_nlls(REFERENCE_LOGITS, labels), strict=True)
        return [-(sum(now) - sum(before)) for now, before in pairs]

    win = log_ratios(preferred) if preferred else [0, 0]
    lose = log_ratios(dispreferred)
    return -2 / beta * mean([log_sigmoid(beta * (w - x)) for w, x in zip(win, lose, strict=True)])


def simnpo_of_published_code(beta, margin):
    lengths = [len(example) for example in token_nlls()]
    means = [sum(example) / length for example, length in zip(token_nlls(), lengths, strict=True)]
    return -mean([log_sigmoid(beta * (value - margin)) for value in means]) * 2 / beta


def undial_of_published_code(beta):
    """Mean over every position of the batch."""
    losses = []
    for rows, teacher_rows in zip(
        positions(LOGITS, FULL_LABELS), positions(REFERENCE_LOGITS, FULL_LABELS), strict=True
    ):
        for (row, token), (teacher, _) in zip(rows, teacher_rows, strict=True):
            adjusted = [z - beta * (v == token) for v, z in enumerate(teacher)]
            losses.append(soft_cross_entropy(softmax(adjusted), row))
    return mean(losses)


def ceu_of_the_paper():
    losses = []
    for row, token in flat(positions(LOGITS, LABELS)):
        others = sum(math.exp(z) for v, z in enumerate(row) if v != token)
        losses.append(soft_cross_entropy([math.exp(z) / others * (v != token) for v, z in enumerate(row)], row))
    return mean(losses)


def squared_distance_of_published_code(target):
    """Mean over positions and components, all positions of the batch counting."""
    rows = [row for row, _ in flat(positions(LOGITS, FULL_LABELS))]
    references = [row for row, _ in flat(positions(REFERENCE_LOGITS, FULL_LABELS))]
    return mean(
        [
            (z - t) ** 2
            for row, reference in zip(rows, references, strict=True)
            for z, t in zip(row, target or reference, strict=True)
        ]
    )


def kl_of_published_code():
    """Mean over every position of the batch."""
    pairs = zip(flat(positions(LOGITS, FULL_LABELS)), flat(positions(REFERENCE_LOGITS, FULL_LABELS)), strict=True)
    return mean(
        [
            soft_cross_entropy(softmax(teacher), row) - soft_cross_entropy(softmax(teacher), teacher)
            for (row, _), (teacher, _) in pairs
        ]
    )


FULL = {"labels": FULL_LABELS}
PUBLISHED = {
    "ga": ({}, {}, lambda: -mean(flat(token_nlls()))),
    "graddiff": ({}, {}, lambda: -mean(flat(token_nlls()))),
    "wga": ({"beta": 2.0}, {}, lambda: weighted_ascent(lambda p: p**2)),
    "satimp": ({}, {}, lambda: weighted_ascent(lambda p: p**5 * (1 - p))),
    "npo": ({}, {}, lambda: preference(0.1)),
    "simnpo": ({"beta": 2.5, "delta": 2.5 * 0.4}, {}, lambda: simnpo_of_published_code(2.5, 0.4)),
    "dpo": ({}, {}, lambda: preference(0.1, ALTERNATIVE_LABELS)),
    "altpo": ({"beta": 0.5}, {}, lambda: preference(0.5, ALTERNATIVE_LABELS)),
    "idk": ({}, {}, lambda: mean(flat(token_nlls(LOGITS, ALTERNATIVE_LABELS)))),
    "undial": ({}, FULL, lambda: undial_of_published_code(10.0)),
    "undial-anchor": ({}, FULL, lambda: undial_of_published_code(10.0)),  # as retain-anchor below
    "ceu": ({}, {}, ceu_of_the_paper),
    "rmu": ({}, FULL, lambda: squared_distance_of_published_code([6.5 * u for u in DIRECTION])),
    "retain-nll": ({}, {}, lambda: mean(flat(token_nlls()))),
    "retain-kl": ({}, FULL, kl_of_published_code),
    "retain-anchor": ({}, FULL, kl_of_published_code),  # all but one token stand alone: nothing is taken together
    "retain-rmu": ({}, FULL, lambda: squared_distance_of_published_code(None)),
}
"""Name → (hyper-parameters, labels, loss). Every case but TNPO, whose published loss has our gradient, not our value;
FULL where the published mean runs over all positions."""


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"tnpo"}))
def test_one_step_equals_published_code(name):
    hyperparameters, labels, published = PUBLISHED[name]
    ours = evaluate(ALL[name], batch(**labels), **hyperparameters)
    assert ours.item() == pytest.approx(published(), rel=2e-5)


def test_tnpo_has_the_gradient_of_published_code():
    inputs, beta = batch(), 0.7
    logps = inputs["logps"].clone().requires_grad_()
    window_mean(tnpo(logps, inputs["mask"], inputs["token_reference"], beta=beta), inputs["mask"]).backward()
    now, before = flat(token_nlls(LOGITS)), flat(token_nlls(REFERENCE_LOGITS))
    weights = [
        2 * math.exp(-beta * n) / (math.exp(-beta * n) + math.exp(-beta * b)) for n, b in zip(now, before, strict=True)
    ]
    # d/d log p of mean(w · log p): w / (number of tokens)
    assert logps.grad[inputs["mask"]].tolist() == pytest.approx([w / len(now) for w in weights], rel=1e-5)
    assert logps.grad[~inputs["mask"]].tolist() == [0, 0]


def test_tnpo_halves_its_weight_where_its_docstring_says():
    logps = double(-1 - math.log(3) / 0.1, -1).requires_grad_()
    tnpo(logps[None], torch.ones(1, 2), torch.full((1, 2), -1.0)).sum().backward()
    torch.testing.assert_close(logps.grad, double(0.5, 1.0))


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({"ga", "wga", "satimp", "npo", "tnpo", "simnpo", "dpo", "idk"}))
def test_gradients_equal_finite_differences(name):
    inputs = {key: value.double() if value.is_floating_point() else value for key, value in batch().items()}
    leaves = [key for key in ("logps", "alternative_logps") if key in inputs_of(OBJECTIVES[name])]
    p = inputs["logps"].exp()
    # weights that are held constant stay those of the starting point
    constant = {"wga": p, "satimp": p**5 * (1 - p)}.get(name)

    def loss(inputs):
        if constant is not None:
            return window_mean(constant * inputs["logps"], inputs["mask"])
        return evaluate(OBJECTIVES[name], inputs)

    tracked = inputs | {key: inputs[key].clone().requires_grad_() for key in leaves}
    evaluate(OBJECTIVES[name], tracked).backward()
    for key in leaves:
        mask = inputs["mask" if key == "logps" else "alternative_mask"]
        for position in mask.nonzero().tolist():
            step = torch.zeros_like(inputs[key])
            step[tuple(position)] = 1e-5
            up, down = (loss(inputs | {key: inputs[key] + sign * step}) for sign in (1, -1))
            slope = tracked[key].grad[tuple(position)].item()
            assert slope == pytest.approx(((up - down) / 2e-5).item(), rel=1e-6, abs=1e-9)
            assert abs(slope) > 1e-5


@pytest.mark.parametrize("name", ["undial", "ceu", "kl"])
def test_distillation_gradients_are_p_minus_teacher(name):
    inputs, loss = batch(), {"undial": undial, "ceu": ceu, "kl": kl}[name]
    logits, targets = inputs["logits"], inputs["targets"][:, None]
    tracked = logits.clone().requires_grad_()
    loss(**{key: (inputs | {"logits": tracked})[key] for key in inputs_of(loss)}).sum().backward()
    if name == "ceu":
        teacher = logits.softmax(-1).scatter(1, targets, 0)
        teacher = teacher / teacher.sum(dim=1, keepdim=True)
    else:
        lowered = 10.0 if name == "undial" else 0.0
        at_target = torch.zeros_like(logits).scatter(1, targets, 1.0)
        teacher = (inputs["reference_logits"] - lowered * at_target).softmax(-1)
    torch.testing.assert_close(tracked.grad, logits.softmax(-1) - teacher, rtol=1e-5, atol=1e-6)


def test_ceu_pushes_hardest_where_the_token_is_certain():
    slopes = []
    for gap in (16.0, 2.0, -16.0):
        logits = torch.tensor([[gap, 0.0, 0.0]], requires_grad=True)
        ceu(logits, torch.tensor([0])).sum().backward()
        slopes.append(logits.grad[0, 0].item())  # p of the token
    assert slopes[0] == pytest.approx(1, abs=1e-4)
    assert slopes[1] == pytest.approx(1 / (1 + 2 * math.exp(-2)), rel=1e-5)
    assert slopes[2] == pytest.approx(0, abs=1e-4)


def test_rmu_pulls_towards_the_direction():
    hidden, direction = torch.tensor([[1.0, 2.0]], requires_grad=True), torch.tensor([0.6, 0.8])
    rmu(hidden, direction, steering_coefficient=5.0).sum().backward()
    torch.testing.assert_close(hidden.grad, hidden.detach() - 5 * direction)  # 2 (h − c·u) / H with H = 2


@pytest.mark.parametrize("logp", [-1e-7, -60.0])
@pytest.mark.parametrize("name", sorted(ALL))
def test_values_and_gradients_are_finite_at_the_extremes(name, logp):
    """p → 1 and p → 0 of every forget token, in float32, the reference as it was."""
    inputs = batch()
    inputs["logps"] = torch.where(inputs["mask"], logp, 0.0)
    inputs["alternative_logps"] = torch.where(inputs["alternative_mask"], logp, 0.0)
    # the true token's logit among three zeros: log p = −log(1 + 3 e^(−gap)), gap = 17 and −58.9
    gap = -math.log(math.expm1(-logp) / 3)
    inputs["logits"] = torch.zeros_like(inputs["logits"]).scatter(1, inputs["targets"][:, None], gap)
    inputs["hidden"] = inputs["hidden"] * 1e4
    leaves = [key for key in ("logps", "alternative_logps", "logits", "hidden") if key in inputs_of(ALL[name])]
    for key in leaves:
        inputs[key].requires_grad_()
    loss = evaluate(ALL[name], inputs)
    loss.backward()
    assert loss.isfinite()
    assert leaves
    assert all(inputs[key].grad.isfinite().all() for key in leaves)


def test_nothing_flows_into_the_reference():
    inputs = batch()
    for key in ("logits", "reference_logits", "hidden", "reference_hidden"):
        inputs[key] = inputs[key].clone().requires_grad_()
    (evaluate(undial, inputs) + evaluate(rmu_retain, inputs)).backward()
    assert inputs["logits"].grad.abs().sum() > 0
    assert inputs["hidden"].grad.abs().sum() > 0
    assert inputs["reference_logits"].grad is inputs["reference_hidden"].grad is None


# --- the contract --------------------------------------------------------------------------------------------------


def test_inputs_and_hyperparameters_are_read_from_the_signature():
    def mine(logps, mask, reference=None, *, strength=2.0, hard=True):
        return logps

    assert inputs_of(mine) == {"logps", "mask", "reference"}
    assert hyperparameters_of(mine) == {"strength": 2.0, "hard": True}
    assert inputs_of(dpo) == {
        *("logps", "mask", "reference"),
        *("alternative_logps", "alternative_mask", "alternative_reference"),
    }
    assert hyperparameters_of(satimp) == {"beta1": 5.0, "beta2": 1.0}
    assert hyperparameters_of(partial(npo, beta=0.5)) == {"beta": 0.5}
    assert hyperparameters_of(ga) == {}


def test_a_mistyped_input_is_an_error_that_names_the_right_one():
    def mine(logp, mask, beta=1.0):
        return logp

    for read in (inputs_of, hyperparameters_of):
        with pytest.raises(ValueError, match=r"objective 'mine': parameter 'logp' .* did you mean 'logps'\?"):
            read(mine)
    with pytest.raises(ValueError, match="parameter 'strength' has no default"):
        inputs_of(lambda logps, strength: logps)


def test_parameters_that_cannot_be_passed_by_name_are_an_error():
    for mine in (lambda *logps: logps, lambda logps, **rest: logps, lambda logps, /, mask: logps):
        with pytest.raises(ValueError, match="cannot be passed by name"):
            inputs_of(mine)


def test_every_objective_keeps_the_contract():
    assert set().union(*(inputs_of(loss) for loss in ALL.values())) == INPUTS, "no input that nobody needs"
    assert DEFAULT_RETAIN_WEIGHT.keys() <= OBJECTIVES.keys()
    for loss in ALL.values():
        assert all(isinstance(default, float) for default in hyperparameters_of(loss).values())


def test_refusals_are_distinct():
    assert len({answer.casefold() for answer in IDK_ANSWERS}) == len(IDK_ANSWERS) == 20


# --- the document --------------------------------------------------------------------------------------------------


def table_rows(width):
    """First cell's name → cells, for the rows of the document's tables with so many columns."""
    lines = [
        re.split(r"(?<!\\)\|", line)[1:-1] for line in DOCUMENT.read_text("utf-8").splitlines() if line[:2] == "| "
    ]
    rows = [[cell.strip() for cell in cells] for cells in lines if len(cells) == width]
    return {cells[0].strip("`"): cells for cells in rows if cells[0].startswith("`")}


def test_the_document_lists_every_objective_as_it_is():
    rows = table_rows(6)
    assert list(rows) == list(OBJECTIVES)
    for name, (_, _, unit, needs, hyperparameters, _) in rows.items():
        objective = OBJECTIVES[name]
        assert set(re.findall(r"`(\w+)`", needs)) == inputs_of(objective), name
        stated = dict(re.findall(r"(\w+) = ([\d.]+)", hyperparameters))
        assert {key: float(value) for key, value in stated.items()} == hyperparameters_of(objective), name
        inputs = batch()
        per_token = objective(**{key: inputs[key] for key in inputs_of(objective)}).ndim == 2
        assert unit == ("tokens" if per_token else "answers"), name


def test_the_document_lists_retain_losses_weights_and_inputs_as_they_are():
    retain = table_rows(4)
    assert {name: set(re.findall(r"`(\w+)`", cells[3])) for name, cells in retain.items()} == {
        name: inputs_of(loss) for name, loss in RETAIN_LOSSES.items()
    }
    assert table_rows(3).keys() == INPUTS
    (sentence,) = re.findall(r"The retain term has weight (.*?) and 0 for all others", DOCUMENT.read_text("utf-8"))
    ones, rest = sentence.split(", 1200 for ")
    assert dict.fromkeys(re.findall(r"`(\w+)`", ones), 1.0) | {rest.strip("`"): 1200.0} == DEFAULT_RETAIN_WEIGHT


def test_the_document_s_own_objective_does_what_it_says():
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), flags=re.DOTALL)
    names = {}
    exec(snippet, names)
    mine, inputs = names["my_objective"], batch()
    assert inputs_of(mine) == {"logps", "mask", "token_reference"}
    assert hyperparameters_of(mine) == {"margin": 2.0}
    untouched = inputs | {"logps": inputs["token_reference"]}
    assert evaluate(mine, untouched).item() == pytest.approx(2.0)
    assert evaluate(mine, inputs | {"logps": inputs["token_reference"] - 2}).item() == pytest.approx(0, abs=1e-6)


# --- from the model to log-probabilities -----------------------------------------------------------------------------


def test_token_logps_equal_a_full_forward_and_padding_changes_nothing():
    tokenizer, model = tiny.tokenizer(), tiny.model().eval()
    records = [to_record(row, "") for row in (*tiny.rows(3), {"question": "who ?", "answer": "the red one lives ."})]
    examples = Encoder(tokenizer).encode_all(records, "set")
    batch = collate(examples, tokenizer.pad_token_id)
    logps, mask = token_logps(model, batch["input_ids"], batch["attention_mask"], batch["labels"])
    for row, example in enumerate(examples):
        ids, labels = torch.tensor([example["input_ids"]]), torch.tensor(example["labels"])
        full = model(input_ids=ids).logits[0].log_softmax(-1)
        expected = [full[t - 1, labels[t]].item() for t in range(1, len(labels)) if labels[t] != -100]
        assert logps[row][mask[row]].tolist() == pytest.approx(expected, abs=1e-5)
        assert logps[row][~mask[row]].tolist() == [0] * int((~mask[row]).sum())


def test_the_head_sees_supervised_positions_only():
    tokenizer, model = tiny.tokenizer(), tiny.model()
    examples = Encoder(tokenizer).encode_all([to_record(row, "") for row in tiny.rows(4)], "set")
    batch = collate(examples, tokenizer.pad_token_id)
    seen = []
    model.lm_head.register_forward_hook(lambda _m, args, _out: seen.append(args[0].shape[:2].numel()))
    logits = supervised_logits(model, batch["input_ids"], batch["attention_mask"], batch["labels"])
    supervised = int((batch["labels"] != -100).sum())
    assert seen == [supervised] == [len(logits)]
    assert supervised < batch["input_ids"].numel() / 1.5
    model(input_ids=batch["input_ids"])
    assert seen[-1] == batch["input_ids"].numel(), "the hook is gone afterwards"
