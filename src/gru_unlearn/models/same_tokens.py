"""Whether one model reads tokens as another one does: only then can it be asked with the other's."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from gru_unlearn.common.options import flag_of
from gru_unlearn.data import Example
from gru_unlearn.errors import UserError
from gru_unlearn.models.loading import load_tokenizer, tokenizer_folder
from gru_unlearn.models.subject import Subject


def require_same_tokens(other: Subject, asking: Subject, sets: Mapping[str, Sequence[Example]]) -> None:
    """A model before fine-tuning is asked in the manner of the one after it, whose template and tags it may lack.

    A folder without a tokenizer is taken at its word. Special tokens are passed over: fine-tunings name unused ones.

    Args:
        other: is asked.
        asking: whose tokenizer cut the rows.
        sets: these rows.

    Raises:
        UserError: a token of theirs is another one to the other model.
    """
    if tokenizer_folder(other.folder, trust_remote_code=other.settings.trust_remote_code) is None:
        return
    ours = asking.encoder.tokenizer
    theirs = load_tokenizer(other.folder, trust_remote_code=other.settings.trust_remote_code)
    rows = chain.from_iterable(sets.values())
    used = set(chain.from_iterable(row["input_ids"] for row in rows))
    plain = sorted(used - {*ours.all_special_ids, *ours.added_tokens_decoder})
    for number, word, its_word in zip(plain, _words(ours, plain), _words(theirs, plain), strict=True):
        if word != its_word:
            differs = f"token {number} is {its_word!r}, not {word!r}"
            if its_word is None:
                differs = f"it has no token {number}, which is {word!r}"
            raise UserError(
                f"{flag_of(other.name)} {other.source} has another tokenizer than the {asking.label} {asking.source} "
                f"({differs}): name the model that was fine-tuned, or leave it out"
            )


def _words(tokenizer: Any, ids: list[int]) -> list[str | None]:
    """What each token is; None where there is none."""
    known = len(tokenizer)
    return [tokenizer.convert_ids_to_tokens(number) if number < known else None for number in ids]
