"""What all attacks come to: the two numbers of the headline, how much is tried, and what stands inside a model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

import tiny
from gru_unlearn.attacks.attack_request import AttackRequest
from gru_unlearn.attacks.extent import QUICK, QUICK_IN_TIME, WHOLE, WHOLE_IN_TIME, extent_of
from gru_unlearn.attacks.headline import headline_of, steps_to
from gru_unlearn.attacks.inside import _linear_probe, _logit_lens, final_norm, told_apart
from gru_unlearn.attacks.recovery import recovery
from gru_unlearn.attacks.relearning import early_points, late_points
from gru_unlearn.attacks.relearnt_copies import Tuning, copy_to_train, fine_tune
from gru_unlearn.data import Encoder, to_record
from gru_unlearn.evaluation import Missing
from gru_unlearn.evaluation.quantization import NF4, round_to_normal_float
from gru_unlearn.reporting.judge import staying_finding
from gru_unlearn.reporting.staying import judge_staying
from gru_unlearn.reporting.verdict_words import attack_headline
from gru_unlearn.results.attack_summary import AttackedRows, AttackPart, AttackResult, Estimate, Relearnt

ROWS = list(range(1, 31))


def attacked(unlearned, target=1.0, retain_model=0.0, name="a", measure="prob", numbers=ROWS):
    values = {"unlearned": unlearned, "target": target, "retain_model": retain_model}
    spread = {model: {"forget": np.broadcast_to(value, len(numbers)).tolist()} for model, value in values.items()}
    if retain_model is None:
        del spread["retain_model"]
    return AttackedRows(attack=name, variant="", measure=measure, numbers=numbers, values=spread)


BEFORE = [attacked(0.1, name="none")]


def part(rows=(), relearnt=()):
    return AttackPart(rows=list(rows), relearnt=list(relearnt), curves=[], left_out=[])


def share_of(*rows, before=BEFORE, numbers=ROWS):
    return headline_of([part(rows)], before, numbers).recovered_share


def test_the_strongest_attack_counts_and_is_named():
    found = share_of(attacked(0.2, name="weak"), attacked(0.6, name="strong"), attacked(0.3, name="weaker"))
    assert found.value == pytest.approx(0.6)
    assert found.interval == (pytest.approx(0.6), pytest.approx(0.6))
    assert found.by == "strong"


def test_what_only_tells_rows_apart_brings_nothing_back():
    telling = [attacked(1.0, measure="told apart", name="probe"), attacked(1.0, measure="AUC", name="membership")]
    assert share_of(*telling, attacked(0.2, name="prompts")).by == "prompts"


def test_choosing_the_largest_of_many_attacks_does_not_make_something_of_nothing():
    """Forty attacks that bring nothing back, each measured on thirty rows: the largest share is large by chance."""
    rng, covered, alone = np.random.default_rng(0), 0, 0
    for _ in range(20):
        retain = rng.random((40, 30)) * 0.5
        unlearned = rng.random((40, 30)) * 0.5
        rows = [
            attacked(one, 1.0, other, name=str(at))
            for at, (one, other) in enumerate(zip(unlearned, retain, strict=True))
        ]
        found = share_of(*rows, before=[])
        assert found.value > 0
        assert found.interval[0] <= found.value <= found.interval[1]
        covered += found.interval[0] <= 0.0
        alone += recovery(rows[int(found.by)].values).low <= 0.0
    assert covered >= 15, "0 is in most intervals: of many such draws in nine of ten"
    assert alone <= 8, "the interval of the strongest attack by itself knows nothing of the choice"


def test_without_a_retain_model_or_any_room_there_is_no_share_and_a_reason():
    assert "no retain model" in share_of(attacked(0.5, retain_model=None)).note
    assert "no attack could be read" in share_of(attacked(0.5, target=0.02), before=[]).note
    assert "no attack could be read" in share_of().note
    assert "one row" in share_of(attacked(0.5, numbers=[1]), numbers=[1]).note


def test_without_a_retain_model_both_numbers_are_beside_the_base():
    def beside_base(rows):
        return rows.model_copy(update={"values": {
            {"retain_model": "base"}.get(model, model): values for model, values in rows.values.items()
        }})  # fmt: skip

    taught = relearnt([0.1, 0.5, 0.9, 1.0], [0.0, 0.25, 0.5, 1.0])
    of_base = taught.model_copy(update={"paths": {"unlearned": taught.paths["unlearned"]}})
    of_base.paths["base"] = taught.paths["retain_model"]
    expected = headline_of([part([attacked(0.6)], [taught])], BEFORE, ROWS)
    found = headline_of([part([beside_base(attacked(0.6))], [of_base])], list(map(beside_base, BEFORE)), ROWS)
    assert found == expected


# --- what it costs ---------------------------------------------------------------------------------------------------


def relearnt(unlearned, retain_model, steps=(0, 2, 4, 8), form="at 1"):
    paths = {"unlearned": unlearned, "retain_model": retain_model}
    spread = {model: [[value] * len(ROWS) for value in path] for model, path in paths.items()}
    return Relearnt(attack="relearning", variant="all", form=form, numbers=ROWS, steps=list(steps), paths=spread)


def cost_of(*rows, before=BEFORE):
    return headline_of([part(relearnt=rows)], before, ROWS).relearning_cost


def test_cost_is_steps_to_half_as_a_multiple_of_the_retain_models():
    found = cost_of(relearnt([0.1, 0.5, 0.9, 1.0], [0.0, 0.25, 0.5, 1.0]))
    assert (found.value, found.bound, found.by) == (pytest.approx(0.5), "", "relearning: all (at 1)")
    assert found.interval == (pytest.approx(0.5), pytest.approx(0.5))


def test_the_learning_rate_at_which_it_is_cheapest_counts():
    slow, fast = [0.0, 0.1, 0.2, 0.3], [0.0, 0.5, 0.9, 1.0]
    found = cost_of(relearnt(fast, fast, form="at 1"), relearnt(fast, [0.0, 0.25, 0.5, 0.9], form="at 3"))
    assert (found.value, found.by) == (pytest.approx(0.5), "relearning: all (at 3)")
    assert cost_of(relearnt(slow, slow), relearnt(fast, fast)).value == pytest.approx(1.0)


def test_where_half_is_not_won_back_the_cost_is_a_bound():
    never, fast = [0.0, 0.1, 0.2, 0.3], [0.0, 0.5, 0.9, 1.0]
    dear = cost_of(relearnt(never, fast))
    assert (dear.value, dear.bound) == (pytest.approx(8 / 2), "at least")
    cheap = cost_of(relearnt(fast, never))
    assert (cheap.value, cheap.bound) == (pytest.approx(2 / 8), "at most")
    nobody = cost_of(relearnt(never, never))
    assert nobody.value is None
    assert "--relearning-steps" in nobody.note
    assert "not relearnt" in cost_of().note
    assert "no retain model" in cost_of(relearnt(fast, fast), before=[attacked(0.1, retain_model=None)]).note
    assert "hardly differs" in cost_of(relearnt(fast, fast), before=[attacked(0.1, target=0.01)]).note


def test_what_was_never_forgotten_costs_nothing():
    assert cost_of(relearnt([0.9, 1, 1, 1], [0.0, 0.5, 0.9, 1.0])).value == 0


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_a_rising_path_comes_to_a_level_where_a_line_between_its_points_does(rises, part_of):
    path = np.concatenate([[0.0], np.cumsum(rises)])
    steps = [2**at - 1 for at in range(len(path))]
    level = part_of * path[-1]
    found = steps_to(np.array([level, path[-1] + 1]), np.stack([path, path]), steps)
    assert found[0] == pytest.approx(np.interp(level, path, steps))
    assert math.isinf(found[1])


def test_points_along_the_way_have_both_ends():
    for steps in (1, 2, 7, 60):
        for points in (late_points(steps, False), late_points(steps, True), early_points(steps)):
            assert {0, steps} <= points
            assert max(points) == steps


# --- the verdict -----------------------------------------------------------------------------------------------------


def test_cheap_relearning_is_a_trace_and_says_so():
    nothing = AttackResult(
        attack="prompts", variant="", measure="found", rows=30, unlearned=0.0, target=1.0, retain_model=0.0,
        recovered=0.0, low=0.0, high=0.0,
    )  # fmt: skip
    assert judge_staying([nothing]).answer == "yes"
    assert judge_staying([nothing], Estimate(note="not relearnt")).answer == "yes"
    assert judge_staying([nothing], Estimate(value=1.0, interval=(0.8, 1.2))).answer == "yes"
    cheap = staying_finding([nothing], Estimate(value=0.3, interval=(0.2, 0.5), bound="at most"))
    assert cheap.answer == "partly"
    assert "Relearning takes at most 30% of the steps" in cheap.why
    assert "at most 0.30 times the steps of a model that never saw it (0.20 to 0.50)" in cheap.why


def test_an_answer_that_any_model_gives_is_said_to_have_come_so():
    given = AttackResult(
        attack="relearning", variant="related rows", measure="found", rows=6, unlearned=1 / 6, target=1.0,
        retain_model=2 / 6, recovered=-0.25, low=-0.5, high=0.0,
    )  # fmt: skip
    nothing = given.model_copy(update={"attack": "prompts", "unlearned": 0.0, "retain_model": 0.0, "recovered": 0.0})
    said = attack_headline(judge_staying([given, nothing]))
    assert "none of 6 answers came back, save what a model that never saw them gives, too;" in said
    assert "none of 6 answers came back;" in attack_headline(judge_staying([nothing]))


# --- how much is tried -----------------------------------------------------------------------------------------------


def test_a_quick_attack_tries_less_a_large_model_on_a_processor_too_and_flags_go_before():
    assert extent_of(AttackRequest(), is_slow=False) == WHOLE
    assert extent_of(AttackRequest(), is_slow=True) == WHOLE_IN_TIME
    assert extent_of(AttackRequest(quick=True), is_slow=False) == QUICK
    assert extent_of(AttackRequest(quick=True), is_slow=True) == QUICK_IN_TIME
    asked = AttackRequest(quick=True, samples=5, temperature=(0.5,), relearning_rates=(2.0,), max_rows=7)
    found = extent_of(asked, is_slow=True)
    assert (found.samples, found.temperature, found.relearning_rates, found.max_rows) == (5, (0.5,), (2.0,), 7)
    assert found.relearning_steps == QUICK_IN_TIME.relearning_steps


# --- NF4 -------------------------------------------------------------------------------------------------------------


def test_nf4_is_the_published_table_and_follows_from_the_normal_distribution():
    """Dettmers et al., arXiv 2305.14314: eight quantiles above 0, seven below, from a mean of two offsets."""
    offset = 0.5 * ((1 - 1 / 30) + (1 - 1 / 32))
    above = norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    points = np.sort(np.concatenate([above, [0.0], below]))
    np.testing.assert_allclose(NF4, points / points.max(), atol=2e-4)
    assert len(NF4) == 16
    assert (NF4[0], NF4[7], NF4[15]) == (-1.0, 0.0, 1.0)


@pytest.mark.parametrize(("shape", "group_size"), [((5, 64), 64), ((3, 50), 64), ((2, 7), 4)])
def test_rounding_to_nf4_is_the_nearest_point_by_the_book(shape, group_size):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    weight[0] = 0.0
    flat, expected = weight.double().flatten().tolist(), []
    for start in range(0, len(flat), group_size):
        group = flat[start : start + group_size]
        scale = max(map(abs, group))
        for value in group:
            points = [point * scale for point in NF4]
            expected.append(min(points, key=lambda point: abs(point - value)))
    rounded = round_to_normal_float(weight, group_size)
    np.testing.assert_allclose(rounded.flatten().numpy(), expected, atol=1e-6)
    torch.testing.assert_close(round_to_normal_float(rounded, group_size), rounded)
    assert round_to_normal_float(weight.bfloat16(), group_size).dtype == torch.bfloat16


# --- copies ----------------------------------------------------------------------------------------------------------


class OneModel:
    """A subject of a model in memory."""

    name = "unlearned"

    def __init__(self, model):
        self.model, self.encoder = model.eval(), Encoder(tiny.tokenizer())

    def load(self, dtype=None):
        return self.model


def test_adapters_alone_are_trained_and_learn():
    subject, tuning = OneModel(tiny.model()), Tuning(30, 1e-2, 4, 0, adapters=True)
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    examples = subject.encoder.encode_all([to_record(row, "") for row in tiny.rows(4)], "forget")
    model = copy_to_train(subject, tuning)
    trained = [name for name, one in model.named_parameters() if one.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    ids = torch.tensor([examples[0]["input_ids"]])
    first = model(input_ids=ids, labels=ids).loss.item()
    assert list(fine_tune(model, examples, subject, tuning))[-1] == 30
    assert model(input_ids=ids, labels=ids).loss.item() < first
    kept = {name.replace(".base_layer", ""): value for name, value in subject.model.state_dict().items()}
    assert all(torch.equal(value, kept[name]) for name, value in before.items())


# --- inside ----------------------------------------------------------------------------------------------------------


class Rows:
    """A battery of rows alone."""

    def __init__(self, rows):
        self.forget = [to_record(row, "") for row in rows]
        self.numbers = list(range(1, len(rows) + 1))


def test_the_lens_at_a_layer_after_which_nothing_happens_reads_the_models_own_answer():
    model = tiny.model()
    for name, value in model.named_parameters():
        if name.startswith("model.layers.1.") and ("o_proj" in name or "down_proj" in name):
            value.data.zero_()
    subject, rows = OneModel(model), Rows(tiny.rows(3))
    examples = subject.encoder.encode_all(rows.forget, "forget")
    own = []
    for example in examples:
        ids, labels = torch.tensor([example["input_ids"]]), torch.tensor(example["labels"])
        logps = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        asked = labels[1:] >= 0
        own.append(logps[asked].gather(1, labels[1:][asked, None]).mean().exp().item())
    found = _logit_lens(rows, subject)
    assert found.steps[-1] == model.config.num_hidden_layers - 1
    np.testing.assert_allclose(found.path[-1], own, rtol=1e-4)


def test_a_head_without_a_normalisation_before_it_cannot_be_read_through():
    model = tiny.model()
    model.model.norm = torch.nn.Identity()
    with pytest.raises(Missing, match="no normalisation"):
        final_norm(model, torch.tensor([1, 2, 3]))


def test_a_linear_probe_tells_apart_what_lies_on_two_sides_and_nothing_else():
    rng = np.random.default_rng(0)
    halves = [range(0, 40, 2), range(1, 40, 2)]
    noise = rng.normal(size=(2, 40, 100))
    side = np.zeros(100)
    side[:20] = 4.0
    assert told_apart(noise[0] + side, noise[1] - side, halves).mean() == 1.0
    assert 0.2 < told_apart(*noise, halves).mean() < 0.8
    assert told_apart(noise[0], noise[0], halves).tolist() == [0.5] * 40


def test_the_probe_has_a_value_for_each_row_and_layer():
    found = _linear_probe(Rows(tiny.rows(9)), OneModel(tiny.model()))
    assert len(found.path) == len(found.steps) > 1
    assert all(len(values) == 9 for values in found.path)
    assert set(np.ravel(found.path)) <= {0.0, 0.5, 1.0}
