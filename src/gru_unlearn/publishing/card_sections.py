"""The text of a model card."""

from collections.abc import Iterable, Sequence

from gru_unlearn.reporting.tables import shown
from gru_unlearn.results.export_summary import (
    ExportedAttack,
    ExportedMethod,
    ExportedMetric,
    ExportedScore,
    ExportSummary,
    PublicModel,
)
from gru_unlearn.results.row_kinds import FORGET, KEPT, ROW_KINDS

PAPER = "https://arxiv.org/abs/2503.09117"
NOT_PUBLIC = "not public"

_PROBABILITY = (
    "A set's *probability* is that of its true answers: geometric mean over the tokens of an answer, mean over rows."
)
_RETAIN_MODEL = (
    "*Before* is the model that unlearning started from, *after* is this one. The *retain model* was trained without "
    "the forget rows: its level is what forgetting should come down to, and no further. " + _PROBABILITY
)
_NO_RETAIN_MODEL = (
    "*Before* is the model that unlearning started from, *after* is this one. No model trained without the forget rows "
    "was at hand, so nothing here says how far forgetting should have gone. " + _PROBABILITY
)
_LABELS = {kind.rmf: f"retention at matched forgetting, {kind.label} rows" for kind in KEPT}
_LABELS |= {kind.probability: f"{kind.label} probability" for kind in ROW_KINDS}


def sections(summary: ExportSummary) -> dict[str, str]:
    """Title → text."""
    return {
        "What was removed": _removed(summary),
        "How": _how(summary),
        "What was measured": _measured(summary),
        "Attacks": _attacks(summary),
        "What this does not prove": _limits(summary),
        "Use": _use(summary),
        "Reproduce": _reproduce(summary),
        "Checks and versions": _checks(summary),
    }


# --- what it is ------------------------------------------------------------------------------------------------------


def opening(summary: ExportSummary) -> str:
    """The card's first paragraph."""
    base = _base_in_words(summary.base)
    what = f"{base[0].upper()}{base[1:]}, made to"
    if summary.kind == "adapters":
        what = f"LoRA adapters that make {base}"
    rows = summary.data[FORGET.key].rows
    plural = "" if rows == 1 else "s"
    tool = f"[GRU Unlearn]({PAPER}) {summary.versions.get('gru-unlearn', '')}".strip()
    way = _method_in_words(summary.method)
    return f"{what} forget {rows} row{plural} by unlearning: {way}. Made with {tool}."


def _base_in_words(base: PublicModel) -> str:
    if base.name is None:
        return f"a model that is not public (SHA-256 of weights and configuration `{base.sha256[:12]}…`)"
    if base.name.startswith("builtin:"):
        return f"the small built-in model `{base.name}` of GRU Unlearn"
    return f"[{base.name}](https://huggingface.co/{base.name})"


def on_hub(model: PublicModel) -> str | None:
    """The model's name there, if it has one."""
    return None if model.name is None or model.name.startswith("builtin:") else model.name


def _method_in_words(method: ExportedMethod) -> str:
    if method.command == "tru":
        weight = f"{method.alpha:g}"
        return f"task vectors rectified over {method.groups} groups of the rows, subtracted with weight {weight}"
    return f"objective `{method.objective}`, rectification `{method.rectification}`, {method.steps} steps"


def _removed(summary: ExportSummary) -> str:
    rows = []
    for kind in ROW_KINDS:
        part = summary.data.get(kind.key)
        if part is not None:
            name = f"`{part.name}`" if part.name else NOT_PUBLIC
            rows.append((kind.label, part.rows, f"`{part.sha256}`", name))
    table = markdown_table(("set", "rows", "SHA-256 of the contents", "known as"), rows)
    return (
        "The *forget* rows are what the model should no longer know. Their text is not published; whoever has the rows "
        "can tell by the hash whether these are the ones. *Retain* rows guarded the run, *held-out* rows took no part "
        f"in it and were only measured.\n\n{table}"
    )


def _how(summary: ExportSummary) -> str:
    settings = summary.method.to_json()
    rows = [(name.replace("_", " "), f"`{value}`") for name, value in settings.items()]
    return markdown_table(("setting", "value"), rows)


# --- numbers ---------------------------------------------------------------------------------------------------------


def _measured(summary: ExportSummary) -> str:
    parts = [_RETAIN_MODEL if summary.retain_model else _NO_RETAIN_MODEL, _metric_table(summary.metrics)]
    for suite, scores in summary.evaluations.items():
        parts.append(
            f"The suite `{suite}` (`gru evaluate --explain METRIC` gives a metric's definition and source); the "
            f"interval is a 95 % interval of the value after unlearning:\n\n{_score_table(scores)}"
        )
    return "\n\n".join(parts)


