"""Folders that version 0.1.0 wrote (``earlier/``, on a tiny model) are still read."""

import json
import shutil
from pathlib import Path

import pytest

from gru_unlearn.errors import UserError
from gru_unlearn.results.file_model import as_json
from gru_unlearn.results.row_examples import Examples
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.summaries import read_summary

EARLIER = Path(__file__).parent / "earlier"
WITH_A_REPORT = ("run", "evaluation", "comparison", "demo", "attack")


@pytest.mark.parametrize("name", [*WITH_A_REPORT, "tru"])
def test_summaries_are_read_and_would_be_written_as_they_were(name):
    file = EARLIER / name / "summary.json"
    summary = read_summary(file)
    assert as_json(summary.model_dump(exclude_unset=True)) == json.loads(file.read_text())


def test_a_run_that_was_started_with_an_old_name_of_a_setting_goes_on(tmp_path):
    (tmp_path / "run.json").write_text('{"settings": {"model": "m", "beta": 0.1}, "model": "ab"}')
    today = {"settings": {"model": "m", "objective_args": {"beta": 0.1}}, "model": "ab"}
    assert RunFolder(tmp_path).check(today)
    today["settings"]["objective_args"]["beta"] = 0.2
    with pytest.raises(UserError, match=r"another run \(different: settings\.objective_args\)"):
        RunFolder(tmp_path).check(today)


def test_an_old_name_without_a_value_is_no_difference(tmp_path):
    (tmp_path / "run.json").write_text('{"settings": {"model": "m", "holdout": null}, "data": "ab"}')
    assert RunFolder(tmp_path).check({"settings": {"model": "m", "unseen": None}, "data": "ab"})
    with pytest.raises(UserError, match=r"another run \(different: settings\.unseen\)"):
        RunFolder(tmp_path).check({"settings": {"model": "m", "unseen": "rows.json"}, "data": "ab"})


def test_single_rows_are_read():
    file = EARLIER / "run" / "examples.json"
    assert as_json(Examples.read(file).model_dump(exclude_unset=True)) == json.loads(file.read_text())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("run", "Is it forgotten?"),
        ("evaluation", "forget_Q_A_Prob"),
        ("comparison", "npo at matched forgetting"),
        ("demo", "NPO+GRU"),
        ("attack", "relearning: forget rows"),
        ("tru", "Removal of 9 rows"),
        ("ledger", "request-1 (done)"),
    ],
)
def test_reports_are_made_of_them(gru, tmp_path, name, says):
    folder = tmp_path / name
    shutil.copytree(EARLIER / name, folder)
    code, out, err = gru("report", folder)
    assert (code, err) == (0, "")
    assert str(folder / "report.html") in out.replace("\n", "")
    assert says in (folder / "report.html").read_text()


@pytest.fixture
def ledger(tmp_path):
    folder = tmp_path / "ledger"
    shutil.copytree(EARLIER / "ledger", folder)
    return folder


def test_a_ledger_holds(gru, ledger):
    code, out, _ = gru("requests", "verify", ledger)
    assert code == 0
    assert "the model of request-1 is as noted in entry 4" in out
    assert "The ledger holds" in out


def test_a_ledger_tells_its_requests(gru, ledger):
    code, out, _ = gru("requests", "show", ledger)
    assert code == 0
    assert "request-1" in out
    assert "pending" in out


def test_a_ledger_of_which_an_entry_was_changed_does_not_hold(gru, ledger):
    database = ledger / "ledger.sqlite"
    database.write_bytes(database.read_bytes().replace(b'"rows":3', b'"rows":4'))
    code, _, err = gru("requests", "verify", ledger)
    assert code == 1
    assert "does not hold" in err
