"""What an attack works with: the models, the rows and the settings, all found and checked before anything is run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.resources import files
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import torch
from pydantic import JsonValue

from gru_unlearn.attacks.attack_request import AttackRequest
from gru_unlearn.attacks.extent import Extent, extent_of
from gru_unlearn.attacks.slow_models import computing_fast, is_slow
from gru_unlearn.common.files import hash_json
from gru_unlearn.common.options import flag_of
from gru_unlearn.data import Record, canonical, fingerprint, load_records
from gru_unlearn.data.model_room import ids_of, require_room
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.score_key import encoding_of
from gru_unlearn.evaluation.suites import check_unseen, remark_on_unseen
from gru_unlearn.models.model_settings import ASKING, ModelSettings
from gru_unlearn.models.subject import Subject, find_subjects
from gru_unlearn.results.file_model import JsonObject, as_json
from gru_unlearn.results.provenance import ModelSource, RowsSource
from gru_unlearn.results.run_folder import Identity, RunFolder
from gru_unlearn.results.run_summary import RunRecord, RunSummary, TruSummary
from gru_unlearn.results.summaries import read_summary

UNLEARNED, TARGET, RETAIN_MODEL, BASE = ("unlearned", "target", "retain_model", "base")

FEW_PREFIXES = 2
"""Of our own, where time is short."""

DEFAULT_LEARNING_RATE = 1e-5
"""Of relearning, where no run tells at what rate the model was unlearned."""


@dataclass(frozen=True)
class Battery:
    """Everything that attacks need."""

    request: AttackRequest
    extent: Extent
    subjects: Mapping[str, Subject]
    """unlearned, target and, if there are such, retain_model and base"""
    sets: Mapping[str, Sequence[Record]]
    """whole sets, by their names in files; those that were given"""
    numbers: Sequence[int]
    """which rows of the forget set are attacked, counted from 1, in order"""
    prefixes: Sequence[str]
    learning_rate: float
    """of relearning"""
    data: Mapping[str, RowsSource]
    """the sets, known by their content"""

    @property
    def forget(self) -> list[Record]:
        """The forget rows under attack."""
        return [self.sets["forget"][number - 1] for number in self.numbers]

    @property
    def asks(self) -> bool:
        """Whether the forget rows under attack are questions with answers, and not plain texts."""
        return all(record.turns for record in self.forget)

    @property
    def computes_narrow(self) -> bool:
        """Whether a processor computes in bfloat16 where copies are float32."""
        return self.subjects[UNLEARNED].settings.dtype == "bfloat16" and not torch.cuda.is_available()

    def attacked_by(self, attack: str) -> dict[str, Subject]:
        """The models that an attack is made on: all; but where time is short the base is not relearnt beside a retain
        model, which is what the others are compared with."""
        spares_base = attack == "relearning" and self.extent.hurries and RETAIN_MODEL in self.subjects
        return {name: subject for name, subject in self.subjects.items() if not (spares_base and name == BASE)}

    def kept(self, *names: str) -> list[Record]:
        """What the model should still know: the rows of these sets, as far as given, that are no forget rows."""
        forget = set(map(canonical, self.sets["forget"]))
        rows = chain.from_iterable(self.sets.get(name, ()) for name in names)
        return [record for record in rows if canonical(record) not in forget]

    def remarks(self) -> Iterator[str]:
        """What a reader should know of models and rows before any number."""
        yield from remark_on_unseen(self.sets)
        for name in (TARGET, RETAIN_MODEL, BASE):
            if name in self.subjects and self.subjects[UNLEARNED].is_same_as(self.subjects[name]):
                yield f"The unlearned model has the weights of the {self.subjects[name].label}."

    def sample(self, rows: Sequence[Record], count: int) -> list[Record]:
        """So many rows, or all where there are fewer; the same ones at every call."""
        return [rows[number - 1] for number in sample_numbers(len(rows), count, self.request.seed)]

    @cached_property
    def encodings(self) -> dict[str, str]:
        """Hash of how each model's tokenizer reads rows."""
        return {name: hash_json(encoding_of(subject.encoder)) for name, subject in self.subjects.items()}

    @property
    def identity(self) -> Identity:
        """All that decides the results."""
        return {
            "settings": self.settings,
            "models": {name: subject.sha256 for name, subject in self.subjects.items()},
            "data": {name: rows.sha256 for name, rows in self.data.items()},
            "tried": self.tried,
        }

    @property
    def tried(self) -> JsonObject:
        """How much of each attack, flags or not."""
        return as_json(asdict(self.extent))

    @property
    def settings(self) -> JsonObject:
        """What of it is neither model nor row."""
        decides_nothing = ("run", "batch_size", "prefixes")
        flags = {name: value for name, value in vars(self.request).items() if name not in decides_nothing}
        given = {name: value for name, value in flags.items() if value is not None or name not in ASKING}
        alike = self.subjects[UNLEARNED].settings
        given |= {**self._asked, "max_length": alike.max_length, "dtype": alike.dtype}
        given |= {name: value for name, value in self.tried.items() if name in given}
        return as_json(given | {"prefixes": self.prefixes, "relearning_learning_rate": self.learning_rate})

    @property
    def _asked(self) -> JsonObject:
        """How the models are asked beside the defaults, where flags do not say it and no run is named that does."""
        if self.request.run is not None:
            return {}
        usual, asked = ModelSettings().asked, self.subjects[UNLEARNED].settings.asked
        return {name: value for name, value in asked.items() if value != usual[name]}


