"""The summary of any finished job, by the command that wrote it."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from gru_unlearn.common.files import UnreadableFile, read_json
from gru_unlearn.results.attack_summary import AttackSummary
from gru_unlearn.results.comparison_summary import ComparisonSummary, DemoSummary
from gru_unlearn.results.evaluation_summary import CurveSummary, EvaluationSummary
from gru_unlearn.results.file_model import first_problem
from gru_unlearn.results.run_summary import RunSummary, TruSummary

Summary = RunSummary | TruSummary | EvaluationSummary | CurveSummary | ComparisonSummary | DemoSummary | AttackSummary
_ANY = TypeAdapter[Summary](Annotated[Summary, Field(discriminator="command")])
COMMANDS = ("unlearn", "tru", "evaluate", "curve", "compare", "demo", "attack")


def read_summary(path: Path) -> Summary | None:
    """A ``summary.json``, or None where there is none.

    Raises:
        UnreadableFile: it is not JSON, not of one of these commands, or lacks what it should hold.
    """
    content = read_json(path)
    if content is None:
        return None
    try:
        return _ANY.validate_python(content)
    except ValidationError as error:
        raise UnreadableFile(f"{path}: {first_problem(error)}; was it written by another version?") from None


def written_by(path: Path) -> str | None:
    """The command that wrote a ``summary.json``, empty where it does not say; None where there is no such file.

    Raises:
        UnreadableFile: it is not JSON.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        return None
    return str(content.get("command") or "")
