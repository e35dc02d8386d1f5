"""Whether a model has room for rows: a position for each of their tokens, and an embedding. Beyond its tables it would
fail in the middle of the work."""

from collections.abc import Mapping, Sequence
from typing import Any

from gru_unlearn.common.modules import input_embeddings, positions
from gru_unlearn.data.encoding import Example
from gru_unlearn.errors import UserError

RowIds = Mapping[str, Sequence[Sequence[int]]]
"""Name of a set → the token ids of its rows."""


def require_room(model: Any, ids: RowIds, tokenizer: Any, label: str = "model") -> None:
    """Ask a model, which may be on the meta device, whether it can read all rows.

    Args:
        model: of transformers.
        ids: see :data:`RowIds`.
        tokenizer: that made them.
        label: what the model is called in messages.

    Raises:
        UserError: a row is longer than its positions, or a token of the rows or of padding has no embedding.
    """
    _require_positions(model, ids, label)
    _require_embeddings(model, ids, tokenizer, label)


def ids_of(sets: Mapping[str, Sequence[Example]]) -> dict[str, list[list[int]]]:
    """The token ids of sets of examples."""
    return {name: [example["input_ids"] for example in examples] for name, examples in sets.items()}


def _require_positions(model: Any, ids: RowIds, label: str) -> None:
    most = positions(model)
    if most is None:
        return
    for name, rows in ids.items():
        longest = max(map(len, rows), default=0)
        if longest > most:
            raise UserError(
                f"{name}: the longest row has {longest} tokens, and the {label} has positions for {most} only: "
                f"pass --max-length {most}, and --allow-truncation to take what that leaves of answers"
            )


def _require_embeddings(model: Any, ids: RowIds, tokenizer: Any, label: str) -> None:
    """A token may lack one because the tokenizer grew and the model did not, or is another model's."""
    known, mend = len(input_embeddings(model)), "its tokenizer is another model's, or grew and the model did not"
    if label != "model":
        mend = f"name another {label}, whose vocabulary is as large as the model's, or leave it out"
    used = {"padding": tokenizer.pad_token_id}
    for name, rows in ids.items():
        used[name] = max(map(max, rows), default=0)
    for name, token in used.items():
        if token >= known:
            word = tokenizer.convert_ids_to_tokens(token)
            if name == "padding":
                mend += "; --pad-token names another padding"
            raise UserError(
                f"{name}: token {token} ({word!r}) has no embedding in the {label}, which has {known}: {mend}"
            )
