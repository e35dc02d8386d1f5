"""The memory that ``gru plan`` calculates against the peak that a run has, each in a fresh process.

    OMP_NUM_THREADS=1 python benchmarks/plan_against_measured.py --json plan.json

Prints a table in Markdown, and the largest deviation. Peaks are those of ``step_cost.py``, on CPU.
"""

import argparse
from pathlib import Path

import step_cost

from gru_unlearn.capacity.footprint import predict
from gru_unlearn.capacity.model_shape import shape_of
from gru_unlearn.common.files import write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.results.plan_summary import Setup

POINTS = [
    *(("4M", "ga_gru", rows, tokens, 1, False) for rows, tokens in ((4, 128), (8, 128), (16, 128), (8, 256))),
    ("4M", "ga_gru", 8, 128, 2, False),
    ("4M", "ga_gru", 16, 128, 1, True),
    ("4M", "element_update", 8, 128, 1, False),
    *(("34M", "ga_gru", rows, tokens, 1, False) for rows, tokens in ((2, 64), (4, 128), (8, 128))),
    ("34M", "ga_gru", 4, 128, 2, False),
    ("34M", "graddiff", 4, 128, 1, False),
    ("34M", "element_update", 2, 64, 1, False),
]
"""size, variant of step_cost, rows, tokens a row, backward passes a step, checkpointing"""


def calculated(size, variant, rows, tokens, accumulation, checkpointing):
    longest = tokens + tokens // 8  # rows are padded to the longest of a batch
    setup = Setup(
        precision="float32",
        rectification=step_cost.VARIANTS[variant][1]["rectification"],
        rows=rows,
        accumulation=accumulation,
        checkpointing=checkpointing,
        length=longest,
        answer_share=0.5 * tokens / longest,
    )
    return predict(shape_of(step_cost.make_model(size).config), setup).peak


def measured(size, variant, rows, tokens, accumulation, checkpointing):
    return step_cost.in_fresh_process(
        "peak_bytes",
        work=step_cost.Work(rows, tokens),
        variant=variant,
        size=size,
        device="cpu",
        steps=3,
        gradient_accumulation_steps=accumulation,
        **({"gradient_checkpointing": True} if checkpointing else {}),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--sizes", default="4M,34M")
    options = parser.parse_args()
    step_cost.header(
        "size", "method", "rows", "tokens", "accumulation", "checkpointing", "calculated, MB", "measured, MB", "ratio"
    )
    rows = []
    for point in (point for point in POINTS if point[0] in options.sizes.split(",")):
        prediction, peak = calculated(*point), measured(*point)
        rows.append([*point, prediction, peak, prediction / peak])
        print(
            "| " + " | ".join(map(str, point)) + f" | {prediction / 1e6:.0f} | {peak / 1e6:.0f} | {rows[-1][-1]:.2f} |",
            flush=True,
        )
    print(f"\nlargest deviation: {max(abs(row[-1] - 1) for row in rows):.0%}")
    write_json(options.json, {"points": rows, "machine": step_cost.machine("cpu"), "versions": versions()})


if __name__ == "__main__":
    main()
