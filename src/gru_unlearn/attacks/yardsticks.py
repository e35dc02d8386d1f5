"""What an attack finds on the models beside the unlearned one is kept: the next one is held against the same numbers.

Target, retain model and base take most of an attack's time, and what they say does not depend on the unlearned model.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from pydantic import TypeAdapter, ValidationError

import gru_unlearn
from gru_unlearn.attacks.battery import UNLEARNED, Battery
from gru_unlearn.attacks.probing import Name, Probed
from gru_unlearn.common.files import UnreadableFile, default_cache, hash_json, read_json, write_json
from gru_unlearn.common.kept_files import keep_file
from gru_unlearn.evaluation.score_key import device_name, encoding_of, hash_of_code
from gru_unlearn.models.subject import Subject
from gru_unlearn.results.file_model import as_json

MOST_BYTES = 2 * 10**8
"""What the kept outcomes may take together; one takes some 50 kB."""

Outcomes = Mapping[Name, Probed | str]
"""Variant → what came out of one model, or why nothing did."""

_FILE = TypeAdapter(list[tuple[Name, Probed | str]])


def kept_outcomes(attack: str, battery: Battery, subject: Subject) -> Outcomes | None:
    """What the same attack found on this model before, beside whatever unlearned model; None where it was not made, or
    the file is broken."""
    if subject.name == UNLEARNED:
        return None
    file = _file(attack, battery, subject)
    try:
        found = _FILE.validate_python(read_json(file))
        file.touch()  # used now: the last one to go
    except (UnreadableFile, ValidationError, OSError):
        return None
    return dict(found)


def keep_outcomes(attack: str, battery: Battery, subject: Subject, outcomes: Outcomes) -> None:
    """Keep what an attack found on a model beside the unlearned one.

    Raises:
        OSError: the cache cannot be written.
    """
    if subject.name == UNLEARNED:
        return
    content = _FILE.dump_python([*outcomes.items()])
    keep_file(_file(attack, battery, subject), lambda file: write_json(file, content), MOST_BYTES)


def _file(attack: str, battery: Battery, subject: Subject) -> Path:
    return default_cache() / "attacks" / f"{_key(attack, battery, subject)}.json"


def _key(attack: str, battery: Battery, subject: Subject) -> str:
    """SHA-256 over all that the outcome depends on. The batch size does not: it changes rounding alone."""
    parts = {
        "attack": [attack, battery.tried, battery.learning_rate, battery.request.seed, battery.prefixes],
        "rows": [{name: rows.sha256 for name, rows in battery.data.items()}, battery.numbers],
        "model": [subject.name, subject.sha256, as_json(asdict(subject.settings)), encoding_of(subject.encoder)],
        "device": device_name(),
        "code": [hash_of_code("attacks", "models", "training"), gru_unlearn.__version__],
        "versions": [torch.__version__, transformers.__version__],
    }
    return hash_json(parts)
