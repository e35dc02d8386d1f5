import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from gru_unlearn.data.people import FACTS, PEOPLE, make_people

SETS = make_people()
ROWS = [row for rows in SETS.values() for row in rows]
FACT_ROWS = [row for name in PEOPLE for row in SETS[name]]


def people(name):
    return {row["person"] for row in SETS[name]}


def test_sizes():
    assert {name: len(rows) for name, rows in SETS.items()} == {
        "forget": 40,
        "retain": 240,
        "held_out": 120,
        "general": 40,
    }


def test_rows_are_the_same_in_every_process():
    program = "import json; from gru_unlearn.data.people import make_people; print(json.dumps(make_people()))"
    fresh = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(fresh.stdout) == SETS


def test_another_seed_gives_other_people_and_the_same_general_facts():
    other = make_people(seed=1)
    assert [row["answer"] for row in other["forget"]] != [row["answer"] for row in SETS["forget"]]

    def known(rows):
        return {frozenset((row["question"], row["paraphrased_question"])) for row in rows["general"]}

    assert known(other) == known(SETS)


def test_no_person_is_in_two_sets_and_no_name_is_shared():
    everyone = [*people("forget"), *people("retain"), *people("held_out")]
    assert len(everyone) == len(set(everyone)) == 50
    first_names, last_names = zip(*(name.split() for name in everyone), strict=True)
    assert len(set(first_names)) == len(set(last_names)) == 50


def test_each_person_has_every_fact_once():
    told = sorted((row["person"], row["fact"]) for row in FACT_ROWS)
    assert told == sorted((person, fact) for name in PEOPLE for person in people(name) for fact in FACTS)


def test_questions_are_unique_even_beside_paraphrases():
    questions = [row[field] for row in ROWS for field in ("question", "paraphrased_question")]
    assert len(questions) == len(set(questions))


def test_questions_name_the_person_and_answers_do_not():
    for row in FACT_ROWS:
        assert row["person"] in row["question"]
        assert row["person"] in row["paraphrased_question"]
        assert not set(row["person"].split()) & set(row["answer"].split())


def test_wrong_answers_differ_from_the_truth_and_from_each_other():
    for row in ROWS:
        assert len({row["answer"], row["paraphrased_answer"], *row["perturbed_answer"]}) == 7


def reading(row, field):
    """The phrasing and the value that an answer is made of."""
    values, phrasings = FACTS[row["fact"]]
    (found,) = [(p, value) for p in phrasings for value in values if p.answer.format(value) == row[field]]
    return found


def test_answers_fit_their_questions():
    for row in FACT_ROWS:
        for field in ("", "paraphrased_"):
            phrasing, _ = reading(row, f"{field}answer")
            assert phrasing.question.format(row["person"]) == row[f"{field}question"]


def test_the_paraphrase_states_the_same_value_in_other_words():
    for row in FACT_ROWS:
        (told, value), (retold, same) = reading(row, "answer"), reading(row, "paraphrased_answer")
        assert told != retold
        assert value == same


def test_wrong_answers_keep_the_form_of_the_paraphrase():
    for row in FACT_ROWS:
        phrasing, _ = reading(row, "paraphrased_answer")
        assert set(row["perturbed_answer"]) <= {phrasing.answer.format(value) for value in FACTS[row["fact"]].values}


@pytest.mark.parametrize("name", ["retain", "held_out"])
def test_every_phrasing_is_told_in_each_large_set(name):
    """Else a paraphrase would be a form of words that the models have never seen."""
    told = {(row["fact"], reading(row, "answer")[0]) for row in SETS[name]}
    assert told == {(kind, phrasing) for kind, fact in FACTS.items() for phrasing in fact.phrasings}


@pytest.mark.parametrize("kind", FACTS)
def test_values_cannot_be_guessed(kind):
    assert len(FACTS[kind].values) == len(set(FACTS[kind].values)) >= 40
    (_, people_with_it), *_ = Counter(
        reading(row, "answer")[1] for row in FACT_ROWS if row["fact"] == kind
    ).most_common()
    assert people_with_it <= 5
