"""What a job's numbers come to, as it stands in every summary: is it forgotten, is the rest kept, in a sentence."""

from typing import Literal

from gru_unlearn.results.file_model import FileModel

Answer = Literal["yes", "partly", "no", "unknown"]


class Said(FileModel):
    """What a model answered to a set's questions, and how it continued plain texts, in numbers alone."""

    asked: int
    word_for_word: int
    """answers that are the true one"""
    broken: int | None = None
    """answers that are loops, empty, or one word for many; None where the texts are not at hand"""
    continued: int | None = None
    """how many of those asked are plain texts, where there are any"""


class Verdict(FileModel):
    """The one verdict, by the one rule (:mod:`gru_unlearn.reporting.judge`)."""

    forgotten: Answer
    kept: Answer
    stays_gone: Answer
    """by attacks; unknown where none was tried"""
    sentence: str
    """for everybody; the numbers and what follows from it come after it"""
    numbers: list[str]
    may_state: list[str]
    may_not_state: list[str]
    remarks: list[str]
    """what has a word of its own, of those in :mod:`gru_unlearn.reporting.remarks`"""
