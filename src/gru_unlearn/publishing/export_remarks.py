"""What is said in the terminal of a finished export."""

from gru_unlearn.results.export_summary import ExportSummary


def remarks(summary: ExportSummary) -> list[str]:
    """What was checked, and what the card could not say."""
    checks = summary.checks
    lines = [f"Checked: loaded from scratch, the same log-probabilities on {checks.tokens} tokens, all weights finite."]
    if checks.conversion:
        lines.append(
            f"{checks.conversion.capitalize()} changed log-probabilities by {checks.mean_change:.2g} on average, "
            f"{checks.largest_change:.2g} at most (accepted: {checks.tolerance:.2g} on average)."
        )
    if summary.base.name is None:
        what = "The adapters' base" if summary.kind == "adapters" else "The base model"
        lines.append(f"{what} was a local folder and is named by its hash alone: --base-model OWNER/NAME names it.")
    if not summary.license:
        lines.append("No licence is stated: the base model's card is not at hand, or says none; --license states one.")
    return lines
