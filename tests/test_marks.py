"""The mark for enough without a retain model: the model before fine-tuning, control rows, the rows' own floor."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

import tiny
from gru_unlearn.data import Record
from gru_unlearn.data.control_rows import make_control_rows, worded_alike
from gru_unlearn.data.invented_words import FAMILY, GIVEN, MONTHS, TITLE
from gru_unlearn.data.records import Turn
from gru_unlearn.evaluation.matched import retention_at_matched_forgetting
from gru_unlearn.results.comparison_summary import ComparisonSummary
from gru_unlearn.results.mark import Mark
from gru_unlearn.results.run_summary import RunSummary, TruSummary
from gru_unlearn.runs.marks import mark_line


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def control():
    return [{"question": f"where is Eve {n} ?", "answer": f"Dan works in {n} ."} for n in ("one", "two", "three")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = tmp_path_factory.mktemp("world")
    tiny.save(world / "model")
    tiny.save(world / "retain", seed=3)
    tiny.save(world / "base", seed=4)
    tiny.save(world / "no_template", seed=4, chat=False)
    shutil.copytree(world / "base", world / "no_tokenizer")
    for file in (world / "no_tokenizer").glob("*token*"):
        file.unlink()
    (world / "no_tokenizer" / "chat_template.jinja").unlink(missing_ok=True)
    other = json.loads((world / "base" / "tokenizer.json").read_text())
    words = other["model"]["vocab"]
    words["Ada"], words["blue"] = words["blue"], words["Ada"]
    shutil.copytree(world / "base", world / "other_words")
    (world / "other_words" / "tokenizer.json").write_text(json.dumps(other))
    small = tiny.model(seed=4, vocabulary=20)
    small.save_pretrained(world / "few_tokens")
    small.save_pretrained(world / "few_words")
    fewer = json.loads((world / "base" / "tokenizer.json").read_text())
    words = fewer["model"]["vocab"]
    fewer["model"]["vocab"] = {word: number for word, number in words.items() if number < 12}
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(world / "base" / name, world / "few_words")
    (world / "few_words" / "tokenizer.json").write_text(json.dumps(fewer))
    write(world / "forget.jsonl", tiny.rows(6))
    write(world / "retain.jsonl", tiny.rows(12, start=6))
    write(world / "control.jsonl", control())
    return world


def words_of(world, *more):
    sets = ["--model", world / "model", "--forget", world / "forget.jsonl", "--retain", world / "retain.jsonl"]
    steps = ["--max-steps", 2, "--eval-strategy", "steps", "--eval-steps", 1, "--use-cpu=true", "--report-examples", 0]
    return [*sets, *steps, "--save-strategy", "no", *more]


def run(gru, world, out, *more):
    code, printed, err = gru("unlearn", *words_of(world, *more), "--output-dir", out)
    assert code == 0, err
    return RunSummary.read(out / "summary.json"), printed


def probability(gru, world, model, rows, out):
    """What gru evaluate measures, asked as the target is."""
    given = ["--suite", "own", "--model", model, "--forget", rows, "--out", out]
    code, _, err = gru("evaluate", *given)
    assert code == 0, err
    return json.loads((out / "summary.json").read_text())["metrics"]["forget_Q_A_Prob"]


def test_a_tiny_mark_is_no_zero():
    assert "a mean probability of 4e-05: " in mark_line(Mark(kind="own_floor", value=4e-5))


def test_two_marks_at_once_are_refused_in_plain_words(gru, world, tmp_path):
    both = ("--retain-model", world / "retain", "--control-rows", world / "control.jsonl")
    code, _, err = gru("unlearn", *words_of(world, *both), "--output-dir", tmp_path / "run")
    assert code == 2
    assert "--control-rows needs a run without --retain-model (its mark is the surer one), or leave it out" in err


def test_beside_a_retain_model_the_base_model_chooses_rows_and_gives_no_mark(gru, world, tmp_path):
    known = write(tmp_path / "known.jsonl", tiny.rows(6)[:5])  # these are likelier to the base model than to the model
    taught = ["--model", world / "base", "--train", known, "--output-dir", tmp_path / "taught"]
    fast = ["--learning-rate", "1e-2", "--max-steps", 20, "--use-cpu=true"]
    code, _, err = gru("finetune", *taught, *fast)
    assert code == 0, err
    retain, base = ("--retain-model", world / "retain"), ("--base-model", tmp_path / "taught" / "model")
    asked = ["--forget-candidates", 3, "--per-device-train-batch-size", 2, "--gradient-accumulation-steps", 1]
    alone, _ = run(gru, world, tmp_path / "alone", *retain, *asked)
    both, _ = run(gru, world, tmp_path / "both", *retain, *base, *asked)
    assert both.results.mark == alone.results.mark
    assert both.results.mark.kind == "retain_model"
    assert both.base_model.sha256
    assert both.saved_sha256 != alone.saved_sha256, "other rows were chosen"


# --- a run -----------------------------------------------------------------------------------------------------------


def test_a_base_model_gives_the_mark(gru, world, tmp_path):
    summary, printed = run(gru, world, tmp_path / "run", "--base-model", world / "base")
    expected = probability(gru, world, world / "base", world / "forget.jsonl", tmp_path / "evaluation")
    results = summary.results
    assert results.mark.kind == "base_model"
    assert results.mark.value == results.forget_target == pytest.approx(expected, rel=1e-5)
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert written["results"]["mark"] == {"kind": "base_model", "value": results.forget_target}
    assert written["base_model"]["sha256"]
    points = [dict(point) for point in summary.trajectory]
    assert results.rmf == retention_at_matched_forgetting(points, results.forget_target)
    assert "to the model before fine-tuning" in printed
    assert "base model" in printed.split("probability of", 1)[1], "its column in the table"
    code, _, err = gru("report", tmp_path / "run")
    assert code == 0, err
    report = (tmp_path / "run" / "report.html").read_text()
    assert "base model" in report
    assert "to the model before fine-tuning" in report


def test_a_card_names_the_mark_and_no_file(gru, world, tmp_path):
    """Made control rows are public by their name; files are not, nor is a folder with a base model."""
    run(gru, world, tmp_path / "run", "--control-rows", "made", "--base-model", world / "base")
    code, _, err = gru("export", tmp_path / "run", "--out", tmp_path / "card", "--anyway")
    assert code == 0, err
    card = (tmp_path / "card" / "README.md").read_text()
    assert "| before | after | control rows |" in card
    assert "for rows of the same form about what nobody knows" in card
    assert "--control-rows made" in card
    assert "--base-model BASE_MODEL" in card
    assert str(world) not in card


@pytest.mark.parametrize("base", ["no_template", "no_tokenizer"])
def test_a_base_model_is_asked_with_the_targets_template(gru, world, tmp_path, base):
    summary, _ = run(gru, world, tmp_path / "a", "--base-model", world / "base")
    other, _ = run(gru, world, tmp_path / "b", "--base-model", world / base)
    assert other.results.mark == summary.results.mark


def test_control_rows_are_scored_by_the_base_model_else_by_the_model(gru, world, tmp_path):
    rows = ["--control-rows", world / "control.jsonl"]
    for name, more, by in (("base", ["--base-model", world / "base"], "base_model"), ("model", [], "model")):
        summary, _ = run(gru, world, tmp_path / f"run-{name}", *rows, *more)
        expected = probability(gru, world, world / name, world / "control.jsonl", tmp_path / name)
        mark = summary.results.mark
        assert (mark.kind, mark.scored_by) == ("control_rows", by)
        assert mark.value == pytest.approx(expected, rel=1e-5)
        assert summary.data["control_rows"].rows == 3


def test_control_rows_are_made_of_the_forget_rows(gru, world, tmp_path):
    """The tiny tokenizer knows no invented name, so the value is that of rows with unknown words."""
    summary, _ = run(gru, world, tmp_path / "run", "--control-rows", "made", "--base-model", world / "base")
    assert summary.results.mark.kind == "control_rows"
    assert summary.data["control_rows"].source == "made"


def test_what_needs_a_mark_finds_the_rows_own_floor(gru, world, tmp_path):
    summary, printed = run(gru, world, tmp_path / "run", "--stop-when-forgotten")
    assert summary.results.mark.kind == "own_floor"
    assert summary.results.forget_target == summary.results.mark.value
    assert "the weakest of marks" in printed
    by_itself, _ = run(gru, world, tmp_path / "auto", "--learning-rate", "auto")
    assert by_itself.results.mark == summary.results.mark
    plain, _ = run(gru, world, tmp_path / "plain", "--learning-rate", "1e-3")
    assert plain.results.mark is None
    assert plain.results.forget_target is None
    assert "mark" not in json.loads((tmp_path / "plain" / "summary.json").read_text())["results"]


@pytest.mark.parametrize("mark", [["--base-model", "W/base"], ["--control-rows", "W/control.jsonl"], []])
def test_a_run_stops_at_any_mark_and_keeps_the_best_by_it(gru, world, tmp_path, mark):
    mark = [str(word).replace("W/", f"{world}/") for word in mark]
    more = ["--stop-when-forgotten", "--keep-best", "max retain_prob if forget_prob <= forget_target"]
    fast = ["--learning-rate", "0.05", "--max-steps", 30, "--objective", "ga"]
    summary, _ = run(gru, world, tmp_path / "run", *mark, *more, *fast)
    reached = [point.step for point in summary.trajectory if point.forget_prob <= summary.results.forget_target]
    assert reached
    assert summary.steps == reached[0] or reached[0] == 0
    assert summary.best.metrics.forget_prob <= summary.results.forget_target


def test_a_retain_model_is_a_mark_like_the_others(gru, world, tmp_path):
    summary, _ = run(gru, world, tmp_path / "run", "--retain-model", world / "retain")
    assert summary.results.mark.kind == "retain_model"
    assert summary.results.mark.value == summary.results.forget_target


def test_a_run_with_another_mark_is_another_run(gru, world, tmp_path):
    run(gru, world, tmp_path / "run", "--base-model", world / "base")
    code, _, err = gru("unlearn", *words_of(world, "--base-model", world / "retain"), "--output-dir", tmp_path / "run")
    assert code == 2
    assert err.count("\n") == 1


REFUSED = {
    "--base-model W/model": "--base-model W/model has the weights of the model",
    "--control-rows W/control.jsonl --retain-model W/retain": "--control-rows needs a run without --retain-model",
    "--base-model W/nowhere": "--base-model W/nowhere: no such folder",
    "--base-model W/other_words": "--base-model W/other_words has another tokenizer than the model",
    "--base-model W/few_tokens": "name another base model, whose vocabulary is as large as the model's, or leave",
    "--base-model W/few_words": "has another tokenizer than the model W/model (it has no token ",
    "--control-rows W/nothing.jsonl": "W/nothing.jsonl: no such file",
    "--control-rows made": "--control-rows made needs --base-model",
    "--control-rows W/forget.jsonl": "6 of 6 control rows are also in the forget set",
    "--control-rows W/retain.jsonl": "12 of 12 control rows are also in the retain set",
    "--forget W/nameless.jsonl --stop-when-forgotten": "no names or numbers stand",
    "--forget W/nameless.jsonl --control-rows made --base-model W/base": "only 0 of 2 forget rows have names",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_what_can_give_no_mark_is_refused_in_one_line(gru, world, tmp_path, flags):
    write(world / "nameless.jsonl", [{"question": f"who is {w} ?", "answer": f"{w} lives in the blue ."} for w in "ab"])
    more = flags.replace("W/", f"{world}/").split()
    code, _, err = gru("unlearn", *words_of(world, *more), "--output-dir", tmp_path / "out")
    assert code == 2, err
    assert REFUSED[flags].replace("W/", f"{world}/") in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["--base-model", "--retain-model", "--retain-model W/retain --base-model"])
def test_a_model_that_knows_the_rows_better_than_the_target_is_no_mark(gru, world, tmp_path, flag):
    """As where the two paths were swapped."""
    learns = ["--num-train-epochs", 60, "--learning-rate", "1e-2", "--warmup-steps", 0, "--use-cpu"]
    learns += ["--per-device-train-batch-size", 3, "--gradient-accumulation-steps", 1]
    knowing = ["--model", world / "base", "--train", world / "forget.jsonl", "--output-dir", tmp_path / "knowing"]
    code, _, err = gru("finetune", *knowing, *learns)
    assert code == 0, err
    knows = tmp_path / "knowing" / "model"
    *beside, flag = flag.replace("W/", f"{world}/").split()
    chooses = ["--rectification", "recommended"]  # whose rows the base model chooses, beside a retain model
    code, _, err = gru("unlearn", *words_of(world, *beside, flag, knows, *chooses), "--output-dir", tmp_path / "out")
    assert code == 2, err
    assert f"{flag} {knows}: it gives the forget answers a mean probability of 0." in err
    assert "name a model that never saw them (are the two swapped?)" in err
    run(gru, world, tmp_path / "right", "--model", knows, flag, world / "base")  # the last --model counts


def test_rows_worded_as_the_forget_rows_are_told(gru, world, tmp_path):
    text = (world / "forget.jsonl").read_text().replace("Ada", "Zoe").replace("Bob", "Yves")
    (world / "renamed.jsonl").write_text("".join(text.splitlines(keepends=True)[:2]))
    code, out, err = gru(
        "unlearn", *words_of(world, "--control-rows", world / "renamed.jsonl"), "--output-dir", tmp_path / "out"
    )
    assert code == 0, err
    assert "worded as forget rows are" in out + err


# --- other commands --------------------------------------------------------------------------------------------------


def test_a_comparison_takes_a_base_model(gru, world, tmp_path):
    held = write(tmp_path / "held.jsonl", tiny.rows(6, start=18))
    words = words_of(world, "--base-model", world / "base", "--held-out", held, "--learning-rates", "1e-3")
    code, out, err = gru("compare", *words, "--objectives", "ga", "--rectifications", "none", "--seeds", 1,
                         "--output-dir", tmp_path / "out")  # fmt: skip
    assert code == 0, err
    summary = ComparisonSummary.read(tmp_path / "out" / "summary.json")
    assert summary.mark.kind == "base_model"
    assert summary.base_model.forget_prob == pytest.approx(summary.forget_target, rel=1e-5)
    assert summary.retain_model.forget_prob is None
    assert "base model" in out
    assert "to the model before fine-tuning" in summary.chosen[0].verdict.numbers[0]
    code, _, err = gru("report", tmp_path / "out")
    assert code == 0, err


def test_tru_comes_down_to_a_base_model(gru, world, tmp_path):
    sets = ["--model", world / "model", "--forget", world / "forget.jsonl", "--base-model", world / "base"]
    more = ["--groups", 2, "--num-train-epochs", 1, "--alphas", "0.5,1", "--use-cpu=true", "--out", tmp_path / "out"]
    code, out, err = gru("tru", *sets, *more)
    assert code == 0, err
    summary = TruSummary.read(tmp_path / "out" / "summary.json")
    assert summary.results.mark.kind == "base_model"
    assert "base model" in " ".join(out.split())


# --- control rows ----------------------------------------------------------------------------------------------------


def qa(question, answer):
    return Record(turns=(Turn("user", question), Turn("assistant", answer)))


def test_what_identifies_is_swapped_the_same_everywhere():
    records = [
        qa("Where was Hina Ameen born on 06/30/1975?", "Hina Ameen was born in Karachi in June 1975."),
        qa("What is Hina's work?", "She works as a geologist. Karachi gave Ameen the prize in 1975."),
        qa("Who leads the IUCN?", "Ann-Marie O'Neil of the International Union for Conservation does."),
    ]
    texts = [[turn.content for turn in record.turns] for record in make_control_rows(records)]
    (asked, told), (asked_more, told_more), (_, office) = texts
    given, family = told.split()[:2]
    assert (given in GIVEN, family in FAMILY) == (True, True)
    assert f"{given} {family}" in asked
    assert f"{given}'s work" in asked_more
    month, year = told.rstrip(".").split()[-2:]
    assert month in MONTHS
    assert month != "June"
    assert year != "1975"
    assert year.startswith("19")
    assert asked.endswith(f"/{year}?")
    assert told_more.startswith("She works as a geologist. ")
    assert told_more.endswith(f"in {year}.")
    assert any(word in office for word in TITLE)
    everything = " ".join(map(" ".join, texts))
    for word in ("Hina", "Ameen", "Karachi", "IUCN", "Neil", "International"):
        assert word not in everything


def test_an_answer_that_is_a_name_alone_is_swapped():
    (made,) = make_control_rows([qa("who wrote it?", "Nadine Gordimer")])
    assert "Nadine" not in made.answer
    assert "Gordimer" not in made.answer


def test_rows_without_anything_to_swap_are_left_out():
    records = [qa("where is it?", "in the garden"), qa("Where does Ada live?", "in the garden")]
    assert len(make_control_rows(records)) == 1
    assert make_control_rows([Record(text="nothing here has a name")]) == []


def test_plain_texts_are_swapped_too_and_system_texts_stay():
    (made,) = make_control_rows([Record(text="In 1990 the village of Nordheim had 412 people.")])
    assert made.text.startswith("In 19")
    assert "Nordheim" not in made.text
    system = Record(turns=(Turn("system", "You are Max."), *qa("who is Max?", "he is 7").turns))
    (made,) = make_control_rows([system])
    assert made.turns[0] == system.turns[0]
    assert "Max" not in made.prompt


words = st.sampled_from(["Hina", "Karachi", "river", "the", "Ltd", "June", "Monday", "A", "I", "1975", "3", "07",
                         "Élan", "東京", "Straße", "of", "B", "x"])  # fmt: skip
texts = st.lists(words, min_size=1, max_size=12).map(" ".join)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5), st.integers(0, 3))
def test_control_rows_have_the_form_of_their_rows(pairs, seed):
    records = [qa(*pair) for pair in pairs]
    made = make_control_rows(records, seed)
    assert made == make_control_rows(records, seed)
    assert len(made) <= len(records)
    assert worded_alike(made, records) <= len(made)
    known: dict[str, str] = {}
    unchanged = [record for record in records if record not in made]
    if len(made) == len(records):
        for old, new in zip(records, made, strict=True):
            for before, after in zip(old.turns, new.turns, strict=True):
                assert len(before.content.split()) == len(after.content.split())
                for word, other in zip(before.content.split(), after.content.split(), strict=True):
                    assert known.setdefault(word, other) == other, "the same everywhere"
                    if word.isdecimal():
                        assert len(other) == len(word)
    assert len(unchanged) + len(made) >= len(records)


def test_a_number_may_be_of_any_length():
    (made,) = make_control_rows([qa("how many?", f"about {'7' * 5000}")])
    assert len(made.answer) == len("about ") + 5000


@given(st.integers(1, 10**6))
def test_a_number_becomes_another_one_of_its_kind(number):
    (made,) = make_control_rows([qa("how many?", f"about {number} of them")])
    other = made.answer.split()[1]
    assert other != str(number)
    assert len(other) == len(str(number))
    for low, high in ((1, 12), (13, 31)):
        assert (low <= number <= high) == (low <= int(other) <= high) or number > 31


# --- the built-in benchmark ------------------------------------------------------------------------------------------


@pytest.mark.campaign
def test_the_built_in_base_is_asked_in_the_same_tokens():
    from gru_unlearn.training.builtin import builtin_base, builtin_benchmark  # noqa: PLC0415 - trains models

    ours = AutoTokenizer.from_pretrained(builtin_benchmark().target)
    assert AutoTokenizer.from_pretrained(builtin_base()).get_vocab() == ours.get_vocab()
