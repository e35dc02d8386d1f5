"""Windows that end in other ways than by a step: skipped, abandoned, failed; with a scaler, clipping and wrappers."""

import copy
import gc
import itertools
import math
import warnings
import weakref

import accelerate
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.amp import GradScaler

from gru_unlearn import GradientRectifier
from gru_unlearn.geometry import products
from gru_unlearn.geometry.direction import Direction, _fold_where_

GAMMA = 0.4
SEEDS = st.integers(0, 2**31)
BAD = (math.nan, math.inf, -math.inf)


class Pair(nn.Module):
    """Two tensors; ``loss`` makes a loss whose gradients are what the test says."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(3, 2, dtype=dtype)), nn.Parameter(torch.ones(4, dtype=dtype))

    def loss(self, gradients):
        return sum((p * g).sum() for p, g in zip(self.parameters(), gradients, strict=True) if g is not None)


def drawn(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in ((3, 2), (4,))]


def start(rectification="gru", dtype=torch.float64, lr=0.1, **options):
    net = Pair(dtype)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    options = {"new_gradient_weight": GAMMA, **options}
    return net, optimizer, GradientRectifier(net, optimizer, rectification, **options)


def flat(tensors):
    return torch.cat([torch.zeros(0, dtype=torch.float64), *(t.detach().double().reshape(-1) for t in tensors)])


def held(rectifier):
    directions = rectifier.state_dict()["retain_direction"]
    return flat(directions[name] for name in sorted(directions, key=lambda name: (name.partition("@")[2], name)))


def retain(net, rectifier, gradients, **options):
    with rectifier.retain(**options):
        net.loss(gradients).backward()


# --- what is not finite ------------------------------------------------------------------------------------------


def spoiled(gradients, bad, places):
    found = [g.clone() for g in gradients]
    for place in places:
        found[place].view(-1)[place] = bad
    return found


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("gamma", [0.3, 1.0])
@given(seed=SEEDS, passes=st.lists(st.sets(st.integers(0, 1)), min_size=1, max_size=4), first=st.booleans())
@settings(max_examples=20, deadline=None)
def test_r_takes_finite_gradients_only(bad, gamma, seed, passes, first):
    """Each tensor is smoothed over the windows and passes in which its gradient was finite, as if the rest were not."""
    net, optimizer, rectifier = start(new_gradient_weight=gamma)
    expected = [torch.zeros_like(p) for p in net.parameters()]
    if not first:
        expected = [gamma * g for g in drawn(seed)]
        retain(net, rectifier, drawn(seed))
        optimizer.step()
    sums: list = [None, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for number, places in enumerate(passes, start=1):
            gradients = drawn(seed + number)
            retain(net, rectifier, spoiled(gradients, bad, places))
            for place in {0, 1} - places:
                sums[place] = gradients[place] + (0 if sums[place] is None else sums[place])
        optimizer.step()
    for place in (0, 1):
        if sums[place] is not None:
            expected[place] = gamma * sums[place] + (1 - gamma) * expected[place]
    torch.testing.assert_close(held(rectifier), flat(expected))
    refused = sum(map(len, passes)) / (2 * len(passes))
    assert rectifier.telemetry.retain_refused == pytest.approx(refused)


@pytest.mark.parametrize("stored", [{}, {"retain_dtype": torch.bfloat16}, {"retain_step": 0.5}])
@pytest.mark.parametrize("word", ["gru", "gru/element/update", "gru/memory=3", "gu"])
def test_a_retain_pass_of_nan_leaves_weights_finite(word, stored):
    net, optimizer, rectifier = start(word, torch.float32, **stored)
    with pytest.warns(RuntimeWarning, match="retain gradient held NaN or infinity"):  # noqa: PT031 - in one of the steps
        for step, bad in enumerate([1.0, math.nan, 1.0]):
            retain(net, rectifier, [bad * g for g in drawn(step, torch.float32)])
            net.loss(drawn(step + 10, torch.float32)).backward()
            assert rectifier.nan_if_refused().isnan() == math.isnan(bad)
            optimizer.step()
            optimizer.zero_grad()
    assert flat(net.parameters()).isfinite().all()
    assert held(rectifier).isfinite().all()
    assert rectifier.telemetry.retain_refused == 0


def test_a_direction_folds_like_its_plain_reference():
    """Factors, refusals and what is left to decay, against a loop over whole windows."""
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        params = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 5), (2, 3), ())]
        direction, expected = Direction(), [torch.zeros(p.shape, dtype=torch.float64) for p in params]
        for _ in range(6):
            factor = torch.rand((), generator=generator).item()
            direction.decay(factor)
            sums, refused_only = [torch.zeros_like(e) for e in expected], [None] * 3
            for number in torch.randint(0, 3, (4,), generator=generator).tolist():
                g, bad = (
                    torch.randn(params[number].shape, generator=generator),
                    torch.rand(1, generator=generator) < 0.3,
                )
                taken = direction.add(params[number], g * math.inf if bad else g, 0.5)
                assert taken.item() == (not bad)
                refused_only[number] = bool(bad) and refused_only[number] is not False
                sums[number] += 0 if bad else 0.5 * g
            expected = [e if left else factor * e + s for e, s, left in zip(expected, sums, refused_only, strict=True)]
        direction.settle()
        for p, e in zip(params, expected, strict=True):
            part = direction.get(p)
            torch.testing.assert_close(torch.zeros_like(e) if part is None else part.double(), e, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("finite", [True, False])
def test_folding_on_the_device_is_folding(dtype, finite, monkeypatch):
    """The kernel that never asks, against the plain formula, over several pieces and other strides."""
    monkeypatch.setitem(products._CHUNK, "cpu", 50)
    for factor in (0.6, 1.0, torch.tensor(0.6, dtype=torch.float64)):
        for turn in (False, True):
            total, new = torch.randn(7, 31), torch.randn(31, 7).T if turn else torch.randn(7, 31)
            new = new.to(dtype)
            expected = total * factor + 0.4 * new.float() if finite else total.clone()
            _fold_where_(total, factor, new if finite else new * math.nan, 0.4, torch.tensor(finite))
            torch.testing.assert_close(total, expected)


# --- windows without a step --------------------------------------------------------------------------------------

ENDS = ("reset", "zero_grad", "rectify, zero_grad", "rectify, reset", "error in retain", "error in step, zero_grad")


def end_without_step(how, net, optimizer, rectifier):
    """The window's retain pass has been; what a loop does instead of the step."""
    if how == "error in retain":
        with pytest.raises(ZeroDivisionError), rectifier.retain():
            raise ZeroDivisionError
    net.loss(drawn(50)).backward()
    if "rectify" in how:
        rectifier.rectify()
    if "error in step" in how:
        stop = optimizer.register_step_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            optimizer.step()
        stop.remove()
    if "reset" in how:
        rectifier.reset()
    optimizer.zero_grad()


