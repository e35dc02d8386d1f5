"""Displacements turned in the metric of retention: the formula, what is kept of it, and what it goes with."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gru_unlearn import GradientRectifier, UnlearningConfig
from gru_unlearn.geometry import Rectification, parse_rectification
from gru_unlearn.geometry.retain_metric import FLOOR, TEMPER
from gru_unlearn.objectives import OBJECTIVES

SHAPES = [(4, 3), (5,), (2, 2, 2), ()]
RATE = 0.1


class Few(nn.Module):
    """A few tensors, whose gradients are what the test says."""

    def __init__(self, dtype=torch.float64, shapes=SHAPES):
        super().__init__()
        self.parts = nn.ParameterList(nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes)


def drawn(generator, shapes=SHAPES):
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def step(model, optimizer, rectifier, forget, retain):
    """One step; None: no pass of that side, or not over that tensor."""
    optimizer.zero_grad()
    if retain is not None:
        with rectifier.retain():
            backward(model, retain)
    backward(model, forget)
    optimizer.step()


def backward(model, gradients):
    reached = [(p * g).sum() for p, g in zip(model.parts, gradients, strict=True) if g is not None]
    torch.stack(reached).sum().backward()


def plain_descent(model, word="free/update/metric", **options):
    """SGD, whose displacement is −rate · gradient, and a rectifier with r unsmoothed."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    return optimizer, GradientRectifier(model, optimizer, word, **{"new_gradient_weight": 1.0, **options})


def flat(tensors):
    return torch.cat([x.detach().reshape(-1).double() for x in tensors])


class Reference:
    """The formula, on dense vectors."""

    def __init__(self, floor=FLOOR):
        self.floor, self.v = floor, 0.0

    def turned(self, u, r):
        self.v = 0.9 * self.v + 0.1 * r**2
        cost = self.v.sqrt() / self.v.sqrt().mean()
        g = u / (cost + self.floor)
        return g * u.norm() / g.norm()


@given(seed=st.integers(0, 1000), floor=st.sampled_from([0.01, 0.3, 3.0]), gated=st.booleans())
@settings(max_examples=30, deadline=None)
def test_it_is_its_formula_and_what_rectifies_comes_after_it(seed, floor, gated):
    generator = torch.Generator().manual_seed(seed)
    model, reference = Few(), Reference(floor)
    rule = "gru/element" if gated else "free"
    optimizer, rectifier = plain_descent(model, f"{rule}/update/metric={floor}")
    expected = torch.zeros(sum(p.numel() for p in model.parts)).double()
    for _ in range(4):
        u, r = drawn(generator), drawn(generator)
        step(model, optimizer, rectifier, u, r)
        g = reference.turned(RATE * flat(u), flat(r))
        expected -= g.masked_fill(g * flat(r) < 0, 0) if gated else g
    torch.testing.assert_close(flat(model.parts), expected)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_every_number_goes_the_way_that_it_went_and_the_step_is_as_long(seed):
    generator = torch.Generator().manual_seed(seed)
    model = Few()
    optimizer, rectifier = plain_descent(model)
    for _ in range(3):
        before = flat(model.parts)
        u, r = drawn(generator), drawn(generator)
        step(model, optimizer, rectifier, u, r)
        moved = flat(model.parts) - before
        assert (moved * flat(u) < 0).all()
        torch.testing.assert_close(moved.norm(), RATE * flat(u).norm())


def test_a_number_that_costs_retention_moves_less():
    """All want to move alike; the retain loss knows only the first."""
    model = Few()
    optimizer, rectifier = plain_descent(model)
    r = [torch.zeros(shape).double() for shape in SHAPES]
    r[0][0, 0] = 1.0
    for sign in (1, -1, 1, -1):
        step(model, optimizer, rectifier, [torch.ones(shape).double() for shape in SHAPES], [sign * x for x in r])
    moved = flat(model.parts).abs()
    assert moved[0] < 0.02 * moved[1]
    torch.testing.assert_close(moved[1:], moved[1].expand(len(moved) - 1))


def test_only_the_proportions_of_retain_gradients_count():
    ends = []
    for scale in (1e-6, 1.0, 1e6):
        generator = torch.Generator().manual_seed(0)
        model = Few()
        optimizer, rectifier = plain_descent(model)
        for _ in range(3):
            u, r = drawn(generator), drawn(generator)
            step(model, optimizer, rectifier, u, [scale * x for x in r])
        ends.append(flat(model.parts))
    torch.testing.assert_close(ends[0], ends[1])
    torch.testing.assert_close(ends[2], ends[1])


def test_without_any_retain_gradient_the_step_stays_as_it_was():
    model = Few()
    optimizer, rectifier = plain_descent(model)
    u = drawn(torch.Generator().manual_seed(0))
    step(model, optimizer, rectifier, u, [torch.zeros_like(x) for x in u])
    torch.testing.assert_close(flat(model.parts), -RATE * flat(u))


