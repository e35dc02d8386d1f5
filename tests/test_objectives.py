"""Objectives against values worked out by hand, and their gradients against finite differences."""

import math

import pytest
import torch

import tiny
from gru_unlearn.data import Encoder, collate, to_record
from gru_unlearn.objectives import OBJECTIVES, ga, kl, nll, npo, simnpo, supervised_logits, token_logps, wga

# Two answers: two tokens of probability 1/2 and 1/4, and one token of probability 1/8 (then padding).
LOGPS = torch.tensor([[0.5, 0.25], [0.125, 1.0]], dtype=torch.float64).log()
MASK = torch.tensor([[True, True], [True, False]])
LN2 = math.log(2)


def test_ga_and_nll_are_the_log_probability_and_its_negative():
    torch.testing.assert_close(ga(LOGPS, MASK)[0], torch.tensor([-LN2, -2 * LN2], dtype=torch.float64))
    torch.testing.assert_close(nll(LOGPS, MASK), -ga(LOGPS, MASK))


def test_wga_weighs_with_probability_to_the_beta():
    torch.testing.assert_close(wga(LOGPS, MASK)[0], torch.tensor([-0.5 * LN2, -0.25 * 2 * LN2], dtype=torch.float64))
    torch.testing.assert_close(wga(LOGPS, MASK, beta=2)[1, 0], torch.tensor(-3 * LN2 / 64, dtype=torch.float64))


def test_npo_by_hand():
    # Summed log p: −3 ln 2 and −3 ln 2; against references −2 ln 2 and −3 ln 2 the log ratios are −ln 2 and 0.
    # −(2/β) ln σ(−β · ratio) with β = 1: 2 ln(1 + 1/2) and 2 ln 2.
    reference = torch.tensor([-2 * LN2, -3 * LN2], dtype=torch.float64)
    expected = torch.tensor([2 * math.log(1.5), 2 * LN2], dtype=torch.float64)
    torch.testing.assert_close(npo(LOGPS, MASK, reference, beta=1.0), expected)
    # β = 0.1: (2/0.1) ln(1 + 2^(−0.1)) and 20 ln 2
    expected = torch.tensor([20 * math.log(1 + 2**-0.1), 20 * LN2], dtype=torch.float64)
    torch.testing.assert_close(npo(LOGPS, MASK, reference), expected)


def test_simnpo_by_hand():
    # Mean log p: −1.5 ln 2 and −3 ln 2. −(2/β) ln σ(−β mean − δ) = (2/β) ln(1 + exp(β mean + δ))
    expected = torch.tensor([2 * math.log(1 + 2**-1.5), 2 * math.log(1 + 2**-3)], dtype=torch.float64)
    torch.testing.assert_close(simnpo(LOGPS, MASK, beta=1.0), expected)
    expected = torch.tensor([math.log(1 + 2**-3 * math.e), math.log(1 + 2**-6 * math.e)], dtype=torch.float64)
    torch.testing.assert_close(simnpo(LOGPS, MASK, beta=2.0, delta=1.0), expected)


def test_kl_by_hand():
    # p = (1/2, 1/2), p_ref = (1/4, 3/4): KL(p_ref ‖ p) = ¼ ln ½ + ¾ ln 3/2
    p = torch.tensor([[0.0, 0.0]], dtype=torch.float64)
    reference = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert kl(p, reference).item() == pytest.approx(expected, rel=1e-6)
    assert kl(reference, reference).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_gradients_equal_finite_differences(name):
    objective = OBJECTIVES[name]
    kwargs = {"reference": torch.tensor([-1.0, -2.5], dtype=torch.float64)} if name == "npo" else {}
    if name == "wga":  # the weight is held constant: differentiate with the weights of the starting point
        weight = LOGPS.exp()

        def loss(x):
            return (weight * x * MASK).sum()
    else:

        def loss(x):
            losses = objective(x, MASK, **kwargs)
            return (losses * MASK if losses.ndim == 2 else losses).sum()

    x = LOGPS.clone().requires_grad_()
    losses = objective(x, MASK, **kwargs)
    (losses * MASK if losses.ndim == 2 else losses).sum().backward()
    for position in MASK.nonzero().tolist():
        step = torch.zeros_like(LOGPS)
        step[tuple(position)] = 1e-6
        numeric = (loss(LOGPS + step) - loss(LOGPS - step)) / 2e-6
        assert x.grad[tuple(position)].item() == pytest.approx(numeric.item(), rel=1e-6, abs=1e-9)


def test_kl_gradient_equals_finite_differences():
    torch.manual_seed(0)
    start, reference = torch.randn(2, 4), torch.randn(2, 4)
    logits = start.clone().requires_grad_()
    kl(logits, reference).sum().backward()
    # d KL(p_ref ‖ p) / d logits = p − p_ref
    torch.testing.assert_close(logits.grad, start.softmax(-1) - reference.softmax(-1), rtol=1e-5, atol=1e-6)


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
