"""A model card for an unlearned model: the hub's metadata and the text, from an export's summary alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from gru_unlearn.publishing.privacy import SETS
from gru_unlearn.reporting.tables import shown

TAGS = ("unlearning", "gru-unlearn")
PAPER = "https://arxiv.org/abs/2503.09117"
NOT_PUBLIC = "not public"

Summary = Mapping[str, Any]


def model_card(summary: Summary) -> str:
    """The README.md of a published model.

    Args:
        summary: of an export (:func:`gru_unlearn.publishing.export_job.export`); everything in it may be shown.
    """
    sections: dict[str, Callable[[Summary], str]] = {
        "What was removed": _removed,
        "How": _how,
        "What was measured": _measured,
        "Attacks": _attacks,
        "What this does not prove": _limits,
        "Use": _use,
        "Reproduce": _reproduce,
        "Checks and versions": _checks,
    }
    text = "\n\n".join(f"## {title}\n\n{write(summary)}" for title, write in sections.items())
    head = f"# {summary['name']}\n\n{_opening(summary)}"
    return str(ModelCard(f"---\n{metadata(summary).to_yaml()}\n---\n\n{head}\n\n{text}\n"))


def metadata(summary: Summary) -> ModelCardData:
    """The hub's metadata block; licence, language and base model only where they are known."""
    adapters = summary["kind"] == "adapters"
    base = _on_hub(summary["base"])
    return ModelCardData(
        base_model=base,
        base_model_relation=("adapter" if adapters else "finetune") if base else None,
        library_name="peft" if adapters else "transformers",
        pipeline_tag="text-generation",
        tags=list(TAGS),
        language=summary["language"],
        model_name=summary["name"],
        eval_results=[_eval_result(summary, *found) for found in _values(summary)] or None,
        **summary["license"],
    )


def _on_hub(source: Summary) -> str | None:
    name = source["name"]
    return None if name is None or name.startswith("builtin:") else name


def _values(summary: Summary) -> Iterable[tuple[str, str, float]]:
    """(set or suite, metric, value) of everything that was measured on the exported model."""
    for row in summary["metrics"]:
        set_name = next((name for name in SETS if row["metric"].startswith(name)), "forget")
        yield (
            ("retain" if row["metric"] == "rmf" else "held_out" if row["metric"] == "rmf_held_out" else set_name),
            (row["metric"]),
            row["after"],
        )
    for suite, rows in summary["evaluations"].items():
        yield from ((suite, row["metric"], row["after"]) for row in rows)


def _eval_result(summary: Summary, where: str, metric: str, value: float) -> EvalResult:
    rows = summary["data"].get(where)
    name = f"{SETS[where]} set" if rows else where
    return EvalResult(
        task_type="text-generation",
        dataset_type=(rows["name"] if rows else None) or NOT_PUBLIC,
        dataset_name=f"{name} ({rows['rows']} rows, SHA-256 {rows['sha256'][:12]})" if rows else name,
        metric_type=metric,
        metric_name=_label(metric),
        metric_value=value,
    )


# --- the text --------------------------------------------------------------------------------------------------------


def _opening(summary: Summary) -> str:
    rows = summary["data"]["forget"]["rows"]
    forgets = f"forget {rows} row{'s' if rows != 1 else ''} by unlearning"
    base = _base_words(summary["base"])
    what = (
        f"LoRA adapters that make {base}" if summary["kind"] == "adapters" else f"{base[0].upper()}{base[1:]}, made to"
    )
    tool = f"[GRU Unlearn]({PAPER}) {summary['versions'].get('gru-unlearn', '')}".strip()
    return f"{what} {forgets}: {_method_words(summary['method'])}. Made with {tool}."


def _base_words(base: Summary) -> str:
    name = base["name"]
    if name is None:
        return f"a model that is not public (SHA-256 of weights and configuration `{base['sha256'][:12]}…`)"
    if name.startswith("builtin:"):
        return f"the small built-in model `{name}` of GRU Unlearn"
    return f"[{name}](https://huggingface.co/{name})"


def _method_words(method: Summary) -> str:
    if method["command"] == "tru":
        groups, weight = method["groups"], f"{method['alpha']:g}"
        return f"task vectors rectified over {groups} groups of the rows, subtracted with weight {weight}"
    return f"objective `{method['objective']}`, rectification `{method['rectification']}`, {method['steps']} steps"


def _removed(summary: Summary) -> str:
    rows = [
        (label, part["rows"], f"`{part['sha256']}`", f"`{part['name']}`" if part["name"] else NOT_PUBLIC)
        for name, label in SETS.items()
        if (part := summary["data"].get(name))
    ]
    table = markdown_table(("set", "rows", "SHA-256 of the contents", "known as"), rows)
    return (
        "The *forget* rows are what the model should no longer know. Their text is not published; whoever has the rows "
        "can tell by the hash whether these are the ones. *Retain* rows guarded the run, *held-out* rows took no part "
        f"in it and were only measured.\n\n{table}"
    )


