"""Reports: the verdict's thresholds, what stands on the page, and that nothing in the data can act."""

import json
import os
import re
import shlex
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from gru_unlearn.benchmark.evaluated_evidence import evaluation_evidence
from gru_unlearn.common.files import write_json
from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.comparison.method_verdicts import method_name
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation import Entry, ScoreTable, Use
from gru_unlearn.publishing.command_line import command_to_repeat
from gru_unlearn.publishing.material import ReportOptions
from gru_unlearn.publishing.reports import gather, write_report
from gru_unlearn.publishing.run_sections import along, tradeoff
from gru_unlearn.reporting.chart import TOP, Line, Spot, Star, axis, chart
from gru_unlearn.reporting.evidence import Evidence, Kept
from gru_unlearn.reporting.example_table import example_table, off_by, word_diff
from gru_unlearn.reporting.forgetting import judge_forgetting
from gru_unlearn.reporting.judge import findings_of, staying_finding, verdict_of
from gru_unlearn.reporting.keeping import judge_keeping
from gru_unlearn.reporting.page import inside_script, marked
from gru_unlearn.results.attack_summary import AttackResult, AttackSummary
from gru_unlearn.results.comparison_summary import MethodResult
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.file_model import JobSummary
from gru_unlearn.results.row_examples import Examples
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary
from gru_unlearn.results.summaries import Summary
from gru_unlearn.results.verdict import Said
from gru_unlearn.runs.run_tables import run_table
from report_material import EVIL, attack, examples, summary, trajectory, write_run

EARLIER = Path(__file__).parent / "earlier"

# --- the verdict's thresholds ---------------------------------------------------------------------------------------


def said(count, broken=0, asked=9):
    return Said(asked=asked, word_for_word=count, broken=broken)


FORGOTTEN = Evidence(forget_before=0.9, forget_after=0.2, forget_retain_model=0.2, said=said(0))

FORGETTING = {
    "all the way": ({}, "yes"),
    "95 % of the way": ({"forget_after": 0.9 - 0.951 * 0.7}, "yes"),
    "94 % of the way": ({"forget_after": 0.9 - 0.94 * 0.7}, "partly"),
    "49 % of the way": ({"forget_after": 0.9 - 0.49 * 0.7}, "no"),
    "more probable than before": ({"forget_after": 0.95}, "no"),
    "a test tells them apart": ({"forget_quality": 0.05}, "partly"),
    "no test tells them apart": ({"forget_quality": 0.051}, "yes"),
    "a test changes no no": ({"forget_after": 0.9, "forget_quality": 0.5}, "no"),
    "recites more than the retain model": ({"said": said(2), "said_by_retain_model": said(1)}, "partly"),
    "recites no more": ({"said": said(1), "said_by_retain_model": said(1)}, "yes"),
    "nobody counted answers": ({"said": None}, "partly"),
    "no retain model, one mark": ({"forget_retain_model": None, "said": None}, "partly"),
    "nobody counted, and nearly all is gone": (
        {"forget_retain_model": None, "said": None, "forget_after": 0},
        "partly",
    ),
    "nobody counted, and half is left": (
        {"forget_retain_model": None, "said": None, "forget_after": 0.46},
        "no",
    ),
    "no retain model, two marks": ({"forget_retain_model": None, "said": said(0), "said_before": said(9)}, "yes"),
    "nothing measured": ({"forget_after": None, "said": None}, "unknown"),
    "nothing to forget": ({"forget_before": 0.2}, "unknown"),
    "before unknown, close": ({"forget_before": None, "forget_after": 0.209}, "yes"),
    "before unknown, not close": ({"forget_before": None, "forget_after": 0.22}, "unknown"),
    "before unknown, and half of the way from certainty": ({"forget_before": None, "forget_after": 0.61}, "no"),
}


@pytest.mark.parametrize(("changes", "answer"), FORGETTING.values(), ids=FORGETTING)
def test_forgotten(changes, answer):
    assert judge_forgetting(replace(FORGOTTEN, **changes)).answer == answer


def test_forgetting_says_numbers_and_thresholds():
    finding = findings_of(replace(FORGOTTEN, forget_quality=0.02))[0]
    assert "0.900 → 0.200" in finding.why
    assert "100% of the way" in finding.why
    assert "0.020: a test can tell" in finding.why
    assert "95%" in finding.rule
    assert "0.05" in finding.rule


