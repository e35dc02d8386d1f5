"""The geometric figures of the documentation: every arrow and every cell is what the library itself computes.

python docs/figures/make_figures.py        # needs matplotlib: pip install -e ".[figures]"
"""

from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from torch import Tensor, nn

from gru_unlearn import GradientRectifier

matplotlib.use("svg")
from matplotlib import pyplot

FOLDER = Path(__file__).parent
U, R, G, FREE = "#c44e00", "#0072b2", "#00805a", "#e3f1ec"
FAR = 10.0  # beyond every axis


class Weights(nn.Module):
    """A model that is nothing but its parameters."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.tensors = nn.ParameterList([nn.Parameter(torch.zeros(shape)) for shape in shapes])


def rectified(u: list[Tensor], retains: list[list[Tensor]], how: str) -> list[Tensor]:
    """g for the gradient u after retain gradients of as many steps, by stepping a model whose losses are linear."""
    model = Weights(*(part.shape for part in u))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    rectifier = GradientRectifier(model, optimizer, how)
    for retain in retains:
        optimizer.zero_grad()
        with rectifier.retain():
            linear(model, retain).backward()
        linear(model, u).backward()
        optimizer.step()
    return [part.grad for part in model.tensors]


def linear(model: Weights, gradient: list[Tensor]) -> Tensor:
    """A loss with this gradient everywhere."""
    return sum((part * wanted).sum() for part, wanted in zip(model.tensors, gradient, strict=True))


def adam_step(u: Tensor, r: Tensor, how: str) -> Tensor:
    """−Δθ of AdamW for the gradient u, where earlier gradients were three times as long along the first axis."""
    model = Weights((2,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.0, 0.9), weight_decay=0.0)
    for _ in range(50):
        optimizer.zero_grad()
        linear(model, [torch.tensor([3.0, 1.0])]).backward()
        optimizer.step()
    optimizer.zero_grad()
    optimizer.param_groups[0]["lr"] = 1.0
    rectifier = GradientRectifier(model, optimizer, how)
    with rectifier.retain():
        linear(model, [r]).backward()
    linear(model, [u]).backward()
    optimizer.step()
    return -model.tensors[0].detach()


def arrow(axes: Axes, vector: Tensor, colour: str, name: str, shift: tuple[float, float] = (6, 4)) -> None:
    """From the origin, with its name at the tip."""
    style = {"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", vector.tolist(), (0, 0), arrowprops=style)
    axes.annotate(name, vector.tolist(), shift, textcoords="offset points", color=colour, weight="bold", size=12)


def shade(axes: Axes, *directions: Tensor) -> None:
    """Where ⟨·, r⟩ ≥ 0 for every r: a half-plane, or the wedge of two."""
    angles = torch.linspace(0, 2 * torch.pi, 721)[:-1]
    circle = FAR * torch.stack([angles.cos(), angles.sin()], dim=1)
    inside = torch.stack([circle @ r >= -1e-4 for r in directions]).all(dim=0)
    first = int(torch.nonzero(inside & ~inside.roll(1))[0])
    edge = circle.roll(-first, dims=0)[inside.roll(-first)]
    axes.add_patch(Polygon([(0, 0), *edge.tolist()], color=FREE, zorder=0, lw=0))
    for r in directions:
        along = FAR * torch.stack([-r[1], r[0]]) / r.norm()
        line(axes, -along, along, color="#999999", lw=0.8, zorder=1)


def line(axes: Axes, start: Tensor, end: Tensor, **style: object) -> None:
    """From point to point."""
    axes.plot(*zip(start.tolist(), end.tolist(), strict=True), **style)


def plane(axes: Axes, title: str) -> None:
    """Equal axes without ticks."""
    axes.set(xlim=(-2.4, 2.4), ylim=(-1.9, 2.1), aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, size=11)


def removed(axes: Axes, start: Tensor, end: Tensor) -> None:
    """What the projection takes away."""
    line(axes, start, end, linestyle=":", color="#555555", lw=1.5)


def closed_form() -> None:
    """One constraint: with and without conflict."""
    figure, (conflict, agreement) = pyplot.subplots(1, 2, figsize=(8.4, 3.8), layout="constrained")
    r = torch.tensor([0.5, 1.6])
    for axes, u, title in (
        (conflict, torch.tensor([1.7, -1.2]), "⟨u, r⟩ < 0: the part against r goes"),
        (agreement, torch.tensor([1.9, 0.5]), "⟨u, r⟩ ≥ 0: nothing is changed"),
    ):
        (g,) = rectified([u], [[r]], "gru")
        shade(axes, r)
        removed(axes, u, g)
        arrow(axes, r, R, "r")
        arrow(axes, u, U, "u", (4, -10))
        arrow(axes, g, G, "g", (2, 6))
        axes.text(-2.3, 1.85, "⟨·, r⟩ ≥ 0", color=G, va="top")
        plane(axes, title)
    save(figure, "closed-form")


def optimizer() -> None:
    """The guarantee of gradient space after AdamW's preconditioner, and that of update space."""
    figure, panels = pyplot.subplots(1, 2, figsize=(8.4, 3.8), layout="constrained")
    r, u = torch.tensor([0.8, 1.5]), torch.tensor([1.7, -1.3])
    (g,) = rectified([u], [[r]], "gru")
    published, update = adam_step(u, r, "gru"), adam_step(u, r, "gru/update")
    titles = ("gradient space: g is safe, the step is not", "update space: the step is safe")
    for axes, title in zip(panels, titles, strict=True):
        shade(axes, r)
        arrow(axes, r, R, "r")
        plane(axes, title)
    arrow(panels[0], g, G, "g", (6, 6))
    arrow(panels[0], published, U, "−Δθ", (6, -10))
    raw = adam_step(u, torch.zeros(2), "gru/update")
    removed(panels[1], raw, update)
    arrow(panels[1], raw, U, "without it", (-30, -16))
    arrow(panels[1], update, G, "−Δθ", (6, 6))
    save(figure, "optimizer")