def _how(summary: Summary) -> str:
    method = summary["method"]
    return markdown_table(
        ("setting", "value"), [(name.replace("_", " "), f"`{value}`") for name, value in method.items()]
    )


def _measured(summary: Summary) -> str:
    parts = [_RETAIN_MODEL if summary["retain_model"] else _NO_RETAIN_MODEL, _metric_table(summary["metrics"])]
    for suite, rows in summary["evaluations"].items():
        parts.append(
            f"The suite `{suite}` (`gru evaluate --explain METRIC` gives a metric's definition and source); the "
            f"interval is a 95 % interval of the value after unlearning:\n\n{_metric_table(rows, intervals=True)}"
        )
    return "\n\n".join(parts)


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

_LABELS = {
    "rmf": "retention at matched forgetting, retain rows",
    "rmf_held_out": "retention at matched forgetting, held-out rows",
    **{f"{name}_prob": f"{label} probability" for name, label in SETS.items()},
}


def _label(metric: str) -> str:
    return _LABELS.get(metric, metric)


def _metric_table(metrics: Sequence[Summary], intervals: bool = False) -> str:
    columns = ["before", "after", "retain_model"]
    rows = [
        (_label(row["metric"]), *(shown(row[name]) for name in columns), *([_interval(row)] if intervals else []))
        for row in metrics
    ]
    return markdown_table(("", "before", "after", "retain model", *(["interval"] if intervals else [])), rows)


def _interval(row: Summary) -> str:
    return "" if row.get("low") is None or row.get("high") is None else f"{shown(row['low'])} – {shown(row['high'])}"


def _attacks(summary: Summary) -> str:
    if not summary["attacks"]:
        return "None is on record. Nobody has tried here to bring the forgotten rows back, so assume that it may work."
    rows = [
        (
            " · ".join(str(row[name]) for name in ("attack", "variant") if row[name]),
            row["measure"],
            *(shown(row[name]) for name in ("unlearned", "target", "retain_model")),
            shown(row["recovered"]) + (f" ({_interval(row)})" if _interval(row) else ""),
        )
        for row in summary["attacks"]
    ]
    table = markdown_table(("attack", "measure", "this model", "before", "retain model", "recovered"), rows)
    return (
        "What attacks got out of this model, of the model before unlearning, and of the retain model attacked alike. "
        f"*Recovered*: 0 is as if the rows were never seen, 1 is all of it back.\n\n{table}"
    )


def _limits(summary: Summary) -> str:
    points = [
        "The numbers are about these rows as they are worded. Paraphrases, other languages, long contexts and clever "
        "prompts may still bring the content out.",
        "A low probability of an answer does not show that the knowledge has left the weights: further training, even "
        "on other data, and quantization are known to bring unlearned knowledge back.",
        "What should stay was measured on the retain and held-out rows only; other abilities may have suffered.",
        "The model before unlearning, its copies and everything derived from it still know the rows.",
    ]
    if not summary["retain_model"]:
        points.append(
            "Without a retain model, neither too little nor too much forgetting can be told apart from enough."
        )
    return "\n".join(f"- {point}" for point in points)


def _use(summary: Summary) -> str:
    name, base = summary["repository"] or summary["name"], _on_hub(summary["base"])
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    note = ""
    if summary["kind"] == "adapters":
        lines = ["from peft import PeftModel", *lines]
        lines += [f'model = AutoModelForCausalLM.from_pretrained("{base or "BASE_MODEL"}")']
        lines += [f'model = PeftModel.from_pretrained(model, "{name}")']
        sha256 = summary["base"]["sha256"]
        note = (
            "" if base else f"\n\n`BASE_MODEL` is not on the hub; SHA-256 of its weights and configuration: `{sha256}`."
        )
    else:
        lines += [f'model = AutoModelForCausalLM.from_pretrained("{name}")']
    return "\n".join(["```python", *lines, f'tokenizer = AutoTokenizer.from_pretrained("{name}")', "```"]) + note


def _reproduce(summary: Summary) -> str:
    text = f"```sh\n{summary['reproduce']}\n```"
    if any(part and not part["name"] for part in (*summary["data"].values(), summary["base"], summary["retain_model"])):
        text += "\n\nWords in capitals stand for files that are not public; their hashes are in `summary.json`."
    if summary["left_out"]:
        text += (
            f"\n\nSet by text or paths that are not shown: {', '.join(f'`{name}`' for name in summary['left_out'])}."
        )
    return text


def _checks(summary: Summary) -> str:
    checks, versions = summary["checks"], summary["versions"]
    made = (
        f"These files were loaded again before they were published, and give the same log-probabilities to the bit on "
        f"{checks['tokens']} fixed tokens; all weights are finite."
    )
    if checks["conversion"]:
        made += (
            f" Against the run's model, {checks['conversion']} changed them by {checks['mean_change']:.2g} on average "
            f"and {checks['largest_change']:.2g} at most (accepted: {checks['tolerance']:.2g} on average)."
        )
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"{made}\n\nThe run's versions: {packages}."


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown; bars in cells are escaped."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
