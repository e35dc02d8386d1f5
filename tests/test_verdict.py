"""One verdict by one rule: its sentence in many situations, and the same one wherever the same numbers are shown."""

import html
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import report_material
import tiny
from gru_unlearn.attacks.attacked_evidence import attack_evidence
from gru_unlearn.benchmark.evaluated_evidence import _saw_enough, evaluation_verdict
from gru_unlearn.common.files import write_json
from gru_unlearn.comparison.matrix import Cell
from gru_unlearn.comparison.matrix_plan import _is_asked
from gru_unlearn.comparison.method_verdicts import _worst_seed, judge_comparison, judge_demo
from gru_unlearn.evaluation import Entry, ScoreTable, Use
from gru_unlearn.ledger.request_verdicts import judge_requests
from gru_unlearn.publishing.card import model_card
from gru_unlearn.publishing.reports import write_report
from gru_unlearn.reporting.broken_answers import Told, is_broken, said_of
from gru_unlearn.reporting.evidence import Evidence, Kept, Sample
from gru_unlearn.reporting.judge import NO_PROOF, findings_of, together, verdict_of
from gru_unlearn.reporting.measured import run_verdict, verdict_of_folder
from gru_unlearn.reporting.verdict_lines import verdict_lines
from gru_unlearn.results.attack_summary import AttackResult, AttackSummary
from gru_unlearn.results.comparison_summary import CellRecord, CellResult, ComparisonSummary, DemoSummary
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.export_summary import ExportSummary
from gru_unlearn.results.ledger_summary import LedgerSummary
from gru_unlearn.results.mark import Mark, MarkKind
from gru_unlearn.results.provenance import ModelSource, RowsSource
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary, TruMethod, TruResults, TruSummary
from gru_unlearn.results.verdict import Said

KEPT = {"held-out": Kept(0.9, 0.9), "retain": Kept(0.9, 0.89)}
OWN_ROWS = Evidence(
    forget_before=0.996, forget_after=0.001, rows=10, kept=KEPT,
    said=Said(asked=10, word_for_word=0, broken=0), said_before=Said(asked=10, word_for_word=10, broken=0),
)  # fmt: skip
"""Ten rows of one's own, and no retain model."""
WITH_RETAIN_MODEL = replace(
    OWN_ROWS, forget_after=0.36, forget_retain_model=0.359, said_by_retain_model=Said(asked=10, word_for_word=0)
)


def said(count, broken=0, asked=10):
    return Said(asked=asked, word_for_word=count, broken=broken)


def continued(count, broken=0, asked=10):
    return Said(asked=asked, word_for_word=count, broken=broken, continued=asked)


def attacked(found=0.0, recovered=None, measure="found", name="prompts"):
    numbers = {"unlearned": found, "target": 1.0, "retain_model": None if recovered is None else 0.0}
    interval = {"recovered": recovered, "low": recovered, "high": recovered}
    return AttackResult(attack=name, variant="as questions", measure=measure, rows=10, **numbers, **interval)


class Situation(NamedTuple):
    evidence: Evidence
    forgotten: str
    kept: str
    sentence: str
    attacks: list | None = None
    remarks: tuple = ()