KEEPING = {
    "both kept": ({"held-out": Kept(0.9, 0.9), "retain": Kept(0.9, 0.86)}, "yes"),
    "the worse one counts": ({"held-out": Kept(0.9, 0.74), "retain": Kept(0.9, 0.9)}, "partly"),
    "less than 80 %": ({"held-out": Kept(1.0, 0.79), "retain": Kept(1.0, 1.0)}, "no"),
    "kept, but no held-out rows": ({"retain": Kept(0.9, 0.9)}, "unknown"),
    "lost already on retain rows": ({"retain": Kept(1.0, 0.7)}, "no"),
    "before unknown": ({"held-out": Kept(None, 0.9)}, "unknown"),
    "nothing measured": ({}, "unknown"),
    "probable, and nothing but loops": ({"held-out": Kept(0.9, 0.9, said=said(0, broken=5))}, "no"),
    "loops, as before": ({"held-out": Kept(0.9, 0.9, said=said(0, broken=5), said_before=said(0, broken=5))}, "yes"),
}


@pytest.mark.parametrize(("kept", "answer"), KEEPING.values(), ids=KEEPING)
def test_kept(kept, answer):
    assert judge_keeping(Evidence(kept=kept)).answer == answer


@pytest.mark.parametrize(
    ("shares", "answer"),
    [([0.1, -0.2], "yes"), ([0.5, 0.0], "partly"), ([0.1, 0.51], "no"), ([None], "unknown"), ([], "unknown")],
)
def test_stays_gone(shares, answer):
    measured = {"attack": "a", "low": 0.0, "high": 0.6, "rows": 30, "retain_model": 0.1, "measure": "prob"}
    attacks = [AttackResult.model_construct(**measured, variant=str(share), recovered=share) for share in shares]
    finding = staying_finding(attacks)
    assert finding.answer == answer
    if answer == "no":
        assert "a: 0.51, brings back 51%" in finding.why, "the strongest one"
        assert "95 % interval of that share: 0% to 60%, 30 rows" in finding.why


# --- rows ------------------------------------------------------------------------------------------------------------


def test_word_diff_by_hand():
    assert word_diff("in the old town", "in the new  town hall") == [
        ("same", "in the"), ("gone", "old"), ("new", "new"), ("same", "town"), ("new", "hall"),
    ]  # fmt: skip
    assert word_diff("as it  is", "as it is") == []
    assert word_diff("a", "") == [("gone", "a")]


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_a_diff_holds_both_texts(old, new):
    parts = word_diff(" ".join(old), " ".join(new))
    if old != new:
        assert " ".join(words for kind, words in parts if kind != "new").split() == old
        assert " ".join(words for kind, words in parts if kind != "gone").split() == new


def test_off_by_asks_of_each_set_what_is_due():
    assert off_by("forget", 0.9, 0.5, 0.2) == pytest.approx(0.3)
    assert off_by("forget", 0.9, 0.5, None) == 0.5
    assert off_by("retain", 0.9, 0.5, 0.7) == pytest.approx(0.4)
    assert off_by("retain", None, 0.5, 0.7) == pytest.approx(0.2)
    assert off_by("retain", None, 0.5, None) is None
    assert off_by("retain", 0.9, None, 0.7) is None


def test_rows_stand_worst_first_in_their_set():
    table = example_table({"after": Examples.model_validate(examples())})
    assert [(row.set, row.number) for row in table.rows] == [
        ("forget", 2), ("forget", 3), ("forget", 1), ("retain", 10), ("retain", 8), ("held_out", 1),
    ]  # fmt: skip
    assert table.columns == ["before", "after", "retain model"]
    assert table.sets["retain"] == "retain (2 of 20)"
    assert table.rows[0].values == [0.95, 0.7, 0.2]


def test_chosen_rows_are_spread():
    assert evenly_spread(range(5), 64) == [0, 1, 2, 3, 4]
    assert evenly_spread(range(10), 4) == [1, 2, 6, 8]


# --- drawing ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.booleans())
def test_axes_hold_their_values(values, downwards):
    scale, ticks = axis(values, 0, 100, downwards=downwards)
    assert all(-0.5 <= scale(value) <= 100.5 for value in values)
    assert 2 <= len(ticks) <= 10
    assert {round(scale(ticks[0])), round(scale(ticks[-1]))} == {0, 100}


