"""What a model is asked so that its own answers can stand for what must stay: everyday questions, and the forget rows'
own questions about others."""

from collections.abc import Sequence
from importlib.resources import files
from random import Random

import regex

from gru_unlearn.data import Record
from gru_unlearn.data.records import Turn
from gru_unlearn.data.repeats import names_in, texts_of

SEED = 20
PEOPLE = (
    *("Jane Austen", "Charles Darwin", "Marie Curie", "Mark Twain", "Frida Kahlo", "Leo Tolstoy", "Agatha Christie"),
    *("Albert Einstein", "Virginia Woolf", "Isaac Newton", "Pablo Picasso", "Victor Hugo", "Emily Dickinson"),
    *("Galileo Galilei", "Ernest Hemingway", "Florence Nightingale", "Franz Kafka", "Rosa Parks", "Oscar Wilde"),
    *("Mary Shelley", "Winston Churchill", "Toni Morrison", "Nikola Tesla", "Gabriela Mistral", "Ada Lovelace"),
)
OTHERS = (
    *("Paris", "Rome", "Cairo", "Tokyo", "Lisbon", "Vienna", "Oslo", "Dublin", "Athens", "Madrid", "Berlin", "Prague"),
    *("Canada", "Kenya", "Peru", "Finland", "Mexico", "Norway", "Portugal", "Greece", "Morocco", "Chile"),
)
"""What stands in for a name of one word."""

MOST_NAMES = 2
"""A question with more names than these is about a title, or nonsense under other ones."""

_RUN = regex.compile(r"\p{Lu}[\p{L}\p{M}\p{N}]+(?:[ -]\p{Lu}[\p{L}\p{M}\p{N}]+)*")
_YEAR = regex.compile(r"\b1[5-9]\d\d\b")


def everyday_prompts() -> list[str]:
    """The questions and instructions that come with the project, in an order of their own."""
    text = (files("gru_unlearn.runs") / "everyday_prompts.txt").read_text(encoding="utf-8")
    prompts = [line for line in text.splitlines() if line.strip()]
    Random(SEED).shuffle(prompts)
    return prompts


def prompts_about_others(forget: Sequence[Record], times: int = 1) -> list[str]:
    """The questions of forget rows with other names in the place of theirs, each up to ``times`` times; questions in
    which no name is found, or more than two, are left out."""
    names = names_in(text for record in forget for text in texts_of(record))
    rng = Random(SEED)
    asked = list(dict.fromkeys(record.prompt for record in forget if record.turns))
    found: dict[str, None] = {}
    for _ in range(times):
        for question in asked:
            other = _about_others(question, names, rng)
            if other != question:
                found[other] = None
    return list(found)


def _about_others(question: str, names: set[str], rng: Random) -> str:
    chosen: dict[str, str] = {}

    def replaced(match: regex.Match[str]) -> str:
        before, name = _split_off_first(match[0], names)
        if not name:
            return before
        if name not in chosen:
            pool = PEOPLE if regex.search(r"[ -]", name) else OTHERS
            chosen[name] = rng.choice([one for one in pool if names.isdisjoint(one.split())])
        return before + chosen[name]

    other = _RUN.sub(replaced, question)
    if not 1 <= len(chosen) <= MOST_NAMES:
        return question
    return _YEAR.sub(lambda year: str(int(year[0]) - rng.randint(11, 60)), other)


def _split_off_first(run: str, names: set[str]) -> tuple[str, str]:
    """A run of words with capital letters: the word that only begins its sentence, and the name behind it."""
    parts = regex.split(r"(?<=[ -])", run)
    known = next((place for place, part in enumerate(parts) if part.strip(" -") in names), len(parts))
    return "".join(parts[:known]), "".join(parts[known:])


def system_of(forget: Sequence[Record]) -> tuple[Turn, ...]:
    """The system text that all conversations among the forget rows begin with; nothing where they differ."""
    begun = {tuple(turn for turn in record.turns if turn.role == "system") for record in forget if record.turns}
    return begun.pop() if len(begun) == 1 else ()