def test_tensors_that_no_loss_reaches_cost_nothing_and_stay():
    generator = torch.Generator().manual_seed(0)
    model = Few()
    optimizer, rectifier = plain_descent(model)
    u, r = drawn(generator), drawn(generator)
    step(model, optimizer, rectifier, [*u[:3], None], [*r[:3], None])
    assert model.parts[3] == 0
    cost = flat(r[:3]).abs()
    g = flat(u[:3]) / (cost / (cost.sum() / 26) + FLOOR)
    torch.testing.assert_close(flat(model.parts)[:25], -RATE * g * flat(u[:3]).norm() / g.norm())


def test_adamws_steps_are_turned_as_they_are():
    """Whatever made the displacement: moments, weight decay, the learning rate of a group."""
    generator = torch.Generator().manual_seed(0)
    model, twin, reference = Few(), Few(), Reference()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    theirs = torch.optim.AdamW(twin.parameters(), lr=RATE)
    rectifier = GradientRectifier(model, optimizer, "free/update/metric", new_gradient_weight=1.0)
    for _ in range(3):
        u, r = drawn(generator), drawn(generator)
        before = flat(model.parts)
        for p, q in zip(model.parts, twin.parts, strict=True):
            q.data.copy_(p)
        theirs.zero_grad()
        backward(twin, u)
        theirs.step()
        step(model, optimizer, rectifier, u, r)
        torch.testing.assert_close(before - flat(model.parts), reference.turned(before - flat(twin.parts), flat(r)))