@pytest.mark.parametrize("word", ["gru", "gru/element", "gru/update", "gru/memory=2"])
@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("how", ENDS)
def test_a_window_without_a_step_counts_once_or_not_at_all(how, keeps, word):
    """r is that of a loop in which such a window was an ordinary one, or never happened."""
    net, optimizer, rectifier = start(word, keep_previous=keeps)
    twin, twin_optimizer, reference = start(word)
    for step in range(6):
        retain(net, rectifier, drawn(step))
        if step in (2, 3):
            end_without_step(how, net, optimizer, rectifier)
        if step not in (2, 3) or not keeps:
            retain(twin, reference, drawn(step))
            twin_optimizer.step()
        if step not in (2, 3):
            optimizer.step()
            optimizer.zero_grad()
    assert torch.equal(held(rectifier), held(reference))


@pytest.mark.parametrize("how", ENDS)
def test_the_step_after_a_window_without_one_is_rectified(how):
    """Also where no retain pass comes between."""
    net, optimizer, rectifier = start()
    r = drawn(1)
    retain(net, rectifier, r)
    end_without_step(how, net, optimizer, rectifier)
    net.loss([-3 * g for g in r]).backward()
    before = flat(net.parameters())
    optimizer.step()
    assert (flat(net.parameters()) - before) @ flat(r) <= 1e-12
    assert rectifier.telemetry.rectified