TOO_HIGH = (
    "Such a mark may be much too high: rows are called gone only where 60% of their probability before is gone, too."
)
COUNTED = "Rows are called gone only where answers were counted, too."
REST = "99% is left of what must stay: kept."
SITUATIONS = {
    "nothing forgotten, no retain model": Situation(
        replace(OWN_ROWS, forget_after=0.996, said=said(10)),
        "no", "yes",
        "10 rows were to be removed. Nothing changed: the model still gives 10 of 10 answers word for word: not "
        f"removed. {REST}",
        remarks=("no effect", "no retain model"),
    ),
    "a little less probable, and all answers still come": Situation(
        replace(OWN_ROWS, forget_after=0.8, said=said(10)),
        "no", "yes",
        f"10 rows were to be removed. The model still gives 10 of 10 answers word for word: not removed. {REST}",
    ),
    "all gone, no retain model": Situation(
        OWN_ROWS,
        "yes", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.001: gone, by these marks (answers word for word and mean probability of the answers). "
        f"Not attacked. {REST}",
        remarks=("no retain model", "not attacked"),
    ),
    "all gone, no retain model, every attack near zero": Situation(
        OWN_ROWS,
        "yes", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.001: gone, by these marks (answers word for word and mean probability of the answers). 1 "
        "attempt to bring it back: none of 10 answers came back; whether it stays gone cannot be told without a retain "
        f"model. {REST}",
        attacks=[attacked(0.0)],
    ),
    "gone, and an attack brings most of it back": Situation(
        OWN_ROWS,
        "partly", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        f"from 0.996 to 0.001: partly removed. 1 attempt to bring it back: 8 of 10 answers came back. {REST}",
        attacks=[attacked(0.8), attacked(0.1, measure="prob")],
        remarks=("came back under attack",),
    ),
    "wiped: loops instead of answers, and the rest is gone, too": Situation(
        replace(
            OWN_ROWS, said=said(0, broken=10),
            kept={"held-out": Kept(0.9, 0.01, said=said(0, broken=9), said_before=said(10)), "retain": Kept(0.9, 0.01)},
        ),
        "yes", "no",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.001: gone, by these marks (answers word for word and mean probability of the answers). "
        "What it says instead is broken: 10 of 10 answers are loops, empty, or a single word. Not attacked. The "
        "rest is damaged: most answers to held-out rows are loops, empty, or one word.",
        remarks=("broken answers",),
    ),
    "loops instead of the forgotten answers alone": Situation(
        replace(WITH_RETAIN_MODEL, said=said(0, broken=6)),
        "yes", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.360 (0.359 to a model that never saw them): removed. What it says instead is broken: 6 of "
        f"10 answers are loops, empty, or a single word. Not attacked. {REST}",
        remarks=("broken answers",),
    ),
    "as little as the model before fine-tuning": Situation(
        replace(OWN_ROWS, forget_after=0.1, other_mark=Mark(kind="base_model", value=0.102)),
        "yes", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.100 (0.102 to the model before fine-tuning): gone, by these marks (answers word for word and "
        f"mean probability of the answers beside that of the model before fine-tuning). Not attacked. {REST}",
        remarks=("no retain model", "not attacked"),
    ),
    "half of the way to the model before fine-tuning": Situation(
        replace(OWN_ROWS, forget_after=0.5, other_mark=Mark(kind="base_model", value=0.102)),
        "partly", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        f"from 0.996 to 0.500 (0.102 to the model before fine-tuning): partly removed. Not attacked. {REST}",
    ),
    "far below the model before fine-tuning": Situation(
        replace(OWN_ROWS, other_mark=Mark(kind="base_model", value=0.102)),
        "yes", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.001 (0.102 to the model before fine-tuning): gone, by these marks (answers word for word and "
        "mean probability of the answers beside that of the model before fine-tuning). It went too far: the answers "
        f"are far less probable than to a model that never saw them, which is a trace. Not attacked. {REST}",
        remarks=("overshoot",),
    ),
    "no surer than before fine-tuning": Situation(
        replace(
            OWN_ROWS, forget_before=0.11, forget_after=0.1, said_before=said(0),
            other_mark=Mark(kind="base_model", value=0.102),
        ),
        "unknown", "yes",
        "10 rows were to be removed. The model did not know them before (mean probability 0.110, none of 10 "
        f"answers word for word): there was nothing to remove. {REST}",
        remarks=("never known",),
    ),
    "down to control rows": Situation(
        replace(
            OWN_ROWS, forget_after=0.1,
            other_mark=Mark(kind="control_rows", value=0.108, scored_by="base_model"),
        ),
        "yes", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.100 (0.108 for rows of the same form about what nobody knows): gone, by these marks (answers "
        "word for word and mean probability of the answers beside that of control rows). Not attacked. " + REST,
    ),
    "down to the rows' own floor": Situation(
        replace(OWN_ROWS, forget_after=0.2, other_mark=Mark(kind="own_floor", value=0.215)),
        "yes", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.200 (0.215 for the same rows with invented names and numbers): gone, by these marks (answers "
        "word for word and mean probability of the answers beside that of the same rows with invented names). Not "
        f"attacked. {REST}",
        remarks=("no retain model",),
    ),
    "down to a floor that is far too high": Situation(
        replace(OWN_ROWS, forget_after=0.75, other_mark=Mark(kind="own_floor", value=0.759)),
        "no", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        f"from 0.996 to 0.750 (0.759 for the same rows with invented names and numbers): not removed. {TOO_HIGH} "
        f"{REST}",
    ),
    "down to a floor, and too little is gone": Situation(
        replace(OWN_ROWS, forget_after=0.415, other_mark=Mark(kind="own_floor", value=0.417)),
        "partly", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        f"from 0.996 to 0.415 (0.417 for the same rows with invented names and numbers): partly removed. {TOO_HIGH} "
        f"Not attacked. {REST}",
        remarks=("no retain model",),
    ),
    "one model alone shows no sign of knowing them": Situation(
        Evidence(forget_after=2e-4, said=said(0), rows=10),
        "unknown", "unknown",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability is "
        "2e-04: measured, but nothing to compare with. As it is, the model shows no sign of knowing them. What must "
        "stay was not measured.",
        remarks=("nothing to compare with",),
    ),
    "never known, and every attack near zero": Situation(
        replace(OWN_ROWS, forget_before=1e-4, forget_after=1e-4, said_before=said(0)),
        "unknown", "yes",
        "10 rows were to be removed. The model did not know them before (mean probability 1e-04, none of 10 "
        "answers word for word): there was nothing to remove. 1 attempt to draw it out: none of 10 answers came. "
        f"{REST}",
        attacks=[attacked(0.0)],
        remarks=("never known",),
    ),
    "never known, no retain model": Situation(
        replace(OWN_ROWS, forget_before=1e-4, forget_after=1e-4, said_before=said(0)),
        "unknown", "yes",
        "10 rows were to be removed. The model did not know them before (mean probability 1e-04, none of 10 "
        f"answers word for word): there was nothing to remove. {REST}",
        remarks=("never known",),
    ),
    "never known, beside a retain model": Situation(
        replace(WITH_RETAIN_MODEL, forget_before=0.36, said_before=said(0)),
        "unknown", "yes",
        "10 rows were to be removed. The model did not know them before (mean probability 0.360, none of 10 "
        f"answers word for word): there was nothing to remove. {REST}",
        remarks=("never known",),
    ),
    "never known, and learnt by the run": Situation(
        replace(OWN_ROWS, forget_before=1e-4, forget_after=0.9, said_before=said(0), said=said(7)),
        "no", "yes",
        f"10 rows were to be removed. The model still gives 7 of 10 answers word for word: not removed. {REST}",
    ),
    "removed, beside a retain model": Situation(
        WITH_RETAIN_MODEL,
        "yes", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        f"from 0.996 to 0.360 (0.359 to a model that never saw them): removed. Not attacked. {REST}",
    ),
    "overshoot far below the mark": Situation(
        replace(WITH_RETAIN_MODEL, forget_after=0.001),
        "yes", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.001 (0.359 to a model that never saw them): removed. It went too far: the answers are far "
        f"less probable than to a model that never saw them, which is a trace. Not attacked. {REST}",
        remarks=("overshoot",),
    ),
    "two of forty answers still come": Situation(
        replace(WITH_RETAIN_MODEL, rows=40, said=said(2, asked=40), said_before=said(40, asked=40)),
        "partly", "yes",
        "40 rows were to be removed. The model still gives 2 of 40 answers word for word: partly removed. Not "
        f"attacked. {REST}",
    ),
    "no more than a model that never saw them": Situation(
        replace(WITH_RETAIN_MODEL, said=said(2), said_by_retain_model=said(2)),
        "yes", "yes",
        "10 rows were to be removed. The model still gives 2 of 10 answers word for word, one that never saw them "
        "2, and their probability went from 0.996 to 0.360 (0.359 to a model that never saw them): removed. Not "
        f"attacked. {REST}",
    ),
    "stopped far from the mark": Situation(
        replace(WITH_RETAIN_MODEL, forget_after=0.731),
        "no", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        f"from 0.996 to 0.731 (0.359 to a model that never saw them): not removed. {REST}",
    ),
    "half of the way": Situation(
        replace(WITH_RETAIN_MODEL, forget_after=0.6),
        "partly", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        f"from 0.996 to 0.600 (0.359 to a model that never saw them): partly removed. Not attacked. {REST}",
    ),
    "a test tells it apart": Situation(
        replace(WITH_RETAIN_MODEL, forget_quality=0.01),
        "partly", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.360 (0.359 to a model that never saw them): partly removed. A test tells its answers from "
        f"those of a model that never saw them (forget quality). Not attacked. {REST}",
        remarks=("told apart",),
    ),
    "nothing measured": Situation(
        Evidence(rows=10),
        "unknown", "unknown",
        "10 rows were to be removed. Nothing of them was measured: whether they are gone is not known. What must "
        "stay was not measured.",
        remarks=("not measured",),
    ),
    "measured, but nothing to compare with": Situation(
        Evidence(forget_after=0.22, said=said(0), rows=10, kept={"retain": Kept(None, 0.9)}),
        "unknown", "unknown",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability is "
        "0.220: measured, but nothing to compare with. What must stay was measured, but there is nothing to "
        "compare it with.",
        remarks=("nothing to compare with",),
    ),
    "one model alone still gives its answers": Situation(
        Evidence(forget_after=0.99, said=said(9), rows=10),
        "no", "unknown",
        "10 rows were to be removed. The model still gives 9 of 10 answers word for word: not removed. What must "
        "stay was not measured.",
    ),
    "the model before was not measured, and no model could come from so far": Situation(
        Evidence(forget_after=0.731, forget_retain_model=0.359, said=said(0), rows=10),
        "no", "unknown",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability is "
        "0.731 (0.359 to a model that never saw them): not removed. What must stay was not measured.",
    ),
    "plain texts, all continued otherwise": Situation(
        replace(OWN_ROWS, said=continued(0), said_before=continued(10)),
        "yes", "yes",
        "10 rows were to be removed. The model continues none of 10 texts word for word, and their probability went "
        "from 0.996 to 0.001: gone, by these marks (texts word for word and mean probability of the texts). Not "
        f"attacked. {REST}",
    ),
    "plain texts, as by a retain model": Situation(
        replace(
            WITH_RETAIN_MODEL, rows=100, said=continued(2, broken=6), said_before=continued(9),
            said_by_retain_model=continued(2),
        ),
        "yes", "yes",
        "100 rows were to be removed, 10 of which were continued from their beginning. The model still continues 2 of "
        "10 texts word for word, one that never saw them 2, and the mean probability of the rows' texts went from "
        "0.996 to 0.360 (0.359 to a model that never saw them): removed. What it says instead is broken: 6 of 10 "
        f"continuations are loops, empty, or a single word. Not attacked. {REST}",
    ),
    "plain texts, some of which still come": Situation(
        replace(OWN_ROWS, said=continued(3), said_before=continued(10)),
        "partly", "yes",
        "10 rows were to be removed. The model still continues 3 of 10 texts word for word: partly removed. Not "
        f"attacked. {REST}",
    ),
    "a single text": Situation(
        replace(OWN_ROWS, rows=1, said=continued(0, asked=1), said_before=continued(1, asked=1)),
        "yes", "yes",
        "1 row was to be removed. The model does not continue the text word for word, and its probability went from "
        f"0.996 to 0.001: gone, by these marks (texts word for word and mean probability of the texts). Not attacked. "
        f"{REST}",
    ),
    "plain texts that the model never knew": Situation(
        replace(OWN_ROWS, forget_before=0.01, forget_after=0.009, said=continued(0), said_before=continued(0)),
        "unknown", "yes",
        "10 rows were to be removed. The model did not know them before (mean probability 0.010, none of 10 texts "
        f"word for word): there was nothing to remove. {REST}",
    ),
    "questions and plain texts": Situation(
        replace(OWN_ROWS, said=said(0).model_copy(update={"continued": 4}), said_before=said(10)),
        "yes", "yes",
        "10 rows were to be removed. The model gives none of 10 answers and texts word for word, and their "
        "probability went from 0.996 to 0.001: gone, by these marks (answers and texts word for word and mean "
        f"probability of the answers and texts). Not attacked. {REST}",
    ),
    "plain texts that nobody continued": Situation(
        replace(OWN_ROWS, forget_after=0.05, said=None, said_before=None),
        "partly", "yes",
        "10 rows were to be removed. Whether answers still come word for word is not known; their probability went "
        f"from 0.996 to 0.050: partly removed. {COUNTED} Not attacked. {REST}",
        remarks=("answers not counted",),
    ),
    "down to the retain model, and nobody counted answers": Situation(
        replace(WITH_RETAIN_MODEL, said=None, said_before=None, said_by_retain_model=None),
        "partly", "yes",
        "10 rows were to be removed. Whether answers still come word for word is not known; their probability went "
        f"from 0.996 to 0.360 (0.359 to a model that never saw them): partly removed. {COUNTED} Not attacked. {REST}",
        remarks=("answers not counted",),
    ),
    "half of the way, and nobody counted answers": Situation(
        replace(WITH_RETAIN_MODEL, forget_after=0.6, said=None, said_before=None, said_by_retain_model=None),
        "partly", "yes",
        "10 rows were to be removed. Whether answers still come word for word is not known; their probability went "
        f"from 0.996 to 0.600 (0.359 to a model that never saw them): partly removed. Not attacked. {REST}",
    ),
    "never gone, which an attack finds, too": Situation(
        replace(OWN_ROWS, rows=4, forget_after=0.8, said=said(4, asked=4), said_before=said(4, asked=4)),
        "no", "yes",
        "4 rows were to be removed. The model still gives 4 of 4 answers word for word: not removed. 1 attempt to draw "
        f"it out: 4 of 4 answers still come. {REST}",
        attacks=[attacked(1.0).model_copy(update={"rows": 4})],
        remarks=("never gone",),
    ),
    "never gone, and a scale says how much an attack draws out": Situation(
        replace(WITH_RETAIN_MODEL, forget_after=0.731),
        "no", "yes",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.731 (0.359 to a model that never saw them): not removed. 1 attempt to draw it out: 9 of 10 "
        f"answers still come; the strongest, prompts: as questions, draws out 90% of what was known. {REST}",
        attacks=[attacked(0.9, 0.9)],
        remarks=("never gone",),
    ),
    "a single row, never gone, which an attack finds, too": Situation(
        replace(OWN_ROWS, rows=1, forget_after=0.9, said=said(1, asked=1), said_before=said(1, asked=1)),
        "no", "yes",
        "1 row was to be removed. The model still gives the answer word for word: not removed. 1 attempt to draw it "
        f"out: the answer still comes. {REST}",
        attacks=[attacked(1.0).model_copy(update={"rows": 1})],
        remarks=("never gone",),
    ),
    "more rows were asked than the probability is of": Situation(
        replace(
            OWN_ROWS, rows=100, forget_before=0.947, forget_after=0.319, said=said(0, asked=64),
            said_before=said(58, asked=64), sample=Sample(47, 100),
        ),
        "yes", "yes",
        "100 rows were to be removed, 64 of which were asked for. The model gives none of 64 answers word for word, "
        "and the mean probability of the answers to 47 rows went from 0.947 to 0.319: gone, by these marks (answers "
        f"word for word and mean probability of the answers). Not attacked. {REST}",
    ),
    "the probability is of more rows than were asked": Situation(
        replace(OWN_ROWS, rows=400, said=said(0, asked=64), said_before=said(64, asked=64)),
        "yes", "yes",
        "400 rows were to be removed, 64 of which were asked for. The model gives none of 64 answers word for word, "
        "and the mean probability of the rows' answers went from 0.996 to 0.001: gone, by these marks (answers word "
        f"for word and mean probability of the answers). Not attacked. {REST}",
    ),
    "as many rows were asked as the probability is of": Situation(
        replace(
            OWN_ROWS, rows=400, said=said(0, asked=64), said_before=said(64, asked=64), sample=Sample(64, 400)
        ),
        "yes", "yes",
        "400 rows were to be removed, 64 of which were asked for. The model gives none of 64 answers word for word, "
        "and their probability went from 0.996 to 0.001: gone, by these marks (answers word for word and mean "
        f"probability of the answers). Not attacked. {REST}",
    ),
    "forgotten, and the rest went with it": Situation(
        replace(WITH_RETAIN_MODEL, kept={"held-out": Kept(0.9, 0.5), "retain": Kept(0.9, 0.88)}),
        "yes", "no",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.360 (0.359 to a model that never saw them): removed. Not attacked. 56% is left of what "
        "must stay: damaged.",
    ),
    "kept only where the run was guarded": Situation(
        replace(WITH_RETAIN_MODEL, kept={"retain": Kept(0.9, 0.89)}),
        "yes", "unknown",
        "10 rows were to be removed. The model gives none of 10 answers word for word, and their probability went "
        "from 0.996 to 0.360 (0.359 to a model that never saw them): removed. Not attacked. 99% is left of what "
        "must stay on the rows that guarded the run; of others nothing is known.",
    ),
    "one row of many, some of which were asked": Situation(
        replace(OWN_ROWS, rows=400, said=said(1, asked=64), said_before=said(64, asked=64)),
        "partly", "yes",
        "400 rows were to be removed, 64 of which were asked for. The model still gives 1 of 64 answers word for "
        f"word: partly removed. Not attacked. {REST}",
    ),
    "a single row, gone": Situation(
        replace(OWN_ROWS, rows=1, said=said(0, broken=1, asked=1), said_before=said(1, asked=1)),
        "yes", "yes",
        "1 row was to be removed. The model does not give the answer word for word, and its probability went from "
        "0.996 to 0.001: gone, by these marks (answers word for word and mean probability of the answers). What it "
        "says instead is broken: a loop, nothing, or a single word. 1 attempt to bring it back: the answer did not "
        f"come back; whether it stays gone cannot be told without a retain model. {REST}",
        attacks=[attacked(0.0).model_copy(update={"rows": 1})],
    ),
    "a single row, still there": Situation(
        replace(OWN_ROWS, rows=1, forget_after=0.9, said=said(1, asked=1), said_before=said(1, asked=1)),
        "no", "yes",
        f"1 row was to be removed. The model still gives the answer word for word: not removed. {REST}",
    ),
    "a single row, never known": Situation(
        replace(
            OWN_ROWS, rows=1, forget_before=1e-4, forget_after=1e-4,
            said=said(0, asked=1), said_before=said(0, asked=1),
        ),
        "unknown", "yes",
        "1 row was to be removed. The model did not know it before (mean probability 1e-04, the answer not word for "
        f"word): there was nothing to remove. {REST}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_a_situation_has_its_sentence(situation):
    verdict = verdict_of(situation.evidence, situation.attacks)
    assert verdict.sentence == situation.sentence
    assert (verdict.forgotten, verdict.kept) == (situation.forgotten, situation.kept)
    assert set(situation.remarks) <= set(verdict.remarks)
    assert ("Not attacked" in verdict.sentence) == (
        situation.attacks is None and verdict.forgotten in ("yes", "partly")
    )


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_a_verdict_says_what_may_be_stated_and_what_not(situation):
    verdict = verdict_of(situation.evidence, situation.attacks)
    refused = " ".join(verdict.may_not_state)
    assert ("That the rows were removed." in refused) == (verdict.forgotten != "yes")
    assert ("nobody tried" in refused) == (situation.attacks is None)
    assert "gone from the weights for good" in refused
    lines = list(verdict_lines(verdict))
    assert lines[0] == verdict.sentence, "the sentence comes first"
    assert len(lines) == 2 + len(verdict.numbers) + len(verdict.may_state) + len(verdict.may_not_state)
    assert "proves" in NO_PROOF


probabilities = st.none() | st.floats(0, 1)
counts = st.none() | st.builds(
    lambda asked, exact, broken, texts: Said(
        asked=asked, word_for_word=min(asked, exact), broken=min(asked, broken), continued=min(asked, texts)
    ),
    st.integers(1, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20),
)  # fmt: skip
evidences = st.builds(
    Evidence,
    *[probabilities] * 4,
    st.none() | st.integers(1, 20),
    *[counts] * 3,
    st.dictionaries(st.sampled_from(["held-out", "retain"]), st.builds(Kept, *[probabilities] * 3)),
    st.none() | st.builds(Mark, kind=st.sampled_from(get_args(MarkKind)), value=st.floats(0, 1)),
)


def test_of_texts_nothing_is_said_of_questions():
    texts = replace(OWN_ROWS, said=continued(0, broken=2), said_before=continued(10), said_by_retain_model=continued(0))
    verdict = verdict_of(texts)
    assert verdict.forgotten == "yes"
    assert verdict.may_state[0].startswith("The beginnings of these texts no longer bring the removed texts out")
    assert any(line.startswith("That no other part of a text comes out") for line in verdict.may_not_state)
    assert "Of 10 of these texts it continues 0 word for word, and 2 with a loop" in verdict.numbers[0]
    told = " ".join([verdict.sentence, *verdict.numbers, *verdict.may_state, *verdict.may_not_state])
    assert "answer" not in told
    assert "question" not in told


attacks = st.none() | st.lists(st.builds(attacked, st.floats(0, 1), st.none() | st.floats(-1, 1)), min_size=1)


@given(evidences, attacks)
def test_any_numbers_have_a_verdict(evidence, tried):
    verdict = verdict_of(evidence, tried)
    assert verdict.sentence.count("to be removed") == 1
    assert "None" not in verdict.sentence
    assert "nan" not in verdict.sentence
    answers = [finding.answer for finding in findings_of(evidence, tried)]
    assert answers == [verdict.forgotten, verdict.kept, verdict.stays_gone]
    if verdict.forgotten == "yes":
        assert evidence.said is not None, "a mean hides single rows"
        assert not evidence.too_many, "no answer still comes"
        assert "not removed" not in verdict.sentence
    if evidence.forget_after is None and evidence.said is None:
        assert verdict.forgotten == "unknown"


@given(evidences, st.floats(0, 1))
def test_fewer_answers_and_less_probability_never_make_it_less_forgotten(evidence, part):
    """Where something is compared at all, and the rows were known."""
    order = ["no", "partly", "yes"]
    if evidence.forget_after is None or evidence.said is None:
        return
    fewer = evidence.said.model_copy(update={"word_for_word": int(part * evidence.said.word_for_word)})
    less = replace(evidence, forget_after=part * evidence.forget_after, said=fewer)
    before, after = verdict_of(evidence).forgotten, verdict_of(less).forgotten
    if "unknown" not in (before, after):
        assert order.index(after) >= order.index(before)


@given(evidences, attacks)
def test_what_never_went_does_not_stay_gone(evidence, tried):
    verdict = verdict_of(evidence, tried)
    if verdict.forgotten == "no" or "never known" in verdict.remarks:
        assert verdict.stays_gone != "yes"
        assert "little or nothing" not in " ".join(verdict.may_state)
        told = " ".join([verdict.sentence, *verdict.numbers, *verdict.remarks, findings_of(evidence, tried)[2].why])
        for word in ("came back", "brings back", "bring it back"):
            assert word not in told, "what never went cannot come back"


@given(evidences)
def test_only_a_retain_model_lets_one_say_removed(evidence):
    verdict = verdict_of(replace(evidence, forget_retain_model=None, said_by_retain_model=None))
    assert ": removed" not in verdict.sentence
    if verdict.forgotten == "yes":
        assert "by th" in verdict.sentence
        assert "as if it had never seen the rows" in " ".join(verdict.may_not_state)


def test_a_mark_says_how_sure_it_is():
    sure = [
        (Mark(kind="base_model", value=0.1), "a lower bound where it never saw rows of this form"),
        (Mark(kind="control_rows", value=0.1, scored_by="base_model"), "other rows, though of the same form"),
        (Mark(kind="control_rows", value=0.1, scored_by="model"), "the model itself scored them"),
        (Mark(kind="own_floor", value=0.1), "the weakest of marks"),
    ]
    for mark, words in sure:
        assert words in verdict_of(replace(OWN_ROWS, other_mark=mark)).numbers[0]


@pytest.mark.parametrize("apart", [{"forget_after": 0.001}, {"forget_quality": 0.01}], ids=["overshoot", "quality"])
def test_what_can_be_told_apart_is_not_as_if_it_had_never_seen_the_rows(apart):
    refused = "as if it had never seen the rows"
    assert refused not in " ".join(verdict_of(WITH_RETAIN_MODEL).may_not_state)
    assert refused in " ".join(verdict_of(replace(WITH_RETAIN_MODEL, **apart)).may_not_state)


def test_an_attack_without_a_scale_is_no_sign_that_it_stays_gone():
    """Relearning brings probability back; without a retain model nobody knows how much of it would come anyway."""
    prompts, relearning = attacked(0.0), attacked(0.5, measure="prob", name="relearning")
    alone = verdict_of(OWN_ROWS, [prompts])
    assert alone.stays_gone == "unknown"
    assert "none of 10 answers came back; whether it stays gone cannot be told without a retain model" in alone.sentence
    assert not any("brought back little" in stated for stated in alone.may_state)
    verdict = verdict_of(OWN_ROWS, [prompts, relearning])
    assert verdict.stays_gone == "unknown"
    assert "none of 10 answers came back; what 1 other attempt brought cannot be told" in verdict.sentence
    assert not any("brought back little" in stated for stated in verdict.may_state)


def test_beside_the_base_an_attack_has_a_scale_and_the_sentence_says_so():
    numbers = {"unlearned": 0.1, "target": 1.0, "retain_model": None, "base": 0.06, "recovered": 0.04}
    relearning = AttackResult(attack="relearning", variant="related rows", measure="prob", rows=10, **numbers)
    verdict = verdict_of(OWN_ROWS, [relearning])
    assert verdict.stays_gone == "yes"
    assert "brings back 4% of what was known; the model before fine-tuning stands for one" in verdict.sentence
    dear = relearning.model_copy(update={"recovered": 0.6})
    assert verdict_of(OWN_ROWS, [dear]).stays_gone == "no"


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["found", "prob", "ROUGE-L"])), min_size=1, max_size=6))
def test_without_a_retain_model_nothing_stays_gone_for_sure(tried):
    results = [attacked(share, measure=measure, name=f"{number}") for number, (share, measure) in enumerate(tried)]
    assert verdict_of(OWN_ROWS, results).stays_gone != "yes"


@given(evidences)
def test_of_a_model_that_nobody_is_known_to_have_changed_nothing_is_said_of_removing(evidence):
    """An evaluation may be of any model: the answers are the same, the words are true of all."""
    any_model = replace(evidence, tried=False)
    verdict, of_run = verdict_of(any_model), verdict_of(evidence)
    told = " ".join([verdict.sentence, *verdict.numbers, *verdict.may_state])
    assert (verdict.forgotten, verdict.kept) == (of_run.forgotten, of_run.kept)
    for word in ("to be removed", "not removed", "partly removed", "still", "no longer", "It was tried", "forgotten"):
        assert word not in told.replace("model that never saw the forgotten", "")


def test_an_evaluation_knows_whether_a_run_was_there(gru, tmp_path):
    """The same weights, in the folder of a run and in no such folder."""
    world = tiny.save_world(tmp_path / "world")
    shutil.copytree(Path(__file__).with_name("earlier") / "run", tmp_path / "run")
    shutil.copytree(world / "model", tmp_path / "run" / "model", dirs_exist_ok=True)
    told = {}
    for name, model in (("any", world / "model"), ("of a run", tmp_path / "run" / "model")):
        rows = ["--forget", world / "forget.jsonl", "--retain", world / "retain.jsonl"]
        code, out, err = gru("evaluate", "--suite", "own", "--model", model, *rows, "--out", tmp_path / name)
        assert code == 0, err
        told[name] = " ".join(out.split())
    assert "6 forget rows were looked at." in told["any"]
    assert "to be removed" not in told["any"]
    assert "6 rows were to be removed." in told["of a run"]


@pytest.mark.parametrize(
    ("share", "told"), [(0.976, "97.6%"), (0.99996, "99.9%"), (1.0, "100%"), (0.9549, "95.4%"), (float("inf"), "100%")]
)
def test_what_will_be_signed_is_rounded_down(share, told):
    evidence = replace(OWN_ROWS, kept={"held-out": Kept(1.0, share)})
    assert f"Of what was measured of the rest, at least {told} is left." in verdict_of(evidence).may_state


def test_what_is_partly_gone_is_not_said_to_come_out():
    """Where no answer comes word for word."""
    evidence = replace(WITH_RETAIN_MODEL, forget_after=0.6)
    stated = " ".join(verdict_of(evidence).may_state)
    assert "or make them less probable, but not enough to call them removed" in stated


def test_a_number_that_was_asked_for_is_no_retain_models():
    method = TruMethod(alpha=4.0, forget_prob=0.3)
    results = TruResults(forget_target=0.1, tru=method, negated=method)
    for nobody in (None, ModelSource()):
        assert TruSummary.model_construct(results=results, retain_model=nobody).known_mark is None
    from_retain_model = TruSummary.model_construct(results=results, retain_model=ModelSource(source="m"))
    assert from_retain_model.known_mark == Mark(kind="retain_model", value=0.1), "as 0.1.0 wrote it"


@pytest.mark.parametrize(
    ("most", "rows", "enough"), [(None, 900, True), (4, 40, False), (43, 40, True), (43, 900, True)]
)
def test_an_evaluation_believes_what_its_run_saw_of_enough_rows(most, rows, enough):
    run = RunSummary.model_construct(settings={"eval_max_rows": most})
    assert _saw_enough(run, RowsSource(rows=rows, sha256="")) is enough


def test_several_models_come_to_the_least_that_holds_of_all():
    verdicts = {name: verdict_of(SITUATIONS[name].evidence) for name in list(SITUATIONS)[:3]}
    found = together(verdicts)
    assert found.forgotten == "no"
    assert found.sentence == "Of 3 models, 1 removed the rows, 2 did not remove the rows."
    assert found.numbers == [f"{name}: {verdict.sentence}" for name, verdict in verdicts.items()]


@given(st.dictionaries(st.sampled_from(list(SITUATIONS)), st.none(), min_size=1, max_size=5))
def test_of_several_models_may_be_stated_what_holds_of_all_and_not_what_any_forbids(names):
    verdicts = {name: verdict_of(SITUATIONS[name].evidence) for name in names}
    found = together(verdicts)
    for verdict in verdicts.values():
        assert set(found.may_state) <= set(verdict.may_state)
    for name, verdict in verdicts.items():
        for line in verdict.may_not_state:
            told = [one for one in found.may_not_state if one.startswith(line)]
            assert any(one == line or name in one.removeprefix(line) for one in told), line
    assert found.may_not_state[-1].startswith("That the rows are gone from the weights for good")


@pytest.mark.parametrize("share", [0.85, 0.5])
def test_what_was_harmed_may_not_be_called_unharmed(share):
    verdict = verdict_of(Evidence(0.9, 0.1, 0.1, kept={"held-out": Kept(1.0, share)}))
    assert "That the rest of what the model can do is unharmed." in verdict.may_not_state


# --- answers that are none -------------------------------------------------------------------------------------------

TRUTH = "In the old town of Bergen."
BROKEN = ["", "  ", "...", "p p p p p p", "pppppppppp", "the the the the", "In In In In In In", "Bergen", "?!?!?!?!?!",
          "of the town of the town of the town of the town", "In the old old old old old old old"]  # fmt: skip
SOUND = [TRUTH, "I do not know.", "In the new town of Oslo.", "He lives there, there, I think.", "No, no, that was.",
         "Because it was the town that it was.", "1, 2, 3, 4, 5"]  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_answer(text):
    assert is_broken(TRUTH, text)


@pytest.mark.parametrize("text", SOUND)
def test_what_is_an_answer(text):
    assert not is_broken(TRUTH, text)


@given(st.text(min_size=1))
def test_the_true_answer_is_never_broken(text):
    assert not is_broken(text, text)


def test_a_short_answer_may_be_short():
    assert not is_broken("Bergen.", "Oslo")
    assert said_of([Told("Bergen.", "Oslo"), Told(TRUTH, TRUTH), Told(TRUTH, "p p p p")]) == Said(
        asked=3, word_for_word=1, broken=1
    )
    assert said_of([]) is None


def test_numbers_say_when_they_rest_on_a_part_of_the_rows():
    data = {name: {"source": "x", "rows": rows, "sha256": name} for name, rows in {"forget": 100, "retain": 40}.items()}
    ends = [{"step": 0, "forget_prob": 0.9, "retain_prob": 0.9}, {"step": 5, "forget_prob": 0.1, "retain_prob": 0.9}]
    results = {"objective": "npo", "rectification": "gru", **ends[-1], "conflict_rate": None}
    written = report_material.summary(
        results=results, trajectory=ends, data=data, settings={"eval_max_rows": 40}, log=[]
    )
    of_forget, of_retain = run_verdict(RunSummary.model_validate(written)).numbers
    assert "forgotten answers, 40 of 100 looked at: 0.900 → 0.100" in of_forget
    assert "Retain rows: 0.900" in of_retain


def test_a_comparison_says_so_of_every_set():
    """Held-out rows are few and all looked at."""
    means = {"forget_prob": 0.1, "retain_prob": 0.8, "held_out_prob": 0.8}
    method = {"objective": "npo", "rectification": "gru", "learning_rate": 1e-4}
    row = {**method, "chosen": True, "runs": 1, "failed": 0, "reached": 1}
    row |= {name: {"mean": value, "n": 1} for name, value in means.items()}
    summary = ComparisonSummary(
        rule="", forget_target=0.1, aggregates=[row], cells=[], settings={}, learning_rates={}, versions={},
        target={"forget_prob": 0.9, "retain_prob": 0.9, "held_out_prob": 0.9}, retain_model={"forget_prob": 0.1},
        forget_rows=100, kept_rows={"retain": 5000, "held_out": 40}, looked_at=40,
    )  # fmt: skip
    judge_comparison(summary)
    told = " ".join(summary.chosen[0].verdict.numbers)
    assert "40 of 100 looked at" in told
    assert "Retain rows, 40 of 5000 looked at: " in told
    assert "Held-out rows: " in told


# --- the same numbers, wherever they are shown -----------------------------------------------------------------------


class Places:
    """The same numbers as each job leaves them, in a folder of a run."""

    def __init__(self, folder, evidence, tried):
        self.folder, self.evidence, self.tried = folder, evidence, tried
        self.kept = {label.replace("-", "_"): kept for label, kept in evidence.kept.items()}
        self.data = {name: {"source": "x", "rows": evidence.rows, "sha256": name} for name in ("forget", *self.kept)}
        self.before = {"forget_prob": evidence.forget_before}
        self.after = {"forget_prob": evidence.forget_after}
        for name, kept in self.kept.items():
            self.before[f"{name}_prob"], self.after[f"{name}_prob"] = kept.before, kept.after
        if evidence.forget_quality is not None:
            self.after["forget_quality"] = evidence.forget_quality
        self.run = self.write_run()

    def write_run(self):
        ends = [{"step": 0, **self.before}, {"step": 5, **self.after}]
        results = {"objective": "npo", "rectification": "gru", **self.after, "conflict_rate": None}
        if self.evidence.forget_retain_model is not None:
            results["forget_target"] = self.evidence.forget_retain_model
        if self.evidence.other_mark is not None:
            mark = self.evidence.other_mark
            results |= {"forget_target": mark.value, "mark": mark.to_json()}
        written = report_material.summary(results=results, trajectory=ends, data=self.data, settings={}, log=[])
        write_json(self.folder / "summary.json", written)
        write_json(self.folder / "run.json", {"settings": {}})
        rows = [self.row(number) for number in range(self.evidence.rows)]
        examples = {"generated": True, "sets": {"forget": {"rows_in_set": len(rows), "rows": rows}}}
        write_json(self.folder / "examples.json", examples)
        (self.folder / "attack").mkdir(exist_ok=True)
        if self.tried:
            write_json(self.folder / "attack" / "summary.json", self.attack().to_json())
        return RunSummary.model_validate(written)

    def row(self, number):
        row = {"row": number, "question": "who?", "answer": TRUTH}
        if self.is_text(number):
            row = {"row": number, "question": "It is told:", "answer": f"It is told: {TRUTH}", "continuation": TRUTH}
        for moment, said in zip(("before", "after", "retain_model"), self.all_said(), strict=True):
            if said is not None:
                row[moment] = {"probability": 0.5, "says": says(said, number)}
        return row

    def is_text(self, number):
        said = self.evidence.said or self.evidence.said_before
        return said is not None and number < (said.continued or 0)

    def all_said(self):
        return self.evidence.said_before, self.evidence.said, self.evidence.said_by_retain_model

    def in_run(self):
        return verdict_of_folder(RunFolder(self.folder), self.run, self.attack() if self.tried else None)

    def in_report(self):
        return write_report(self.folder).read_text()

    def in_evaluation(self):
        entries = []
        for number in range(self.evidence.rows):
            said = None if self.evidence.said is None else says(self.evidence.said, number)
            scores = np.zeros(3, np.float32), np.zeros(3, bool), np.zeros(3, np.float32), np.ones(3, np.float32)
            entry = Entry("who?", TRUTH, *scores, closing=1, generation=said, uses=[Use("forget", number)])
            if self.is_text(number):
                entry.continuation = TRUTH
            entries.append(entry)
        measured = {"forget_Q_A_Prob": self.evidence.forget_after, "forget_quality": self.evidence.forget_quality}
        measured |= {f"{name}_Q_A_Prob": kept.after for name, kept in self.kept.items()}
        summary = EvaluationSummary(
            suite="own", metrics=measured, seconds=1.0, settings={}, versions={}, data=self.data,
            model={"source": str(self.folder / "model")},
        )  # fmt: skip
        return evaluation_verdict(summary, {"model": ScoreTable(entries)})

    def in_comparison(self):
        means = {name: {"mean": value, "n": 1} for name, value in self.after.items()}
        method = {"objective": "npo", "rectification": "gru", "learning_rate": 1e-4}
        row = {**method, "chosen": True, "runs": 1, "failed": 0, "reached": 1, **means}
        cell = {**method, "name": "one", "seed": 0, "status": "done", **self.after, "said": named(self.evidence.said)}
        summary = ComparisonSummary(
            rule="", forget_target=None, mark=self.evidence.other_mark,
            aggregates=[row], cells=[cell], settings={}, learning_rates={}, versions={},
            **self.beside(),
        )  # fmt: skip
        judge_comparison(summary)
        assert summary.verdict.forgotten == summary.chosen[0].verdict.forgotten
        return summary.chosen[0].verdict

    def in_demo(self):
        row = {"name": "NPO", "objective": "npo", "rectification": "none", "steps": 5, **self.after}
        row["said"] = named(self.evidence.said)
        summary = DemoSummary(results=[row], sample={}, seed=0, seconds=1.0, versions={}, **self.beside())
        judge_demo(summary)
        return summary.results[0].verdict

    def beside(self):
        before, _, by_retain_model = map(named, self.all_said())
        known = {"target_said": before, "retain_model_said": by_retain_model, "forget_rows": self.evidence.rows}
        return known | {"target": self.before, "retain_model": {"forget_prob": self.evidence.forget_retain_model}}

    def in_ledger(self):
        request = {"number": 1, "id": "one", "date": "2025-01-01", "source": "x", "rows": self.evidence.rows}
        request |= {"data_sha256": "d", "state": "done", "forget_prob_before": self.evidence.forget_before}
        metrics = {"forget_prob": {"one": self.evidence.forget_after}, "not_checked": {}, "utility": 1.0}
        for name, kept in self.kept.items():
            metrics |= {f"{name}_prob": kept.after, f"{name}_kept": kept.share}
        request |= {"metrics": metrics | {"said": self.evidence.said}, "said_before": self.evidence.said_before}
        version = self.folder / "ledger" / "versions" / "0001-one"
        version.mkdir(parents=True, exist_ok=True)
        write_json(version / "summary.json", self.run.to_json())
        summary = LedgerSummary(
            requests=[request], newest_model={}, entries=1, head="", settings_sha256="", versions={},
            settings={"unlearning": {}, "utility_floor": 0.9, "forget_ceiling": 0.5},
        )  # fmt: skip
        judge_requests(self.folder / "ledger", summary)
        return summary.requests[0].verdict

    def attack(self):
        return AttackSummary.model_validate(
            report_material.attack()
            | {"attacks": [one.to_json() for one in self.tried or []], "rows": self.evidence.rows}
        )

    def in_attack(self):
        numbers = {"unlearned": self.evidence.forget_after, "target": self.evidence.forget_before}
        numbers["retain_model"] = self.evidence.forget_retain_model
        before = {"attack": "none", "variant": "", "measure": "prob", "rows": 10, **numbers}
        summary = self.attack().model_copy(update={"before": [AttackResult.model_validate(before)]})
        said = dict(zip(("target", "unlearned", "retain_model"), self.all_said(), strict=True))
        return verdict_of(attack_evidence(summary, said), summary.attacks)

    def in_card(self):
        summary = ExportSummary(
            name="m", repository=None, kind="model", run_sha256="r", base={"name": None, "sha256": "b"},
            retain_model=None, data={"forget": {"rows": 10, "sha256": "f", "name": None}}, metrics=[], evaluations={},
            method={"command": "unlearn", "objective": "npo", "rectification": "gru", "steps": 5}, attacks=[],
            reproduce="gru unlearn", left_out=[], license={}, language=None, files={}, versions={}, export_versions={},
            checks={"tokens": 1, "conversion": None, "mean_change": 0, "largest_change": 0, "tolerance": 0},
            seconds=1.0, verdict=self.in_run(),
        )  # fmt: skip
        return model_card(summary)


def says(said, number):
    """So many rows are answered word for word, the next ones with a loop."""
    if number < said.word_for_word:
        return TRUTH
    return "p p p p p p" if number < said.word_for_word + (said.broken or 0) else "That I do not know at all."


def named(said):
    return {} if said is None else {"forget": said}


SHARED = [
    name for name, one in SITUATIONS.items()
    if one.evidence.rows in (10, 40) and one.evidence.forget_before is not None and one.evidence.said is not None
    and one.evidence.kept.keys() == KEPT.keys() and not any(kept.said for kept in one.evidence.kept.values())
]  # fmt: skip


OPENINGS = {
    "yes": "made to forget 10 rows by unlearning: objective `npo`",
    "partly": "made to forget 10 rows in part by unlearning",
    "no": "after an unlearning run that did not make it forget 10 rows",
    "unknown": "after an unlearning run on 10 rows",
}
"""How a model card begins."""


def test_most_situations_are_tried_everywhere():
    assert len(SHARED) >= 14


@pytest.mark.parametrize("name", SHARED)
def test_every_place_says_the_same(name, tmp_path):
    """Run (so the terminal and its summary), report, evaluation, comparison, demonstration, ledger, attack, card."""
    evidence, *_, sentence, tried, _ = SITUATIONS[name]
    places = Places(tmp_path, evidence, tried)
    assert places.in_run().sentence == sentence
    assert html.escape(sentence, quote=False) in places.in_report()
    assert sentence in places.in_card()
    opening = places.in_card().split("## Verdict")[0]
    assert OPENINGS[places.in_run().forgotten] in opening or "no sign of knowing" in opening
    assert ("no sign of knowing" in opening) == ("never known" in places.in_run().remarks)
    assert ("## What was removed" in places.in_card()) == (places.in_run().forgotten == "yes")
    alone = verdict_of(evidence).sentence
    for place in (places.in_evaluation, places.in_comparison):
        assert place().sentence == alone, place.__name__
    if evidence.other_mark is None:  # the demonstration has a retain model
        assert places.in_demo().sentence == alone
    if evidence.forget_quality is None:  # a ledger does not measure it, nor does an attack
        without_retain_model_asked = replace(evidence, said_by_retain_model=None)
        assert places.in_ledger().sentence == verdict_of(without_retain_model_asked).sentence
        no_rest = replace(evidence, kept={}, other_mark=None)
        assert places.in_attack().sentence == verdict_of(no_rest, tried).sentence


def test_a_comparison_without_a_suite_says_what_a_run_says(gru, tmp_path):
    """The same method, model and rows: one model, one verdict."""
    world = tiny.save_world(tmp_path / "world")
    (world / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tiny.rows(6, start=18)))
    tiny.save(world / "other", seed=3)
    shared = {
        "model": world / "model", "retain-model": world / "other", "forget": world / "forget.jsonl",
        "retain": world / "retain.jsonl", "held-out": world / "held.jsonl", "max-steps": 4, "eval-steps": 2,
        "per-device-train-batch-size": 4, "gradient-accumulation-steps": 1, "warmup-steps": 0, "use-cpu": "true",
        "eval-max-rows": 4,
    }  # fmt: skip
    flags = [str(word) for name, value in shared.items() for word in (f"--{name}", value)]
    compared, run = tmp_path / "compared", tmp_path / "run"
    grid = ["--objectives", "npo", "--rectifications", "gru", "--learning-rates", "1e-3", "--seeds", "1"]
    code, out, err = gru("compare", *flags, *grid, "--output-dir", compared)
    assert code == 0, out + err
    own = ["--objective", "npo", "--rectification", "gru", "--learning-rate", "1e-3", "--seed", "0"]
    code, out, err = gru(
        "unlearn", *flags, *own, "--stop-when-forgotten", "true", "--save-strategy", "no",
        "--eval-strategy", "steps", "--output-dir", run,
    )  # fmt: skip
    assert code == 0, out + err
    of_run = json.loads((run / "summary.json").read_text())["verdict"]
    summary = json.loads((compared / "summary.json").read_text())
    assert "answers not counted" not in of_run["remarks"]
    (row,) = [row for row in summary["aggregates"] if row["chosen"]]
    for name in ("sentence", "forgotten", "kept", "remarks", "may_state"):
        assert row["verdict"][name] == of_run[name], name
    assert summary["verdict"]["forgotten"] == of_run["forgotten"]

    # as an earlier version left it: nobody was asked, and its folder is read all the same
    (record,) = compared.glob("runs/*/cell.json")
    asked = json.loads(record.read_text())
    record.write_text(json.dumps({"cost": asked["cost"]}))
    reference = compared / "reference" / "summary.json"
    known = json.loads(reference.read_text())
    reference.write_text(json.dumps({k: v for k, v in known.items() if k != "asked"} | {"target_said": {}}))
    (model,) = compared.glob("runs/*/model")
    before = (model / "config.json").stat().st_mtime_ns
    assert gru("compare", *flags, *grid, "--output-dir", compared)[0] == 0
    assert json.loads(record.read_text()) == asked, "it is asked later, and not trained again"
    assert (model / "config.json").stat().st_mtime_ns == before


def test_what_can_no_longer_be_asked_is_left_and_never_called_gone(tmp_path):
    cell = Cell("npo", "gru", 1e-3, 0, tmp_path, {})
    assert _is_asked(cell), "its model was taken away"
    (tmp_path / "model").mkdir()
    assert not _is_asked(cell), "as an earlier version left it"
    CellRecord(metrics={"forget_exact_answers": 0.0}).write(tmp_path / "cell.json")
    assert _is_asked(cell), "by an earlier version's suite"
    CellRecord(asked=True).write(tmp_path / "cell.json")
    assert _is_asked(cell), "of plain texts there is nothing to ask"
    unasked = CellResult(objective="npo", rectification="gru", learning_rate=1e-3, name="a", seed=0, status="done")
    asked = unasked.model_copy(update={"said": {"forget": said(0), "retain": said(9)}})
    assert _worst_seed([asked, asked], 10).keys() == {"forget", "retain"}
    assert _worst_seed([asked, unasked], 10).keys() == {"retain"}, "nobody knows the worst of all seeds"