def make_battery(request: AttackRequest) -> Battery:
    """Find and check everything; nothing is written.

    Raises:
        UserError: the first thing that cannot work.
    """
    run = _read_run(request.run)
    settings = _in_force(request, run)
    sets = {name: load_records(str(settings[name])) for name in request.rows if settings.get(name)}
    data = {name: RowsSource(rows=len(rows), sha256=fingerprint(rows)) for name, rows in sets.items()}
    subjects = _find_subjects(settings)
    extent = extent_of(request, is_slow=is_slow(subjects[UNLEARNED]))
    numbers = sample_numbers(len(sets["forget"]), extent.max_rows, request.seed)
    rate = _learning_rate(request.relearning_learning_rate, settings.get("learning_rate"), run)
    prefixes = _read_prefixes(request.prefixes)
    if extent.hurries and request.prefixes is None:
        prefixes = prefixes[:FEW_PREFIXES]
    check_unseen(sets)
    battery = Battery(request, extent, subjects, sets, numbers, prefixes, rate, data)
    if run is not None:
        _check_unchanged(battery, run)
    _check_room(battery)
    return battery


def _learning_rate(flag: float | None, setting: JsonValue, run: RunRecord | None) -> float:
    """The learning rate of relearning: as the flag says, else that of the run, which may have found its own."""
    found = getattr(run, "learning_rate", None)
    for rate in (flag, found, setting):
        if isinstance(rate, float | int) and rate > 0:
            return float(rate)
    return DEFAULT_LEARNING_RATE


def _check_room(battery: Battery) -> None:
    """Whether the models can read the rows that were given. Prompts made of them are left out where they are too long,
    and so are rows that come with the attack."""
    request, rows = battery.request, {"forget": battery.sets["forget"]}
    if "relearning" in request.attacks and request.unrelated != AttackRequest.unrelated:
        rows["unrelated"] = battery.sample(battery.sets["unrelated"], len(battery.forget))
    for subject in battery.subjects.values():
        sets = {}
        for name, records in rows.items():
            sets[name] = subject.encoder.encode_all(records, f"{name} (tokens of the {subject.label})")
        label = "unlearned model" if subject.name == UNLEARNED else subject.label
        require_room(subject.empty(), ids_of(sets), subject.encoder.tokenizer, label)


def _read_run(folder: Path | None) -> RunRecord | None:
    if folder is None:
        return None
    file = RunFolder(folder).summary_file
    summary = read_summary(file)
    if not isinstance(summary, RunSummary | TruSummary):
        raise UserError(f"{folder} is not a finished run of gru unlearn: it has no {file.name} of one")
    return summary


def _in_force(request: AttackRequest, run: RunRecord | None) -> JsonObject:
    """Sources and settings of the run, if one is named, under what the flags say."""
    settings: JsonObject = {}
    if run is not None:
        unlearned = Path(request.run or "", run.output_model)
        settings = run.settings | {"target": run.model.place or run.settings["model"], "model": str(unlearned)}
        if run.retain_model is not None and run.retain_model.place:
            settings[RETAIN_MODEL] = run.retain_model.place
        found = {name: rows for name, rows in run.data.items() if rows.found is not None}
        settings |= {name: rows.place_beside(Path(request.run or "")) for name, rows in found.items()}
    given = vars(request) | request.rows
    settings |= {name: value for name, value in given.items() if value is not None}
    for name in ("model", "target", "forget"):
        if not settings.get(name):
            raise UserError(f"no {name} given: name a run (gru attack RUN), or pass --{name}")
    return settings


def _find_subjects(settings: JsonObject) -> dict[str, Subject]:
    """The models that were named, each loaded and asked alike."""
    sources = {UNLEARNED: settings["model"], TARGET: settings[TARGET], RETAIN_MODEL: settings.get(RETAIN_MODEL)}
    sources[BASE] = settings.get("base_model")
    named = {name: str(source) for name, source in sources.items() if source}
    subjects = computing_fast(find_subjects(settings, {UNLEARNED: "--model", BASE: "--base-model"}, **named))
    if RETAIN_MODEL in subjects:
        subjects[TARGET].refuse_as_yardstick(subjects[RETAIN_MODEL])
    return subjects


def _check_unchanged(battery: Battery, run: RunRecord) -> None:
    """Rows and models that are taken from a run must be those that the run had."""
    flags = vars(battery.request)
    for name, had in run.data.items():
        if flags.get(name) is None and name in battery.data and battery.data[name].sha256 != had.sha256:
            raise UserError(
                f"{had.source}: the rows are not those of the run any more, or a ledger of requests left some of "
                f"them out: pass {flag_of(name)} to take these, or others"
            )
    for name, model in ((TARGET, run.model), (RETAIN_MODEL, run.retain_model or ModelSource())):
        if flags[name] is None and name in battery.subjects and battery.subjects[name].sha256 != model.sha256:
            raise UserError(
                f"{model.source}: the model is not that of the run any more; pass {flag_of(name)} for another"
            )


def _read_prefixes(path: Path | None) -> list[str]:
    source: Any = path or files("gru_unlearn.attacks") / "prefixes.txt"
    try:
        lines = list(filter(None, map(str.strip, source.read_text(encoding="utf-8").splitlines())))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "not UTF-8")
        raise UserError(f"--prefixes {path} cannot be read: {why}") from None
    if not lines:
        raise UserError(f"--prefixes {path}: no line in it")
    return lines


def sample_numbers(count: int, at_most: int, seed: int) -> list[int]:
    """Numbers of rows, counted from 1: all, or a random sample in order."""
    return sorted(Random(seed).sample(range(1, count + 1), min(count, at_most)))
