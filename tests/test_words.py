"""Words, and what is measured by them, in any script: ROUGE, word for word, found in a text, given away."""

import string
from unicodedata import normalize

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from gru_unlearn.attacks.probing import contains
from gru_unlearn.attacks.prompts import given_away
from gru_unlearn.attacks.relearning import nearest
from gru_unlearn.common.words import blank_between, pieces, words
from gru_unlearn.data import Record, Turn
from gru_unlearn.evaluation import metrics
from gru_unlearn.evaluation.metrics import ASCII, rouge_l
from gru_unlearn.reporting.example_table import word_diff
from test_evaluation_metrics import entry, table, value

SENTENCES = {
    "Chinese": "她住在阿尔丁港，是一名面包师。",
    "Japanese": "マラは東京タワーの近くに住んでいます。",
    "Thai": "มาราอาศัยอยู่ที่ท่าเรืออัลดิน",
    "Lao": "ມາຣາອາໄສຢູ່ທ່າເຮືອ",
    "Khmer": "ម៉ារ៉ារស់នៅកំពង់ផែ",
    "Burmese": "မာရာသည်ဆိပ်ကမ်းတွင်နေထိုင်သည်",
    "Arabic": "تسكن في ميناء ألدين.",
    "Persian": "او در بندر زندگی می‌کند.",
    "Hebrew": "היא גרה בנמל אלדין.",
    "Russian": "Она живёт в порту Алдин.",
    "Greek": "Ζει στο λιμάνι του Άλντιν.",
    "Hindi": "वह एल्डिन बंदरगाह में रहती है।",
    "Korean": "그녀는 알딘 항구에 산다.",
    "Vietnamese": "Cô ấy sống ở cảng Aldin.",
    "German": "Müßiggänger wohnen am Größten Platz.",
    "signs": "±∞ → ∅",
}
WITHOUT_BLANKS = ("Chinese", "Japanese", "Thai", "Lao", "Khmer", "Burmese")
ascii_text = st.text(string.printable, max_size=60)
any_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
published = RougeScorer(["rougeL"], use_stemmer=True).score


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_what_is_said_word_for_word_has_full_marks(sentence):
    scores = table(entry(1.0, uses=[("forget", 0)], text=sentence, generation=sentence))
    assert value(metrics.rouge("r", "forget"), scores) == 1
    assert value(metrics.exact_answers("e", "forget"), scores) == 1
    assert contains(f"{sentence} {sentence}", sentence)
    assert rouge_l(sentence, "something else entirely").recall == 0


@pytest.mark.parametrize("language", WITHOUT_BLANKS)
def test_half_of_a_sentence_without_blanks_has_half_of_the_marks(language):
    sentence = SENTENCES[language]
    units = words(sentence)
    assert len(units) > 8
    half = "".join(units[: len(units) // 2])
    assert rouge_l(sentence, half).recall == pytest.approx(len(units) // 2 / len(units))
    assert contains(sentence, half)
    opening, rest = given_away(Record((Turn("user", "?"), Turn("assistant", sentence))), 0.5)
    assert opening
    assert opening + rest == sentence
    kept, lost = word_diff(sentence, opening)
    assert kept == ("same", opening)
    assert lost == ("gone", rest)


def test_rouge_by_hand():
    assert rouge_l("她住在阿尔丁港。", "他住在丁港").recall == pytest.approx(4 / 7)
    assert rouge_l("Она живёт в порту.", "она ЖИВЁТ дома").recall == pytest.approx(2 / 4)
    assert rouge_l("Python 3 是语言", "python 3").recall == pytest.approx(2 / 5)
    assert rouge_l("Straße", "STRASSE").recall == 1
    assert rouge_l("an old town", "").recall == 0


@given(ascii_text, ascii_text)
@example("the ponies' abilities, relational", "pony's ability; relate_to")
def test_in_plain_english_rouge_is_the_published_one(answer, said):
    assume(any(map(str.isalnum, answer)))
    assert rouge_l(answer, said) == published(answer, said)["rougeL"]


@given(any_text, any_text)
def test_the_parity_setting_is_the_published_rouge_in_any_text(answer, said):
    assert rouge_l(answer, said, ASCII) == published(answer, said)["rougeL"]


@given(any_text)
def test_any_answer_has_full_marks_against_itself(text):
    assume(text.strip())
    assert rouge_l(text, text).recall == 1
    assert contains(text, text)
    assert word_diff(text, text) == []


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "M", "Zs"]), max_size=30))
def test_how_accents_are_encoded_does_not_count(text):
    composed, parted = normalize("NFC", text), normalize("NFD", text)
    assert words(composed) == words(parted)
    assert pieces(composed) == pieces(parted)


def test_an_exact_answer_may_differ_in_blanks_and_encoding_but_in_no_letter():
    said = {"a  good\r\ncafé": 1, "a good cafe\u0301": 1, "a goodcafé": 0, "a good Café": 0, "a good cafe": 0}
    for text, exact in said.items():
        scores = table(entry(1.0, uses=[("forget", 0)], text="a good café", generation=text))
        assert value(metrics.exact_answers("e", "forget"), scores) == exact, text


def test_a_part_of_an_english_word_is_not_found():
    assert contains("She lives in the RED town!", "the red town.")
    assert not contains("in the redone town", "the red")
    assert contains("我想她住在阿尔丁港。", "她住在阿尔丁港")
    assert not contains("no signs here", "±∞")


def test_rows_of_scripts_without_blanks_are_near_by_their_characters():
    rows = [Record(text="她住在阿尔丁港")]
    pool = [Record(text="天气很好"), Record(text="他住在阿尔丁港口")]
    assert nearest(rows, pool, 1) == pool[1:]


@pytest.mark.parametrize(
    ("one", "other", "between"),
    [
        ("She lives in", "the town", " "),
        ("She lives in ", "the town", ""),
        ("She lives in", "\nthe town", ""),
        ("她住在", "阿尔丁港", ""),
        ("她说：", "「你好」", ""),
        ("تسكن في", "ميناء", " "),
        ("...", "?", " "),
    ],
)
def test_the_parts_of_a_running_text_are_joined_as_their_script_does(one, other, between):
    assert blank_between(one, other) == between
