"""The family of rectifications against plain float64 references: dense vectors, and loops over their blocks."""

import copy
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from gru_unlearn import GradientRectifier
from gru_unlearn.geometry import (
    GRANULARITIES,
    NAMES,
    RECOMMENDED,
    Conflict,
    Rectification,
    default_gradient_weight,
    inner_product,
    parse_rectification,
)
from gru_unlearn.geometry import blocks as blocks_module
from gru_unlearn.geometry.blocks import group_names, layer_of, rectify_groups_, rectify_within_
from gru_unlearn.geometry.cone import cone, rectify_against_, subspace
from gru_unlearn.geometry.rules import PrimalDual, cosine_clip, gru, ngdiff, pcgrad, sago

PAGE = Path(__file__).parents[1] / "docs" / "rectification.md"
LOWS = (torch.bfloat16, torch.float16)


# --- models whose gradients are what the test says -------------------------------------------------------------------


class Stack(nn.Module):
    """``embed.0``, ``layers.i.j``, ``head.weight``: tensors of any shape."""

    def __init__(self, layers, dtype=torch.float64, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def tensor(shape):
            return nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype))

        self.embed = nn.Embedding(3, 2, _weight=tensor((3, 2)))
        self.layers = nn.ModuleList(nn.ParameterList(tensor(shape) for shape in shapes) for shapes in layers)
        self.head = nn.Linear(2, 1, bias=False)
        self.head.weight = tensor((1, 2))
        # What a reader of the shapes would say: the layer of each parameter, in the order of ``parameters()``.
        self.homes = ["embed", *(f"layers.{i}" for i, shapes in enumerate(layers) for _ in shapes), "head"]


SHAPES = [[(3, 4), (4,)], [(2, 3, 2), (), (5, 1)]]


def vector(net, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator, dtype=dtype) for p in net.parameters()]


def dense(tensors):
    return torch.cat([t.detach().double().reshape(-1) for t in tensors])


def backward(net, gradients):
    """Give each parameter its gradient through autograd; None: the loss does not reach it."""
    reached = [(p * g).sum() for p, g in zip(net.parameters(), gradients, strict=True) if g is not None]
    if reached:
        torch.stack(reached).sum().backward()


def window(net, rectifier, forget, retain):
    for p in net.parameters():
        p.grad = None
    with rectifier.retain():
        backward(net, retain)
    backward(net, forget)


def rectified(net, rectification, forget, retain, **options):
    """One window of plain gradient descent: the gradient after ``rectify``, and the rectifier."""
    options = {"new_gradient_weight": 1.0, **options}
    rectifier = GradientRectifier(net, torch.optim.SGD(net.parameters(), lr=0.1), rectification, **options)
    window(net, rectifier, forget, retain)
    rectifier.rectify()
    return dense([torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters()]), rectifier


# --- references ------------------------------------------------------------------------------------------------------


def blocks_of(net, granularity):
    """The positions of each block in the dense vector, tensor by tensor, number by number."""
    positions, offset = {}, 0
    for number, (p, home) in enumerate(zip(net.parameters(), net.homes, strict=True)):
        columns = 1 if p.ndim < 2 else p.numel() // p.shape[0]
        for j in range(p.numel()):
            block = {
                "model": 0,
                "layer": home,
                "tensor": number,
                "row": (number, j // columns),
                "element": (number, j),
            }[granularity]
            positions.setdefault(block, []).append(offset + j)
        offset += p.numel()
    return [torch.tensor(where) for where in positions.values()]


def closed_form(u, r, blocks):
    g = u.clone()
    for b in blocks:
        dot = sum(float(u[j]) * float(r[j]) for j in b)
        if dot < 0:
            g[b] = u[b] - dot / sum(float(r[j]) ** 2 for j in b) * r[b]
    return g


def spans(net):
    """The positions of each tensor."""
    ends = list(itertools.accumulate(p.numel() for p in net.parameters()))
    return [range(end - p.numel(), end) for end, p in zip(ends, net.parameters(), strict=True)]


def closest_by_enumeration(u, rs):
    """The projection of u on {g: ⟨g, r_k⟩ ≥ 0 ∀k}: the nearest feasible one of the projections on all faces."""
    best = None
    for size in range(len(rs) + 1):
        for active in itertools.combinations(range(len(rs)), size):
            face = rs[list(active)]
            g = u - face.T @ (torch.linalg.pinv(face.T) @ u) if active else u
            feasible = all(g @ r >= -1e-9 * u.norm() * r.norm() for r in rs)
            if feasible and (best is None or (g - u).norm() < (best - u).norm()):
                best = g
    return best


# --- granularity, gradient space -------------------------------------------------------------------------------------

shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)
cases = st.tuples(
    st.integers(0, 2**31), st.lists(st.lists(shapes, min_size=1, max_size=3), max_size=3), st.floats(1e-4, 1e4)
)


def problem(case):
    """A model, and u and r that each miss about a fifth of its tensors."""
    seed, layers, scale = case
    net = Stack(layers, seed=seed)
    missing = torch.rand(2, len(net.homes), generator=torch.Generator().manual_seed(seed)) < 0.2
    u, r = (
        [None if gone else factor * x for x, gone in zip(vector(net, seed + i), missing[i], strict=True)]
        for i, factor in enumerate((1, scale))
    )
    zeros = [torch.zeros_like(p) for p in net.parameters()]
    filled = (dense([z if x is None else x for x, z in zip(v, zeros, strict=True)]) for v in (u, r))
    return net, u, r, *filled