@pytest.mark.parametrize("value", [0.0, 0.5, 5.0, 300.0, -2.0])
def test_an_axis_around_a_single_value_is_no_splinter(value):
    _, ticks = axis([value], 0, 100)
    assert ticks[0] <= value <= ticks[-1]
    assert ticks[-1] - ticks[0] >= 0.1


@pytest.mark.parametrize(("kept", "above"), [(1.0, True), (0.5, False)])
def test_a_star_near_the_top_has_its_name_above_the_frame(kept, above):
    star = Star("before", 0, kept)
    svg = chart("t", [Line("a", [Spot(0, 1), Spot(1, 0)], 1)], x_label="", y_label="", stars=[star])
    place = re.search(r'class="ink halo ?" x="[^"]+" y="([^"]+)">before', svg)
    assert (float(place.group(1)) < TOP) is above


def test_a_chart_escapes_names_and_tells_each_mark():
    svg = chart(EVIL, [Line(EVIL, [Spot(0, 1, EVIL), Spot(1, 2)], 0)], x_label="x", y_label="y")
    assert "<script" not in svg
    assert svg.count("<title>&lt;script") == 1
    crowded = chart("t", [Line("n", [Spot(x, x, str(x)) for x in range(1000)], 1)], x_label="x", y_label="y")
    assert 30 <= crowded.count("<title>") <= 40


# --- the page --------------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """Every element with its attributes, and the text by the innermost element around it."""

    def __init__(self, page):
        super().__init__()
        self.found, self.texts, self.open = [], {}, [None]
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1], []).append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("report") / "run")
    (folder / "attack").mkdir()
    write_json(folder / "attack" / "summary.json", attack())
    return write_report(folder).read_text(encoding="utf-8")


def test_nothing_in_the_data_can_act(page):
    elements = Elements(page)
    assert [attributes.get("type") for attributes in elements.of("script")] == ["application/json", None]
    assert "alert(1)" not in elements.texts["script"][1], "our own script"
    assert json.loads(elements.texts["script"][0])["settings"]["model"] == EVIL, "embedded whole"
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    policy = next(a["content"] for a in elements.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert page.count(EVIL.replace("<", "&lt;").replace(">", "&gt;")) > 5, "it is there to be read"


def check_links(elements):
    """All addresses are places on the page, and there."""
    addresses = {a[name] for _, a in elements.found for name in ("src", "href", "action") if name in a}
    ids = {f"#{attributes['id']}" for _, attributes in elements.found if "id" in attributes}
    assert addresses
    assert addresses <= ids


def test_nothing_is_loaded(page):
    elements = Elements(page)
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in elements.found}
    check_links(elements)
    assert set(re.findall(r"https?://[^\"\s<]+", page)) == {"http://www.w3.org/2000/svg"}


def test_the_page_says_it_all(page):
    text = " ".join(" ".join(parts) for tag, parts in Elements(page).texts.items() if tag not in ("script", "style"))
    text = " ".join(text.split())
    for said in (
        "Is it forgotten?", "0.900 → 0.233", "a model that never saw them: 0.250", "No such number proves",
        "Of 3 of these questions it answers 1 word for word; before it was 3; the retain model 0.",
        "Held-out rows: 0.940 → 0.873 (92.9% of before)", "brings back 62%", "Where it was rectified", "-5.0%",
        "Retention at matched forgetting", "relearning", "a" * 64, "b" * 64, "retain (2 of 20)",
    ):  # fmt: skip
        assert said in text, said


def test_json_in_a_page_cannot_end_its_element():
    text = inside_script({"a": "</script><!--&\u2028", "b": [1, None]})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--&\u2028", "b": [1, None]}


def test_a_run_that_knows_little_still_has_a_report(tmp_path):
    little = {"results": {"objective": "ga", "rectification": "none", "forget_prob": 0.1, "conflict_rate": None}}
    little |= {"trajectory": [{"step": 5, "forget_prob": 0.1}], "log": [], "removed_share_by_layer": None}
    folder = write_run(tmp_path / "run", **little)
    (folder / "examples.json").unlink()
    text = write_report(folder, tmp_path / "elsewhere.html").read_text()
    assert text.count("Cannot be said") == 2 * 3, "in the brief, and with the rules"
    assert 'id="examples"' not in text
    assert not (folder / "report.html").exists()


