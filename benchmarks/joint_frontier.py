"""One frontier figure of several comparisons: what methods keep against row passes to f*, or along the way there.

    python benchmarks/joint_frontier.py runs/fair-fight runs/fair-fight-recommended --out docs/figures/frontier.svg

The comparisons must be of the same models, rows and seeds, in which methods have other learning rates each. A method
may be in several.
"""

import argparse
from pathlib import Path

from gru_unlearn.common.files import read_json
from gru_unlearn.common.options import parse_names
from gru_unlearn.comparison.frontier import find_frontier
from gru_unlearn.comparison.frontier_picture import frontier_svg
from gru_unlearn.comparison.pareto import pareto_svg
from gru_unlearn.results.comparison_summary import ComparisonSummary
from gru_unlearn.results.cost_kinds import ROWS


def joined(summaries, methods):
    """One summary of all cells; ``methods``: names of those that are shown, None for all."""
    cells, aggregates = [], []
    for summary in summaries:
        cells += [cell for cell in summary.cells if methods is None or cell.rectification in methods]
        aggregates += [one for one in summary.aggregates if methods is None or one.rectification in methods]
    return summaries[0].model_copy(update={"cells": cells, "aggregates": aggregates})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparisons", nargs="+", type=Path, help="output folders of gru compare")
    parser.add_argument("--methods", type=parse_names, help="those that are shown, with commas; by default all")
    parser.add_argument("--out", type=Path, required=True, help="SVG file")
    parser.add_argument("--way", type=Path, help="another SVG file: forgetting against keeping, a line for each method")
    args = parser.parse_args()
    summaries = [ComparisonSummary.model_validate(read_json(run / "summary.json")) for run in args.comparisons]
    whole = joined(summaries, args.methods)
    args.out.write_text(frontier_svg(whole, find_frontier(whole.cells, ROWS)))
    if args.way is not None:
        args.way.write_text(pareto_svg(whole))
    print(f"{len(whole.cells)} runs of {len({cell.rectification for cell in whole.cells})} methods: {args.out}")


if __name__ == "__main__":
    main()