@given(seed=st.integers(0, 1000), temper=st.sampled_from([0.1, 0.5, 1.0]), gated=st.booleans())
@settings(max_examples=20, deadline=None)
def test_tempered_it_is_its_formula(seed, temper, gated):
    generator = torch.Generator().manual_seed(seed)
    model, reference = Few(), Reference(0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    word = f"{'gru/element' if gated else 'free'}/update/metric=0.1/temper={temper}"
    rectifier = GradientRectifier(model, optimizer, word, new_gradient_weight=1.0)
    m, w = torch.zeros(26).double(), torch.zeros(26).double()
    for number in range(1, 5):
        before = flat(model.parts)
        u, r = drawn(generator), drawn(generator)
        step(model, optimizer, rectifier, u, r)
        m, w = 0.9 * m + 0.1 * flat(u), 0.999 * w + 0.001 * flat(u) ** 2
        adam = RATE * m / (1 - 0.9**number) / ((w / (1 - 0.999**number)).sqrt() + 1e-8)
        a = w.sqrt() / w.sqrt().mean()
        g = reference.turned(adam / (1 - temper + temper / a), flat(r))
        g *= adam.norm() / g.norm()
        torch.testing.assert_close(before - flat(model.parts), g.masked_fill(g * flat(r) < 0, 0) if gated else g)


def test_tempered_wholly_a_step_is_momentums_as_long_as_adams():
    """Ten times the gradient goes ten times as far; with Adam, as far."""
    model = Few()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    rectifier = GradientRectifier(model, optimizer, "free/update/metric/temper", new_gradient_weight=1.0)
    u = [torch.ones(shape).double() for shape in SHAPES]
    u[0][0, 0] = 10.0
    step(model, optimizer, rectifier, u, [torch.ones_like(x) for x in u])
    moved = flat(model.parts)
    torch.testing.assert_close(moved[0], 10 * moved[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(moved.norm(), torch.tensor(RATE * 26**0.5).double())


def test_what_the_objective_never_reached_stays_where_it_is_tempered():
    """Its square is zero, and so is what a change of it is worth."""
    model = Few()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    rectifier = GradientRectifier(model, optimizer, "free/update/metric/temper", new_gradient_weight=1.0)
    u = [torch.ones(shape).double() for shape in SHAPES]
    u[1].zero_()
    step(model, optimizer, rectifier, u, [torch.ones_like(x) for x in u])
    assert (model.parts[1] == 0).all()
    assert flat(model.parts).isfinite().all()


def test_steps_of_an_optimizer_without_squares_cannot_be_tempered():
    generator = torch.Generator().manual_seed(0)
    model = Few()
    optimizer, rectifier = plain_descent(model, "free/update/metric/temper")
    with pytest.raises(ValueError, match="temper needs the squares that Adam and AdamW keep"):
        step(model, optimizer, rectifier, drawn(generator), drawn(generator))


def test_a_run_goes_on_from_its_state():
    generator = torch.Generator().manual_seed(0)
    pairs = [(drawn(generator), drawn(generator)) for _ in range(6)]
    whole, cut = Few(), Few()
    optimizer, rectifier = plain_descent(whole)
    for u, r in pairs:
        step(whole, optimizer, rectifier, u, r)
    optimizer, first = plain_descent(cut)
    for u, r in pairs[:3]:
        step(cut, optimizer, first, u, r)
    state = first.state_dict()
    assert {name.partition("@")[2] for name in state["retain_direction"]} == {"", "squares"}
    first.close()
    optimizer, second = plain_descent(cut)
    second.load_state_dict(state)
    for u, r in pairs[3:]:
        step(cut, optimizer, second, u, r)
    assert torch.equal(flat(whole.parts), flat(cut.parts))

    state["retain_direction"]["parts.9@squares"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"not trained here: parts\.9@squares"):
        second.load_state_dict(state)


@pytest.mark.parametrize("where", [{"retain_dtype": torch.bfloat16}, {"retain_device": "cpu"}])
def test_it_is_kept_where_and_as_r_is(where):
    generator = torch.Generator().manual_seed(0)
    pairs = [(drawn(generator), drawn(generator)) for _ in range(5)]
    ends = []
    for options in ({}, where):
        model = Few()
        optimizer, rectifier = plain_descent(model, **options)
        for u, r in pairs:
            step(model, optimizer, rectifier, u, r)
        ends.append(flat(model.parts))
        kept = rectifier.state_dict()["retain_direction"]["parts.0@squares"]
        assert kept.dtype == options.get("retain_dtype", torch.float64)
    assert (ends[0] - ends[1]).norm() < 0.02 * ends[0].norm()


# --- its word, and what goes with it ---------------------------------------------------------------------------------


def test_it_is_a_part_of_the_word():
    plain, own = parse_rectification("gru/element/update/metric"), parse_rectification("gru/metric=0.05/update")
    assert plain == Rectification("gru", "element", "update", metric=FLOOR)
    assert own == Rectification("gru", space="update", metric=0.05)
    assert (str(plain), str(own)) == ("gru/element/update/metric", "gru/update/metric=0.05")


def test_temper_is_a_part_of_the_word():
    tempered, own = (
        parse_rectification("free/update/metric/temper"),
        parse_rectification("free/temper=0.3/metric/update"),
    )
    assert tempered == Rectification("free", space="update", metric=FLOOR, temper=TEMPER)
    assert own == Rectification("free", space="update", metric=FLOOR, temper=0.3)
    assert (str(tempered), str(own)) == ("free/update/metric/temper", "free/update/metric/temper=0.3")


@pytest.mark.parametrize(
    "word", ["gru/update/temper", "gru/metric", "gu/metric", "gru/update/memory=2/metric", "pcgrad/metric"]
)
def test_it_turns_displacements_alone(word):
    with pytest.raises(ValueError, match="no form"):
        parse_rectification(word)


@pytest.mark.parametrize("floor", ["-1", "nan", "inf"])
def test_its_floor_is_a_number(floor):
    with pytest.raises(ValueError, match="metric must be finite and not negative"):
        parse_rectification(f"gru/update/metric={floor}")


@pytest.mark.parametrize("temper", ["-0.1", "1.1", "nan", "inf"])
def test_its_temper_is_a_share(temper):
    with pytest.raises(ValueError, match="temper must be from 0 to 1"):
        parse_rectification(f"gru/update/metric/temper={temper}")


def config(tmp_path, **settings):
    return UnlearningConfig(output_dir=str(tmp_path), use_cpu=True, **settings)


def test_the_trainer_puts_the_anchor_beside_it(tmp_path):
    own = config(tmp_path, rectification="recommended")
    assert (own.resolved_retain_loss, own.resolved_retain_weight, own.retain_term_weight) == ("anchor", 300, 300)
    weights = {name: config(tmp_path, rectification="recommended", objective=name) for name in OBJECTIVES}
    adding_up = {name for name, one in weights.items() if one.resolved_retain_weight == 300}
    assert adding_up == {"npo", "dpo", "altpo"}, "their values are sums over an answer's tokens"
    assert {one.resolved_retain_weight for name, one in weights.items() if name not in adding_up} == {20, 1200}
    given_weight = config(tmp_path, rectification="recommended", retain_weight=3.0)
    assert (given_weight.resolved_retain_loss, given_weight.resolved_retain_weight) == ("anchor", 3)
    given_loss = config(tmp_path, rectification="recommended", retain_loss="nll")
    assert (given_loss.resolved_retain_loss, given_loss.resolved_retain_weight) == ("nll", 0)
    rmu = config(tmp_path, rectification="recommended", objective="rmu")
    assert (rmu.resolved_retain_loss, rmu.resolved_retain_weight) == ("rmu", 1200)
    by_sgd = config(tmp_path, rectification="recommended", optim="sgd").resolved_rectification
    assert (by_sgd.temper, by_sgd.metric) == (0, own.resolved_rectification.metric), "it keeps no squares"
    without = config(tmp_path, rectification="gru/element/update")
    assert (without.resolved_retain_loss, without.resolved_retain_weight) == ("nll", 0)