def test_the_kept_model_is_the_one_reported(tmp_path):
    best = {"step": 10, "score": 1.0, "metrics": {"forget_prob": 0.26, "retain_prob": 0.94, "held_out_prob": 0.93}}
    text = write_report(write_run(tmp_path / "run", best=best)).read_text()
    assert "the best one, of step 10" in text
    assert "0.900 → 0.260" in text
    table = run_table(RunSummary.model_validate(summary(best=best)))
    assert str(table.title).endswith("20 steps, saved is step 10")
    assert [next(iter(column.cells)) for column in table.columns] == ["forget probability", "0.900", "0.260", "0.250"]


def test_only_an_evaluation_before_the_first_step_is_the_model_before(tmp_path):
    text = write_report(write_run(tmp_path / "run", trajectory=trajectory()[1:])).read_text()
    assert 'data-series="retain rows"' in text, "the way is drawn"
    assert "<title>before" not in text


def test_an_attack_on_another_model_is_none_on_the_run(tmp_path):
    folder = write_run(tmp_path / "run")
    for named, shown in ((None, True), (str(folder / "model"), True), (str(tmp_path / "other"), False)):
        write_json(folder / "attack" / "summary.json", attack() | {"settings": {"model": named}})
        assert (gather(folder).attack is not None) == shown, named


def test_a_verdict_over_seeds_says_how_many_failed():
    method = {"objective": "npo", "rectification": "gru", "learning_rate": 1e-4, "runs": 5, "reached": 0}
    assert method_name(MethodResult.model_validate(method | {"failed": 0})) == "npo · gru"
    assert method_name(MethodResult.model_validate(method | {"failed": 2})) == "npo · gru (2 of 5 runs failed)"


def test_the_command_repeats_the_run():
    given = {"model": "my model", "bf16": True, "use_peft": False, "lora_target_modules": ["q", "v"], "retain": None}
    words = shlex.split(command_to_repeat(RunSummary.model_validate(summary()), given))
    assert words[:2] == ["gru", "unlearn"]
    assert words[2:] == [
        "--model", "my model", "--bf16", "--use-peft=false", "--lora-target-modules", "q,v",
        "--output-dir", "runs/again",
    ]  # fmt: skip
    settings = {"model": "m", "data": None, "trust_remote_code": False}
    evaluation = EvaluationSummary(
        suite="own", metrics={}, seconds=1.0, settings=settings, model={"source": "m"}, versions={}
    )
    assert command_to_repeat(evaluation, {}) == "gru evaluate --model m --out runs/again"
    assert shlex.split(command_to_repeat(AttackSummary.model_validate(attack()), {})) == [
        "gru", "attack", "runs/x", "--attacks", "relearning", "--prefixes", "mine.txt", "--out", "runs/again",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no summary.json"),
        ("[]", "has no summary.json"),
        ("{", "cannot be read"),
        ('{"command": "plan"}', "is of plan: a report needs one of unlearn, tru, demo"),
        ('{"command": "tru"}', "lacks what a report needs"),
        ('{"command": "unlearn"}', "lacks what a report needs"),
    ],
)
def test_a_folder_without_a_report_is_one_line(gru, tmp_path, content, message):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    code, _, err = gru("report", tmp_path)
    assert code == 2, err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_out_must_be_a_file(tmp_path):
    folder = write_run(tmp_path / "run")
    with pytest.raises(UserError, match="is a folder"):
        write_report(folder, tmp_path)


@pytest.mark.parametrize("options", [ReportOptions(request="2026-117"), ReportOptions(responsible="A. Officer")])
def test_a_request_is_refused_where_nothing_is_signed(tmp_path, options):
    write_json(tmp_path / "summary.json", attack())
    with pytest.raises(UserError, match="that of a run or of a ledger"):
        write_report(tmp_path, options=options)
    assert not (tmp_path / "report.html").exists()
    assert write_report(tmp_path, options=ReportOptions(rows=False)).is_file()


def test_an_attack_folder_has_a_report_of_its_own(tmp_path):
    write_json(tmp_path / "summary.json", attack())
    text = write_report(tmp_path).read_text()
    assert "Does it stay gone?" in text
    assert text.count("<figure>") == 1


