"""The demonstration's tables for the terminal."""

from rich.table import Table

from gru_unlearn.reporting.tables import make_table
from gru_unlearn.results.comparison_summary import DemoSample, DemoSummary
from gru_unlearn.results.file_model import Number
from gru_unlearn.results.model_metrics import Metrics

LINES = {
    "forget_prob": "forget prob",
    "retain_prob": "retain prob",
    "held_out_prob": "held-out prob",
    "forget_exact_answers": "forget exact",
    "retain_exact_answers": "retain exact",
    "held_out_exact_answers": "held-out exact",
    "forget_quality": "forget quality",
    "model_utility": "model utility",
    "rmf": "RMF retain",
    "rmf_held_out": "RMF held-out",
    "steps": "steps",
}

HOW_TO_READ = (
    "Each run stops once it has forgotten as much as the retain model, which never saw the five people (forget prob: "
    "mean probability of the true answers; exact: share of questions answered word for word). What counts then is what "
    "was kept. RMF is the kept share of the target's probability at exactly that moment, 1 being perfect: on people "
    "that guarded the run (retain), and on people that no run ever looked at (held-out). Forget quality above 0.05: on "
    "the questions to forget, a test can no longer tell the model from the retain model.\n"
)


def demo_report(summary: DemoSummary) -> list[Table | str]:
    """The demonstration's table, how to read it, and sample questions."""
    return [
        demo_table(summary),
        HOW_TO_READ,
        _sample_table("Should be forgotten", summary.sample["forget"]),
        _sample_table("Should still be known", summary.sample["held_out"]),
    ]


def demo_table(summary: DemoSummary) -> Table:
    """The runs beside the target and the retain model."""
    columns = summary.columns
    lines = []
    for name, label in LINES.items():
        lines.append([label, *(_measured(column, name) for column in columns.values())])
    return make_table("Forgetting 5 of 50 invented people", ("", *columns), lines)


def _measured(column: Metrics, name: str) -> Number | str | None:
    """Empty where it is no question: the target has no steps."""
    return column.get(name) if name in column.model_fields_set else ""


def _sample_table(title: str, sample: DemoSample) -> Table:
    table = make_table(title, ("question", sample.question), [("truth", sample.truth), *sample.answers.items()])
    table.columns[1].justify = "left"
    return table
