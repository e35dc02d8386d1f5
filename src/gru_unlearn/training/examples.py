"""From what people have (rows, records, tokenized examples) to examples, as a configuration says."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from gru_unlearn.data import Encoder, Example, Record, Row, attach_alternatives, load_records, to_record
from gru_unlearn.errors import UserError, kind_in_words
from gru_unlearn.objectives import IGNORE_INDEX
from gru_unlearn.training.config import UnlearningConfig

Rows = Sequence[Record | Row | Example] | str | Path
"""Rows themselves, or where they are: a file, a folder, a hub data set (see :mod:`gru_unlearn.data.sources`)."""


def to_examples(rows: Rows, name: str, encoder: Encoder, alternatives: UnlearningConfig | None = None) -> list[Example]:
    """Tokenize rows or records; examples stay as they are, copied.

    Args:
        rows: all of one kind; or where they are.
        name: of the set (forget, retain, ...), for messages.
        encoder: of the model's tokenizer.
        alternatives: give each example its other answer too, as these settings say.

    Raises:
        UserError: no rows there, a row that is of no known kind, is cut, or has nothing to predict.
    """
    items = _listed(rows, name)
    if items and isinstance(items[0], Mapping) and "input_ids" in items[0]:
        _require_labels(items, name)
        return [cast(Example, dict(row)) for row in items]
    records = [_record(row, f"{name}, row {number}") for number, row in enumerate(items, start=1)]
    examples = encoder.encode_all(records, name)
    if alternatives is not None:
        attach_alternatives(
            examples, records, encoder, alternatives.alternative_field, alternatives.fallback_alternatives
        )
    return examples


def _listed(rows: Rows, name: str) -> list[Any]:
    if isinstance(rows, str | Path):
        try:
            return list(load_records(str(rows)))
        except UserError as error:
            raise UserError(f"the {name} rows: {error}") from None
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise UserError(
            f"the {name} rows must be a list or data set of rows, or say where they are, got {kind_in_words(rows)}"
        )
    return list(rows)


def _record(row: object, where: str) -> Record:
    if isinstance(row, Record):
        return row
    if not isinstance(row, Mapping):
        raise UserError(
            f"{where}: a row is a dictionary, such as question and answer, or a Record; got {kind_in_words(row)}"
        )
    return to_record(dict(row), where)


def _require_labels(examples: Sequence[Example], name: str) -> None:
    """A mean over no token is not a number."""
    for number, example in enumerate(examples, start=1):
        if all(label == IGNORE_INDEX for label in example["labels"][1:]):
            raise UserError(f"{name}, row {number}: no label after the first token, so nothing to predict")
