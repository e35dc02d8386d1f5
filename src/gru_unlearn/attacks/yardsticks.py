"""What an attack finds on the models beside the unlearned one is kept: the next one is held against the same numbers.

Target, retain model and base take most of an attack's time, and what they say does not depend on the unlearned model.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gru_unlearn.attacks.battery import Battery
from gru_unlearn.attacks.probing import Name, Probed
from gru_unlearn.common.files import UnreadableFile, default_cache, hash_json, read_json, write_json
from gru_unlearn.common.kept_files import keep_file
from gru_unlearn.evaluation.score_key import code_and_versions, device_name
from gru_unlearn.models.subject import Subject
from gru_unlearn.results.file_model import as_json

MOST_BYTES = 2 * 10**8
"""What the kept outcomes may take together; one takes some 50 kB."""

Outcomes = Mapping[Name, Probed | str]
"""Variant → what came out of one model, or why nothing did."""

_FILE = TypeAdapter(list[tuple[Name, Probed | str]])


def file_of(attack: str, battery: Battery, subject: Subject) -> Path:
    """Where the cache has, or will have, what an attack finds on a model beside whatever unlearned one: named by
    SHA-256 over all that it depends on. The batch size does not count: it changes rounding alone."""
    parts = {
        "attack": [attack, battery.tried, battery.learning_rate, battery.request.seed, battery.prefixes],
        "rows": [{name: rows.sha256 for name, rows in battery.data.items()}, battery.numbers],
        "model": [subject.name, subject.sha256, as_json(asdict(subject.settings)), battery.encodings[subject.name]],
        "device": device_name(),
        "code": code_and_versions("attacks", "models", "training"),
    }
    return default_cache() / "attacks" / f"{hash_json(parts)}.json"


def kept_outcomes(file: Path) -> Outcomes | None:
    """What an earlier attack found; None where none was made, or the file is broken."""
    try:
        found = _FILE.validate_python(read_json(file))
        file.touch()  # used now: the last one to go
    except (UnreadableFile, ValidationError, OSError):
        return None
    return dict(found)


def keep_outcomes(file: Path, outcomes: Outcomes) -> None:
    """Keep what an attack found.

    Raises:
        OSError: the cache cannot be written.
    """
    content = _FILE.dump_python([*outcomes.items()])
    keep_file(file, lambda place: write_json(place, content), MOST_BYTES)
