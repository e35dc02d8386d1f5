"""Texts as token ids, many at once, cut where asked."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, chain, pairwise

from transformers import PreTrainedTokenizerBase

from gru_unlearn.data.rendering import RowRefusal


class TextTokens:
    """A tokenizer that adds nothing to a text, and says what it would have put in front."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def ids(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """Text → its tokens alone."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return {}
        return dict(zip(distinct, self.tokenizer(distinct, add_special_tokens=False).input_ids, strict=True))

    @cached_property
    def opening(self) -> list[int]:
        """What the tokenizer puts before every text: a beginning-of-sequence token, or nothing."""
        bare = self.ids(["a"])["a"]
        whole = list(self.tokenizer("a").input_ids)
        for start in range(len(whole) - len(bare) + 1):
            if bare and whole[start : start + len(bare)] == bare:
                return whole[:start]
        return []

    def opened(self, ids: Sequence[int]) -> list[int]:
        """The tokens with the opening before them, unless they begin with it."""
        if list(ids[: len(self.opening)]) == self.opening:
            return list(ids)
        return [*self.opening, *ids]

    def of_beginnings(self, texts: Iterable[Sequence[str]]) -> dict[str, list[int]]:
        """For :meth:`cut`: the tokens of all that texts in pieces begin with, up to the end of each piece."""
        return self.ids(chain.from_iterable(accumulate(pieces) for pieces in texts))

    def cut(self, pieces: Sequence[str], known: Mapping[str, list[int]]) -> list[list[int]]:
        """The tokens of each piece of a text: joined, they are those of the whole text.

        Where a token would reach over the end of a piece, each piece is tokenized by itself: so does a model that goes
        on from the piece before.

        Args:
            pieces: of a text.
            known: see :meth:`of_beginnings`.

        Raises:
            RowRefusal: the tokens of the pieces read otherwise than those of the text.
        """
        tokens: list[list[int]] = [[]]
        tokens += [known[beginning] for beginning in accumulate(pieces)]
        if all(longer[: len(shorter)] == shorter for shorter, longer in pairwise(tokens)):
            return [longer[len(shorter) :] for shorter, longer in pairwise(tokens)]

        alone = self.ids(pieces)
        apart = [alone[piece] for piece in pieces]
        if self.text(list(chain.from_iterable(apart))) != self.text(tokens[-1]):
            raise RowRefusal("an answer begins or ends inside a token, and this tokenizer cannot part it")
        return apart

    def text(self, ids: Sequence[int]) -> str:
        """What the tokens say, special ones too."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def say(self, ids: Sequence[int], text: str) -> bool:
        """Whether these tokens, of a piece of text, say that text: as the tokenizer itself would, blanks aside."""
        said = _without_blanks(self.text(ids))
        if said == _without_blanks(text):
            return True
        return said == _without_blanks(self.text(self.ids([text])[text]))  # unknown words, normalized letters


def _without_blanks(text: str) -> str:
    return "".join(text.split())