@pytest.mark.parametrize("granularity", GRANULARITIES)
@given(case=cases)
@settings(max_examples=25, deadline=None)
def test_equals_the_closed_form_block_by_block(granularity, case):
    net, forget, retain, u, r = problem(case)
    blocks = blocks_of(net, granularity)
    g, rectifier = rectified(net, f"gru/{granularity}", forget, retain)
    expected = closed_form(u, r, blocks)
    torch.testing.assert_close(g, expected, rtol=1e-9, atol=1e-11)
    for b in blocks:
        assert g[b] @ r[b] >= -1e-12 * u[b].norm() * r[b].norm()
        if u[b] @ r[b] >= 0:
            assert torch.equal(g[b], u[b]), "a block without conflict is not touched"

    seen, length = rectifier.telemetry, u.norm()
    conflicting = [u[b] @ r[b] < 0 for b in blocks]
    of_tensor = [[c for b, c in zip(blocks, conflicting, strict=True) if set(b.tolist()) & set(s)] for s in spans(net)]
    share = np.mean([np.mean(found) for found in of_tensor])
    assert seen.conflict_share == pytest.approx(share)
    assert seen.rectified == any(conflicting)
    assert seen.inner_product == pytest.approx(float(u @ r), rel=1e-9, abs=1e-12 * float(length * r.norm()))
    assert seen.removed_share == pytest.approx(float(1 - expected.norm() / length) if length > 0 else 0, abs=1e-6)
    homes = {
        home: [j for h, s in zip(net.homes, spans(net), strict=True) if h == home for j in s] for home in net.homes
    }
    by_layer = {home: float(1 - expected[b].norm() / u[b].norm()) if u[b].any() else 0.0 for home, b in homes.items()}
    assert rectifier.removed_share_by_layer() == pytest.approx(by_layer, abs=1e-6)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_rectifying_twice_is_rectifying_once(granularity, seed):
    net = Stack(SHAPES, seed=seed)
    retain = vector(net, seed + 1)
    once, _ = rectified(net, f"gru/{granularity}", vector(net, seed), retain)
    again, _ = rectified(net, f"gru/{granularity}", [p.grad.clone() for p in net.parameters()], retain)
    torch.testing.assert_close(again, once, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *LOWS])
@given(seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_element_is_the_sign_gate_to_the_bit(dtype, seed):
    net = Stack(SHAPES, dtype, seed)
    forget, retain = vector(net, seed, dtype), vector(net, seed + 1, dtype)
    g, _ = rectified(net, "gru/element", forget, retain)
    expected = [torch.where(u.double() * r.double() >= 0, u, 0) for u, r in zip(forget, retain, strict=True)]
    assert torch.equal(g, dense(expected))
    assert (g == 0).any()


def test_pieces_of_a_tensor_join_without_a_seam(monkeypatch):
    net = Stack([[(50, 7)]])
    forget, retain = vector(net, 1), vector(net, 2)
    monkeypatch.setattr(blocks_module, "_PIECE", {"cpu": 21})
    for granularity in ("row", "element"):
        g, _ = rectified(net, f"gru/{granularity}", forget, retain)
        torch.testing.assert_close(g, closed_form(dense(forget), dense(retain), blocks_of(net, granularity)))


def test_layers_by_name():
    expected = {
        "model.layers.3.mlp.up_proj.weight": "model.layers.3",
        "base_model.model.model.layers.11.self_attn.q_proj.lora_A.default.weight": "base_model.model.model.layers.11",
        "model.layers.0.experts.5.weight": "model.layers.0",
        "model.embed_tokens.weight": "model.embed_tokens",
        "0.weight": "0",
        "scale": "scale",
    }
    assert {name: layer_of(name) for name in expected} == expected
    assert group_names(["a.0.w", "a.0.b", "c"], "layer") == ["a.0", "a.0", "c"]
    assert len(set(group_names(["a.0.w", "a.0.b", "c"], "model"))) == 1


@pytest.mark.parametrize("rule", ["gru", "cosine-clip", "pcgrad", "ngdiff"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_an_r_that_has_all_but_decayed_does_not_blow_up(rule, granularity):
    """A smoothed r fades by 1 − γ a step where its gradient stays away: its squares leave float32's range in part,
    then whole, then r itself does."""
    net = Stack([[(2, 1001)]], torch.float32)
    forget = [torch.ones_like(p) for p in net.parameters()]
    pattern = [-torch.ones_like(p) for p in net.parameters()]
    pattern[1][:, 0] = -2
    bound = {"ngdiff": 2 * sum(p.numel() for p in net.parameters()) ** 0.5}.get(rule, dense(forget).norm() * (1 + 1e-5))
    for scale in (digit * 10.0**exponent for exponent in range(-45, -14) for digit in (1, 2, 5)):
        g, _ = rectified(net, f"{rule}/{granularity}", forget, [scale * x for x in pattern])
        assert g.norm() <= bound, f"r about {scale}"


# --- update space ----------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.05, weight_decay=0.2),
}


@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_update_space_takes_the_conflict_out_of_the_displacement(granularity, optimizer_name):
    net = Stack(SHAPES)
    optimizer = OPTIMIZERS[optimizer_name](net.parameters())
    rectifier = GradientRectifier(net, optimizer, f"gru/{granularity}/update")
    blocks, r, changed = blocks_of(net, granularity), 0.0, 0
    gamma = 0.4 if granularity in ("row", "element") else 0.8
    for step in range(4):
        forget, retain = vector(net, 10 + step), vector(net, 20 + step)
        plain = copy.deepcopy(net)
        plain_optimizer = OPTIMIZERS[optimizer_name](plain.parameters())
        plain_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for p, gradient in zip(plain.parameters(), forget, strict=True):
            p.grad = gradient.clone()
        plain_optimizer.step()

        start = dense(net.parameters())
        window(net, rectifier, forget, retain)
        optimizer.step()
        r = gamma * dense(retain) + (1 - gamma) * r
        displacement, intended = dense(net.parameters()) - start, dense(plain.parameters()) - start
        torch.testing.assert_close(displacement, -closed_form(-intended, r, blocks), rtol=1e-9, atol=1e-13)
        for b in blocks:
            assert displacement[b] @ r[b] <= 1e-12
        assert rectifier.telemetry.retain_change == pytest.approx(float(displacement @ r), abs=1e-12)
        left = 1 - displacement.norm() / intended.norm()
        assert rectifier.telemetry.removed_share == pytest.approx(float(left), abs=1e-6)
        changed += not torch.allclose(displacement, intended)
    assert changed, "the problem must conflict, or it tests nothing"


@pytest.mark.parametrize("space", ["gradient", "update"])
def test_only_update_space_keeps_its_word_under_adam(space):
    """Adam's first step is lr · sign(g): g = (10, −1) is orthogonal to r = (1, 10), its signs are not."""
    net = nn.Linear(2, 1, bias=False).double()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.0)
    rectifier = GradientRectifier(net, optimizer, f"gru/model/{space}", new_gradient_weight=1.0)
    start, r = net.weight.detach().clone(), torch.tensor([[1.0, 10.0]], dtype=torch.float64)
    window(net, rectifier, [torch.tensor([[9.0, -11.0]], dtype=torch.float64)], [r])
    optimizer.step()
    change = ((net.weight.detach() - start) * r).sum().item()
    assert change == pytest.approx(0.1 * (10 - 1), rel=1e-6) if space == "gradient" else change <= 1e-12


def test_update_space_moves_what_only_the_retain_loss_reaches_as_the_optimizer_would():
    net = Stack(SHAPES)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rectifier = GradientRectifier(net, optimizer, "gru/update", new_gradient_weight=1.0)
    forget, retain = vector(net, 1), vector(net, 2)
    forget[0] = None
    forget[1:] = [-x for x in retain[1:]]
    start = dense(net.parameters())
    window(net, rectifier, forget, retain)
    optimizer.step()
    r = dense(retain)
    intended = torch.cat([torch.zeros(6, dtype=torch.float64), 0.1 * r[6:]])
    assert intended @ r > 0
    torch.testing.assert_close(dense(net.parameters()) - start, intended - (intended @ r) / (r @ r) * r)


# --- memory: cone ----------------------------------------------------------------------------------------------------


def gram_of(u, rs):
    return (rs @ rs.T).numpy(), (rs @ u).numpy()


def random_cone(seed, k, n):
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(n, generator=generator, dtype=torch.float64)
    rs = torch.randn(k, n, generator=generator, dtype=torch.float64)
    return u, rs * 10 ** torch.empty(k, 1, dtype=torch.float64).uniform_(-3, 3, generator=generator)


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(0, 6))
@settings(max_examples=100, deadline=None)
def test_cone_is_the_nearest_feasible_point(seed, k, more):
    u, rs = random_cone(seed, k, k + more)
    unit = rs / rs.norm(dim=1, keepdim=True)
    assume(torch.linalg.eigvalsh(unit @ unit.T)[0] > 1e-3)
    v = torch.from_numpy(cone(*gram_of(u, rs)))
    g = u + rs.T @ v
    assert (v >= 0).all()
    assert (unit @ g >= -1e-9 * u.norm()).all()
    torch.testing.assert_close(g, closest_by_enumeration(u, rs), rtol=1e-7, atol=1e-9)


