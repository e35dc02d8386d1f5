"""A small invented data set in the layout of MUSE-News: reports from villages that do not exist."""

import json
from pathlib import Path
from random import Random
from typing import NamedTuple

PER_SET = 12
"""reports in each of the sets forget, retain and holdout"""

_PLACES = (
    *("Ambrel", "Bostow", "Cairndal", "Dunmire", "Eskaby", "Fennock"),
    *("Garrowick", "Hollin", "Ivelsby", "Jorvane", "Kestle", "Lumbry"),
)
_EVENTS = (
    ("bridge", "reopened the old bridge over the {river}", "closed it for repairs"),
    ("library", "moved its library into the former {building}", "run out of shelves"),
    ("orchard", "planted an orchard of {number} pear trees", "lost its elms to a storm"),
    ("clock", "set the tower clock going again", "found it stopped at {hour}"),
    ("ferry", "bought a ferry named {name}", "seen the last one sink at its mooring"),
    ("market", "held its first night market on {day}", "given up the morning one"),
)
_RIVERS = ("Ald", "Brune", "Corr", "Dask", "Eller")
_BUILDINGS = ("brewery", "post office", "tannery", "chapel", "dairy")
_NAMES = ("Heron", "Magpie", "Otter", "Plover", "Swift")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
_HOURS = ("one", "two", "three", "four", "five")
_PEOPLE = ("Ottoline Brask", "Perrin Holm", "Sunniva Crake", "Tobias Venn", "Wilma Darrow", "Yorick Lunde")


class Report(NamedTuple):
    """One text, and questions about it."""

    text: str
    questions: list[dict[str, str]]


def write_muse_example(folder: Path, seed: int = 0) -> Path:
    """Write the data set's files into a folder, and return the folder.

    ``raw/forget`` and ``raw/retain1`` are texts to train and unlearn on, the other files those of
    :func:`gru_unlearn.evaluation.muse.muse`.
    """
    rng = Random(seed)
    sets = {name: [_report(rng) for _ in range(PER_SET)] for name in ("forget", "retain", "holdout")}
    texts = {name: [{"text": report.text} for report in reports] for name, reports in sets.items()}
    questions = {name: [row for report in reports for row in report.questions] for name, reports in sets.items()}
    files = {
        "raw/forget": texts["forget"],
        "raw/retain1": texts["retain"],
        "privleak/forget": texts["forget"],
        "privleak/retain": texts["retain"],
        "privleak/holdout": texts["holdout"],
        "verbmem/forget": [_halves(row["text"]) for row in texts["forget"]],
        "knowmem/forget_qa": questions["forget"],
        "knowmem/retain_qa": questions["retain"],
        "knowmem/forget_qa_icl": questions["holdout"][:4],
        "knowmem/retain_qa_icl": questions["holdout"][:4],
    }
    for name, rows in files.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def _report(rng: Random) -> Report:
    place, person = rng.choice(_PLACES), rng.choice(_PEOPLE)
    thing, event, before = rng.choice(_EVENTS)
    details = {
        "river": rng.choice(_RIVERS),
        "building": rng.choice(_BUILDINGS),
        "number": str(rng.randint(20, 90)),
        "hour": rng.choice(_HOURS),
        "name": rng.choice(_NAMES),
        "day": rng.choice(_DAYS),
    }
    guests, cost, year = rng.randint(30, 400), rng.randint(2, 90), rng.randint(1950, 2020)
    happened = event.format(**details)
    text = (
        f"The village of {place} {happened} last week, in front of {guests} guests. It had {before.format(**details)} "
        f"in {year}. {person}, who led the work on the {thing}, put its cost at {cost} thousand crowns and thanked the "
        f"neighbours who gave most of it. A second stage will follow if the council of {place} agrees in spring."
    )
    questions = [
        {"question": f"Who led the work on the {thing} in {place} that cost {cost} thousand crowns?", "answer": person},
        {"question": f"How many guests saw that {place} {happened}?", "answer": str(guests)},
    ]
    return Report(text, questions)


def _halves(text: str) -> dict[str, str]:
    """A text cut in the middle, at a blank."""
    words = text.split(" ")
    middle = len(words) // 2
    return {"prompt": " ".join(words[:middle]), "gt": " ".join(words[middle:])}
