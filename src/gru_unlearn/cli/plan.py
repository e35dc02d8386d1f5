"""``gru plan``: how much memory a run needs, and the smallest set-up that fits."""

from pathlib import Path
from typing import Annotated

import typer


def plan(
    model: Annotated[
        str, typer.Option(help="llama-1b, llama-8b, llama-70b, model folder, config.json, or hub id.")
    ] = "llama-1b",
    gpus: Annotated[int, typer.Option(help="How many there are.")] = 1,
    gpu_memory: Annotated[str, typer.Option(help="Of each, such as 80GiB.")] = "80GiB",
    rectification: Annotated[str, typer.Option(help="As for gru unlearn.")] = "gru",
    batch_size: Annotated[int, typer.Option(help="Forget rows per device and backward pass.")] = 4,
    retain_batch_size: Annotated[int | None, typer.Option(help="Retain rows; default: as gru unlearn's.")] = None,
    accumulation: Annotated[int, typer.Option(help="Backward passes per step.")] = 8,
    max_length: Annotated[int, typer.Option(help="Tokens of the longest row.")] = 512,
    answer_share: Annotated[float, typer.Option(help="Share of the tokens that is answer, and so has logits.")] = 0.5,
    peft: Annotated[bool, typer.Option("--peft", help="Adapters only.")] = False,
    lora_r: Annotated[int, typer.Option(help="LoRA's rank.")] = 16,
    optim: Annotated[str, typer.Option(help="adamw, or adamw_8bit or paged_adamw_8bit of bitsandbytes.")] = "adamw",
    retain_direction_dtype: Annotated[
        str | None, typer.Option(help="Type to keep r in: float32 or bfloat16; default: that of the gradients.")
    ] = None,
    retain_direction_device: Annotated[
        str | None, typer.Option(help="cpu: keep r in main memory; default: with the weights.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for summary.json.")] = None,
    overwrite_output_dir: Annotated[
        bool, typer.Option("--overwrite-output-dir", help="Discard the plan in the output folder.")
    ] = False,
) -> None:
    """Calculate the memory of a run from the model's shape: by part, by way of running it, before renting anything."""
    from rich.console import Console  # noqa: PLC0415 - heavy imports wait for a command

    from gru_unlearn.models.loading import quiet  # noqa: PLC0415
    from gru_unlearn.planning import footprint  # noqa: PLC0415
    from gru_unlearn.planning import plan_job as memory  # noqa: PLC0415
    from gru_unlearn.reporting import make_table  # noqa: PLC0415

    quiet()
    wanted = footprint.Setup(
        rectification=rectification,
        rows=batch_size,
        retain_rows=retain_batch_size,
        accumulation=accumulation,
        length=max_length,
        answer_share=answer_share,
        lora_r=lora_r,
        optim=optim,
        retain_direction_dtype=retain_direction_dtype,
        retain_direction_device=retain_direction_device,
    )
    summary = memory.plan(model, wanted, gpus, memory.parse_bytes(gpu_memory), peft=peft)
    # Eleven columns: a narrower terminal wraps whole lines. Paths may hold brackets.
    console = Console(width=max(Console().width, 140), markup=False)
    title = (
        f"{model}, {summary['model']['parameters'] / 1e9:.3g} B parameters, {rectification}: GiB per device, calculated"
    )
    table = make_table(title, ("set-up", *memory.PARTS.values(), "fits"), memory.plan_rows(summary))
    console.print(table)
    for line in memory.advice(summary):
        console.print(line, soft_wrap=True, highlight=False)
    if out:
        memory.write_plan(summary, out, overwrite=overwrite_output_dir)
        console.print(f"Results: {out}/summary.json", soft_wrap=True)
