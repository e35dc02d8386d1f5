"""A plan for people: the table on the terminal, what to run, and the table of docs/performance.md."""

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from gru_unlearn.capacity.footprint import HOLES, predict
from gru_unlearn.capacity.model_shape import PRESETS, model_config, shape_of
from gru_unlearn.planning.plan_job import BY_PREFERENCE, IN_HALVES
from gru_unlearn.reporting.tables import make_table, plural
from gru_unlearn.results.plan_summary import PlannedSetup, PlanSummary, Setup

GIB = 2**30

PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "AdamW",
    "retain_direction": "r",
    "update_copy": "copy",
    "working_weights": "working",
    "activations": "activ.",
    "logits": "logits",
    "robust": "robust",
    "peak": "peak",
}

TRAINED = {"full": "all weights", "lora": "LoRA adapters", "qlora": "LoRA on 4-bit weights"}

HOW_TO_READ = (
    "mixed: float32 weights, computed with in bfloat16 · checkpointing: activations are computed twice instead of kept "
    "· calculated, nothing was measured · --parts shows what the memory is for"
)

PARTS_EXPLAINED = (
    "r: the retain direction · copy: the weights before the step, for rectifications of the update · working: copies "
    "of weights for computing · activ.: activations · robust: signs, and a copy of the weights during a step · not all "
    "are alive at once, so peak may be less than their sum"
)


def plan_table(summary: PlanSummary) -> Table:
    """One row a set-up, in words: what is trained, in which numbers, on how many devices, and whether it fits."""
    table = make_table(
        _title(summary, "memory that a device needs"), _HEADINGS, list(map(_row_in_words, summary.setups))
    )
    for column in table.columns[1:4]:
        column.justify = "left"
    return table


_HEADINGS = ("what is trained", "numbers", "devices", "checkpointing", "GiB", "fits")


def _row_in_words(planned: PlannedSetup) -> tuple[str, ...]:
    setup = planned.setup
    checkpointing = "yes" if setup.checkpointing else "no"
    gib, it_fits = f"{planned.peak / GIB:.1f}", "yes" if planned.fits else "no"
    return TRAINED[setup.method], setup.precision, str(setup.devices), checkpointing, gib, it_fits


def parts_table(summary: PlanSummary) -> Table:
    """One row a set-up: its name, GiB of each part of :data:`PARTS`, and whether it fits."""
    parts = [part for part in PARTS if part != "robust" or any(planned.robust for planned in summary.setups)]
    rows = [_row(planned, parts) for planned in summary.setups]
    heads = [PARTS[part] for part in parts]
    return make_table(_title(summary, "GiB per device, by part"), ("set-up", *heads, "fits"), rows)


def _title(summary: PlanSummary, what: str) -> str:
    billions = summary.model.parameters / 1e9
    return f"{summary.model.source}, {billions:.3g} B parameters, {summary.setups[0].setup.rectification}: {what}"


def _row(planned: PlannedSetup, parts: Sequence[str]) -> list[str]:
    gib = [f"{getattr(planned, part) / GIB:.2f}" for part in parts]
    return [str(planned.setup), *gib, "yes" if planned.fits else "no"]


def advice(summary: PlanSummary) -> list[str]:
    """What to run, and why that: a few lines."""
    room = f"{summary.usable_share * summary.device_bytes / GIB:.0f} of a device's {summary.device_bytes / GIB:.0f} GiB"
    chosen = summary.smallest
    if chosen is None:
        return [
            f"Nothing fits in {room}, the rest of which is left to the context: smaller --batch-size or --max-length, "
            "more --gpus, or a smaller model."
        ]
    lines = [
        f"Take: {in_words(chosen)}{_peak_of(summary, chosen)}.",
        f"It is the first that fits in {room}: all weights before adapters, mixed before bfloat16, few devices before "
        "many, without checkpointing before with it. float32, which computes more slowly, is only shown.",
        f"  {summary.smallest_command} --forget ... --retain ...",
    ]
    if (chosen.method, chosen.precision) == IN_HALVES:
        lines.append(
            "float32 weights do not fit: bfloat16 ones are stepped as float32, their lower halves beside them."
        )
    host = max(planned.host for planned in summary.setups if planned.setup.method == chosen.method)
    if host:
        what = "Anchors take" if chosen.retain_direction_device is None else "r takes"
        if chosen.retain_direction_device and chosen.anchor_rows:
            what = "r and anchors take"
        lines.append(f"{what} up to {host / GIB:.1f} GiB of main memory for each device.")
    return lines + _on_a_cpu(summary)


def in_words(setup: Setup) -> str:
    """``all weights, mixed, on 8 devices, with checkpointing``."""
    words = f"{TRAINED[setup.method]}, {setup.precision}, on {plural(setup.devices, 'device')}"
    return f"{words}, with checkpointing" if setup.checkpointing else words


def _peak_of(summary: PlanSummary, setup: Setup) -> str:
    """What a set-up needs, where it is one of those that are shown."""
    for planned in summary.setups:
        if planned.setup == setup:
            return f": {planned.peak / GIB:.1f} GiB"
    return ""


def _on_a_cpu(summary: PlanSummary) -> list[str]:
    """What a CPU's heap adds, where a set-up for one is shown."""
    wanted = ("full", "float32", 1, False)
    for planned in summary.setups:
        setup = planned.setup
        if (setup.method, setup.precision, setup.devices, setup.checkpointing) == wanted:
            most = HOLES * planned.peak / GIB
            return [f"On a CPU, {in_words(setup)} may hold {most:.1f} GiB: rows of uneven length leave holes there."]
    return []


def docs_table(counts: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)) -> str:
    """Markdown: calculated peak per device, GiB, of the presets by set-up (rows) and number of devices (columns).

    With checkpointing on; QLoRA and bfloat16 weights that are trained are not sharded.
    """
    table = Table("model", "set-up", *map(str, counts), box=MARKDOWN)
    for model in PRESETS:
        for method, precision in BY_PREFERENCE:
            setup = Setup(method=method, precision=precision, checkpointing=True)
            table.add_row(model, f"{method}, {precision}", *_peaks(model, setup, counts))
    text = StringIO()
    Console(file=text, width=200).print(table)
    return "\n".join(line.strip() for line in text.getvalue().strip().splitlines())


def _peaks(model: str, setup: Setup, counts: Sequence[int]) -> list[str]:
    shape = shape_of(model_config(model))
    possible = counts
    if setup.method == "qlora" or (setup.method, setup.precision) == IN_HALVES:
        possible = counts[:1]
    return [f"{predict(shape, replace(setup, devices=count)).peak / GIB:.1f}" for count in possible]
