"""Alternative answers to the questions of the forget set: given in its rows, or "I don't know" in many words."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gru_unlearn.data.encoding import Encoder, Example
from gru_unlearn.data.records import Record, Turn
from gru_unlearn.errors import UserError, kind_in_words

DEFAULT_FIELD = "alternate"
"""Where other answers stand, unless a setting names another field."""


def attach_alternatives(
    examples: Sequence[Example], records: Sequence[Record], encoder: Encoder, field: str, otherwise: Sequence[str] = ()
) -> None:
    """Give each example an ``alternative``: the same conversation with another last answer, encoded.

    Args:
        examples, records: the same rows, encoded and not.
        encoder: that made the examples.
        field: the rows' field with the alternative answer (a list: its first entry).
        otherwise: answers for rows without one, in turn.

    Raises:
        UserError: rows that are no conversations, or have no alternative answer when there is no other.
    """
    if any(not record.turns for record in records):
        raise UserError("forget: plain texts have no question, so no alternative answer: use another objective")
    answers = [_alternative(record, field) for record in records]
    missing = [number for number, answer in enumerate(answers, start=1) if not answer]
    misnamed = len(missing) == len(records) and field != DEFAULT_FIELD
    if missing and (misnamed or not otherwise):
        raise UserError(
            f"forget, row {missing[0]}: no field {field!r} with an alternative answer "
            f"({len(missing)} of {len(records)} rows lack one): add it, or name another field with --alternative-field"
        )
    changed = []
    for number, (record, answer) in enumerate(zip(records, answers, strict=True)):
        other = answer or otherwise[number % len(otherwise)]
        changed.append(replace(record, turns=(*record.turns[:-1], Turn("assistant", other))))
    for example, alternative in zip(examples, encoder.encode_all(changed, "forget (alternatives)"), strict=True):
        example["alternative"] = alternative


def with_alternatives(sets: Mapping[str, Sequence[Example]]) -> dict[str, list[Example]]:
    """The sets, and behind each the alternatives of its examples as a set of its own, where they have any."""
    together: dict[str, list[Example]] = {}
    for name, examples in sets.items():
        together[name] = list(examples)
        others = [example["alternative"] for example in examples if "alternative" in example]
        if others:
            together[f"{name} (alternatives)"] = others
    return together


def _alternative(record: Record, field: str) -> str:
    """What stands in the field; empty if the row has none.

    Raises:
        UserError: what stands there is no answer.
    """
    value = record.row.get(field)
    if isinstance(value, list) and value:
        value = value[0]
    if value is None:
        return ""
    if not isinstance(value, str) or not value.strip():
        got = "no text" if isinstance(value, str) else kind_in_words(value)
        raise UserError(f"{record.where}: {field} must be another answer, and holds {got}")
    return value.strip()
