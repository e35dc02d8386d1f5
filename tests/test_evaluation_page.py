"""docs/evaluation.md says what is so: its example runs, its metrics are those that exist."""

import re
from pathlib import Path

import pytest
import torch

import tiny
from gru_unlearn.benchmark.all_metrics import metrics_by_key
from gru_unlearn.benchmark.evaluation_request import SUITES
from gru_unlearn.data import Encoder, load_records
from gru_unlearn.evaluation.cache import MOST_BYTES
from test_evaluation_command import write_rows

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def section(heading):
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def first_token_probability(folder, model):
    """By plain forward passes."""
    encoder, found = Encoder(tiny.tokenizer()), []
    for record in load_records(f"{folder}/forget.jsonl"):
        example = encoder.encode_all([record], "forget")[0]
        start = next(place for place, label in enumerate(example["labels"]) if label >= 0)
        with torch.no_grad():
            probabilities = model(torch.tensor([example["input_ids"][:start]])).logits[0, -1].softmax(dim=-1)
        found.append(probabilities[example["input_ids"][start]].item())
    return sum(found) / len(found)


def test_the_example_of_a_metric_and_a_suite_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", section("Add a metric or a suite"), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    write_rows(tmp_path / "forget.jsonl", tiny.rows(4))
    tiny.save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/evaluation.md", "exec"), {})
    expected = first_token_probability(tmp_path, tiny.model().eval())
    assert float(capsys.readouterr().out) == pytest.approx(expected, rel=1e-4)


def test_the_page_names_every_metric_and_no_other():
    rows = [line.split("|") for line in section("Metrics").splitlines() if line.startswith("| `")]
    named = [key for cells in rows for key in re.findall(r"`([^`]+)`", cells[1])]
    assert len(named) == len(set(named))
    assert set(named) == set(metrics_by_key())


def test_the_page_gives_the_direction_of_every_metric():
    metrics = metrics_by_key()
    words = {"retain": "close to the retain model's", "0.5, or retain": "0.5, or the retain model's"}
    for line in section("Metrics").splitlines():
        if line.startswith("| `"):
            _, keys, _, better, _ = (cell.strip() for cell in line.split("|"))
            for key in re.findall(r"`([^`]+)`", keys):
                assert metrics[key].better == words.get(better, better), key


def test_the_page_names_every_suite_and_the_size_of_the_cache():
    rows = [line.split("|")[1] for line in section("Suites").splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) - {"suite"} == set(SUITES)
    assert f"{MOST_BYTES // 10**9} GB at most" in section("Scores that are used again")
