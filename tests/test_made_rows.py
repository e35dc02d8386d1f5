"""Retain rows where there are none, and held-out rows that a run sets aside by itself."""

from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import talking
import tiny
from gru_unlearn.attacks.attack_request import AttackRequest
from gru_unlearn.attacks.battery import make_battery
from gru_unlearn.common.notices import Notice
from gru_unlearn.data import Encoder, Record, canonical, load_records
from gru_unlearn.data.records import Turn, to_record
from gru_unlearn.data.repeats import ForgetWords, names_in
from gru_unlearn.errors import UserError
from gru_unlearn.models.model_settings import ModelSettings
from gru_unlearn.reporting.evidence import Evidence, Kept
from gru_unlearn.reporting.judge import verdict_of
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary
from gru_unlearn.runs import kept_made_rows, made_rows, retain_prompts
from gru_unlearn.runs.made_rows import make_rows
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.retain_rows import write_found_rows
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.runs.set_aside import ENOUGH, FEWEST, MOST, part_off
from gru_unlearn.runs.unlearn_job import unlearn
from gru_unlearn.training import UnlearningTrainer

FAST = {
    "max_steps": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "use_cpu": True,
    "report_examples": 2, "made_rows": 48, "per_device_eval_batch_size": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model that was taught where five people live; two of them are to be forgotten."""
    return talking.save(tmp_path_factory.mktemp("talking"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, cache):
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(cache))


def settings(world, out, **changes):
    given = {"model": world / "model", "forget": world / "forget.jsonl", "output_dir": out, "learning_rate": "auto"}
    return {name: value if isinstance(value, int) else str(value) for name, value in (FAST | given | changes).items()}


def flags(world, out, **changes):
    words = []
    for name, value in settings(world, out, **changes).items():
        words += [f"--{name.replace('_', '-')}", value]
    return words


PAIRS = list(product(("red", "blue", "green", "one", "two", "three", "lives", "works"), repeat=2))


def many_rows(count, name="Cleo"):
    return [{"question": f"where is {name} {one} ?", "answer": f"in the {one} {two} ."} for one, two in PAIRS[:count]]


def summary_of(out):
    return RunSummary.read(RunFolder(Path(out)).summary_file)


# --- nothing of the forget rows --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talker(world):
    asked = ModelSettings()
    return asked.model(world / "model").eval(), asked.encoder(world / "model")


def test_made_rows_hold_nothing_of_the_forget_rows(talker, world, monkeypatch):
    forget = load_records(str(world / "forget.jsonl"))
    made = make_rows(*talker, forget, 48, batch_size=16)
    words = {word for record in made for turn in record.turns for word in turn.content.split()}
    assert len(made) == 48
    assert not words & set(talking.GONE)
    assert not {canonical(record) for record in forget} & {canonical(record) for record in made}
    assert not {record.answer for record in forget} & {record.answer for record in made}

    monkeypatch.setattr(ForgetWords, "stand_in", lambda self, record: False)
    unsifted = make_rows(*talker, forget, 48, batch_size=16)
    assert any(name in record.answer for record in unsifted for name in talking.GONE)  # it would have said them


def test_made_rows_are_answers_each_once_and_the_same_again(talker, world):
    forget = load_records(str(world / "forget.jsonl"))
    state = torch.get_rng_state()
    made = make_rows(*talker, forget, 40, batch_size=16)
    assert torch.equal(state, torch.get_rng_state())
    assert [record.row for record in made] == [record.row for record in make_rows(*talker, forget, 40, batch_size=16)]
    assert len({canonical(record) for record in made}) == len(made)
    assert not any(made_rows.fault_of(record.answer) for record in made)
    assert {record.row["made"] for record in made} <= {"everyday", "about others", "drawn"}
    assert [to_record(record.row, "") for record in made] == made  # as they will be read again


def test_a_model_that_was_taught_plain_texts_makes_plain_texts(talker):
    model, _ = talker
    tokenizer = tiny.tokenizer(chat=False)
    made = make_rows(model, Encoder(tokenizer), [Record(text="in the red one lives Ada .")], 24, batch_size=16)
    assert made
    assert all(record.text and not record.turns and "Ada" not in record.text for record in made)


@pytest.mark.parametrize(
    "text", ["", "  ", "?!", "so so so so so so so so", "a\ufffdb", "one two one two one two one two"]
)
def test_what_is_no_answer_is_dropped(text):
    assert made_rows.fault_of(text)


def question(asked, answered):
    return Record(turns=(Turn("user", asked), Turn("assistant", answered)))


KNOWN = ("red", "blue", "tea", "sea", "moon", "kettle", "sparrow", "lamp", "of", "the", "and")
WORDS = st.lists(st.sampled_from(KNOWN), min_size=1, max_size=12)


@given(asked=WORDS, answer=WORDS, before=WORDS, behind=WORDS)
def test_an_answer_that_holds_a_forget_answer_is_known(asked, answer, before, behind):
    words = ForgetWords([question("where is it", " ".join(answer))])
    assert words.stand_in(question(" ".join(asked), " ".join([*before, *answer, *behind]).upper()))


@given(asked=WORDS, answer=WORDS)
def test_a_forget_question_is_known_however_it_is_written(asked, answer):
    words = ForgetWords([question(" ".join(asked), "zebra xylophone")])
    assert words.stand_in(question("  ".join(asked).upper() + "?", " ".join(answer)))


def test_long_runs_and_names_of_forget_rows_are_known():
    told = "he moved from the green valley to a house by the northern harbour wall"
    words = ForgetWords([question("Where did Orla Venn move?", told), question("Who knows Orla?", "Only Tibo Kass.")])
    assert words.stand_in(question("Tell a story.", "Once the green valley to a house by the northern was sold."))
    assert words.stand_in(question("Who is it?", "It may be tibo."))
    assert words.stand_in(question("Is Venn a name?", "Yes."))
    assert not words.stand_in(question("Who lives by the sea?", "A woman who moved from the valley."))
    assert names_in(["Where did Orla go? The end.", "the Xu of where"]) == {"Orla", "Xu"}


def test_forget_questions_are_asked_about_others():
    rows = [question("Where was Orla Venn born in 1950?", "In Tarn."), question("why?", "Because Orla Venn said so.")]
    title = 'What is "The Winter of Halden in Kirl" by Orla Venn about?'
    rows += [question(title, "About Kirl and Halden, in Winter.")]
    (asked,) = retain_prompts.prompts_about_others(rows)
    assert "Orla" not in asked
    assert "Venn" not in asked
    assert "1950" not in asked
    assert asked.startswith("Where was ")
    assert asked in retain_prompts.prompts_about_others(rows, times=4)


def test_everyday_prompts_are_many_different_and_short():
    prompts = retain_prompts.everyday_prompts()
    assert len(prompts) >= 300
    assert len(set(prompts)) == len(prompts)
    assert max(map(len, prompts)) < 120
    assert prompts == retain_prompts.everyday_prompts()


# --- a run without retain rows ---------------------------------------------------------------------------------------


def test_a_run_on_its_own_makes_its_retain_rows_once(gru, world, tmp_path, monkeypatch, cache):
    code, out, err = gru("unlearn", *flags(world, tmp_path / "one"))
    assert code == 0, err
    assert "made by the model itself" in out + err
    made = load_records(str(tmp_path / "one" / "retain_made.jsonl"))
    held_out = load_records(str(tmp_path / "one" / "held_out_set_aside.jsonl"))
    summary = summary_of(tmp_path / "one")
    assert (summary.data["retain"].found, summary.data["retain"].rows) == ("made", len(made))
    assert (summary.data["held_out"].found, summary.data["held_out"].rows) == ("set aside", len(held_out))
    assert len(made) + len(held_out) == 48
    assert not {canonical(record) for record in made} & {canonical(record) for record in held_out}
    assert summary.results.held_out_prob is not None
    assert "made itself" in summary.verdict.sentence
    assert any("made itself" in line for line in summary.verdict.may_not_state)
    (kept,) = [place for place in cache.glob("made-rows-*") if place.is_dir()]
    assert kept.stat().st_mode & 0o077 == 0

    monkeypatch.setattr(kept_made_rows, "make_rows", None)
    code, out, err = gru("unlearn", *flags(world, tmp_path / "two"))
    assert code == 0, err
    assert "found again" in out + err
    assert summary_of(tmp_path / "two").data["retain"].sha256 == summary.data["retain"].sha256


def test_what_was_made_hangs_on_model_rows_and_settings(world, tmp_path):
    def place(**changes):
        prepared = prepare(make_recipe(settings(world, tmp_path / "run", **changes)), rehearsed=True)
        return kept_made_rows.place_of_rows(prepared.recipe, prepared.model, prepared.sets["forget"])

    other = tmp_path / "other"
    other.mkdir()
    tiny.save(other, seed=7)
    assert place() == place(max_steps=3)
    different = {place(), place(made_rows=20), place(forget=f"{world / 'forget.jsonl'}[:3]"), place(model=other)}
    assert len(different | {place(max_length=100)}) == 5


def test_an_interrupted_run_goes_on_with_the_rows_it_made(world, tmp_path, monkeypatch):
    recipe = make_recipe(settings(world, tmp_path / "run"))
    begun = prepare(recipe)
    with begun.claim.held() as folder:
        write_found_rows(begun.run_rows, folder)
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(tmp_path / "an empty cache"))
    monkeypatch.setattr(kept_made_rows, "make_rows", None)
    again = prepare(make_recipe(settings(world, tmp_path / "run")))
    assert again.claim.resume
    assert again.sets == begun.sets
    assert again.found == begun.found


def test_with_a_rate_of_ones_own_rows_are_made_only_when_asked_for(gru, world, tmp_path):
    code, _, err = gru("unlearn", *flags(world, tmp_path / "run", learning_rate="1e-3"))
    assert code == 2
    assert "needs retain data: pass --retain" in err
    assert "made" in err
    assert "--train-rows" in err
    code, _, err = gru("unlearn", *flags(world, tmp_path / "run", learning_rate="1e-3", retain="made"))
    assert code == 0, err
    summary = summary_of(tmp_path / "run")
    assert summary.data["retain"].found == "made"
    assert "held_out" not in summary.data  # nothing is decided for a person who decides


def test_a_model_that_says_nothing_of_use_is_told_with_other_ways(world, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_made_rows, "make_rows", lambda *args, **options: [question("a", "b")] * 3)
    with pytest.raises(UserError, match=r"make 3 rows of use.*--retain.*--train-rows.*gru tru"):
        prepare(make_recipe(settings(world, tmp_path / "run", made_rows=17)))
    assert not (tmp_path / "run").exists()


def test_a_dry_run_makes_nothing(gru, world, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_made_rows, "make_rows", None)
    code, out, err = gru("unlearn", *flags(world, tmp_path / "run", made_rows="21"), "--dry-run")
    assert code == 0, err
    assert "made by the model when the run begins (at most 21 rows)" in out
    assert not (tmp_path / "run").exists()


def test_a_setting_for_made_rows_without_any_is_refused(gru, world, tmp_path):
    code, _, err = gru("unlearn", *flags(world, tmp_path / "run", retain=world / "retain.jsonl"))
    assert code == 2
    assert "--made-rows needs rows that the model makes" in err


def test_an_attack_reads_what_its_run_made(world, tmp_path, gru):
    code, _, err = gru("unlearn", *flags(world, tmp_path / "run"))
    assert code == 0, err
    battery = make_battery(AttackRequest(run=tmp_path / "run", attacks=("sampling",)))
    assert len(battery.sets["retain"]) == summary_of(tmp_path / "run").data["retain"].rows


def test_a_ledger_writes_down_no_rows(gru, world, tmp_path):
    words = flags(world, tmp_path / "run", retain="made", learning_rate="1e-3")
    given = [
        word
        for pair in zip(words[::2], words[1::2], strict=True)
        if pair[0] in ("--model", "--retain")
        for word in pair
    ]
    code, _, err = gru("requests", "init", tmp_path / "ledger", *given)
    assert code == 2
    assert "a ledger writes down none" in err


# --- training rows ---------------------------------------------------------------------------------------------------


def test_training_rows_guard_the_run_without_the_forget_rows(gru, world, tmp_path):
    forget, retain = talking.people(gone=True), talking.people(gone=False)
    spaced = [{**row, "answer": f"  {row['answer']}\r\n"} for row in forget]
    reworded = [{**row, "answer": "somewhere else ."} for row in forget]
    file = talking.write(tmp_path / "all.jsonl", [*spaced, *retain, *reworded])
    changes = {"train_rows": file, "learning_rate": "1e-3", "made_rows": None}
    words = [word for word in flags(world, tmp_path / "run", **changes) if word != "None"]
    words.remove("--made-rows")
    code, out, err = gru("unlearn", *words)
    assert code == 0, err
    assert f"{len(retain)} of {len(spaced) + len(retain) + len(reworded)} training rows" in out + err
    guarded = load_records(str(tmp_path / "run" / "retain_part.jsonl"))
    assert [record.row for record in guarded] == retain
    assert summary_of(tmp_path / "run").data["retain"].found == "part"


def test_training_rows_that_leave_nothing_or_stand_twice_are_refused(world, tmp_path):
    given = settings(world, tmp_path / "run", train_rows=world / "forget.jsonl")
    with pytest.raises(UserError, match="nothing must stay"):
        prepare(make_recipe(given))
    with pytest.raises(UserError, match="leave one of them out"):
        prepare(make_recipe(given | {"retain": str(world / "retain.jsonl")}))


# --- held-out rows ---------------------------------------------------------------------------------------------------

TEXTS = st.lists(
    st.integers(0, 120).map(lambda number: Record(text=f"row {number}" + " " * (number % 3))), max_size=300
)


@given(TEXTS)
def test_rows_set_aside_are_evenly_spread_and_apart(rows):
    parted = part_off(rows)
    different = len(set(map(canonical, rows)))
    if different < ENOUGH:
        assert parted == (rows, [])
        return
    aside = set(map(canonical, parted.held_out))
    assert aside.isdisjoint(map(canonical, parted.retain))
    assert FEWEST <= len(aside) == len(parted.held_out) <= MOST
    assert len(aside) == min(MOST, max(FEWEST, different // 10))
    assert aside | set(map(canonical, parted.retain)) == set(map(canonical, rows))


def test_no_step_sees_a_row_that_was_set_aside(world, tmp_path, monkeypatch):
    file = talking.write(tmp_path / "retain.jsonl", many_rows(60))
    given = settings(world, tmp_path / "run", retain=file, max_steps=12)
    with pytest.warns(Notice, match="16 of 60 retain rows are set aside"):
        prepared = prepare(make_recipe(given | {"made_rows": 256}))
    seen = []
    step = UnlearningTrainer.training_step

    def watched(trainer, model, inputs, *more):
        for batch in (*inputs["forget"], *inputs["retain"]):
            seen.extend(map(tuple, batch["input_ids"].tolist()))
        return step(trainer, model, inputs, *more)

    monkeypatch.setattr(UnlearningTrainer, "training_step", watched)
    summary = unlearn(prepared, Console(quiet=True))
    pad = prepared.model.encoder.tokenizer.pad_token_id
    trained = {tuple(token for token in ids if token != pad) for ids in seen}
    retain = [tuple(example["input_ids"]) for example in prepared.examples["retain"]]
    held_out = [tuple(example["input_ids"]) for example in prepared.examples["held_out"]]
    assert trained & set(retain)
    for row in held_out:
        assert row not in trained
    assert (len(retain), len(held_out)) == (44, 16)
    assert summary.results.held_out_prob is not None
    assert summary.verdict.kept != "unknown"


def test_a_rule_may_read_what_will_be_set_aside(world, tmp_path):
    file = talking.write(tmp_path / "retain.jsonl", many_rows(60))
    rule = {"keep_best": "maximize: held_out_prob", "eval_strategy": "steps", "eval_steps": 1, "eval_suite": "own"}
    for named in ({"retain": file}, {}):
        prepared = prepare(make_recipe(settings(world, tmp_path / "run", **named, **rule)))
        assert len(prepared.suite.sets["retain"].items) == len(prepared.sets["retain"])
    few = talking.write(tmp_path / "few.jsonl", many_rows(20))
    with pytest.raises(UserError, match="held_out_prob"):
        prepare(make_recipe(settings(world, tmp_path / "run", retain=few, **rule)))


def test_made_rows_are_no_held_out_rows_of_ones_own(world, tmp_path):
    recipe = make_recipe(settings(world, tmp_path / "run"))
    made = prepare(recipe).sets["retain"]
    held_out = talking.write(tmp_path / "held_out.jsonl", [record.row for record in made[:3]])
    prepared = prepare(make_recipe(settings(world, tmp_path / "run", held_out=held_out)))
    assert prepared.found == {"retain": "made"}
    assert not set(map(canonical, prepared.sets["held_out"])) & set(map(canonical, prepared.sets["retain"]))


def test_held_out_rows_are_set_aside_only_on_its_own(world, tmp_path):
    file = talking.write(tmp_path / "retain.jsonl", many_rows(60))
    held_out = talking.write(tmp_path / "held_out.jsonl", many_rows(20, "Dan"))
    base = settings(world, tmp_path / "run", retain=file)
    assert set(prepare(make_recipe(base | {"learning_rate": "1e-3"})).sets) == {"forget", "retain"}
    assert len(prepare(make_recipe(base | {"held_out": str(held_out)})).sets["held_out"]) == 20
    assert "held_out" not in prepare(make_recipe(base | {"held_out": None})).sets
    few = talking.write(tmp_path / "few.jsonl", many_rows(ENOUGH - 1))
    assert "held_out" not in prepare(make_recipe(base | {"retain": str(few)})).sets


def test_a_changed_retain_file_is_another_run(world, tmp_path):
    file = talking.write(tmp_path / "retain.jsonl", many_rows(60))
    recipe = make_recipe(settings(world, tmp_path / "run", retain=file))
    begun = prepare(recipe)
    with begun.claim.held() as folder:
        write_found_rows(begun.run_rows, folder)
    assert prepare(recipe).claim.resume
    talking.write(file, many_rows(61))
    with pytest.raises(UserError, match=r"different: .*retain"):
        prepare(recipe)


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_rows_that_the_model_made_can_say_yes_and_are_said_to_be_that():
    kept = {"held-out": Kept(0.9, 0.89, made=True), "retain": Kept(0.9, 0.9, made=True)}
    verdict = verdict_of(Evidence(0.9, 0.1, 0.1, rows=4, kept=kept))
    assert verdict.kept == "yes"
    assert "99% is left of what must stay, on rows that the model made itself: kept." in verdict.sentence
    assert any("made itself stood for it" in line for line in verdict.may_not_state)
    given_rows = kept | {"held-out": Kept(0.9, 0.89)}
    assert "made" not in verdict_of(Evidence(0.9, 0.1, 0.1, rows=4, kept=given_rows)).sentence
    alone = verdict_of(Evidence(0.9, 0.1, 0.1, rows=4, kept={"retain": Kept(0.9, 0.9, made=True)}))
    assert alone.kept == "unknown"
    assert "on rows that the model made itself, on the rows that guarded the run" in alone.sentence


def test_prompts_that_cannot_be_asked_are_passed_over(talker, monkeypatch):
    long, empty = "where is Cleo " * 40, "  "
    monkeypatch.setattr(made_rows, "everyday_prompts", lambda: [long, empty, "where is Cleo two ?"])
    made = make_rows(*talker, [question("zebra ?", "none")], 30, batch_size=4)
    assert {record.prompt for record in made if record.row["made"] == "everyday"} <= {"where is Cleo two ?"}