def test_a_demonstration_shows_its_runs_in_one_table(tmp_path):
    results = []
    for name, rectification, left in (("NPO", "none", 0.2), ("NPO+GRU", "gru", 0.25)):
        folder = write_run(tmp_path / f"npo-{rectification}")
        row = {"name": name, "objective": "npo", "rectification": rectification, "forget_quality": 0.5, "steps": 20}
        row |= {"forget_prob": left, "retain_prob": 0.9, "held_out_prob": 0.7, "rmf": 0.9}
        results.append(row | {"rmf_held_out": 0.9 + (name == "NPO+GRU") / 50})
        assert folder.is_dir()
    known = {"forget_prob": 0.9, "retain_prob": 0.95, "held_out_prob": 0.94, "forget_quality": 1e-6}
    sample = {"question": "q", "truth": EVIL, "answers": {"NPO": "x"}}
    content = {"command": "demo", "target": known, "retain_model": known | {"forget_prob": 0.22}, "results": results}
    content |= {"sample": {"forget": sample, "held_out": sample}, "seed": 0, "seconds": 9.0, "versions": {}}
    write_json(tmp_path / "summary.json", content)
    text = write_report(tmp_path).read_text()
    page = Elements(text)
    assert text.count("Is it forgotten? ") == 2
    assert [a["data-series"] for a in page.of("g") if "data-series" in a][:2] == ["NPO", "NPO+GRU"]
    assert "74.5% of before" in text, "0.7 of 0.94"
    assert len([a for a in page.of("tr") if "data-set" in a]) == 6, "the rows of both runs stand together"
    assert "gru demo --seed 0" in text
    check_links(page)
    first = " ".join(re.sub("<[^>]+>", " ", text[: text.index('<article class="card">')]).split())
    assert "6 rows in plain text: the people in them are invented" in first
    assert "your data" not in first
    kept = "Of 2 models, 2 removed the rows in part. At equal forgetting NPO+GRU kept most: 0.920"
    assert kept in first, "who won stands first"
    assert "What this lets you state" in first
    assert "That it cannot be brought back: nobody tried. That the rest of what the model can do is unharmed." in first


def test_a_run_begins_with_what_an_officer_needs(page):
    brief = page[page.index('id="verdict"') : page.index('id="details"')]
    text = " ".join(re.sub("<[^>]+>", " ", brief).split())
    for told in (
        "3 rows were to be removed. The model still gives 1 of 3 answers word for word: partly removed.",
        "Request", "Who answers for it", "Finished", "To be removed", "What was done", "trained on for 20 steps",
        "What it cost", "12 seconds", "92.9% is left", "2 attempts to bring it back", "What it does not let you state",
        "forget rows " + "a" * 64, "model before " + "b" * 64, "model after " + "c" * 64, "Place and date", "Signature",
    ):  # fmt: skip
        assert told in text, told
    assert "Velquin" not in brief, "rows are an appendix"
    assert page.index('id="examples"') > page.index('id="versions"')


def finished_by(folder):
    text = " ".join(re.sub("<[^>]+>", " ", write_report(folder).read_text()).split())
    return re.search(r"Finished (.*?) To be removed", text).group(1)


def test_the_date_that_is_signed_stays_when_a_folder_is_touched_or_copied(tmp_path):
    folder = write_run(tmp_path / "run", finished="2025-03-01T23:59:30+00:00")
    os.utime(folder / "summary.json", (0, 0))
    assert finished_by(folder) == "2025-03-01 23:59 UTC"
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    assert finished_by(tmp_path / "copy") == "2025-03-01 23:59 UTC"


@pytest.mark.parametrize("changes", [{}, {"finished": None}, {"finished": "yesterday"}])
def test_a_date_that_nobody_wrote_down_is_called_that_of_the_file(tmp_path, changes):
    folder = write_run(tmp_path / "run", **changes)
    os.utime(folder / "summary.json", (86400, 86400))
    assert finished_by(folder) == "1970-01-02 00:00 UTC (time of its file)"


def test_every_job_writes_when_it_was_finished(tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)
    RunFolder(tmp_path).finish(RunSummary.model_validate(summary()))
    finished = datetime.fromisoformat(json.loads((tmp_path / "summary.json").read_text())["finished"])
    assert before <= finished <= datetime.now(UTC)
    kinds = [kind for kind in get_args(Summary) if not issubclass(kind, JobSummary)]
    assert not kinds, "each says it where it is finished"


