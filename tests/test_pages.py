"""The script that follows pages: it reads every command, and notices one that does not do what it says."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import follow_pages

import tiny
from gru_unlearn import UnlearningConfig
from gru_unlearn.common.notices import Notice
from gru_unlearn.runs.run_size import passes_a_step, steps_of, tell_of_few_steps


@pytest.mark.parametrize("page", follow_pages.PAGES)
def test_every_command_of_a_page_is_read(page):
    steps = list(follow_pages.steps_of(page))
    assert {"unlearn"} <= {step.words[1] for step in steps if step.words[0] == "gru"}
    assert not [step for step in steps if "MODEL" in step.words]


def test_commands_are_followed_one_after_the_other_and_those_that_fail_are_told(monkeypatch, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("text\n```sh\ngru --version\ngru report \\\n    nowhere   # fails\nmake demo\n```\n")
    monkeypatch.setattr(follow_pages, "ROOT", tmp_path)
    assert follow_pages.main(["page.md"], tmp_path) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "as told   page.md:3: gru --version"
    assert told[1] == "NOT SO    page.md:4: gru report nowhere"
    assert "nowhere: no such folder" in told[2]
    assert told[3] == "left out  page.md:6: make demo"


@pytest.mark.slow
def test_every_command_of_readme_and_tutorial_ends_well_after_those_before_it(gru, tmp_path, monkeypatch, capsys):
    """All in one folder and in this process, each run a few steps long; `make pages` runs them at full length."""
    monkeypatch.chdir(tmp_path)
    told = []

    def run(arguments, folder):
        told.append(capsys.readouterr().out)
        code, _, err = gru(*arguments)
        return code, err

    wrong = follow_pages.main(list(follow_pages.PAGES[:2]), tmp_path, quick=True, run=run)
    told.append(capsys.readouterr().out)
    assert wrong == 0, "".join(told)


@pytest.mark.slow
@pytest.mark.parametrize("page", follow_pages.PAGES[2:])
def test_the_page_on_own_data_forgets_what_it_says(page, tmp_path):
    assert follow_pages.main([page], tmp_path) == 0


@pytest.mark.parametrize(("rows", "passes", "steps"), [(10, 3, 5), (40, 8, 10), (33, 8, 10), (4, 1, 5)])
def test_steps_and_rows_a_step_are_those_of_the_trainer(tmp_path, rows, passes, steps):
    config = UnlearningConfig(output_dir=str(tmp_path), use_cpu=True)
    assert (passes_a_step(config, rows), steps_of(config, rows)) == (passes, steps)


def test_what_fills_no_batch_makes_no_step(tmp_path):
    config = UnlearningConfig(
        output_dir=str(tmp_path), use_cpu=True, gradient_accumulation_steps=2, dataloader_drop_last=True
    )
    assert (passes_a_step(config, 11), steps_of(config, 11)) == (2, 5)
    assert steps_of(config, 12) == 10


def test_a_few_steps_are_told_before(tmp_path):
    with pytest.warns(Notice, match="5 steps in all for 10 forget rows may forget nothing"):
        tell_of_few_steps(UnlearningConfig(output_dir=str(tmp_path), use_cpu=True), 10)


def test_a_dry_run_counts_the_rows_that_there_are(gru, tmp_path):
    tiny.save(tmp_path / "model")
    follow_pages.write_rows(tmp_path)
    rows = [
        "--forget",
        tmp_path / "forget.jsonl",
        "--retain",
        tmp_path / "retain.jsonl",
        "--output-dir",
        tmp_path / "r",
    ]
    code, out, err = gru(
        "unlearn", "--model", tmp_path / "model", *rows, "--use-cpu", "--dry-run", "--learning-rate=1e-5"
    )
    assert (code, err) == (0, "")
    assert "10 forget + 12 retain" in out
    assert "5 steps in all for 10 forget rows may forget nothing" in out
