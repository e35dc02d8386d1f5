"""What a word is, in any script: texts are compared word by word, and not every script puts blanks between words."""

from unicodedata import normalize

import regex

_WITHOUT_BLANKS = (
    *("Han", "Hiragana", "Katakana", "Bopomofo", "Yi", "Tangut", "Nushu", "Balinese", "Javanese", "Ahom"),
    *("Thai", "Lao", "Khmer", "Myanmar", "Tai_Le", "New_Tai_Lue", "Tai_Tham", "Tai_Viet"),
)
"""Unicode's names of scripts that put no blanks between words (line breaking classes ID, SA, AK of its annex 14)."""

_ALONE = r"[[{}]&&[\p{{L}}\p{{N}}]]".format("".join(rf"\p{{scx={script}}}" for script in _WITHOUT_BLANKS))
"""A letter or digit that counts as a word by itself."""

_WORD = regex.compile(rf"(?V1){_ALONE}\p{{M}}*|[[\p{{L}}\p{{N}}]--{_ALONE}][[\p{{L}}\p{{N}}\p{{M}}]--{_ALONE}]*")
_PIECE = regex.compile(rf"(?V1){_ALONE}\p{{M}}*|[\S--{_ALONE}]+")
_LETTER = regex.compile(rf"(?V1)(?<alone>{_ALONE})|[\p{{L}}\p{{N}}]")
_LAST_LETTER = regex.compile(_LETTER.pattern, regex.REVERSE)
_INVISIBLE = regex.compile(r"(?V1)[\p{Cf}--\u200b]")
"""Joiners and marks of direction, which may stand within a word; a blank of no width may not."""


def words(text: str) -> list[str]:
    """Runs of letters and digits of any script, without case; one character each where a script writes no blanks.

    Signs fall away, and so does how a letter with its accents is encoded: canonically equivalent texts (Unicode, D145)
    have the same words.
    """
    return _WORD.findall(_INVISIBLE.sub("", without_case(text)))


def without_case(text: str) -> str:
    """Case folded and composed; canonically equivalent texts become the same."""
    return normalize("NFC", normalize("NFD", text).casefold())


def pieces(text: str) -> list[str]:
    """What stands between blanks, signs and case included; single characters where a script writes no blanks.

    Two texts with the same pieces are the same word for word: how many blanks there are, and how accents are encoded,
    tells nothing.
    """
    return _PIECE.findall(normalize("NFC", text))


def piece_spans(text: str) -> list[tuple[int, int]]:
    """Where each of a text's pieces begins and ends."""
    return [found.span() for found in _PIECE.finditer(text)]


def blank_between(one: str, other: str) -> str:
    """What joins two parts of a running text: nothing if there is a blank already, or their script has none."""
    if one[-1:].isspace() or other[:1].isspace():
        return ""
    nearest = _LAST_LETTER.search(one), _LETTER.search(other)
    return "" if any(letter and letter["alone"] for letter in nearest) else " "
