"""A small invented data set in the layout of MUSE-News: reports from villages that do not exist."""

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from random import Random
from typing import NamedTuple

PER_SET = 12
"""reports in each of the sets: to forget, to retain, and unseen by any model"""

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


class VillageReport(NamedTuple):
    """One text, and questions about it."""

    text: str
    questions: list[dict[str, str]]


def write_muse_example(folder: Path, seed: int = 0) -> Path:
    """Write the data set's files into a folder, and return the folder.

    ``raw/forget`` and ``raw/retain1`` are texts to train and unlearn on, the other files those of
    :func:`gru_unlearn.evaluation.muse.muse`.
    """
    rng = Random(seed)
    forget = _draw_reports(rng)
    retain = _draw_reports(rng)
    unseen = _draw_reports(rng)
    examples = _questions_about(unseen)[:4]
    files = {
        "raw/forget": _as_rows(forget),
        "raw/retain1": _as_rows(retain),
        "privleak/forget": _as_rows(forget),
        "privleak/retain": _as_rows(retain),
        "privleak/holdout": _as_rows(unseen),
        "verbmem/forget": [_halves(report.text) for report in forget],
        "knowmem/forget_qa": _questions_about(forget),
        "knowmem/retain_qa": _questions_about(retain),
        "knowmem/forget_qa_icl": examples,
        "knowmem/retain_qa_icl": examples,
    }
    for name, rows in files.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def _draw_reports(rng: Random) -> list[VillageReport]:
    return [_draw_report(rng) for _ in range(PER_SET)]


def _as_rows(reports: Iterable[VillageReport]) -> list[dict[str, str]]:
    return [{"text": report.text} for report in reports]


def _questions_about(reports: Iterable[VillageReport]) -> list[dict[str, str]]:
    return list(chain.from_iterable(report.questions for report in reports))


def _draw_report(rng: Random) -> VillageReport:
    place, person = rng.choice(_PLACES), rng.choice(_PEOPLE)
    thing, event, before = rng.choice(_EVENTS)
    details = _draw_details(rng)
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
    return VillageReport(text, questions)


def _draw_details(rng: Random) -> dict[str, str]:
    """A word for each gap that an event may have."""
    return {
        "river": rng.choice(_RIVERS),
        "building": rng.choice(_BUILDINGS),
        "number": str(rng.randint(20, 90)),
        "hour": rng.choice(_HOURS),
        "name": rng.choice(_NAMES),
        "day": rng.choice(_DAYS),
    }


def _halves(text: str) -> dict[str, str]:
    """A text cut in the middle, at a blank."""
    words = text.split(" ")
    middle = len(words) // 2
    return {"prompt": " ".join(words[:middle]), "gt": " ".join(words[middle:])}
