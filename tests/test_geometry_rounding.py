"""What rounding must not do: leave a remainder where u and r cancel, break a constraint, blunt a projection."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gru_unlearn import GradientRectifier
from gru_unlearn.geometry.blocks import rectify_groups_, rectify_within_
from gru_unlearn.geometry.closed_form import measure_conflict, remove_conflict_
from gru_unlearn.geometry.cone import cone, rectify_against_, subspace
from gru_unlearn.geometry.rules import gru, ngdiff, pcgrad

SEEDS = st.integers(0, 2**31)
NARROW = (torch.bfloat16, torch.float16)


def cosine(g, r):
    return torch.nn.functional.cosine_similarity(g.double().reshape(1, -1), r.double().reshape(1, -1)).item()


def drawn(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


# --- u against r: nothing is left ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [gru, pcgrad, ngdiff])
@given(seed=SEEDS, size=st.integers(1, 5000), scale=st.floats(1e-6, 1e3), against=st.floats(1e-3, 1e3))
@settings(max_examples=60, deadline=None)
def test_nothing_is_left_where_u_points_against_r(rule, seed, size, scale, against):
    """Whole groups, also of several tensors, and rows: not even rounding, which Adam would scale up to a step."""
    r = [scale * x for x in drawn(seed, (size,), (), (2, 3))]
    u = [-against * x for x in r]
    measures = rectify_groups_(u, r, ["a", "b", "a"], rule)
    assert all((x == 0).all() for x in u)
    assert (measures.rectified_squared == 0).all()

    (rows,) = drawn(seed, (3, size))
    rows *= scale
    found = [-against * rows]
    rectify_within_(found, [rows], "row", rule)
    assert (found[0] == 0).all()


@pytest.mark.parametrize("rule", [gru, pcgrad, ngdiff])
@given(seed=SEEDS, size=st.integers(2, 300), remainder=st.floats(1e-4, 1e-2))
@settings(max_examples=60, deadline=None)
def test_a_small_remainder_is_no_rounding(rule, seed, size, remainder):
    r, other = drawn(seed, (size,), (size,))
    other -= (other @ r) / (r @ r) * r
    other *= remainder * r.norm() / other.norm()
    u, rows = [other - r], [(other - r)[None]]
    rectify_groups_(u, [r], [""], rule)
    rectify_within_(rows, [r[None]], "row", rule)
    if rule is gru:
        torch.testing.assert_close(u[0], other, rtol=0, atol=3e-6 * r.norm().item())
    for g in (u[0], rows[0][0]):
        assert g.norm() > 0


@given(seed=SEEDS, tiny=st.floats(1e-30, 1e-12))
@settings(max_examples=40, deadline=None)
def test_a_tiny_gradient_without_conflict_stays(seed, tiny):
    (u,) = drawn(seed, (4, 3))
    for granularity in ("row", "group"):
        g = [tiny * u.clone()]
        if granularity == "row":
            rectify_within_(g, [u.clone()], granularity, gru)
        else:
            rectify_groups_(g, [u.clone()], [""], gru)
        assert torch.equal(g[0], tiny * u)


@pytest.mark.parametrize("word", ["gru/tensor", "gru/layer", "pcgrad/tensor"])
def test_adam_does_not_move_a_scalar_whose_gradients_cancel(word):
    """A layer of one number is against r or along it: in conflict it must stand still."""
    conflicts = 0
    for seed in range(50):
        net = nn.Module()
        net.scale, net.weight = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(3))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
        rectifier = GradientRectifier(net, optimizer, word, new_gradient_weight=1.0)
        of_u, of_r = drawn(seed, ())[0], drawn(seed + 1000, ())[0]
        with rectifier.retain():
            (of_r * net.scale + net.weight.sum()).backward()
        (of_u * net.scale + net.weight.sum()).backward()
        optimizer.step()
        conflict = bool(of_u * of_r < 0)
        conflicts += conflict
        assert (net.scale.item() == 1.0) == conflict
    assert conflicts > 10


# --- the cone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [0.0, 1e-30, 1e-19])
@pytest.mark.parametrize("solver", [cone, subspace])
@given(seed=SEEDS, k=st.integers(2, 6), more=st.integers(1, 9), dtype=st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=60, deadline=None)
def test_a_zero_constraint_does_not_touch_the_others(solver, zero, seed, k, more, dtype):
    u, rs = drawn(seed, (k + more,), (k, k + more))
    rs[seed % k] *= zero
    others = [number for number in range(k) if number != seed % k]
    found, expected = [u.to(dtype)], [u.to(dtype)]
    rectify_against_(found, [[r.to(dtype)] for r in rs], [""], solver)
    rectify_against_(expected, [[rs[number].to(dtype)] for number in others], [""], solver)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for number in others:
        slack = found[0].double() @ rs[number].double() / (u.norm() * rs[number].norm())
        assert slack >= -2e-3 if solver is cone else abs(slack) <= 2e-3


@pytest.mark.parametrize("solver", [cone, subspace])
def test_solvers_take_a_zero_constraint_by_themselves(solver):
    u, rs = drawn(3, (5,), (3, 5))
    rs[1] = 0
    v = solver((rs @ rs.T).double().numpy(), (rs @ u).double().numpy())
    assert v[1] == 0
    assert np.isfinite(v).all()


@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_experts_that_a_step_did_not_use_break_no_promise(granularity):
    """Two experts, each reached by some of the retain batches: all held gradients bind, block by block."""
    for seed in range(40):
        net = nn.Module()
        net.experts = nn.ParameterList(nn.Parameter(x) for x in drawn(seed, (4, 3), (4, 3)))
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        rectifier = GradientRectifier(net, optimizer, f"gru/{granularity}/memory=3")
        held = []
        for step in range(5):
            used = (seed >> step) % 3
            gradients = drawn(97 * seed + step, (4, 3), (4, 3))
            if used < 2:
                gradients[1 - used].zero_()
            with rectifier.retain():
                sum((p * x).sum() for p, x in zip(net.experts, gradients, strict=True)).backward()
            forget = drawn(89 * seed + step, (4, 3), (4, 3))
            sum((p * x).sum() for p, x in zip(net.experts, forget, strict=True)).backward()
            rectifier.rectify()
            held = [*held, gradients][-3:]
            for places in [[0, 1]] if granularity == "model" else [[0], [1]]:
                g, u = (torch.cat([x[i].reshape(-1) for i in places]) for x in ([p.grad for p in net.experts], forget))
                for r in (torch.cat([x[i].reshape(-1) for i in places]) for x in held):
                    assert g @ r >= -2e-3 * u.norm() * r.norm()
            optimizer.step()
            optimizer.zero_grad()


# --- narrow types --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NARROW)
@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_a_narrow_gradient_is_rounded_once(dtype, seed):
    """The factor is float32: g is the exact projection of what came, to the nearest number of its type."""
    of_r, of_u = drawn(seed, (300, 40), (300, 40))
    r, u = of_r.to(dtype), (of_u - 0.3 * of_r).to(dtype)
    wide_u, wide_r = u.double(), r.double()
    dot = (wide_u * wide_r).sum()
    exact = wide_u - dot.clamp(max=0) / wide_r.square().sum() * wide_r

    ways = [u.clone() for _ in range(3)]
    rectify_groups_([ways[0]], [r], [""], gru)
    remove_conflict_([ways[1]], [r], measure_conflict([u], [r]).coefficient)
    rectify_against_([ways[2]], [[r]], [""], cone)
    for g in ways:
        assert ((g.double() - exact).abs() <= torch.finfo(dtype).eps * exact.abs().clamp(min=1e-2)).all()
        terms = g.double() * wide_r
        by_rounding = 4 * torch.finfo(dtype).eps * terms.norm() / (g.double().norm() * wide_r.norm())
        assert abs(cosine(g, r)) < by_rounding + 1e-5

    moved = torch.zeros_like(u)
    rectify_groups_([u], [r], [""], gru, [moved])
    assert ((moved.double() - (wide_u - exact)).abs() <= torch.finfo(dtype).eps * (wide_u - exact).abs() + 1e-6).all()
