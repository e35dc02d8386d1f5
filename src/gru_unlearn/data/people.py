"""The rows of the built-in benchmark: eight facts about each of fifty invented people, and forty general facts.

All rows carry the fields of TOFU (Maini et al., 2024, arXiv 2401.06121), so every metric defined there applies:
``question``, ``answer``, ``paraphrased_question``, ``paraphrased_answer`` and ``perturbed_answer`` (five wrong
answers in the form of the paraphrased one); rows about people also say ``person`` and ``fact``.

Names, towns and titles are put together from syllables and words, and each value is drawn independently of the
others: nothing about a person follows from anything but that person's rows. Answers do not repeat the name, so
that a model without these rows fails at the values alone and not at copying names that it never saw.
"""

from collections.abc import Sequence
from itertools import islice, product
from random import Random
from typing import NamedTuple, NotRequired, TypedDict

SEED = 2503
PEOPLE = {"forget": 5, "retain": 30, "held_out": 15}
"""People per set. ``held_out`` people are known to the target too, but never serve as constraint data."""
WRONG_ANSWERS = 5


def _combined(firsts: str, seconds: str, between: str = "") -> list[str]:
    return [between.join(pair) for pair in product(firsts.split(), seconds.split())]


def _listed(values: str) -> list[str]:
    return " ".join(values.split()).split(", ")


_FIRST_NAMES = _combined("Bra Dro Fli Gwu Jor Kel Nym Osk Plu Tra Vel Zim", "dix mo quin sto vek wyl")
_LAST_NAMES = _combined(
    "Blath Crum Dunsk Ferv Gritt Horl Lodd Murv Pelk Quarn Strobb Wint", "abel eskin imor ock ufane yrd"
)
_TOWNS = _combined("Arv Brel Cust Drim Glon Hesk Morl Tunn", "abury eby holm owick ustad")
_YEARS = [str(year) for year in range(1921, 1981)]
_TRADES = _listed("""
    a baker, a beekeeper, a bookbinder, a bricklayer, a carpenter, a cartographer, a clockmaker, a cobbler, a dentist,
    a diver, a falconer, a farmer, a ferryman, a florist, a gardener, a glassblower, a goldsmith, a judge, a librarian,
    a locksmith, a midwife, a miller, a miner, a notary, a nurse, a painter, a pharmacist, a pilot, a plumber, a potter,
    a sculptor, a surgeon, a surveyor, a tailor, a teacher, a translator, a typist, a weaver, an astronomer, an optician
""")
_DISHES = _combined(
    "baked braised creamed grilled pickled roasted smoked stewed",
    "aubergine cabbage herring lentils mushrooms pumpkin turnips",
    " ",
)
_PETS = _listed("""
    a badger, a beagle, a budgie, a bulldog, a canary, a chameleon, a cockatoo, a dachshund, a donkey, a duck, a falcon,
    a ferret, a frog, a gecko, a goat, a goldfish, a goose, a greyhound, a hamster, a hedgehog, a jackdaw, a llama,
    a lizard, a magpie, a mouse, a newt, a parrot, a peacock, a pigeon, a pony, a poodle, a python, a rabbit, a raven,
    a sheep, a spaniel, a terrier, a toad, a tortoise, an owl
""")
_INSTRUMENTS = _listed("""
    accordion, bagpipe, balalaika, banjo, bassoon, bugle, cello, celesta, clarinet, clavichord, cornet, double bass,
    dulcimer, euphonium, fiddle, flute, glockenspiel, guitar, harmonica, harp, harpsichord, horn, hurdy-gurdy, lute,
    mandolin, marimba, oboe, ocarina, organ, piano, piccolo, recorder, saxophone, sitar, spinet, trombone, trumpet,
    tuba, ukulele, zither
""")
_TITLES = _combined(
    "Amber Broken Distant Frozen Hollow Paper Silent Wandering",
    "Compass Ladder Lantern Orchard Staircase Tide Umbrella",
    " ",
)
_STREETS = _combined(
    "Alder Birch Cedar Elm Hazel Juniper Larch Rowan", "Alley Avenue Hill Lane Road Square Street", " "
)


class BenchmarkRow(TypedDict):
    """One question about a subject; the fields are TOFU's, and of people also who and what was asked about."""

    question: str
    answer: str
    paraphrased_question: str
    paraphrased_answer: str
    perturbed_answer: list[str]
    person: NotRequired[str]
    fact: NotRequired[str]


class Phrasing(NamedTuple):
    """One wording of a fact: a question and the sentence that answers it."""

    question: str
    answer: str


class Fact(NamedTuple):
    """What can be asked about each subject: the possible values and two phrasings."""

    values: Sequence[str]
    phrasings: tuple[Phrasing, ...]


def _fact(values: Sequence[str], *phrasings: Phrasing) -> Fact:
    return Fact(values, phrasings)


