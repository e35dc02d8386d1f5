"""Which suite a request names, and whether its flags go with that suite."""

from pathlib import Path

from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.common.options import flag_of
from gru_unlearn.data import Record, load_records
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.evaluation import harness, suites
from gru_unlearn.evaluation.lume import lume
from gru_unlearn.evaluation.metrics import ANY_SCRIPT, ROUGE_WORDS
from gru_unlearn.evaluation.muse import muse
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.rwku import rwku

PUBLISHED = ("tofu", "muse", "rwku", "lume")
"""Suites of other people's rows that are scored here."""
SUITES = (*PUBLISHED, "builtin", "own", *harness.HARNESS_TASKS)
DTYPES = ("auto", "float32", "bfloat16", "float16")

BELONGS_TO = {
    "data": (*PUBLISHED, "builtin", *harness.HARNESS_TASKS),
    "forget": ("own",),
    "retain": ("own",),
    "unseen": ("own",),
    "unseen_split": ("tofu",),
    "about": ("rwku",),
    "fold": ("lume",),
    "rouge_words": PUBLISHED,
    "retain_model": (*PUBLISHED, "builtin", "own"),
    "limit": tuple(harness.HARNESS_TASKS),
}
"""Flags that only some suites know, so that none is ignored silently."""


def check_request(request: EvaluationRequest) -> None:
    """Flags by themselves, before anything is read.

    Raises:
        UserError: one that cannot be, or does not go with the suite, or lm-evaluation-harness is missing for it.
    """
    if not request.model:
        raise UserError("no model given: pass --model")
    if request.suite not in SUITES:
        raise UserError(f"unknown suite {request.suite!r}{nearest(request.suite, SUITES)}")
    if request.dtype not in DTYPES:
        raise UserError(f"--dtype: unknown type {request.dtype!r}{nearest(request.dtype, DTYPES)}")
    words = request.rouge_words or ANY_SCRIPT
    if words not in ROUGE_WORDS:
        raise UserError(f"--rouge-words: unknown {words!r}{nearest(words, ROUGE_WORDS)}")
    for name, known in BELONGS_TO.items():
        if getattr(request, name) is not None and request.suite not in known:
            known_to = " or ".join(known)
            raise UserError(f"{flag_of(name)} belongs to --suite {known_to}, not to --suite {request.suite}")
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
            if not request.data:
                raise UserError("--suite muse needs --data, a folder in MUSE's layout or muse-bench/MUSE-News")
            return muse(request.data, rouge_words=words)
        case "rwku":
            return rwku(request.data or "jinzhuoran/RWKU", request.about, rouge_words=words)
        case "lume":
            if not request.data:
                raise UserError("--suite lume needs --data, a folder in LUME's layout or SemEval's data set on the hub")
            return lume(request.data, request.fold, rouge_words=words)
        case "own":
            if not request.forget:
                raise UserError("--suite own needs --forget, a file of your rows (and better also --retain)")
            return suites.own(_rows(request.forget), _rows(request.retain), _rows(request.unseen))
        case _:
            return suites.builtin(request.data or "builtin")


def _rows(source: str | None) -> list[Record]:
    return load_records(source) if source else []
