"""What a mark is called in sentences, and how sure it is."""

from gru_unlearn.results.mark import Mark, MarkKind

STANDS_FOR: dict[MarkKind, str] = {
    "retain_model": "to a model that never saw {}",
    "base_model": "to the model before fine-tuning",
    "control_rows": "for rows of the same form about what nobody knows",
    "own_floor": "for the same rows with invented names and numbers",
}
"""Kind → behind its value, with the word for the rows."""

HOW_SURE: dict[MarkKind, str] = {
    "retain_model": "",
    "base_model": "a lower bound where it never saw rows of this form",
    "control_rows": "an estimate: other rows, though of the same form",
    "own_floor": "the weakest of marks, and mostly too high: the model itself fills in what it knows",
}

BESIDE: dict[MarkKind, str] = {
    "retain_model": "a retain model's",
    "base_model": "that of the model before fine-tuning",
    "control_rows": "that of control rows",
    "own_floor": "that of the same rows with invented names",
}
"""Kind → what the probability was compared with."""

IN_PICTURES: dict[MarkKind, str] = {
    "retain_model": "never saw them",
    "base_model": "before fine-tuning",
    "control_rows": "unknown rows",
    "own_floor": "invented names",
}
"""Kind → beside its bar."""


def stands_for(mark: Mark, them: str = "them") -> str:
    """``0.102 to the model before fine-tuning``, without the number; ``them``: the rows."""
    return STANDS_FOR[mark.kind].format(them)


def how_sure(mark: Mark) -> str:
    """In a few words; empty of a retain model."""
    if mark.kind == "control_rows" and mark.scored_by == "model":
        return "an estimate, and too high if the rows were made of the forget rows: the model itself scored them"
    return HOW_SURE[mark.kind]


def who_says(mark: Mark) -> str:
    """The same as one clause."""
    told = f"so much it is {stands_for(mark)}"
    sure = how_sure(mark)
    return f"{told} ({sure})" if sure else told
