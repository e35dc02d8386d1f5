"""From what people have (rows, records, tokenized examples) to examples, as a configuration says."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from gru_unlearn.data import Encoder, Example, Record, Row, attach_alternatives, to_record
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import IGNORE_INDEX
from gru_unlearn.training.config import UnlearningConfig

Rows = Sequence[Record | Row | Example]


def to_examples(rows: Rows, name: str, encoder: Encoder, alternatives: UnlearningConfig | None = None) -> list[Example]:
    """Tokenize rows or records; examples stay as they are, copied.

    Args:
        rows: all of one kind.
        name: of the set (forget, retain, ...), for messages.
        encoder: of the model's tokenizer.
        alternatives: give each example its other answer too, as these settings say.

    Raises:
        UserError: a row that is of no known kind, is cut, or has nothing to predict.
    """
    items: list[Any] = list(rows)
    if items and isinstance(items[0], Mapping) and "input_ids" in items[0]:
        _require_labels(items, name)
        return [cast(Example, dict(row)) for row in items]
    records = []
    for number, row in enumerate(items, start=1):
        records.append(row if isinstance(row, Record) else to_record(dict(row), f"{name}, row {number}"))
    examples = encoder.encode_all(records, name)
    if alternatives is not None:
        attach_alternatives(
            examples, records, encoder, alternatives.alternative_field, alternatives.fallback_alternatives
        )
    return examples


def _require_labels(examples: Sequence[Example], name: str) -> None:
    """A mean over no token is not a number."""
    for number, example in enumerate(examples, start=1):
        if all(label == IGNORE_INDEX for label in example["labels"][1:]):
            raise UserError(f"{name}, row {number}: no label after the first token, so nothing to predict")