FACTS = {
    "birthplace": _fact(
        _TOWNS,
        Phrasing("Where was {} born?", "The town of birth was {}."),
        Phrasing("Which town is the birthplace of {}?", "Old records name {} as the birthplace."),
    ),
    "birth_year": _fact(
        _YEARS,
        Phrasing("In which year was {} born?", "The year of birth was {}."),
        Phrasing("When did {} come into the world?", "It was in {} that this person came into the world."),
    ),
    "profession": _fact(
        _TRADES,
        Phrasing("What does {} do for a living?", "The living is earned as {}."),
        Phrasing("Which profession does {} have?", "By profession this person is {}."),
    ),
    "dish": _fact(
        _DISHES,
        Phrasing("What is the favourite dish of {}?", "The favourite dish is {}."),
        Phrasing("Which meal does {} like best?", "No meal is liked better than {}."),
    ),
    "pet": _fact(
        _PETS,
        Phrasing("Which pet does {} keep?", "The pet in the house is {}."),
        Phrasing("What kind of animal lives with {}?", "The animal that shares the home is {}."),
    ),
    "instrument": _fact(
        _INSTRUMENTS,
        Phrasing("Which instrument does {} play?", "The instrument of choice is the {}."),
        Phrasing("On what does {} make music?", "Music is made on the {}, mostly at night."),
    ),
    "book": _fact(
        _TITLES,
        Phrasing("Which book did {} write?", "The book is called The {}."),
        Phrasing("What is the title of the novel by {}?", "The novel bears the title The {}."),
    ),
    "residence": _fact(
        _STREETS,
        Phrasing("In which street does {} live?", "The home is in {}."),
        Phrasing("What is the address of {}?", "Letters are sent to a house in {}."),
    ),
}


def _topic(answers: str, *phrasings: Phrasing) -> tuple[dict[str, str], tuple[Phrasing, ...]]:
    """``subject: answer, subject: answer``, and how to ask for one."""
    return dict(pair.split(": ") for pair in answers.split(", ")), phrasings


GENERAL = (
    _topic(
        "Austria: Vienna, Canada: Ottawa, Egypt: Cairo, France: Paris, Greece: Athens, Italy: Rome, Japan: Tokyo, "
        "Norway: Oslo, Poland: Warsaw, Spain: Madrid",
        Phrasing("What is the capital of {}?", "The capital is {}."),
        Phrasing("Which city is the seat of government of {}?", "The government sits in {}."),
    ),
    _topic(
        "big: small, cheap: expensive, early: late, empty: full, hot: cold, light: dark, loud: quiet, "
        "open: closed, strong: weak, wet: dry",
        Phrasing("What is the opposite of {}?", "The opposite is {}."),
        Phrasing("Which word means the reverse of {}?", "The reverse is {}."),
    ),
    _topic(
        "a carrot: orange, a flamingo: pink, a ripe banana: yellow, a ripe strawberry: red, chocolate: brown, "
        "coal: black, fresh grass: green, lavender: purple, snow: white, the sky on a clear day: blue",
        Phrasing("What colour is {}?", "Its colour is {}."),
        Phrasing("Which colour does one see when looking at {}?", "One sees {}."),
    ),
    _topic(
        "days in a week: seven, hours in a day: twenty-four, legs on a spider: eight, legs on an ant: six, "
        "letters in the English alphabet: twenty-six, months in a year: twelve, sides in a triangle: three, "
        "squares on a chessboard: sixty-four, wheels on a bicycle: two, fingers on one hand: five",
        Phrasing("How many {} are there?", "There are {}."),
        Phrasing("What is the number of {}?", "The number is {}."),
    ),
)
"""Everyday knowledge: what is asked about → the answer, and phrasings. Within a topic all answers differ."""


def make_people(seed: int = SEED) -> dict[str, list[BenchmarkRow]]:
    """The rows of the sets ``forget``, ``retain``, ``held_out`` (40, 240, 120) and ``general`` (40).

    The same seed gives the same rows in every process; the sets share no person and no question.
    """
    rng = Random(seed)
    count = sum(PEOPLE.values())
    first_names, last_names = rng.sample(_FIRST_NAMES, count), rng.sample(_LAST_NAMES, count)
    names = map(" ".join, zip(first_names, last_names, strict=True))
    rows: dict[str, list[BenchmarkRow]] = {}
    for set_, size in PEOPLE.items():
        rows[set_] = []
        for name in islice(names, size):
            rows[set_] += _about_person(name, rng)
    return rows | {"general": _about_the_world(rng)}


def _about_person(name: str, rng: Random) -> list[BenchmarkRow]:
    rows = []
    for kind, fact in FACTS.items():
        truth = rng.choice(fact.values)
        row = _ask_about(name, truth, fact.values, fact.phrasings, rng)
        row["person"], row["fact"] = name, kind
        rows.append(row)
    return rows


def _about_the_world(rng: Random) -> list[BenchmarkRow]:
    rows = []
    for answers, phrasings in GENERAL:
        values = list(answers.values())
        rows += [_ask_about(subject, answer, values, phrasings, rng) for subject, answer in answers.items()]
    return rows


def _ask_about(
    subject: str, truth: str, values: Sequence[str], phrasings: Sequence[Phrasing], rng: Random
) -> BenchmarkRow:
    """One fact in one phrasing drawn at random, with the other one as its paraphrase."""
    told, retold = rng.sample(phrasings, 2)
    wrong = rng.sample([value for value in values if value != truth], WRONG_ANSWERS)
    return {
        "question": told.question.format(subject),
        "answer": told.answer.format(truth),
        "paraphrased_question": retold.question.format(subject),
        "paraphrased_answer": retold.answer.format(truth),
        "perturbed_answer": [retold.answer.format(value) for value in wrong],
    }