def test_request_and_name_can_be_given(gru, tmp_path):
    folder = write_run(tmp_path / "run")
    words = ("--request", f"DSR-7 {EVIL}", "--responsible", "A. Officer")
    code, _, err = gru("report", folder, *words)
    assert (code, err) == (0, "")
    text = (folder / "report.html").read_text()
    assert "DSR-7 &lt;script&gt;" in text
    assert "A. Officer" in text


def what_was_done(folder, best=None, **results):
    given = {"objective": "npo", "rectification": "gru", "forget_prob": 0.3} | results
    rows = {"source": "rows", "rows": 3, "sha256": "a" * 64}
    run = write_run(folder, results=given, best=best, data={"forget": rows, "retain": rows | {"rows": 16}})
    text = " ".join(re.sub("<[^>]+>", " ", write_report(run).read_text()).split())
    return text[text.index("What was done") : text.index("What it cost")]


def test_what_was_done_tells_of_robust_steps_and_of_rows_that_really_guarded(tmp_path):
    robust = what_was_done(tmp_path / "robust", robust="spectral=0.25")
    assert "which 16 other rows stood for; steps were changed" in robust
    assert "(spectral=0.25)" in robust
    bare = what_was_done(tmp_path / "bare", objective="ga", rectification="none")
    assert "steps to forget the rows (ga)" in bare
    assert "stood for" not in bare
    assert "undoes" not in bare


def test_a_model_that_was_kept_as_it_was_was_not_changed_by_any_step(tmp_path):
    stopped = {"why": "forgotten", "step": 0, "sentence": "there is nothing to forget"}
    best = {"step": 0, "score": 5.0, "metrics": {}}
    said = what_was_done(tmp_path / "kept", best=best, stopped=stopped)
    assert "Nothing: the model was kept as it was, because there is nothing to forget." in said
    assert "trained on" not in said


def test_a_report_without_rows_holds_none(gru, tmp_path):
    folder = write_run(tmp_path / "run")
    said = ("Velquin", "Pumpkin soup", "butcher")
    text = write_report(folder).read_text()
    assert all(words in text for words in said)
    assert "holds 6 rows of your data in plain text" in text
    code, _, err = gru("report", folder, "--without-rows")
    assert (code, err) == (0, "")
    text = (folder / "report.html").read_text()
    assert not [words for words in said if words in text]
    assert "of your data in plain text" not in text
    assert "1 of 3 answers word for word" in text, "their numbers stay"


def test_a_demonstration_without_rows_has_no_sample(tmp_path):
    folder = tmp_path / "demo"
    shutil.copytree(EARLIER / "demo", folder)
    sample = json.loads((folder / "summary.json").read_text())["sample"]["forget"]["truth"]
    assert sample in write_report(folder).read_text()
    assert sample not in write_report(folder, options=ReportOptions(rows=False)).read_text()


def test_losses_of_two_objectives_share_no_axis_and_axes_are_whole():
    runs = {}
    for objective in ("npo", "ga"):
        run = RunSummary.model_validate(summary())
        run.results.objective = objective
        runs[objective] = run
    figures = [figure.svg for figure in along(runs).figures]
    titles = [re.search(r'aria-label="([^"]+)"', svg)[1] for svg in figures]
    assert titles[:3] == ["Forget loss of npo", "Forget loss of ga", "Retain loss"]
    nearly_flat = [{"step": s, "forget_prob": 0.9994 - s / 1e5, "retain_prob": 0.9994} for s in (0, 5, 10)]
    flat = tradeoff({"run": RunSummary.model_validate(summary(trajectory=nearly_flat))}, None)
    for figure in flat.figures:
        assert ">0<" in figure.svg
        assert ">1<" in figure.svg


def test_backticks_are_code():
    assert marked("compare where `reached` <b>agrees</b>") == (
        "compare where <code>reached</code> &lt;b&gt;agrees&lt;/b&gt;"
    )


# --- evaluations -----------------------------------------------------------------------------------------------------


def entry(logp, row, said=None):
    return Entry("q", "an answer", *np_scores(logp), closing=1, generation=said, uses=[Use("forget", row)])


