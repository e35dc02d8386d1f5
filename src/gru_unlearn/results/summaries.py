"""The summary of any finished job, by the command that wrote it."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from gru_unlearn.common.files import UnreadableFile, read_json
from gru_unlearn.results.attack_summary import AttackSummary
from gru_unlearn.results.comparison_summary import ComparisonSummary, DemoSummary
from gru_unlearn.results.evaluation_summary import CurveSummary, EvaluationSummary
from gru_unlearn.results.file_model import validated
from gru_unlearn.results.ledger_summary import LedgerSummary
from gru_unlearn.results.run_summary import RunSummary, TruSummary
from gru_unlearn.results.tuning_summary import TuningSummary

Summary = (
    RunSummary
    | TruSummary
    | TuningSummary
    | EvaluationSummary
    | CurveSummary
    | ComparisonSummary
    | DemoSummary
    | AttackSummary
    | LedgerSummary
)
_ANY = TypeAdapter[Summary](Annotated[Summary, Field(discriminator="command")])
COMMANDS = ("unlearn", "tru", "finetune", "evaluate", "curve", "compare", "demo", "attack", "requests")


def read_summary(path: Path) -> Summary | None:
    """A ``summary.json``; None where there is none, or none of these commands wrote it.

    Raises:
        UnreadableFile: it is not a JSON object.
        IncompleteFile: it lacks what it should hold.
    """
    content = read_json(path)
    if content is None:
        return None
    if not isinstance(content, dict):
        raise UnreadableFile(f"{path}: expected an object")
    if content.get("command") not in COMMANDS:
        return None
    return validated(path, content, _ANY.validate_python)
