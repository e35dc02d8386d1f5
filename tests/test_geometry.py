"""The rectifier against a literal float64 transcription of the published algorithm, and what it must never do."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gru_unlearn import GradientRectifier
from gru_unlearn.geometry import inner_product, measure_conflict, products, remove_conflict_


def flat(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors])


class Net(nn.Module):
    """Tied weights, a frozen parameter, one that only the retain loss reaches, one that no loss reaches."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.embed = nn.Linear(6, 5, bias=False, dtype=dtype)
        self.body = nn.Linear(5, 5, dtype=dtype)
        self.head = nn.Linear(5, 6, bias=False, dtype=dtype)
        self.head.weight = nn.Parameter(self.embed.weight.T.clone())
        self.tied = nn.Linear(6, 5, bias=False, dtype=dtype)
        self.tied.weight = self.embed.weight
        self.frozen = nn.Parameter(torch.ones(3, dtype=dtype), requires_grad=False)
        self.retain_only = nn.Parameter(torch.ones(6, dtype=dtype))
        self.unused = nn.Parameter(torch.ones(2, dtype=dtype))

    def forward(self, x, retain=False):
        hidden = torch.tanh(self.body(self.embed(x) + self.tied(x)))
        out = self.head(hidden)
        return out * self.retain_only if retain else out


def losses(net, x, y):
    retain = (net(x, retain=True) - y).pow(2).mean()
    forget = -(net(x + 0.3) - y).abs().mean()
    return forget, retain


def reference_run(net, batches, *, gamma, lr, clip, steps_per_window, retain_step=0.0, inside=0.0):
    """arXiv 2503.09117, algorithm 1, with one dense float64 vector for everything."""
    params = [p for p in net.parameters() if p.requires_grad]
    touched = [p for p in params if p is not net.unused]
    optimizer = torch.optim.AdamW(touched, lr=lr, weight_decay=0.01)
    r = torch.zeros(sum(p.numel() for p in touched), dtype=torch.float64)
    for window in batches:
        u, new = torch.zeros_like(r), torch.zeros_like(r)
        for x, y in window:
            forget, retain = losses(net, x, y)
            for loss, vector in ((forget, u), (retain, new)):
                grads = torch.autograd.grad(loss / steps_per_window, touched, allow_unused=True, retain_graph=True)
                vector.add_(
                    flat([g if g is not None else torch.zeros_like(p) for g, p in zip(grads, touched, strict=True)])
                )
        u += inside * new
        r = gamma * new + (1 - gamma) * r
        g = u if u @ r >= 0 else u - (u @ r) / (r @ r) * r
        g = g + retain_step * new
        g = g * min(1.0, clip / (g.norm().item() + 1e-6))
        offset = 0
        for p in touched:
            p.grad = g[offset : offset + p.numel()].view_as(p).clone()
            offset += p.numel()
        optimizer.step()
    return flat(params)


def rectified_run(net, batches, *, gamma, lr, clip, steps_per_window, retain_step=0.0, inside=0.0):
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=lr, weight_decay=0.01)
    rectifier = GradientRectifier(
        net, optimizer, new_gradient_weight=gamma, max_grad_norm=clip, retain_step=retain_step
    )
    telemetry = []
    for window in batches:
        for x, y in window:
            with rectifier.retain(gradient_share=inside):
                (losses(net, x, y)[1] / steps_per_window).backward()
            (losses(net, x, y)[0] / steps_per_window).backward()
        optimizer.step()
        optimizer.zero_grad()
        telemetry.append(rectifier.telemetry)
    return flat([p for p in net.parameters() if p.requires_grad]), telemetry


def make_batches(windows, per_window, rows=4, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        [tuple(torch.randn(rows, 6, generator=generator, dtype=dtype) for _ in range(2)) for _ in range(per_window)]
        for _ in range(windows)
    ]


@pytest.mark.parametrize("per_window", [1, 3])
@pytest.mark.parametrize("gamma", [0.6, 0.8, 1.0])
@pytest.mark.parametrize("extra", [{}, {"retain_step": 0.7}, {"inside": 0.5}])
def test_equals_the_published_algorithm_over_24_steps(per_window, gamma, extra):
    torch.manual_seed(0)
    net = Net()
    options = {"gamma": gamma, "lr": 3e-3, "clip": 0.05, "steps_per_window": per_window, **extra}
    batches = make_batches(24, per_window)
    expected = reference_run(copy.deepcopy(net), batches, **options)
    actual, telemetry = rectified_run(net, batches, **options)
    assert sum(t.rectified for t in telemetry) >= 3, "the problem must conflict, or it tests nothing"
    assert (actual - expected).norm() / expected.norm() < 1e-6
    moved = expected - flat([p for p in Net().parameters() if p.requires_grad])
    assert moved.norm() > 0.01, "the run must move the weights far more than the tolerance"