def label_of_metric(metric: str) -> str:
    """A run's metric in words; of a suite's, its name."""
    return _LABELS.get(metric, metric)


def _metric_table(metrics: Sequence[ExportedMetric]) -> str:
    return markdown_table(("", "before", "after", "retain model"), [_cells(found) for found in metrics])


def _score_table(scores: Sequence[ExportedScore]) -> str:
    rows = [(*_cells(score), _interval(score)) for score in scores]
    return markdown_table(("", "before", "after", "retain model", "interval"), rows)


def _cells(found: ExportedMetric | ExportedScore) -> tuple[str, ...]:
    return label_of_metric(found.metric), *map(shown, (found.before, found.after, found.retain_model))


def _interval(found: ExportedScore | ExportedAttack) -> str:
    if found.low is None or found.high is None:
        return ""
    return f"{shown(found.low)} – {shown(found.high)}"


def _attacks(summary: ExportSummary) -> str:
    if not summary.attacks:
        return "None is on record. Nobody has tried here to bring the forgotten rows back, so assume that it may work."
    headings = ("attack", "measure", "this model", "before", "retain model", "recovered")
    table = markdown_table(headings, [_attack_cells(attack) for attack in summary.attacks])
    return (
        "What attacks got out of this model, of the model before unlearning, and of the retain model attacked alike. "
        f"*Recovered*: 0 is as if the rows were never seen, 1 is all of it back.\n\n{table}"
    )


def _attack_cells(attack: ExportedAttack) -> tuple[str, ...]:
    name = " · ".join(filter(None, (attack.attack, attack.variant)))
    recovered, interval = shown(attack.recovered), _interval(attack)
    if interval:
        recovered += f" ({interval})"
    return name, attack.measure, *map(shown, (attack.unlearned, attack.target, attack.retain_model)), recovered


# --- what to do with it ----------------------------------------------------------------------------------------------


def _limits(summary: ExportSummary) -> str:
    points = [
        "The numbers are about these rows as they are worded. Paraphrases, other languages, long contexts and clever "
        "prompts may still bring the content out.",
        "A low probability of an answer does not show that the knowledge has left the weights: further training, even "
        "on other data, and quantization are known to bring unlearned knowledge back.",
        "What should stay was measured on the retain and held-out rows only; other abilities may have suffered.",
        "The model before unlearning, its copies and everything derived from it still know the rows.",
    ]
    if summary.retain_model is None:
        points.append(
            "Without a retain model, neither too little nor too much forgetting can be told apart from enough."
        )
    return "\n".join(f"- {point}" for point in points)


def _use(summary: ExportSummary) -> str:
    name = summary.repository or summary.name
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    note = ""
    if summary.kind == "adapters":
        base = on_hub(summary.base)
        lines = ["from peft import PeftModel", *lines]
        lines.append(f'model = AutoModelForCausalLM.from_pretrained("{base or "BASE_MODEL"}")')
        lines.append(f'model = PeftModel.from_pretrained(model, "{name}")')
        if base is None:
            sha256 = summary.base.sha256
            note = f"\n\n`BASE_MODEL` is not on the hub; SHA-256 of its weights and configuration: `{sha256}`."
    else:
        lines.append(f'model = AutoModelForCausalLM.from_pretrained("{name}")')
    lines.append(f'tokenizer = AutoTokenizer.from_pretrained("{name}")')
    return "\n".join(["```python", *lines, "```"]) + note


def _reproduce(summary: ExportSummary) -> str:
    text = f"```sh\n{summary.reproduce}\n```"
    sources = (*summary.data.values(), summary.base, summary.retain_model)
    if any(source is not None and not source.name for source in sources):
        text += "\n\nWords in capitals stand for files that are not public; their hashes are in `summary.json`."
    if summary.left_out:
        names = ", ".join(f"`{name}`" for name in summary.left_out)
        text += f"\n\nSet by text or paths that are not shown: {names}."
    return text


def _checks(summary: ExportSummary) -> str:
    checks = summary.checks
    made = (
        f"These files were loaded again before they were published, and give the same log-probabilities to the bit on "
        f"{checks.tokens} fixed tokens; all weights are finite."
    )
    if checks.conversion:
        made += (
            f" Against the run's model, {checks.conversion} changed them by {checks.mean_change:.2g} on average "
            f"and {checks.largest_change:.2g} at most (accepted: {checks.tolerance:.2g} on average)."
        )
    packages = ", ".join(f"{name} {number}" for name, number in summary.versions.items())
    return f"{made}\n\nThe run's versions: {packages}."


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; bars in cells are escaped."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(map(_markdown_line, lines))


def _markdown_line(cells: Sequence[object]) -> str:
    escaped = [str(cell).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"