def test_a_failed_retain_pass_leaves_what_it_did_not_reach():
    net, optimizer, rectifier = start(new_gradient_weight=1.0)
    retain(net, rectifier, drawn(1))
    optimizer.step()
    optimizer.zero_grad()
    with pytest.raises(ZeroDivisionError), rectifier.retain():  # noqa: PT012 - after a part of the backward pass
        net.loss([drawn(2)[0], None]).backward()
        raise ZeroDivisionError
    assert all(p.grad is None for p in net.parameters())
    torch.testing.assert_close(held(rectifier), flat([drawn(2)[0], drawn(1)[1]]))


def test_an_error_while_rectifying_leaves_the_gradient_to_be_rectified(monkeypatch):
    net, optimizer, rectifier = start()
    r = drawn(1)
    retain(net, rectifier, r)
    net.loss([-g for g in r]).backward()
    project = rectifier._project
    monkeypatch.setattr(rectifier, "_project", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        optimizer.step()
    monkeypatch.setattr(rectifier, "_project", project)
    optimizer.step()
    assert torch.equal(flat(net.parameters()), torch.ones(10).double())


def test_reset_is_named_where_it_is_needed():
    net, optimizer, rectifier = start()
    net.loss(drawn(1)).backward()
    rectifier.rectify()
    optimizer.zero_grad(set_to_none=False)
    with pytest.raises(RuntimeError, match=r"take the optimizer step first, or call reset\(\)"), rectifier.retain():
        pass
    rectifier.reset()
    retain(net, rectifier, drawn(1))
    with rectifier.retain(), pytest.raises(RuntimeError, match=r"reset\(\) inside retain"):
        rectifier.reset()


def test_zero_grad_between_retain_and_forget_ends_nothing():
    net, optimizer, rectifier = start(new_gradient_weight=1.0)
    for _ in range(2):
        retain(net, rectifier, drawn(1))
        optimizer.zero_grad()
    net.loss([-g for g in drawn(1)]).backward()
    retain(net, rectifier, drawn(1))
    optimizer.step()
    torch.testing.assert_close(held(rectifier), 3 * flat(drawn(1)))


def test_a_kept_previous_direction_is_gone_after_the_step():
    net, optimizer, rectifier = start(keep_previous=True)
    for step in range(2):
        retain(net, rectifier, drawn(step))
        optimizer.step()
        assert rectifier._memory._previous is None
    rectifier.reset()
    torch.testing.assert_close(held(rectifier), flat(drawn(1)) * GAMMA + flat(drawn(0)) * GAMMA * (1 - GAMMA))


# --- GradScaler --------------------------------------------------------------------------------------------------


def plain_step(net, r, u, *, inside=0.0, retain_step=0.0, clip=None, lr=0.1):
    """g in the losses' own units, by hand: the closed form, the retain step, then clipping."""
    new, u = flat(r), flat(u)
    u = u + inside * new
    g = u - min(0.0, (u @ new).item()) / (new @ new) * new + retain_step * new
    if clip is not None:
        g = g * min(1.0, clip / (g.norm().item() + 1e-6))
    return flat(net.parameters()) - lr * g


def scaled_step(
    net, optimizer, rectifier, scaler, r, u, *, order="retain, forget", clipping="not", clip=1.0, inside=0.0
):
    def retain_pass():
        with rectifier.retain(gradient_share=inside):
            scaler.scale(net.loss(r)).backward()

    passes = {"retain": retain_pass, "forget": lambda: scaler.scale(net.loss(u)).backward()}
    for name in order.split(", "):
        passes[name]()
    if "unscale" in clipping:
        scaler.unscale_(optimizer)
    if "rectify" in clipping:
        rectifier.rectify()
    if "clip" in clipping:
        nn.utils.clip_grad_norm_(net.parameters(), clip)
    scaler.step(optimizer)
    scaler.update()


CLIPPING = ("not", "rectifier", "unscale, rectify, clip", "rectify, clip", "unscale, then step")
EXTRAS = ({}, {"inside": 0.7}, {"retain_step": 0.6})


@pytest.mark.parametrize("clipping", CLIPPING)
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("order", ["retain, forget", "forget, retain"])
def test_under_a_scaler_all_units_are_the_losses_own(clipping, extra, order):
    scaler = GradScaler("cpu", init_scale=2.0**12)
    clip = 0.5 if "clip" in clipping or clipping == "rectifier" else None
    options = {"max_grad_norm": clip if clipping == "rectifier" else None}
    net, optimizer, rectifier = start(scaler=scaler, retain_step=extra.get("retain_step", 0.0), **options)
    r, u = drawn(1), [x - 2 * y for x, y in zip(drawn(2), drawn(1), strict=True)]
    expected = plain_step(net, r, u, clip=clip, **extra)

    how = {"order": order, "clipping": clipping, "clip": clip, "inside": extra.get("inside", 0.0)}
    scaled_step(net, optimizer, rectifier, scaler, r, u, **how)
    torch.testing.assert_close(flat(net.parameters()), expected)
    torch.testing.assert_close(held(rectifier), GAMMA * flat(r))


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("to_none", [False, True])
@pytest.mark.parametrize("clipping", CLIPPING)
@pytest.mark.parametrize("order", ["retain, forget", "forget, retain"])
@pytest.mark.parametrize("overflow", ["retain", "forget", "both"])
def test_a_scaler_skips_what_overflows_on_either_side(overflow, order, clipping, to_none, keeps):
    """Weights stay, the scale falls, and r is that of the windows that were good, whatever came in which order."""
    scaler = GradScaler("cpu", init_scale=2.0**12)
    net, optimizer, rectifier = start(scaler=scaler, keep_previous=keeps, max_grad_norm=1.0)
    way = {"order": order, "clipping": clipping}
    expected = 0.0
    for step, broken in enumerate((False, True, True, False)):
        r, u = drawn(step), [x - 2 * y for x, y in zip(drawn(step + 100), drawn(step), strict=True)]
        poison = math.inf if broken else 1.0
        given_r = [g * poison for g in r] if overflow != "forget" else r
        given_u = [g * poison for g in u] if overflow != "retain" else u
        before, scale = flat(net.parameters()), scaler.get_scale()
        scaled_step(net, optimizer, rectifier, scaler, given_r, given_u, **way)
        optimizer.zero_grad(set_to_none=to_none)
        assert torch.equal(before, flat(net.parameters())) == broken
        assert scaler.get_scale() == scale / (2 if broken else 1)
        if not broken or (overflow == "forget" and not keeps):
            expected = GAMMA * flat(r) + (1 - GAMMA) * expected
        if not broken:
            assert (flat(net.parameters()) - before) @ expected <= 1e-9
    torch.testing.assert_close(held(rectifier), expected)


def test_a_fused_optimizer_is_not_rectified_on_scaled_gradients():
    net = Pair(torch.float32)
    scaler = GradScaler("cpu", init_scale=2.0**12)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
    rectifier = GradientRectifier(net, optimizer, scaler=scaler)
    r = drawn(1, torch.float32)
    with rectifier.retain():
        scaler.scale(net.loss(r)).backward()
    scaler.scale(net.loss(drawn(2, torch.float32))).backward()
    with pytest.raises(ValueError, match=r"scaler.unscale_\(optimizer\), or rectifier.rectify\(\)"):
        scaler.step(optimizer)
    assert torch.equal(flat(net.parameters()), torch.ones(10).double())
    del optimizer.grad_scale
    rectifier.rectify()
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(flat(net.parameters()), torch.ones(10).double())


def test_a_scaler_that_is_switched_off_is_none():
    net, optimizer, rectifier = start(scaler=GradScaler("cpu", enabled=False))
    retain(net, rectifier, [g * math.nan for g in drawn(1)])
    net.loss(drawn(2)).backward()
    with pytest.warns(RuntimeWarning, match="NaN or infinity"):
        optimizer.step()
    assert flat(net.parameters()).isfinite().all()


def test_a_loss_scale_given_by_hand():
    """Without a scaler: r and the retain step in the losses' own units, the share in those of the backward pass."""
    net, _, rectifier = start(retain_step=0.5)
    r = drawn(1)
    with rectifier.retain(scale=1 / 64, gradient_share=0.25):
        (64 * net.loss(r)).backward()
    torch.testing.assert_close(held(rectifier), GAMMA * flat(r))
    torch.testing.assert_close(flat([p.grad for p in net.parameters()]), 16 * flat(r))


# --- accelerate --------------------------------------------------------------------------------------------------


def test_accelerates_wrapper_is_taken_off():
    net, twin = Pair(), Pair()
    optimizer = accelerate.Accelerator(cpu=True).prepare(torch.optim.SGD(net.parameters(), lr=0.1))
    rectifier = GradientRectifier(net, optimizer, new_gradient_weight=GAMMA)
    plain = torch.optim.SGD(twin.parameters(), lr=0.1)
    reference = GradientRectifier(twin, plain, new_gradient_weight=GAMMA)
    for step in range(3):
        for model, stepped, hung in ((net, optimizer, rectifier), (twin, plain, reference)):
            retain(model, hung, drawn(step))
            model.loss([-g for g in drawn(step)]).backward()
            stepped.step()
            stepped.zero_grad()
    assert torch.equal(flat(net.parameters()), flat(twin.parameters()))
    assert torch.equal(held(rectifier), held(reference))


def test_accelerates_scaler_comes_with_its_wrapper():
    accelerate.Accelerator(cpu=True)
    scaler = GradScaler("cpu", init_scale=2.0**12)
    net = Pair()
    wrapped = accelerate.optimizer.AcceleratedOptimizer(torch.optim.SGD(net.parameters(), lr=0.1), scaler=scaler)
    rectifier = GradientRectifier(net, wrapped, new_gradient_weight=GAMMA)
    expected = 0.0
    for step, broken in enumerate((False, True, False)):
        r = [g * (math.nan if broken else 1) for g in drawn(step)]
        with rectifier.retain():
            scaler.scale(net.loss(r)).backward()
        scaler.scale(net.loss(drawn(step + 10))).backward()
        wrapped.step()
        wrapped.zero_grad()
        assert wrapped.step_was_skipped == broken
        if not broken:
            expected = GAMMA * flat(r) + (1 - GAMMA) * expected
    torch.testing.assert_close(held(rectifier), expected)
    assert flat(net.parameters()).isfinite().all()


# --- what a rectifier hangs on -----------------------------------------------------------------------------------


def test_a_rectifier_that_nobody_holds_does_nothing():
    """A cell run twice: the first rectifier is gone with its name, and leaves no hook behind."""
    net, optimizer, rectifier = start()
    gone = weakref.ref(rectifier)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rectifier = GradientRectifier(net, optimizer, new_gradient_weight=GAMMA)
        assert gone() is None
        assert len(optimizer._optimizer_step_pre_hooks) == 1
        assert all(len(p._post_accumulate_grad_hooks) == 1 for p in net.parameters())
        retain(net, rectifier, drawn(1))
        net.loss([-g for g in drawn(1)]).backward()
        optimizer.step()
    torch.testing.assert_close(held(rectifier), GAMMA * flat(drawn(1)))
    del rectifier
    gc.collect()
    assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("same_optimizer", [True, False])
def test_two_rectifiers_on_the_same_parameters_are_noticed(same_optimizer):
    net, optimizer, first = start()
    other = optimizer if same_optimizer else torch.optim.SGD([net.a], lr=0.1)
    second = GradientRectifier(net, other)
    with pytest.warns(RuntimeWarning, match="two GradientRectifiers hang on the same parameters"):
        retain(net, second, drawn(1))
    first.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third = start()[2]
        third.rectify()


def test_with_closes():
    net = Pair()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with GradientRectifier(net, optimizer) as rectifier:
        retain(net, rectifier, drawn(1))
        net.loss([-g for g in drawn(1)]).backward()
        optimizer.step()
    assert torch.equal(flat(net.parameters()), torch.ones(10).double())
    optimizer.step()
    for use in (rectifier.rectify, lambda: retain(net, rectifier, drawn(1))):
        with pytest.raises(RuntimeError, match="was closed"):
            use()


@pytest.mark.parametrize("how", ["add_param_group", "unfreeze"])
def test_parameters_that_come_later_are_refused(how):
    net = Pair()
    known = net.parameters() if how == "unfreeze" else [net.a]
    net.b.requires_grad_(how != "unfreeze")
    optimizer = torch.optim.SGD(known, lr=0.1)
    rectifier = GradientRectifier(net, optimizer)
    foreign = nn.Parameter(torch.ones(2))
    optimizer.add_param_group({"params": [foreign]})
    retain(net, rectifier, [drawn(1)[0], None])
    optimizer.step()
    if how == "unfreeze":
        net.b.requires_grad_(True)
    else:
        optimizer.add_param_group({"params": [net.b]})
    with pytest.raises(ValueError, match=r"b \(of 1\) is trained only since after the rectifier was made"):
        retain(net, rectifier, drawn(1))
    net.loss(drawn(1)).backward()
    with pytest.raises(ValueError, match="close"):
        optimizer.step()


def test_a_loop_without_retain_passes_is_told():
    net, optimizer, rectifier = start()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(7):
            net.loss(drawn(1)).backward()
            optimizer.step()
    (only,) = told
    assert "3 steps without a retain gradient: nothing was rectified" in str(only.message)
    assert not rectifier.telemetry.rectified


NET = Pair()
OPTIMIZER = torch.optim.SGD(NET.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("m", OPTIMIZER), {}, "model must be a torch.nn.Module, got str"),
        ((OPTIMIZER, NET), {}, "optimizer must be a torch.optim.Optimizer, got Pair"),
        ((NET, [NET.a]), {}, "optimizer must be a torch.optim.Optimizer, got list"),
        ((NET, OPTIMIZER, 3), {}, "rectification must be a word, a Rectification or a rule, got 3"),
        ((NET, OPTIMIZER), {"new_gradient_weight": "0.8"}, "new_gradient_weight must be a number, got '0.8'"),
        ((NET, OPTIMIZER), {"max_grad_norm": "1"}, "max_grad_norm must be a number"),
        ((NET, OPTIMIZER), {"retain_dtype": "bfloat16"}, "retain_dtype must be a torch.dtype, got 'bfloat16'"),
    ],
)
def test_what_is_of_another_type_is_told_in_one_line(arguments, options, message):
    with pytest.raises(TypeError, match=message):
        GradientRectifier(*arguments, **options)


@pytest.mark.parametrize(("saves", "loads"), itertools.product(["plain", "compiled", "old compiled"], repeat=2))
def test_a_compiled_models_state_has_plain_names(saves, loads):
    def model(kind):
        net = nn.ModuleDict({"inner": Pair()})
        if kind != "plain":
            net["inner"] = torch.compile(net["inner"])
        return net

    net = model(saves)
    assert ("inner._orig_mod.a" in dict(net.named_parameters())) == (saves != "plain")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    rectifier = GradientRectifier(net, optimizer)
    with rectifier.retain():
        sum(p.square().sum() for p in net.parameters()).backward()
    state = copy.deepcopy(rectifier.state_dict())
    assert set(state["retain_direction"]) == {"inner.a", "inner.b"}
    if saves == "old compiled":
        names = {name.replace("inner.", "inner._orig_mod."): r for name, r in state["retain_direction"].items()}
        state["retain_direction"] = names
    other = model(loads)
    restored = GradientRectifier(other, torch.optim.SGD(other.parameters(), lr=0.1))
    restored.load_state_dict(state)
    assert torch.equal(held(restored), held(rectifier))
