"""The TOFU suite against numbers that OpenUnlearning printed for the same models and rows."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gru_unlearn.data import Encoder, TextFormat
from gru_unlearn.evaluation import evaluate, score
from gru_unlearn.evaluation.metrics import ASCII
from gru_unlearn.evaluation.suites import tofu

pytestmark = pytest.mark.slow

MODELS = ("target", "retain")
AS_PUBLISHED = TextFormat(published_ends=True)


@pytest.fixture(scope="module")
def reference(shared):
    return shared / "reference" / "openunlearning"


@pytest.fixture(scope="module")
def evaluations(reference):
    """Both models with the retain model's scores at hand, and the retain model also without."""
    suite = tofu(str(reference / "rows"), "forget01", "holdout01", rouge_words=ASCII)
    models = {name: AutoModelForCausalLM.from_pretrained(reference / "models" / name) for name in MODELS}
    encoder = Encoder(AutoTokenizer.from_pretrained(reference / "models" / "target"), text_format=AS_PUBLISHED)
    retain_table = score(models["retain"], encoder, suite, retain_model=True)
    found = {name: evaluate(model, encoder, suite, retain_table=retain_table) for name, model in models.items()}
    return found | {"retain alone": evaluate(models["retain"], encoder, suite)}


def expected(reference, name, what):
    return json.loads((reference / "expected" / f"{name}.{what}.json").read_text())


def tolerance(key):
    return 1e-3 if "ROUGE" in key or key == "model_utility" else 1e-6 if key.startswith("mia_") else 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_aggregates(reference, evaluations, name):
    metrics = dict(evaluations[name].metrics)
    if name == "retain":  # the published run of the retain model itself had no retain results to compare with
        assert metrics.pop("forget_quality") == pytest.approx(1)
        metrics["privleak"] = evaluations["retain alone"].metrics["privleak"]
    wanted = expected(reference, name, "summary")
    assert set(metrics) == set(wanted)
    assert {key for key in wanted if abs(metrics[key] - wanted[key]) > tolerance(key)} == set()


@pytest.mark.parametrize("name", MODELS)
def test_rows(reference, evaluations, name):
    wanted = expected(reference, name, "rows")
    compared = 0
    for key, sets in evaluations[name].rows.items():
        for set_name, values in sets.items():
            where = wanted[key][set_name] if key.startswith("mia_") else wanted[key]
            published = [_row_value(where["value_by_index"][str(row)]) for row in range(len(values))]
            assert values == pytest.approx(published, rel=1e-3 if "Ratio" in key else 1e-4, abs=1e-4), key
            compared += len(values)
    assert compared == 40 * (29 - 3 + 6)  # all but forget_quality, model_utility, privleak; six attacks have two sets


def _row_value(row):
    value = row[next(name for name in ("score", "rougeL_recall", "prob") if name in row)]
    return sum(value) / len(value) if isinstance(value, list) else value


@pytest.mark.parametrize("name", MODELS)
def test_generations(reference, evaluations, name):
    wanted = expected(reference, name, "rows")
    for key, set_name in (("forget_Q_A_ROUGE", "forget"), ("retain_Q_A_ROUGE", "retain"), ("wf_Q_A_ROUGE", "wf")):
        published = [row["generation"] for row in wanted[key]["value_by_index"].values()]
        assert evaluations[name].table.generations(set_name) == published


def test_without_a_retain_model_it_is_said_what_is_missing(evaluations):
    alone = evaluations["retain alone"]
    assert set(alone.missing) == {"forget_quality", "mia_reference"}
    assert all("retain model" in reason for reason in alone.missing.values())
    assert alone.metrics["forget_quality"] is None
    assert "0.5" in alone.notes["privleak"]


def test_half_precision_stays_near(reference, evaluations):
    model = AutoModelForCausalLM.from_pretrained(reference / "models" / "target", dtype=torch.bfloat16)
    encoder = Encoder(AutoTokenizer.from_pretrained(reference / "models" / "target"), text_format=AS_PUBLISHED)
    suite = tofu(str(reference / "rows"), "forget01")
    table = score(model, encoder, suite, retain_model=True)
    exact = {(entry.prompt, entry.answer): entry.loss for entry in evaluations["target"].table.entries}
    assert max(abs(entry.loss - exact[entry.prompt, entry.answer]) for entry in table.entries) < 0.2