@given(st.integers(0, 2**31), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_one_constraint_is_the_closed_form(seed, n):
    u, rs = random_cone(seed, 1, n)
    g = u + rs[0] * cone(*gram_of(u, rs))[0]
    torch.testing.assert_close(g, closed_form(u, rs[0], [range(n)]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-8, 1e-5, 1e-3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("solver", [cone, subspace])
def test_parallel_constraints_do_not_blow_up(solver, dtype, noise):
    """Duplicates, near-duplicates, a zero and very different lengths: with float32 products the Gram matrix is noise
    in the directions in which they differ."""
    for seed in range(20):
        u, other = random_cone(seed, 5, 30)
        u, base = u - other[0] / other[0].norm(), other[:1] / other[0].norm()
        rs = torch.cat([base, base, base + noise * other[1:3] / other[1:3].norm(dim=1, keepdim=True), 1e3 * other[3:]])
        rs[-1] = 0
        low = [[x.to(dtype)] for x in (u, *rs)]
        rectify_against_(low[0], low[1:], [""], solver)
        g = low[0][0].double()
        assert g.norm() <= u.norm() * 1.001
        for r in rs[:-1]:
            cosine = g @ r / (u.norm() * r.norm())
            assert (cosine >= -2e-3) if solver is cone else (cosine.abs() <= 2e-3)


@pytest.mark.parametrize("granularity", ["model", "layer", "tensor"])
@pytest.mark.parametrize("space", ["gradient", "update"])
def test_memory_holds_exactly_the_last_windows(granularity, space):
    """Seven windows, three remembered; each step compared with the enumeration over the last three of each block."""
    net = Stack(SHAPES)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    rectifier = GradientRectifier(net, optimizer, f"gru/{granularity}/{space}/memory=3", new_gradient_weight=0.5)
    seen, conflicts = [], 0
    for step in range(7):
        forget, retain = vector(net, 40 + step), vector(net, 60 + step)
        start = dense(net.parameters())
        window(net, rectifier, forget, retain)
        optimizer.step()
        seen = [*seen, dense(retain)][-3:]
        held = rectifier.state_dict()["retain_direction"]
        names = [name for name, _ in net.named_parameters()]
        for place, expected in enumerate(seen):
            assert torch.equal(dense([held.pop(f"{name}@{place}") for name in names]), expected)
        assert not held
        u, g = dense(forget), start - dense(net.parameters())
        shares = []
        for b in blocks_of(net, granularity):
            rs = torch.stack([r[b] for r in seen])
            unit = rs / rs.norm(dim=1, keepdim=True)
            assert (unit @ g[b] >= -1e-9).all()
            if len(b) > 1:  # in one dimension several constraints are one and its opposite
                torch.testing.assert_close(g[b], closest_by_enumeration(u[b], rs), rtol=1e-6, atol=1e-8)
            shares.append(float((rs @ u[b] < 0).double().mean()))
            conflicts += shares[-1] > 0
        if granularity == "tensor":
            assert rectifier.telemetry.conflict_share == pytest.approx(np.mean(shares))
        assert rectifier.telemetry.removed_share == pytest.approx(float(1 - g.norm() / u.norm()), abs=1e-6)
    assert conflicts >= 5


@pytest.mark.parametrize("solver", [cone, subspace])
@pytest.mark.parametrize(("of_u", "of_r"), [(math.nan, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_what_is_not_finite_reaches_the_gradient(solver, of_u, of_r):
    u, rs = [torch.tensor([of_u, 1.0])], [[torch.tensor([of_r, -1.0])], [torch.ones(2)]]
    rectify_against_(u, rs, [""], solver)
    assert not u[0].isfinite().all()


def test_memory_binds_what_only_an_older_retain_gradient_reached():
    net = Stack([])
    rectifier = GradientRectifier(net, torch.optim.SGD(net.parameters(), lr=0.1), "gru/memory=2")
    older, newer = vector(net, 1), vector(net, 2)
    window(net, rectifier, [None, newer[1]], older)
    rectifier.rectify()
    rectifier._after_step()
    window(net, rectifier, [None, -older[1]], [None, newer[1]])
    rectifier.rectify()
    g = dense([p.grad for p in net.parameters()])
    assert g @ dense(older) >= -1e-12
    assert (g[: older[0].numel()] != 0).all(), "the older constraint spans a tensor without a forget gradient"


# --- memory: subspace ------------------------------------------------------------------------------------------------


def test_gu_is_orthogonal_in_adams_metric():
    net = Stack(SHAPES)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, eps=1e-3)
    rectifier = GradientRectifier(net, optimizer, "gu/memory=3")
    seen = []
    for step in range(5):
        metric = torch.ones(sum(p.numel() for p in net.parameters()), dtype=torch.float64)
        if step:
            squares = dense([optimizer.state[p]["exp_avg_sq"] for p in net.parameters()])
            metric = 1 / (squares.sqrt() + 1e-3)
        forget, retain = vector(net, 70 + step), vector(net, 80 + step)
        window(net, rectifier, forget, retain)
        rectifier.rectify()
        g, u = dense([p.grad for p in net.parameters()]), dense(forget)
        seen = [*seen, dense(retain)][-3:]
        span = torch.stack(seen, dim=1)
        weighted = metric[:, None] * span
        expected = u - span @ torch.linalg.solve(span.T @ weighted, weighted.T @ u)
        torch.testing.assert_close(g, expected, rtol=1e-8, atol=1e-10)
        assert (weighted.T @ g).abs().max() < 1e-9
        assert (span.T @ g).abs().max() < 1e-9 if step == 0 else (span.T @ g).abs().max() > 1e-3
        optimizer.step()


def test_gu_keeps_adams_metric_beside_a_parameter_that_no_loss_reaches():
    net = Stack(SHAPES)
    results = []
    for unused in (False, True):
        model = copy.deepcopy(net)
        if unused:
            model.idle = nn.Parameter(torch.ones(2, dtype=torch.float64))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        rectifier = GradientRectifier(model, optimizer, "gu")
        params = [p for name, p in model.named_parameters() if name != "idle"]
        for step in range(2):
            model.zero_grad()
            with rectifier.retain():
                sum((p * x).sum() for p, x in zip(params, vector(net, 80 + step), strict=True)).backward()
            sum((p * x).sum() for p, x in zip(params, vector(net, 70 + step), strict=True)).backward()
            optimizer.step()
        results.append(dense([p.grad for p in params]))
    torch.testing.assert_close(*results)


# --- other rules -----------------------------------------------------------------------------------------------------


def over(x, y):
    return x / y if y > 0 else torch.zeros_like(x)


def literal(rule, u, r):
    dot = u @ r
    if rule == "gru":
        return u - over(dot, r @ r) * r if dot < 0 else u
    if rule == "pcgrad":
        of_u = u - over(dot, r @ r) * r if dot < 0 else u
        of_r = r - over(dot, u @ u) * u if dot < 0 else r
        return of_u + of_r
    if rule == "ngdiff":
        return over(u, u.norm()) + over(r, r.norm())
    if rule == "cosine-clip":
        cosine = over(dot, u.norm() * r.norm())
        return u - max(cosine, -0.5) * over(u.norm(), r.norm()) * r if cosine < 0 else u
    if rule == "sago":
        return r if dot < 0 else u
    assert rule == "pdu"
    return u + r


@pytest.mark.parametrize("rule", ["gru", "pcgrad", "ngdiff", "cosine-clip", "pdu", "sago"])
@given(seed=st.integers(0, 2**31), against=st.floats(-3, 3), empty=st.sampled_from(["", "", "u", "r", "ur"]))
@settings(max_examples=25, deadline=None)
def test_rules_are_their_formulas_and_keep_their_guarantees(rule, seed, against, empty):
    net = Stack(SHAPES, seed=seed)
    retain = vector(net, seed + 1)
    forget = [x + against * y for x, y in zip(vector(net, seed), retain, strict=True)]
    forget = [x * 0 for x in forget] if "u" in empty else forget
    retain = [x * 0 for x in retain] if "r" in empty else retain
    u, r = dense(forget), dense(retain)
    for granularity in ("model", "tensor", "row"):
        g, _ = rectified(net, f"{rule}/{granularity}", forget, retain)
        for b in blocks_of(net, granularity):
            torch.testing.assert_close(g[b], literal(rule, u[b], r[b]), rtol=1e-8, atol=1e-10)
            tiny = 1e-10 * (1 + r[b].norm()) * (1 + u[b].norm())
            if rule in ("gru", "pcgrad", "ngdiff", "sago"):
                assert g[b] @ r[b] >= -tiny
            if rule in ("pcgrad", "ngdiff", "gru"):
                assert g[b] @ u[b] >= -tiny
            if rule == "cosine-clip":
                assert (g[b] - u[b]).norm() <= 0.5 * u[b].norm() + tiny
                if u[b] @ r[b] >= -0.5 * u[b].norm() * r[b].norm():
                    assert g[b] @ r[b] >= -tiny


@given(seed=st.integers(0, 2**31), against=st.floats(-3, 3), weight=st.sampled_from([0, 0.1, 1, 7]))
@settings(max_examples=25, deadline=None)
def test_sago_takes_each_number_from_one_side(seed, against, weight):
    """By itself it works element by element; the weight is that of the retain gradient."""
    net = Stack(SHAPES, seed=seed)
    retain = vector(net, seed + 1)
    forget = [x + against * y for x, y in zip(vector(net, seed), retain, strict=True)]
    g, _ = rectified(net, f"sago/weight={weight}", forget, retain)
    u, r = dense(forget), dense(retain)
    assert torch.equal(g, torch.where(u * r < 0, weight * r, u))
    assert (g * r >= 0).all()


def weighted_pcgrad(u, r, weight):
    """The algorithm for the losses of forgetting and weight times that of retention."""
    return literal("pcgrad", u, weight * r)


@given(seed=st.integers(0, 2**31), against=st.floats(-3, 3), weight=st.sampled_from([0.1, 1, 7]))
@settings(max_examples=25, deadline=None)
def test_the_weight_of_pcgrad_is_that_of_the_retain_loss(seed, against, weight):
    net = Stack(SHAPES, seed=seed)
    retain = vector(net, seed + 1)
    forget = [x + against * y for x, y in zip(vector(net, seed), retain, strict=True)]
    g, _ = rectified(net, f"pcgrad/weight={weight}", forget, retain)
    torch.testing.assert_close(g, weighted_pcgrad(dense(forget), dense(retain), weight), rtol=1e-8, atol=1e-10)


def hamu_step(us, rs, rate, demand):
    """The method as its paper and code write it: steps Δ_t of a learning rate, then −Δ_t/rate."""
    us, rs = ([x / max(1.0, dense(xs).norm()) for x in xs] for xs in (us, rs))
    shares = torch.stack([u.norm() * r.norm() for u, r in zip(us, rs, strict=True)])
    steps = []
    for u, r, share in zip(us, rs, shares / shares.sum(), strict=True):
        f, radius, constraint = -u, rate * r.norm(), rate * demand * share
        dot = (f * r).sum()
        left = radius**2 - constraint**2 / f.norm() ** 2
        up = constraint / f.norm() ** 2 * f
        aside = r - dot / f.norm() ** 2 * f
        if left < 0:
            step = up
        elif dot <= -constraint * r.norm() / radius:
            step = -radius * r / r.norm()
        elif aside.norm() < 1e-3 * r.norm():
            step = up
        else:
            step = up - left.sqrt() * aside / aside.norm()
        steps.append(-step / rate)
    return steps


@given(
    seed=st.integers(0, 2**31),
    against=st.floats(-3, 3),
    size=st.sampled_from([0.01, 0.3, 1, 30]),
    demand=st.sampled_from([0, 0.1, 0.5, 0.9]),
)
@settings(max_examples=60, deadline=None)
def test_hamu_is_its_published_step(seed, against, size, demand):
    net = Stack(SHAPES, seed=seed)
    retain = [size * x / dense(vector(net, seed + 1)).norm() for x in vector(net, seed + 1)]
    forget = [x / 5 + against * y for x, y in zip(vector(net, seed), retain, strict=True)]
    g, _ = rectified(net, f"hamu/constraint={demand}", forget, retain)
    torch.testing.assert_close(g, dense(hamu_step(forget, retain, 1e-3, demand)), rtol=1e-6, atol=1e-9)


def test_a_rules_own_settings_are_words_and_part_of_its_name():
    word = "pdu/weight=100/dual_step_size=5/retain_loss_eps=0.3/warmup_steps=50"
    chosen = parse_rectification(word)
    rule = chosen.make_rule()
    assert (rule.weight, rule.dual_step_size, rule.retain_loss_eps, rule.warmup_steps) == (100, 5, 0.3, 50)
    assert str(chosen) == word
    assert parse_rectification("sago").granularity == "element"
    assert parse_rectification("sago/model").granularity == "model"
    assert str(parse_rectification("sago/weight=0.123456789")) == "sago/weight=0.123456789"
    assert parse_rectification(str(parse_rectification("sago/model/weight=2"))).granularity == "model"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gru/weight=1", "gru has no setting 'weight'"),
        ("sago/wait=1", "it has weight"),
        ("sago/weight=-1", "not negative"),
        ("sago/weight=nan", "finite"),
        ("sago/weight=1/weight=2", "twice"),
        ("sago/weight=much", "unknown part"),
        ("hamu/layer", "granularity tensor"),
        ("gu/weight=1", "no setting"),
    ],
)
def test_settings_that_a_rule_does_not_have_are_refused(word, said):
    with pytest.raises(ValueError, match=said):
        parse_rectification(word)


def test_primal_dual_finds_its_own_bound_and_warms_up():
    """As the paper chooses it: a multiple of the target's retain loss; its code holds the weight for some epochs."""
    rule = PrimalDual(weight=3, dual_step_size=2, warmup_steps=2)
    weights = []
    for loss in (0.5, 1.5, 2.0, 0.25):
        rule.observe(loss)
        weights.append(rule.weight)
    assert weights == [3, 3, 5, 3.5]
    again = PrimalDual(weight=3, dual_step_size=2, warmup_steps=2)
    again.load_state_dict(rule.state_dict())
    rule.observe(2.0)
    again.observe(2.0)
    assert again.weight == rule.weight == 5.5
    old = PrimalDual()
    old.load_state_dict({"weight": 2.0})
    old.observe(1.0)
    assert old.weight == 3.0, "version 0.1.0 held the loss near 0"


def test_primal_dual_follows_its_multiplier():
    net = Stack(SHAPES)
    rule = PrimalDual(dual_step_size=0.5, retain_loss_eps=0.2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rectifier = GradientRectifier(net, optimizer, rule)
    weight = 1.0
    for step, loss in enumerate((2.0, 0.1, 0.0, 1.0)):
        forget, retain = vector(net, step), vector(net, 90 + step)
        window(net, rectifier, forget, retain)
        rectifier.rectify()
        g = dense([p.grad for p in net.parameters()])
        torch.testing.assert_close(g, dense(forget) + weight * dense(retain))
        optimizer.step()
        rule.observe(loss)
        weight = max(0.0, weight + 0.5 * (loss - 0.2))
    rule.observe(-100.0)
    assert rule.weight == 0


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_zeros_stay_zeros_and_none_counts_as_zero(granularity):
    """No NaN from 0/0 for any rule; a missing entry gives what an entry of zeros gives."""
    names = ["a.0.w", "a.0.b", "c"]
    x = [torch.randn(3, 2, generator=torch.Generator().manual_seed(1)).double(), torch.full((2,), 3.0).double(), None]
    y = [-x[0], None, torch.ones(4).double()]
    groups = group_names(names, granularity)
    shapes = [(3, 2), (2,), (4,)]
    for rule in (gru, cosine_clip, pcgrad, ngdiff, sago, PrimalDual()):

        def apply(u, r, rule=rule):
            if granularity in ("row", "element"):
                return rectify_within_(u, r, granularity, rule)
            return rectify_groups_(u, r, groups, rule)

        forget = [None if t is None else t.clone() for t in x]
        filled = [torch.zeros(s).double() if t is None else t.clone() for s, t in zip(shapes, x, strict=True)]
        zeros = [torch.zeros(s).double() if t is None else t for s, t in zip(shapes, y, strict=True)]
        measures, expected = apply(forget, y), apply(filled, zeros)
        torch.testing.assert_close(forget[:2], filled[:2])
        for one, other in zip(measures[:3], expected[:3], strict=True):
            torch.testing.assert_close(one, other)
        assert forget[2] is None
        assert all(part.isfinite().all() for part in measures)
        nothing = [torch.zeros(s).double() for s in shapes]
        apply(nothing, [t.clone() for t in nothing])
        assert all((t == 0).all() for t in nothing)


@pytest.mark.parametrize("solver", [cone, subspace])
def test_memory_with_missing_entries(solver):
    x, y = torch.randn(2, 6, generator=torch.Generator().manual_seed(1)).double()
    u = [x[:3].clone(), None, x[3:].clone()]
    rectify_against_(u, [[-x[:3], torch.ones(2).double(), None], [None, None, y[3:]]], ["", "", ""], solver)
    rs = torch.stack([torch.cat([-x[:3], torch.zeros(3)]), torch.cat([torch.zeros(3), y[3:]])])
    rs = torch.cat([rs, torch.tensor([[1.0, 1], [0, 0]])], dim=1)
    padded = torch.cat([x, torch.zeros(2)])
    expected = padded + rs.T @ torch.from_numpy(solver(*gram_of(padded, rs)))
    torch.testing.assert_close(torch.cat([u[0], u[2]]), expected[:6])
    empty = [x.clone()]
    rectify_against_(empty, [[None]], [""], solver)
    assert torch.equal(empty[0], x)


@pytest.mark.parametrize(
    "name", ["gru", "gru/layer", "gru/tensor", "gru/row", "gru/memory=2", "gu", "pcgrad", "ngdiff"]
)
def test_bfloat16_stays_near_float64(name):
    net = Stack([[(64, 32), (64,)], [(32, 64)]], torch.bfloat16)
    forget, retain = vector(net, 1, torch.bfloat16), vector(net, 2, torch.bfloat16)
    forget = [x - y for x, y in zip(forget, retain, strict=True)]
    g, _ = rectified(net, name, forget, retain)
    exact = Stack([[(64, 32), (64,)], [(32, 64)]])
    expected, _ = rectified(exact, name, [x.double() for x in forget], [x.double() for x in retain])
    assert (expected - dense(forget)).norm() > 0.1 * expected.norm()
    assert (g - expected).norm() < 1e-2 * expected.norm()
    assert abs(g @ dense(retain) - expected @ dense(retain)) < 1e-2 * abs(dense(forget) @ dense(retain))


# --- one word, and a value -------------------------------------------------------------------------------------------


def choices():
    for rule, granularity, space, memory in itertools.product(
        [name for name in NAMES if name not in ("none", "recommended")], GRANULARITIES, ("gradient", "update"), (1, 4)
    ):
        try:
            yield Rectification(rule, granularity, space, memory)
        except ValueError:
            continue


def test_words_and_values_correspond():
    every = list(choices())
    assert len(every) == len({str(value) for value in every}) == 63
    for value in every:
        assert parse_rectification(str(value)) == value
    assert parse_rectification("none") is None
    assert parse_rectification("recommended") == parse_rectification(RECOMMENDED)
    assert parse_rectification("gru/memory=4/update/layer") == Rectification("gru", "layer", "update", 4)
    weights = {
        "gru": 0.8,
        "gru/layer/update": 0.8,
        "gru/row": 0.4,
        "cosine-clip/element/update": 0.4,
        "pcgrad/row": 1.0,
    }
    assert {word: default_gradient_weight(parse_rectification(word)) for word in weights} == weights


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grue", "unknown rectification 'grue': one of none, recommended, gru"),
        (
            "gru/elements",
            r"unknown part 'elements' .*\(model, layer, tensor, row, element\).*\(gradient, update\), memory=K",
        ),
        ("gru/memory=-1", "unknown part 'memory=-1'"),
        ("gru/memory=", "unknown part 'memory='"),
        ("gru/memory=0", "memory must be at least 1, got 0"),
        ("gru/row/layer", "names its granularity twice"),
        ("gru/update/update", "names its space twice"),
        ("none/row", "'none' stands alone"),
        ("recommended/row", "'recommended' stands alone"),
        ("pcgrad/update", "pcgrad/update has no form: only gru, cosine-clip and free"),
        ("gu/update", "only gru, cosine-clip and free work in update space"),
        ("pcgrad/memory=2", "only gru and gu have a memory"),
        ("gru/row/memory=2", "granularity model, layer or tensor"),
        ("gu/element", "granularity model, layer or tensor"),
    ],
)
def test_wrong_words_are_told_what_there_is(text, message):
    with pytest.raises(ValueError, match=message):
        parse_rectification(text)


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="unknown granularity 'head'"):
        Rectification(granularity="head")
    with pytest.raises(ValueError, match="unknown space 'dual'"):
        Rectification(space="dual")
    with pytest.raises(ValueError, match="needs no rectifier"):
        GradientRectifier(Stack([]), torch.optim.SGD(Stack([]).parameters(), lr=0.1), "none")


# --- state -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["gru/layer/memory=3", "gu/memory=2", "pdu", "gru/element/update"])
def test_a_saved_rectifier_goes_on_to_the_same_bits(word):
    def start(net, saved=None):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        rectifier = GradientRectifier(net, optimizer, word)
        if saved is not None:
            rectifier.load_state_dict(saved)
        return net, optimizer, rectifier

    def advance(net, optimizer, rectifier, steps):
        for step in steps:
            window(net, rectifier, vector(net, step), vector(net, 100 + step))
            optimizer.step()
            if hasattr(rectifier.rule, "observe"):
                rectifier.rule.observe(0.1 * step)

    whole = start(Stack(SHAPES))
    advance(*whole, range(9))
    first = start(Stack(SHAPES))
    advance(*first, range(5))
    second = start(copy.deepcopy(first[0]), copy.deepcopy(first[2].state_dict()))
    advance(*second, range(5, 9))
    assert torch.equal(dense(second[0].parameters()), dense(whole[0].parameters()))
    if word == "pdu":
        assert second[2].rule.weight == whole[2].rule.weight > 1
    with pytest.raises(ValueError, match=re.escape(f"saved with rectification {word}, here it is gru")):
        GradientRectifier(*whole[:2], new_gradient_weight=whole[2].new_gradient_weight).load_state_dict(
            second[2].state_dict()
        )


# --- your own rule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_rule_of_your_own(granularity):
    """Numbers and tensors as factors, in every granularity; half of r is added where the two agree, nothing else."""

    def bold(conflict: Conflict):
        return 1, 0.5 * (conflict.dot > 0)

    net = Stack(SHAPES)
    forget, retain = vector(net, 1), vector(net, 2)
    g, rectifier = rectified(net, Rectification(bold, granularity), forget, retain)
    u, r = dense(forget), dense(retain)
    expected = u.clone()
    for b in blocks_of(net, granularity):
        expected[b] += 0.5 * r[b] * (u[b] @ r[b] > 0)
    torch.testing.assert_close(g, expected)
    assert str(rectifier.rectification).startswith("bold")


def test_the_rule_of_the_page_runs_in_a_plain_loop():
    (source,) = re.findall(r"```python\n(import torch\n.*?class .*?)```", PAGE.read_text(), flags=re.DOTALL)
    definition = source[source.index("class ") :].strip().splitlines()
    assert len(definition) <= 12
    found = {}
    exec(compile(source, PAGE.name, "exec"), found)
    rule = next(value for value in found.values() if isinstance(value, type))()
    torch.manual_seed(0)
    net = nn.Linear(4, 2)
    before = dense(net.parameters())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rectifier = GradientRectifier(net, optimizer, rule)
    for _ in range(5):
        x = torch.randn(8, 4)
        with rectifier.retain():
            retain_loss = net(x).square().mean()
            retain_loss.backward()
        (-net(x).square().mean()).backward()
        u = dense([p.grad for p in net.parameters()])
        optimizer.step()
        held = rectifier.state_dict()["retain_direction"]
        r = dense([held[name] for name, _ in net.named_parameters()])
        g = dense([p.grad for p in net.parameters()])
        optimizer.zero_grad()
        rule.observe(retain_loss.item())
        assert rectifier.telemetry.rectified
        assert g @ r > u @ r, "the page says that the rule takes conflict away"
    assert (dense(net.parameters()) - before).norm() > 0


# --- several processes -----------------------------------------------------------------------------------------------

SHARDED = [f"gru/{granularity}/{space}" for granularity in GRANULARITIES for space in ("gradient", "update")]
SHARDED += ["gru/layer/memory=2", "gu/memory=2", "pcgrad/row"]


def train(net, word, place=lambda x, _number: x, **options):
    """Three AdamW steps; the weights before ``full_tensor``, and the telemetry."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.2, foreach=False)
    rectifier = GradientRectifier(net, optimizer, word, max_grad_norm=0.5, **options)
    for step in range(3):
        retain = vector(net, 20 + step)
        forget = [x - 2 * r for x, r in zip(vector(net, 10 + step), retain, strict=True)]
        window(net, rectifier, *([place(x, i) for i, x in enumerate(v)] for v in (forget, retain)))
        optimizer.step()
    seen = rectifier.telemetry
    layers = list(rectifier.removed_share_by_layer().values())
    return net, torch.tensor([seen.inner_product, seen.conflict_share, seen.removed_share, seen.retain_change, *layers])


def sharded(net):
    """DTensors, sharded by rows (unevenly; a single row leaves a process empty-handed) or replicated."""
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor  # noqa: PLC0415 - slow to import

    mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))

    def place(x, number):
        return distribute_tensor(x, mesh, [Replicate() if x.ndim == 0 or number == 2 else Shard(0)])

    for number, (name, p) in enumerate(list(net.named_parameters())):
        owner, _, leaf = name.rpartition(".")
        setattr(net.get_submodule(owner), leaf, nn.Parameter(place(p.detach(), number)))
    return net, place


def product_on_a_2d_mesh():
    """Of arange(12) with itself, sharded along both dimensions of a 1 × 2 mesh; and of a replicated vector."""
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor  # noqa: PLC0415 - slow to import

    mesh = dist.init_device_mesh("cpu", (1, 2))
    x = torch.arange(12.0).reshape(3, 4)
    both = distribute_tensor(x, mesh, [Shard(0), Shard(1)])
    whole = distribute_tensor(x, mesh, [Replicate(), Replicate()])
    return inner_product([both, whole], [both, whole])


def in_one_of_two_processes(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {}
    for word in SHARDED:
        net, place = sharded(Stack(SHAPES))
        net, seen = train(net, word, place)
        found |= {f"{word} {name}": p.detach().full_tensor().contiguous() for name, p in net.named_parameters()}
        found[f"{word} telemetry"] = seen
    found["product on a 2-D mesh"] = product_on_a_2d_mesh()
    net = Stack(SHAPES)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rectifier = GradientRectifier(net, optimizer, "gru/tensor", replicas=dist.group.WORLD, retain_step=0.5)
    for step in range(3):
        window(net, rectifier, vector(net, step), vector(net, 100 * (rank + 1) + step))
        optimizer.step()
    found |= {f"replicas {name}": p.detach() for name, p in net.named_parameters()}
    for word in UNEVEN:
        net = uneven_replicas(word, [rank], replicas=dist.group.WORLD)
        found |= {f"uneven {word} {name}": p.detach() for name, p in net.named_parameters()}
    for word in CANCELLING:
        net, place = sharded(Stack(SHAPES, torch.float32))
        net = train_against(net, word, place)
        found |= {f"against {word} {name}": p.detach().full_tensor() for name, p in net.named_parameters()}
    save_file(found, f"{folder}/{rank}.safetensors")
    dist.destroy_process_group()


UNEVEN = ("gru/tensor", "gru/memory=2")


def uneven_replicas(word, ranks, **options):
    """Four steps in which each replica's retain loss misses another tensor, and the second has no third retain pass.
    Several ranks in one process: their mean, what a rank misses being zero."""
    net = Stack(SHAPES)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rectifier = GradientRectifier(net, optimizer, word, retain_step=0.5, **options)
    for step in range(4):
        of_ranks = []
        for rank in ranks:
            gradients = vector(net, 100 * (rank + 1) + step)
            gradients[(rank + step) % 3] = None
            of_ranks.append([None] * len(gradients) if rank == 1 and step == 2 else gradients)
        net.zero_grad()
        if of_ranks != [[None] * len(of_ranks[0])]:
            with rectifier.retain():
                for gradients in of_ranks:
                    backward(net, [None if g is None else g / len(ranks) for g in gradients])
        backward(net, vector(net, step))
        optimizer.step()
    return net


CANCELLING = ("gru/tensor", "gru/layer", "pcgrad/layer")


def train_against(net, word, place=lambda x, _number: x):
    """Three Adam steps in float32 on gradients that are in part exactly against the retain gradients."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05, foreach=False)
    rectifier = GradientRectifier(net, optimizer, word, new_gradient_weight=1.0)
    for step in range(3):
        retain = vector(net, 20 + step, torch.float32)
        forget = [x - 2 * r for x, r in zip(vector(net, 10 + step, torch.float32), retain, strict=True)]
        forget[-1] = -3 * retain[-1]
        window(net, rectifier, *([place(x, i) for i, x in enumerate(v)] for v in (forget, retain)))
        optimizer.step()
    return net


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(in_one_of_two_processes, args=(str(folder),), nprocs=2)
    return [load_file(folder / f"{rank}.safetensors") for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("word", SHARDED)
def test_sharded_parameters_give_what_whole_ones_give(two_processes, word):
    net, seen = train(Stack(SHAPES), word)
    assert seen[1] > 0, "the last step must conflict, or it tests little"
    for found in two_processes:
        for name, p in net.named_parameters():
            torch.testing.assert_close(found[f"{word} {name}"], p.detach(), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(found[f"{word} telemetry"], seen, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_each_number_counts_once_on_a_2d_mesh(two_processes):
    for found in two_processes:
        assert found["product on a 2-D mesh"] == 2 * sum(i * i for i in range(12))


@pytest.mark.slow
@pytest.mark.parametrize("word", UNEVEN)
def test_replicas_that_reach_different_tensors_agree(two_processes, word):
    expected = uneven_replicas(word, [0, 1])
    for found in two_processes:
        for name, p in expected.named_parameters():
            torch.testing.assert_close(found[f"uneven {word} {name}"], p.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("word", CANCELLING)
def test_sharded_parameters_cancel_as_whole_ones_do(two_processes, word):
    expected = train_against(Stack(SHAPES, torch.float32), word)
    for found in two_processes:
        for name, p in expected.named_parameters():
            torch.testing.assert_close(found[f"against {word} {name}"], p.detach(), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_replicas_average_their_retain_gradients(two_processes):
    net = Stack(SHAPES)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rectifier = GradientRectifier(net, optimizer, "gru/tensor", retain_step=0.5)
    for step in range(3):
        both = zip(vector(net, 100 + step), vector(net, 200 + step), strict=True)
        window(net, rectifier, vector(net, step), [(x + y) / 2 for x, y in both])
        optimizer.step()
    for found in two_processes:
        for name, p in net.named_parameters():
            torch.testing.assert_close(found[f"replicas {name}"], p.detach(), rtol=1e-10, atol=1e-12)


def test_a_rule_of_your_own_has_no_smoothing_no_update_space_and_no_memory():
    """A published rule too, where it is given as a function: what it can do goes with its name."""
    assert default_gradient_weight(Rectification(gru, "row")) == default_gradient_weight(Rectification(gru)) == 1
    with pytest.raises(ValueError, match="gru/update has no form: only gru, cosine-clip and free work in update space"):
        Rectification(gru, space="update")
    with pytest.raises(ValueError, match="gru/memory=2 has no form: only gru and gu have a memory"):
        Rectification(gru, memory=2)
    net = Stack([])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rules = {word: GradientRectifier(net, optimizer, word).rule for word in ("gru/row", "gru/memory=2", "gu")}
    assert rules == {"gru/row": gru, "gru/memory=2": cone, "gu": subspace}
