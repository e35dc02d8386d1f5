"""Steps that relearning does not undo so easily: kernels against references, and what must hold with a rectifier."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tiny
from gru_unlearn import GradientRectifier, UnlearningConfig
from gru_unlearn.comparison.comparison_request import ComparisonRequest
from gru_unlearn.comparison.matrix import choose_matrix
from gru_unlearn.errors import UserError
from gru_unlearn.geometry import inner_product
from gru_unlearn.robustness import NAMES, Robust, Robustness, parse_robust
from gru_unlearn.robustness.drift import random_signs
from gru_unlearn.robustness.spectral import components_of, damped, leading, looked_at
from gru_unlearn.runs.tru_options import TruOptions
from gru_unlearn.runs.tru_preparation import prepare_tru


def by_hand(matrix, count):
    """One matrix, one component after the other, in float64."""
    left, sizes, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    kept = []
    for place, size in enumerate(sizes.tolist()):
        least = sizes[count - 1].item()
        height = least * least / size if place < count and size > 0 else size
        kept.append(height * torch.outer(left[:, place], right[place]))
    result = torch.stack(kept).sum(0)
    norm = result.norm()
    return result * (matrix.double().norm() / norm) if norm > 0 else result


def falling(rows, columns, rate=0.6, seed=0):
    """A matrix whose singular values fall as those of gradients do, so that the leading ones can be told apart."""
    generator = torch.Generator().manual_seed(seed)
    size = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, size, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(columns, size, generator=generator)).Q
    return (left * rate ** torch.arange(size)) @ right.T


# --- the kernel ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("shape", [(24, 17), (17, 24), (40, 12), (9, 9)])
@pytest.mark.parametrize("count", [1, 3])
def test_damping_equals_the_sum_over_components(shape, count, exact):
    matrix = falling(*shape)
    found = damped(matrix, count, exact=exact)
    assert (found.double() - by_hand(matrix, count)).norm() < 1e-4 * matrix.norm()


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 30), st.integers(3, 30), st.integers(1, 6), st.integers(0, 10**6))
def test_the_leading_components_end_below_the_last_of_them(rows, columns, count, seed):
    if min(rows, columns) <= count:
        return
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    sizes = torch.linalg.svdvals(matrix)
    expected = sizes.clone()
    expected[:count] = sizes[count - 1] ** 2 / sizes[:count]
    expected *= sizes.norm() / expected.norm()
    found = torch.linalg.svdvals(damped(matrix, count, exact=True))
    assert torch.allclose(found, expected.sort(descending=True).values, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 60), st.integers(3, 60), st.integers(1, 6), st.integers(0, 10**6))
def test_damping_keeps_the_norm(rows, columns, count, seed):
    if min(rows, columns) <= count:
        return
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(damped(matrix, count).norm(), matrix.norm(), rtol=1e-4)


def test_of_many_matrices_each_is_damped_by_itself():
    matrices = torch.stack([falling(12, 9, seed=seed) for seed in range(3)])
    together = damped(matrices, 2)
    for matrix, found in zip(matrices, together, strict=True):
        assert torch.allclose(damped(matrix, 2), found, atol=1e-5)


def test_nothing_comes_of_nothing_and_not_a_number_stays():
    assert not damped(torch.zeros(20, 20), 3).any()
    matrix = falling(20, 20)
    matrix[3, 4] = float("nan")
    assert damped(matrix, 3)[3, 4].isnan()


@pytest.mark.parametrize("exact", [True, False])
def test_a_matrix_of_lower_rank_is_damped_as_far_as_it_goes(exact):
    matrix = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)) @ falling(3, 50)
    found = damped(matrix, 10, exact=exact)
    assert torch.allclose(found, damped(matrix, 3, exact=True), atol=1e-4 * float(matrix.norm()))
    assert torch.linalg.svdvals(found)[3] < 1e-4 * matrix.norm(), "rounding is not scaled up to a step"


def test_random_directions_leave_the_generators_alone_and_repeat():
    matrix = torch.randn(60, 50)
    before = torch.random.get_rng_state()
    first, second = leading(matrix, 4), leading(matrix, 4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_range_finder_finds_the_leading_components():
    matrix = falling(80, 60)
    assert looked_at(4) < 60, "or the whole decomposition would be taken"
    assert torch.allclose(leading(matrix, 4).sizes, leading(matrix, 4, exact=True).sizes, rtol=1e-4)


@given(st.integers(1, 500), st.integers(1, 500), st.floats(0.001, 0.999))
def test_a_share_of_the_components_is_never_all(rows, columns, share):
    count = components_of(torch.Size([rows, columns]), share)
    assert count < min(rows, columns)
    assert count > 0 or min(rows, columns) == 1


def test_signs_are_signs_of_both_kinds_and_follow_the_seed():
    shapes = [torch.Size([50, 40]), torch.Size([7, 3])]
    first, again, other = random_signs(shapes, 1), random_signs(shapes, 1), random_signs(shapes, 2)
    assert [sign.shape for sign in first] == shapes
    assert set(first[0].unique().tolist()) == {-1, 1}
    assert abs(first[0].float().mean()) < 0.1
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


# --- the word --------------------------------------------------------------------------------------------------------


@given(st.floats(0, 0.99), st.floats(0, 5))
def test_a_value_is_what_its_word_says(components, carried):
    if not (components or carried):
        return
    value = Robust(spectral=components, drift=carried)
    again = parse_robust(str(value))
    assert again.spectral == pytest.approx(components, rel=1e-5)
    assert again.drift == pytest.approx(carried, rel=1e-5)


@pytest.mark.parametrize(
    "word",
    [
        "spectra",
        "spectral=",
        "spectral=0",
        "spectral=1.5",
        "spectral=nan",
        "drift=-1",
        "drift=nan",
        "drift=inf",
        "drift+drift",
        "",
    ],
)
def test_a_word_that_is_none_is_refused(word):
    with pytest.raises(ValueError, match=r"robust|drift|spectral"):
        parse_robust(word)


def test_none_is_no_robustness():
    assert parse_robust("none") is None
    with pytest.raises(ValueError, match="leave it away"):
        Robustness(nn.Linear(4, 4), torch.optim.SGD(nn.Linear(4, 4).parameters()), "none")


# --- around steps ----------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(12, 16), nn.Linear(16, 12)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


def net(seed=0):
    torch.manual_seed(seed)
    return Net()


def batch(seed):
    return torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(seed))


def losses(model, number):
    x, y = batch(number)
    return -(model(x) - y).square().mean(), (model(y) - x).square().mean()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_step_is_damped_and_carried_off(kind):
    model, plain = net(), net()
    optimizer, its = kind(model.parameters(), lr=0.01), kind(plain.parameters(), lr=0.01)
    robustness = Robustness(model, optimizer, "spectral=0.15+drift=0.5", seed=3, exact=True)
    start = [p.detach().clone() for p in model.parameters()]
    for one, its_optimizer in ((model, optimizer), (plain, its)):
        losses(one, 0)[0].backward()
        its_optimizer.step()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    signs = iter(random_signs([p.shape for p in matrices], 3))
    for old, p, q in zip(start, model.parameters(), plain.parameters(), strict=True):
        if p.ndim < 2:
            assert torch.equal(p, q)
            continue
        expected = old + by_hand(q.detach() - old, 2).float() + 0.01 * 0.5 * next(signs)
        assert torch.allclose(p, expected, atol=1e-6)
    robustness.close()


def test_weights_that_get_no_gradient_are_not_carried_off():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    robustness = Robustness(model, optimizer, "drift=1")
    before = model.last.weight.detach().clone()
    model.first(torch.ones(1, 12)).sum().backward()
    optimizer.step()
    assert torch.equal(model.last.weight, before)
    robustness.close()


def test_it_stops_with_close_and_with_its_last_holder():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    with Robustness(model, optimizer, "drift=1"):
        pass
    Robustness(model, optimizer, "drift=1")  # held by nobody
    losses(model, 0)[0].backward()
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    for p in model.parameters():
        p.grad.zero_()
    optimizer.step()
    assert all(torch.equal(old, p) for old, p in zip(before, model.parameters(), strict=True))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["gru", "gru/layer", "gru/tensor", "gru/row", "gru/element"]),
    st.sampled_from(["spectral=0.2", "drift=2", "spectral=0.25+drift=0.7"]),
    st.integers(0, 1000),
)
def test_a_rectifier_made_later_keeps_its_guarantee(rectification, robust, seed):
    model = net(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    robustness = Robustness(model, optimizer, robust)
    rectifier = GradientRectifier(model, optimizer, f"{rectification}/update")
    for number in range(4):
        with rectifier.retain():
            losses(model, 3 * number)[1].backward()
        losses(model, seed + number)[0].backward()
        before = [p.detach().clone() for p in model.parameters()]
        r = rectifier.state_dict()["retain_direction"]
        optimizer.step()
        moved = [p.detach() - old for p, old in zip(model.parameters(), before, strict=True)]
        directions = [r[name] for name, _ in model.named_parameters()]
        scale = inner_product(moved, moved).sqrt() * inner_product(directions, directions).sqrt()
        assert inner_product(moved, directions) <= 1e-5 * scale
        optimizer.zero_grad()
    robustness.close()
    rectifier.close()


def test_a_rectifier_made_earlier_has_not_the_last_word():
    """Which is why it is made later: what is carried off after it raises the retain loss."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    rectifier = GradientRectifier(model, optimizer, "gru/element/update")
    robustness = Robustness(model, optimizer, "drift=3")
    with rectifier.retain():
        losses(model, 1)[1].backward()
    losses(model, 2)[0].backward()
    r = rectifier.state_dict()["retain_direction"]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    moved = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    assert any((moved[name] * r[name] > 0).any() for name in moved)
    robustness.close()