def np_scores(logp):
    return np.full(3, logp, np.float32), np.ones(3, bool), np.zeros(3, np.float32), np.ones(3, np.float32)


def test_an_evaluation_shows_its_worst_rows_and_the_retain_model(tmp_path, monkeypatch):
    monkeypatch.setattr("gru_unlearn.benchmark.evaluated_rows.MOST_ROWS", 2)
    ScoreTable([entry(-row - 0.5, row, "an answer") for row in range(4)]).save(tmp_path / "scores.parquet")
    ScoreTable([entry(-1.0, row) for row in range(4)]).save(tmp_path / "retain_scores.parquet")
    write_json(
        tmp_path / "summary.json",
        {
            "command": "evaluate", "suite": "own", "seconds": 1.0, "settings": {"model": "m"}, "versions": {},
            "metrics": {"forget_Q_A_Prob": 0.3, "forget_quality": None}, "missing": {"forget_quality": "needs <more>"},
            "notes": {}, "intervals": {"forget_Q_A_Prob": [0.2, 0.4]}, "data": {"forget": {"rows": 4, "sha256": "d"}},
            "model": {"source": "m", "sha256": "e"},
        },
    )  # fmt: skip
    material = gather(tmp_path)
    evidence = evaluation_evidence(material.summary, material.tables)
    assert evidence.forget_retain_model == pytest.approx(0.36788, abs=1e-4)
    assert evidence.said == Said(asked=4, word_for_word=4, broken=0), "of all rows, however few are shown"
    assert [row["row"] for row in material.examples.to_json()["sets"]["forget"]["rows"]] == [0, 1]
    text = write_report(tmp_path).read_text()
    assert "0.200–0.400" in text
    assert "forget (2 of 4)" in text
    assert "needs &lt;more&gt;" in text


def test_an_evaluation_says_what_may_be_stated_and_what_not(tmp_path):
    content = {
        "command": "evaluate", "suite": "builtin", "seconds": 1.0, "settings": {"model": "m"}, "versions": {},
        "metrics": {"forget_Q_A_Prob": 0.3}, "data": {"forget": {"rows": 4, "sha256": "d"}}, "model": {},
    }  # fmt: skip
    write_json(tmp_path / "summary.json", content)
    text = write_report(tmp_path).read_text()
    for line in gather_verdict(tmp_path).may_not_state:
        assert f"<li>{line}</li>" in text
    assert text.index("What it does not let you state") < text.index('class="cards"')


def gather_verdict(folder):
    material = gather(folder)
    return verdict_of(evaluation_evidence(material.summary, material.tables))


@pytest.mark.parametrize(("source", "whose"), [("builtin:forget", "invented"), ("mine.jsonl", "your data")])
def test_only_rows_of_the_built_in_benchmark_are_nobodys(tmp_path, source, whose):
    data = {"forget": {"source": source, "rows": 3, "sha256": "a"}, "retain": {"source": "builtin:retain", "rows": 3}}
    data["retain"]["sha256"] = "b"
    text = write_report(write_run(tmp_path / "run", data=data)).read_text()
    notice = text[text.index('class="notice"') :]
    assert whose in notice[: notice.index("</p>")]


def ledger(*states):
    requests = []
    for number, state in enumerate(states, start=1):
        metrics = {"forget_prob": {f"r{number}": 0.05}, "not_checked": {}, "utility": 0.97}
        metrics |= {"held_out_prob": 0.9, "held_out_kept": 0.97}
        request = {"number": number, "id": f"r{number}", "date": "2025-01-01", "source": "x", "rows": 8}
        request |= {"data_sha256": str(number) * 64, "state": state, "forget_prob_before": 0.9, "metrics": metrics}
        requests.append(request | {"finished": f"2025-02-0{number}T10:00:00+00:00"})
    settings = {"unlearning": {}, "utility_floor": 0.9, "forget_ceiling": 0.5}
    known = {"command": "requests", "finished": "2025-03-01T08:30:00+00:00", "requests": requests, "newest_model": {}}
    return known | {"entries": 9, "head": "e" * 64, "settings": settings, "settings_sha256": "", "versions": {}}


