"""The demonstration's tables for the terminal."""

from rich.table import Table

from gru_unlearn.reporting.tables import make_table
from gru_unlearn.reporting.verdict_lines import verdicts_lines
from gru_unlearn.results.comparison_summary import DemoSample, DemoSummary
from gru_unlearn.results.row_kinds import HELD_OUT, RETAIN, ROW_KINDS

LINES = {
    **{kind.probability: f"{kind.label} prob" for kind in ROW_KINDS},
    **{f"{kind.key}_exact_answers": f"{kind.label} exact" for kind in ROW_KINDS},
    "forget_quality": "forget quality",
    "model_utility": "model utility",
    **{kind.rmf: f"RMF {kind.label}" for kind in (RETAIN, HELD_OUT)},
    "steps": "steps",
}

HOW_TO_READ = (
    "Each run stops once it has forgotten as much as the retain model, which never saw the five people (forget prob: "
    "mean probability of the true answers; exact: share of questions answered word for word). What counts then is what "
    "was kept. RMF is the kept share of the target's probability at exactly that moment, 1 being perfect: on people "
    "that guarded the run (retain), and on people that no run ever looked at (held-out). Forget quality above 0.05: on "
    "the questions to forget, a test can no longer tell the model from the retain model. Figures differ somewhat from "
    "machine to machine, because the models are trained from scratch on yours.\n"
)


def demo_report(summary: DemoSummary) -> list[Table | str]:
    """The demonstration's table, how to read it, and sample questions."""
    titles = {"forget": "Should be forgotten", "held_out": "Should still be known"}
    samples = [_sample_table(title, summary.sample[name]) for name, title in titles.items()]
    verdicts = verdicts_lines({row.name: row.verdict for row in summary.results})
    together = [] if summary.verdict is None else [summary.verdict.sentence]
    return [demo_table(summary), *together, *summary.kept_most, *verdicts, HOW_TO_READ, *samples]


def demo_table(summary: DemoSummary) -> Table:
    """The runs beside the target and the retain model; empty where it is no question: the target has no steps."""
    columns = {"target": summary.target.to_json(), "retain model": summary.retain_model.to_json()}
    columns.update((row.name, row.to_json()) for row in summary.results)
    lines = []
    for name, label in LINES.items():
        lines.append([label, *(column.get(name, "") for column in columns.values())])
    return make_table("Forgetting 5 of 50 invented people", ("", *columns), lines)


def _sample_table(title: str, sample: DemoSample) -> Table:
    table = make_table(title, ("question", sample.question), [("truth", sample.truth), *sample.answers.items()])
    table.columns[1].justify = "left"
    return table
