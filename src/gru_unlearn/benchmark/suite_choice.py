"""Which suite a request names, and whether its flags go with that suite."""

from pathlib import Path

from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.data import Record, load_records
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import harness, suites
from gru_unlearn.evaluation.lume import lume
from gru_unlearn.evaluation.metrics import ANY_SCRIPT
from gru_unlearn.evaluation.muse import muse
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.rwku import rwku


def check_request(request: EvaluationRequest) -> None:
    """Flags by themselves, before anything is read.

    Raises:
        UserError: one that cannot be, or does not go with the suite, or lm-evaluation-harness is missing for it.
    """
    request.check()
    if request.suite in harness.HARNESS_TASKS:
        _check_harness(request)


def _check_harness(request: EvaluationRequest) -> None:
    """Its suites need lm-evaluation-harness, and a folder of task files must be one whose code may run."""
    harness.require_harness()
    if request.data and not Path(request.data).is_dir():
        raise UserError(f"--data {request.data}: no such folder (of task files for lm-evaluation-harness)")
    if request.data and not request.trust_remote_code:
        raise UserError(f"--data {request.data}: task files can run code: pass --trust-remote-code if you trust them")


def make_suite(request: EvaluationRequest) -> Suite:
    """The suite that a request names, one of those that score rows.

    Raises:
        UserError: data that it needs and does not find, or unseen rows that are among the others.
    """
    request.check_needed()
    suite = _read_suite(request)
    suites.check_unseen({name: [item.record for item in rows.items] for name, rows in suite.sets.items()})
    return suite


def _read_suite(request: EvaluationRequest) -> Suite:
    words = request.rouge_words or ANY_SCRIPT
    match request.suite:
        case "tofu":
            data, unseen = request.data or "locuslab/TOFU", request.unseen_split
            return suites.tofu(data, request.forget_split, unseen, rouge_words=words)
        case "muse":
            return muse(request.data or "", rouge_words=words)
        case "rwku":
            return rwku(request.data or "jinzhuoran/RWKU", request.about, rouge_words=words)
        case "lume":
            return lume(request.data or "", request.fold, rouge_words=words)
        case "own":
            return suites.own(_rows(request.forget), _rows(request.retain), _rows(request.unseen))
        case _:
            return suites.builtin(request.data or "builtin")


def _rows(source: str | None) -> list[Record]:
    return load_records(source) if source else []