def memory() -> None:
    """Two retain gradients: their mean, and the cone."""
    figure, panels = pyplot.subplots(1, 2, figsize=(8.4, 3.8), layout="constrained")
    retains, u = [torch.tensor([-0.9, 1.4]), torch.tensor([1.5, 0.7])], torch.tensor([1.5, -1.1])
    mean = (retains[0] + retains[1]) / 2
    for axes, directions, how, title in (
        (panels[0], [[mean]], "gru", "their mean r: g is against r₁"),
        (panels[1], [[r] for r in retains], "gru/memory=2", "memory: ⟨g, r₁⟩ ≥ 0 and ⟨g, r₂⟩ ≥ 0"),
    ):
        (g,) = rectified([u], directions, how)
        shade(axes, *retains)
        removed(axes, u, g)
        arrow(axes, u, U, "u", (6, -8))
        for number, r in enumerate(retains, start=1):
            arrow(axes, r, R, f"r{'₀₁₂'[number]}")
        if how == "gru":
            arrow(axes, mean, "#7fb8d8", "r", (4, 4))
        arrow(axes, g, G, "g", (8, 4))
        plane(axes, title)
    save(figure, "memory")


def blocks() -> None:
    """The same u and r under four granularities: how much of each number of u is changed."""
    torch.manual_seed(3)
    shapes = [(6, 8), (4, 8)]
    u = [torch.randn(shape) for shape in shapes]
    r = [0.9 * torch.randn(shape) - 0.3 * part for shape, part in zip(shapes, u, strict=True)]
    figure, panels = pyplot.subplots(2, 4, figsize=(9.2, 3.6), height_ratios=[6, 4], layout="constrained")
    for column, granularity in enumerate(("model", "tensor", "row", "element")):
        g = rectified(u, [r], f"gru/{granularity}")
        share = sum((after - before).square().sum() for after, before in zip(g, u, strict=True)).sqrt()
        share = share / sum(part.square().sum() for part in u).sqrt()
        for axes, before, after in zip(panels[:, column], u, g, strict=True):
            image = axes.imshow((after - before).abs(), cmap="Oranges", vmin=0, vmax=2)
            axes.set(xticks=[], yticks=[])
            if granularity in ("row", "element"):
                axes.set_yticks([row - 0.5 for row in range(1, before.shape[0])], minor=True)
            if granularity == "element":
                axes.set_xticks([place - 0.5 for place in range(1, before.shape[1])], minor=True)
            axes.grid(which="minor", color="#777777", lw=0.6)
            axes.tick_params(which="minor", length=0)
        panels[0, column].set_title(f"{granularity}\n‖u − g‖ = {share:.0%} of ‖u‖", size=11)
    panels[0, 0].set_ylabel("one tensor")
    panels[1, 0].set_ylabel("another")
    figure.colorbar(image, ax=panels, label="|u − g|", shrink=0.8)
    save(figure, "blocks")


def save(figure: pyplot.Figure, name: str) -> None:
    """The same file each time."""
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    pyplot.rcParams |= {"svg.hashsalt": "gru", "svg.fonttype": "none", "font.family": ["DejaVu Sans", "sans-serif"]}
    for draw in (closed_form, optimizer, memory, blocks):
        draw()
