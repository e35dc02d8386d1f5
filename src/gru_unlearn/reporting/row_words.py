"""What rows are called in a verdict's sentences, by what they are: questions, which are answered, or plain texts, which
are continued."""

from typing import NamedTuple

from gru_unlearn.results.verdict import Said


class RowWords(NamedTuple):
    """Words for rows of one kind."""

    asked: str
    """what a model was given to"""
    one_asked: str
    due: str
    """what it might give"""
    one: str
    said: str
    """what it gives"""
    gives: str
    give: str
    says: str
    """instead of *gives*, where what it was given is named"""
    looked_at: str
    """of rows that a model was given"""
    of_rows: str
    """what so many rows have a probability of"""
    of_forget_rows: str
    stated: str
    """what statements are about"""


QUESTIONS = RowWords(
    asked="questions",
    one_asked="question",
    due="answers",
    one="the answer",
    said="answers",
    gives="gives",
    give="give",
    says="answers",
    looked_at="asked for",
    of_rows="the answers to {} rows",
    of_forget_rows="the answers to the forget rows",
    stated="These questions, as they are worded,",
)
TEXTS = RowWords(
    asked="texts",
    one_asked="text",
    due="texts",
    one="the text",
    said="continuations",
    gives="continues",
    give="continue",
    says="continues",
    looked_at="continued from their beginning",
    of_rows="{} rows",
    of_forget_rows="the forget texts",
    stated="The beginnings of these texts",
)
BOTH = RowWords(
    asked="questions and texts",
    one_asked="row",
    due="answers and texts",
    one="the row",
    said="answers and continuations",
    gives="gives",
    give="give",
    says="answers or continues",
    looked_at="looked at one by one",
    of_rows="{} rows",
    of_forget_rows="the answers and texts of the forget rows",
    stated="These questions, as they are worded, and the beginnings of these texts",
)


def words_for(said: Said | None) -> RowWords:
    """By what a model was given; questions, where nobody knows."""
    if said is None or not said.continued:
        return QUESTIONS
    return TEXTS if said.continued == said.asked else BOTH