def test_a_ledger_begins_with_what_is_signed(gru, tmp_path):
    write_json(tmp_path / "summary.json", ledger("done", "done", "refused"))
    code, _, err = gru("report", tmp_path, "--responsible", "A. Officer")
    assert (code, err) == (0, "")
    text = (tmp_path / "report.html").read_text()
    brief = text[text.index('id="verdict"') : text.index('id="details"')]
    told = " ".join(re.sub("<[^>]+>", " ", brief).split())
    for words in (
        "Of 2 models, 2 removed the rows in part.", "Request r1, r2", "Who answers for it A. Officer",
        "Finished 2025-03-01 08:30 UTC Requests 2 done, 1 refused", "16 rows of 2 requests", "keeps 97.0%",
        "What this lets you state", "What it does not let you state That", "head of the chain " + "e" * 64,
        "r1: rows " + "1" * 64, "Place and date", "Signature",
    ):  # fmt: skip
        assert words in told, words
    assert "r3 (refused, judged 2025-02-03)" in text


def test_a_ledger_with_nothing_done_has_nothing_to_sign(tmp_path):
    write_json(tmp_path / "summary.json", ledger("refused"))
    text = write_report(tmp_path).read_text()
    assert "Signature" not in text
    assert "e" * 64 in text


# --- a whole run -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    tiny.save(folder / "model")
    tiny.save(folder / "other", seed=3)
    rows = {"forget": [*tiny.rows(5), {"question": f"who is {EVIL} ?", "answer": f"the {EVIL} one ."}]}
    rows |= {"retain": tiny.rows(8, start=6), "held_out": [{"text": "Ada lives in the red one ."}]}
    for name, content in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return folder


def command(world, output, *more):
    sources = {"model": "model", "retain-model": "other"}
    sources |= {"forget": "forget.jsonl", "retain": "retain.jsonl", "held-out": "held_out.jsonl"}
    words = [word for name, file in sources.items() for word in (f"--{name}", world / file)]
    words += ["--max-steps", 4, "--per-device-train-batch-size", 4, "--gradient-accumulation-steps", 1, "--use-cpu"]
    return ["unlearn", *words, "--learning-rate", "5e-3", "--allow-overlap", "--output-dir", output, *more]


def test_a_run_writes_examples_and_report_and_they_change_no_bit(gru, world):
    code, out, err = gru(*command(world, world / "run", "--report-examples", 4))
    assert code == 0, err
    assert f"Report: {world}/run/report.html" in out
    found = json.loads((world / "run" / "examples.json").read_text())["sets"]
    assert {name: (part["rows_in_set"], len(part["rows"])) for name, part in found.items()} == {
        "forget": (6, 4), "retain": (8, 4), "held_out": (1, 1),
    }  # fmt: skip
    summed = json.loads((world / "run" / "summary.json").read_text())
    for row in found["forget"]["rows"]:
        for moment in ("before", "after", "retain_model"):
            assert 0 < row[moment]["probability"] < 1
            assert isinstance(row[moment]["says"], str)
    text = found["held_out"]["rows"][0]
    assert (text["question"], text["continuation"]) == ("Ada lives in", "the red one ."), "a plain text is continued"
    assert isinstance(text["before"]["says"], str)
    assert text["before"]["probability"] == pytest.approx(summed["trajectory"][0]["held_out_prob"], rel=1e-4)
    assert text["after"]["probability"] == pytest.approx(summed["trajectory"][-1]["held_out_prob"], rel=1e-4)
    assert summed["finished"].endswith("+00:00")
    assert set(summed["removed_share_by_layer"]) >= {"model.layers.0", "model.layers.1"}

    code, _, err = gru(*command(world, world / "plain", "--report-examples", 0))
    assert code == 0, err
    assert not (world / "plain" / "examples.json").exists()
    weights = [(world / run / "model" / "model.safetensors").read_bytes() for run in ("run", "plain")]
    assert weights[0] == weights[1]


def test_without_a_measurement_before_there_is_no_share_of_it(gru, world):
    code, _, err = gru(*command(world, world / "late", "--report-examples", 0, "--eval-on-start", "false"))
    assert code == 0, err
    results = json.loads((world / "late" / "summary.json").read_text())["results"]
    assert "forget_target" in results
    assert not [name for name in results if name.startswith("rmf")]


def test_fewer_than_no_examples_are_refused(gru, world):
    code, _, err = gru(*command(world, world / "none", "--report-examples", -1))
    assert code == 2
    assert "report_examples must be at least 0" in err