def test_a_window_without_a_retain_pass_takes_no_retain_step():
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rectifier = GradientRectifier(net, optimizer, retain_step=0.5)
    with rectifier.retain():
        net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    net.weight.grad = torch.ones(1, 3)  # along r: the projection leaves it alone
    rectifier.rectify()
    assert torch.equal(net.weight.grad, torch.ones(1, 3))


def test_one_window_of_eight_equals_eight_micro_batches():
    torch.manual_seed(0)
    net = Net()
    small = make_batches(20, 8, rows=1)
    large = [[tuple(torch.cat(parts) for parts in zip(*window, strict=True))] for window in small]
    options = {"gamma": 0.8, "lr": 1e-3, "clip": 1.0}
    many, _ = rectified_run(copy.deepcopy(net), small, steps_per_window=8, **options)
    one, _ = rectified_run(copy.deepcopy(net), large, steps_per_window=1, **options)
    torch.testing.assert_close(many, one, rtol=1e-9, atol=1e-12)


vectors = st.integers(0, 2**31).flatmap(
    lambda seed: st.tuples(
        st.just(seed),
        st.lists(st.lists(st.integers(1, 5), min_size=0, max_size=3), min_size=1, max_size=4),
        st.floats(1e-3, 1e3),
    )
)


def draw(seed, shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


@given(vectors)
@settings(max_examples=200, deadline=None)
def test_projection_properties(case):
    seed, shapes, scale = case
    u, r = draw(seed, shapes), draw(seed + 1, shapes)
    conflict = measure_conflict(u, r)
    g = [x.clone() for x in u]
    remove_conflict_(g, r, conflict.coefficient)
    fu, fr, fg = flat(u), flat(r), flat(g)
    bound = 1e-9 * fu.norm() * fr.norm()
    assert fg @ fr >= -bound, "never conflicts afterwards"
    assert fg.norm() <= fu.norm() * (1 + 1e-12), "never longer than u"
    if fu @ fr >= 0:
        assert torch.equal(fg, fu), "unchanged where there is no conflict"
    else:
        torch.testing.assert_close(fg, fu - (fu @ fr) / (fr @ fr) * fr)
    scaled = [x.clone() for x in u]
    remove_conflict_(scaled, [scale * x for x in r], measure_conflict(u, [scale * x for x in r]).coefficient)
    torch.testing.assert_close(flat(scaled), fg, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_inner_products_accumulate_wide(dtype, monkeypatch):
    monkeypatch.setitem(products._CHUNK, "cpu", 100)  # several pieces from a small tensor
    x, y = (t.to(dtype) for t in draw(3, [[7, 61], [5]])), (t.to(dtype) for t in draw(4, [[7, 61], [5]]))
    x, y = list(x), list(y)
    expected = flat(x).double() @ flat(y).double()
    torch.testing.assert_close(inner_product(x, y).double(), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(inner_product(x, y, torch.float64), expected, rtol=1e-12, atol=1e-12)


def test_mixed_dtypes_in_one_model():
    net = nn.ModuleDict({"low": nn.Linear(4, 4).to(torch.bfloat16), "high": nn.Linear(4, 1)})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rectifier = GradientRectifier(net, optimizer, new_gradient_weight=1.0)

    def out(x):
        return net["high"](net["low"](x.to(torch.bfloat16)).float()).mean()

    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    with rectifier.retain():
        out(x).backward()
    (-out(x)).backward()
    rectifier.rectify()
    assert rectifier.telemetry.cosine == pytest.approx(-1, abs=1e-3)
    assert flat([p.grad.float() for p in net.parameters()]).norm() < 0.02, "u = −r: nothing is left"


def test_zero_retain_gradient_changes_nothing():
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rectifier = GradientRectifier(net, optimizer)
    with rectifier.retain():
        (net(torch.ones(2, 3)) * 0).sum().backward()
    net(torch.ones(2, 3)).sum().backward()
    before = [p.grad.clone() for p in net.parameters()]
    rectifier.rectify()
    assert torch.equal(flat([p.grad for p in net.parameters()]), flat(before))
    assert not rectifier.telemetry.rectified
    assert rectifier.telemetry.cosine == 0


def test_without_any_retain_pass_it_is_the_plain_optimizer():
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    plain = copy.deepcopy(net)
    for model in (net, plain):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        if model is net:
            GradientRectifier(model, optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
    assert torch.equal(flat(net.parameters()), flat(plain.parameters()))


def test_retain_leaves_the_gradient_as_it_was():
    net = nn.Linear(3, 1)
    rectifier = GradientRectifier(net, torch.optim.SGD(net.parameters(), lr=0.1))
    net(torch.ones(2, 3)).sum().backward()
    before = [(p.grad, p.grad.clone()) for p in net.parameters()]
    with rectifier.retain():
        net(torch.randn(2, 3)).sum().backward()
    for p, (same, value) in zip(net.parameters(), before, strict=True):
        assert p.grad is same
        assert torch.equal(p.grad, value)


def test_frozen_and_unreached_parameters():
    net = Net()
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    rectifier = GradientRectifier(net, optimizer, new_gradient_weight=1.0)
    (window,) = make_batches(1, 1)
    x, y = window[0]
    with rectifier.retain():
        losses(net, x, y)[1].backward()
    (-losses(net, x, y)[1] + losses(net, x, y)[0] * 0.1).backward()
    rectifier.rectify()
    assert net.frozen.grad is None
    assert net.unused.grad is None
    assert rectifier.telemetry.rectified


def test_realised_change_is_the_inner_product_with_the_displacement():
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-3)
    rectifier = GradientRectifier(net, optimizer)
    for window in make_batches(5, 1):
        x, y = window[0]
        with rectifier.retain():
            losses(net, x, y)[1].backward()
        losses(net, x, y)[0].backward()
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
        r = rectifier.state_dict()["retain_direction"]
        expected = sum(
            ((p.detach() - before[name]) * r[name]).sum().item() for name, p in net.named_parameters() if name in r
        )
        assert rectifier.telemetry.retain_change == pytest.approx(expected, rel=1e-8)


def test_telemetry_matches_the_vectors():
    net = nn.Linear(2, 1, bias=False)
    rectifier = GradientRectifier(net, torch.optim.SGD(net.parameters(), lr=1.0), new_gradient_weight=1.0)
    with rectifier.retain():
        (net.weight * torch.tensor([[3.0, 0.0]])).sum().backward()
    (net.weight * torch.tensor([[-4.0, 3.0]])).sum().backward()
    rectifier.rectify()
    seen = rectifier.telemetry
    assert (seen.inner_product, seen.forget_norm, seen.retain_norm) == (-12, 5, 3)
    assert seen.cosine == pytest.approx(-0.8)
    assert seen.removed_share == pytest.approx(1 - 3 / 5)
    assert net.weight.grad[0].tolist() == pytest.approx([0.0, 3.0], abs=1e-6)


def test_state_dict_resumes_to_the_same_bits():
    torch.manual_seed(0)
    net = Net(torch.float32)
    batches = make_batches(12, 1, dtype=torch.float32)
    options = {"lr": 1e-2, "foreach": True}

    def advance(model, optimizer, rectifier, windows):
        for ((x, y),) in windows:
            with rectifier.retain():
                losses(model, x, y)[1].backward()
            losses(model, x, y)[0].backward()
            optimizer.step()
            optimizer.zero_grad()

    def start(model):
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **options)
        return model, optimizer, GradientRectifier(model, optimizer)

    whole = start(copy.deepcopy(net))
    advance(*whole, batches)
    first = start(copy.deepcopy(net))
    advance(*first, batches[:5])
    second = start(copy.deepcopy(first[0]))
    second[1].load_state_dict(copy.deepcopy(first[1].state_dict()))
    second[2].load_state_dict(copy.deepcopy(first[2].state_dict()))
    advance(*second, batches[5:])
    assert torch.equal(flat(whole[0].parameters()), flat(second[0].parameters()))


def test_only_one_extra_buffer_of_the_gradients_size():
    net = nn.Linear(50, 50)
    rectifier = GradientRectifier(net, torch.optim.SGD(net.parameters(), lr=0.1))
    for _ in range(3):
        with rectifier.retain():
            net(torch.ones(1, 50)).sum().backward()
    held = sum(t.numel() for direction in (*rectifier._memory, rectifier._fresh) for t in direction._parts.values())
    assert held == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"new_gradient_weight": 0.0}, "new_gradient_weight"),
        ({"new_gradient_weight": float("nan")}, "new_gradient_weight"),
        ({"max_grad_norm": -1.0}, "max_grad_norm"),
        ({"retain_step": float("inf")}, "retain_step"),
    ],
)
def test_settings_out_of_range_are_refused(kwargs, message):
    net = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=message):
        GradientRectifier(net, torch.optim.SGD(net.parameters(), lr=0.1), **kwargs)


def test_misuse_is_refused():
    net = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="no trainable parameter"):
        GradientRectifier(nn.Linear(2, 1), optimizer)
    rectifier = GradientRectifier(net, optimizer)
    with rectifier.retain(), pytest.raises(RuntimeError, match="already open"), rectifier.retain():
        pass
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: 0.0)
    rectifier.rectify()
    with pytest.raises(RuntimeError, match="after rectify"), rectifier.retain():
        pass
    with pytest.raises(ValueError, match="new_gradient_weight"):
        rectifier.load_state_dict({"new_gradient_weight": 0.3, "retain_direction": {}})
    with pytest.raises(ValueError, match="not trained here: nobody"):
        rectifier.load_state_dict({"new_gradient_weight": 0.8, "retain_direction": {"nobody": torch.zeros(1)}})


def test_closing_takes_the_hooks_off():
    net = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    rectifier = GradientRectifier(net, optimizer)
    rectifier.close()
    net.weight.grad = torch.ones(1, 2)
    optimizer.step()
    assert rectifier.telemetry is None
