"""Suites: which rows are read, which metrics they allow, and what is said of the others."""

import json
from dataclasses import replace

import pytest

from gru_unlearn.data import to_record
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import suites
from gru_unlearn.evaluation.measure import measure
from gru_unlearn.evaluation.suites import builtin, own, tofu
from gru_unlearn.evaluation.table import ScoreTable

TOFU_KEYS = {
    "exact_memorization", "extraction_strength", "forget_Q_A_PARA_Prob", "forget_Q_A_PARA_ROUGE",
    "forget_Q_A_PERT_Prob", "forget_Q_A_PERT_ROUGE", "forget_Q_A_Prob", "forget_Q_A_ROUGE", "forget_quality",
    "forget_truth_ratio",
    "mia_gradnorm", "mia_loss", "mia_min_k", "mia_min_k_plus_plus", "mia_reference", "mia_zlib", "model_utility",
    "privleak", "ra_Q_A_Prob", "ra_Q_A_Prob_normalised", "ra_Q_A_ROUGE", "ra_Truth_Ratio", "retain_Q_A_Prob",
    "retain_Q_A_ROUGE", "retain_Truth_Ratio", "wf_Q_A_Prob", "wf_Q_A_Prob_normalised", "wf_Q_A_ROUGE", "wf_Truth_Ratio",
}  # fmt: skip

PLAIN = {"question": "q", "answer": "a"}
FULL = PLAIN | {"paraphrased_answer": "p", "perturbed_answer": ["w1", "w2"]}


def write(folder, **files):
    for name, rows in files.items():
        (folder / f"{name}.json").write_text("\n".join(json.dumps(row) for row in rows))
    return str(folder)


@pytest.fixture
def folder(tmp_path):
    general = {"real_authors_perturbed": [FULL], "world_facts_perturbed": [FULL]}
    write(tmp_path, forget01_perturbed=[FULL] * 2, retain_perturbed=[FULL], holdout01=[PLAIN], **general)
    return tmp_path


def keys(suite):
    return {metric.key for metric in suite.metrics}


def records(*rows):
    return [to_record(row, "row") for row in rows]


def test_tofu_with_all_files(folder):
    suite = tofu(str(folder), "forget01", "holdout01")
    assert keys(suite) == TOFU_KEYS
    assert suite.impossible == {}
    assert len(suite.sets["forget"].items) == 2
    assert suite.sets["forget"].items[0].wrong == ("w1", "w2")


def test_tofu_without_holdout_says_so_for_each_attack(folder):
    suite = tofu(str(folder), "forget01")
    assert keys(suite) | set(suite.impossible) == TOFU_KEYS
    assert {key for key in TOFU_KEYS if key.startswith(("mia", "privleak"))} == set(suite.impossible)
    assert all("holdout" in reason for reason in suite.impossible.values())


def test_tofu_takes_a_plain_forget_file_where_there_is_no_other(folder):
    (folder / "forget01_perturbed.json").unlink()
    write(folder, forget01=[PLAIN])
    suite = tofu(str(folder), "forget01", "holdout01")
    assert {"forget_quality", "forget_truth_ratio", "forget_Q_A_PARA_Prob", "forget_Q_A_PERT_ROUGE"} <= set(
        suite.impossible
    )
    assert "paraphrased_answer" in suite.impossible["forget_Q_A_PARA_Prob"]
    assert "forget_Q_A_Prob" in keys(suite)


def test_tofu_names_the_missing_file(folder):
    with pytest.raises(UserError, match="forget05"):
        tofu(str(folder), "forget05")


def test_builtin_has_all_its_metrics():
    suite = builtin("builtin")
    assert suite.impossible == {}
    assert set(suite.sets) == {"forget", "retain", "held_out", "general"}
    assert {"forget_exact_answers", "retain_exact_answers", "held_out_exact_answers", "model_utility"} <= keys(suite)
    utility = next(metric for metric in suite.metrics if metric.key == "model_utility")
    assert utility.definition.count("_ROUGE") == utility.definition.count("_Truth_Ratio") == 3


def test_own_rows_with_everything():
    rows = records(FULL)
    assert own(rows, rows, rows).impossible == {}


def test_old_names_of_parameters_still_work_and_say_so(folder):
    rows = records(FULL)
    with pytest.warns(FutureWarning, match="unseen"):
        assert own(rows, rows, holdout=rows).sets == own(rows, rows, unseen=rows).sets
    with pytest.warns(FutureWarning, match="unseen_split"):
        old = tofu(str(folder), "forget01", holdout_split="holdout01")
    assert old.sets == tofu(str(folder), "forget01", unseen_split="holdout01").sets


def test_own_rows_list_what_cannot_be_computed_and_why():
    suite = own(records(FULL, PLAIN, PLAIN), records(PLAIN))
    assert "rows 2, 3 of 3" in suite.impossible["forget_truth_ratio"]
    assert "paraphrased_answer" in suite.impossible["retain_Truth_Ratio"]
    assert "holdout" in suite.impossible["mia_loss"]
    utility = next(metric for metric in suite.metrics if metric.key == "model_utility")
    assert "retain_Q_A_ROUGE" in utility.definition
    assert "Truth_Ratio" not in utility.definition


def test_own_rows_without_retain_rows():
    suite = own(records(PLAIN))
    assert "retain set" in suite.impossible["model_utility"]
    assert {"forget_Q_A_Prob", "exact_memorization"} <= keys(suite)


def test_every_key_asked_for_has_a_value_or_a_reason():
    suite = own(records(PLAIN))
    result = measure(suite.metrics, ScoreTable([]), None, suite.impossible)
    assert set(result.metrics) == keys(suite) | set(suite.impossible)
    assert {key for key, value in result.metrics.items() if value is None} == set(result.missing) == set(result.metrics)


@pytest.mark.parametrize("field", [{"paraphrased_answer": 3}, {"perturbed_answer": ["w", ""]}, {"perturbed_answer": 1}])
def test_wrong_types_name_the_row(field):
    with pytest.raises(UserError, match="forget, row 2"):
        own(records(PLAIN, PLAIN | field))


def test_each_metric_explains_itself():
    metrics = [*suites.tofu_metrics(), *suites.builtin_metrics()]
    for metric in metrics:
        assert all(len(text) > 0 for text in (metric.definition, metric.range, metric.better, metric.source)), (
            metric.key
        )
        assert metric.needs
        assert all(need.count(".") == 1 for need in (*metric.needs, *metric.retain_needs))


def test_what_is_needed_of_the_retain_model_is_less(folder):
    suite = tofu(str(folder), "forget01", "holdout01")
    assert suite.needs(retain_model=True) == {"forget.answer", "forget.paraphrase", "forget.wrong", "holdout.answer"}
    assert suite.needs() > suite.needs(retain_model=True)
    assert replace(suite, metrics=()).needs() == frozenset()