def test_gradients_are_rectified_as_without_it():
    gradients = []
    for robust in (None, "spectral=0.2"):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        robustness = robust and Robustness(model, optimizer, robust)
        rectifier = GradientRectifier(model, optimizer, "gru")
        with rectifier.retain():
            losses(model, 1)[1].backward()
        losses(model, 2)[0].backward()
        rectifier.rectify()
        saved = rectifier.state_dict()["retain_direction"]
        r = [saved[name] for name, _ in model.named_parameters()]
        assert inner_product([p.grad for p in model.parameters()], r) >= -1e-6
        gradients.append([p.grad.clone() for p in model.parameters()])
        del robustness
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_what_cannot_be_made_robust_is_refused():
    vector = nn.LayerNorm(4)
    with pytest.raises(ValueError, match="no trainable matrix"):
        Robustness(vector, torch.optim.SGD(vector.parameters()))
    with pytest.raises(TypeError, match="optimizer"):
        Robustness(net(), object())
    with pytest.raises(TypeError, match="Module"):
        Robustness(object(), torch.optim.SGD(net().parameters()))


# --- in a run --------------------------------------------------------------------------------------------------------


def weights(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def trained(folder, robust, resume=False, **options):
    run = tiny.trainer(folder, tiny.model(), robust=robust, rectification="gru/element/update", **options)
    run.train(resume_from_checkpoint=resume)
    return run


def test_a_run_takes_robust_steps_and_repeats(tmp_path):
    plain = weights(trained(tmp_path / "a", "none").model)
    first = weights(trained(tmp_path / "b", "spectral=0.15+drift=0.5").model)
    again = weights(trained(tmp_path / "c", "spectral=0.15+drift=0.5").model)
    assert torch.equal(first, again)
    assert not torch.equal(first, plain)


def test_a_resumed_run_is_the_same_to_the_bit(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "warmup_steps": 0}
    whole = weights(trained(tmp_path / "a", "spectral=0.15+drift=0.5", **options).model)
    run = tiny.trainer(
        tmp_path / "a", tiny.model(1), robust="spectral=0.15+drift=0.5", rectification="gru/element/update", **options
    )
    run.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert torch.equal(weights(run.model), whole)


def test_recommended_goes_with_every_rectification():
    assert UnlearningConfig(robust="recommended", rectification="recommended").resolved_robust.drift > 0
    for rectification in ("none", "gru", "pcgrad"):
        found = UnlearningConfig(robust="recommended", rectification=rectification).resolved_robust
        assert found.spectral
        assert not found.drift


@pytest.mark.parametrize("rectification", ["none", "gru", "gru/element", "ngdiff"])
def test_drift_that_nobody_rectifies_is_refused(rectification):
    with pytest.raises(UserError, match="update space"):
        UnlearningConfig(robust="drift", rectification=rectification)


def test_a_wrong_word_is_refused_in_one_line():
    with pytest.raises(UserError, match="unknown part 'spectrl'"):
        UnlearningConfig(robust="spectrl")
    assert NAMES[:2] == ("none", "recommended")


def test_a_copy_of_the_model_is_not_meant():
    model = net()
    optimizer = torch.optim.SGD(copy.deepcopy(model).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="no trainable matrix of this model"):
        Robustness(model, optimizer)


def test_bfloat16_weights_are_made_robust_as_float32(tmp_path):
    """The steps of a run whose weights are pairs of halves are those of a float32 run from the same numbers."""
    moved = {}
    for kind in (torch.float32, torch.bfloat16):
        model = tiny.model().to(torch.bfloat16).to(kind)
        before = tiny.weights(model)
        options = {"robust": "spectral=0.15+drift=0.5", "rectification": "gru/element/update", "learning_rate": 0.05}
        run = tiny.trainer(tmp_path / str(kind), model, max_steps=4, warmup_steps=0, **options)
        run.train()
        moved[kind] = tiny.weights(run.model) - before
    off = (moved[torch.bfloat16] - moved[torch.float32]).norm()
    assert off < 0.3 * moved[torch.float32].norm()  # the model computes with other numbers


# --- in comparisons --------------------------------------------------------------------------------------------------


def methods(**request):
    flags = request.pop("flags", {})
    return list(choose_matrix(ComparisonRequest(**request), None, flags).rectifications)


def test_robustness_is_crossed_with_the_rectifications():
    found = methods(rectifications="gru,recommended", robustness="none,spectral=0.4+drift")
    robust = "@robust=spectral=0.4+drift"
    assert found == ["gru", f"gru{robust}", "recommended", f"recommended{robust}"]


def test_a_method_of_a_comparison_may_be_robust():
    request = ComparisonRequest(
        rectifications="recommended@robust=spectral=0.4+drift=1", learning_rates="1e-4", seeds="1"
    )
    (cell,) = choose_matrix(request, None, {}).cells
    assert cell.settings["robust"] == "spectral=0.4+drift=1"
    assert "=" not in cell.name


@pytest.mark.parametrize("given", [{"flags": {"robust": "spectral"}}, {"rectifications": "gru@robust=spectral"}])
def test_robustness_in_two_places_is_refused(given):
    with pytest.raises(UserError, match="--robustness"):
        methods(robustness="none,spectral", **given)


def test_task_vectors_know_no_robustness(tmp_path):
    settings = {"model": "builtin:target", "forget": "builtin:forget", "robust": "spectral"}
    with pytest.raises(UserError, match="robust has no meaning in gru tru"):
        prepare_tru({**settings, "output_dir": str(tmp_path)}, TruOptions())
