"""What an attack works with: the models, the rows and the settings, all found and checked before anything is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import torch

from gru_unlearn.attacks.attack_request import AttackRequest
from gru_unlearn.common.files import read_json
from gru_unlearn.data import Encoder, Record, TextFormat, fingerprint, load_records
from gru_unlearn.errors import UserError
from gru_unlearn.models.loading import load_model, load_tokenizer, locate
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.results.run_folder import SUMMARY_FILE

UNLEARNED, TARGET, RETAIN_MODEL = MODELS = ("unlearned", "target", "retain_model")
SETS = ("forget", "retain", "held_out", "holdout", "unrelated")

DEFAULT_LEARNING_RATE = 1e-5
"""Of relearning, where no run tells at what rate the model was unlearned."""


@dataclass(eq=False)
class Subject:
    """A model under attack: ``model`` as it is, kept until :meth:`release`; :meth:`load` for a copy to change."""

    name: str
    source: str
    folder: Path
    settings: Mapping[str, Any]

    @cached_property
    def sha256(self) -> str:
        """Of the weights."""
        return hash_weights(self.folder)

    @cached_property
    def encoder(self) -> Encoder:
        """Of the model's own tokenizer, set as the run's was."""
        told = {name: self.settings[name] for name in ("question_tag", "answer_tag") if name in self.settings}
        if kwargs := self.settings.get("chat_template_kwargs"):
            told["chat_template_kwargs"] = kwargs
        named = {name: self.settings.get(name) for name in ("pad_token", "eos_token", "trust_remote_code")}
        return Encoder(
            load_tokenizer(self.folder, **{name: value for name, value in named.items() if value}),
            max_length=self.settings["max_length"],
            text_format=TextFormat(**told),
            allow_truncation=bool(self.settings.get("allow_truncation")),
        )

    @cached_property
    def model(self) -> Any:
        """The model as it is, for looking only."""
        return self.load()

    def load(self, dtype: str | None = None) -> Any:
        """A fresh copy, in evaluation mode, on the GPU where there is one."""
        model: Any = load_model(
            self.folder,
            dtype=dtype or self.settings["dtype"],
            attn_implementation=self.settings.get("attn_implementation"),
            trust_remote_code=bool(self.settings.get("trust_remote_code")),
        )
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def release(self) -> None:
        """Let go of ``model``."""
        vars(self).pop("model", None)


@dataclass(frozen=True)
class Battery:
    """Everything that attacks need."""

    request: AttackRequest
    subjects: Mapping[str, Subject]
    """unlearned, target and, if there is one, retain_model"""
    sets: Mapping[str, Sequence[Record]]
    """whole sets, by the names of :data:`SETS`; those that were given"""
    numbers: Sequence[int]
    """which rows of the forget set are attacked, counted from 1, in order"""
    prefixes: Sequence[str]
    learning_rate: float
    """of relearning"""
    identity: dict[str, Any] = field(repr=False)
    """all that decides the results"""

    @property
    def forget(self) -> list[Record]:
        """The forget rows under attack."""
        return [self.sets["forget"][number - 1] for number in self.numbers]

    @property
    def asks(self) -> bool:
        """Whether the forget rows under attack are questions with answers, and not plain texts."""
        return all(record.turns for record in self.forget)

    def kept(self, *names: str) -> list[Record]:
        """What the model should still know: the rows of these sets, as far as given, that are no forget rows."""
        forget = set(self.sets["forget"])
        return [record for name in names for record in self.sets.get(name, []) if record not in forget]

    def sample(self, rows: Sequence[Record], count: int) -> list[Record]:
        """So many rows, or all where there are fewer; the same ones at every call."""
        return [rows[number - 1] for number in _choose(len(rows), count, self.request.seed)]


def make_battery(request: AttackRequest) -> Battery:
    """Find and check everything; nothing is written.

    Raises:
        UserError: the first thing that cannot work.
    """
    settings = _settings(request)
    sets = {name: load_records(settings[name]) for name in SETS if settings.get(name)}
    prefixes = _read_prefixes(request.prefixes)
    subjects = {
        name: Subject(name, settings[key], locate(settings[key], flag), settings)
        for name, key, flag in zip(
            MODELS, ("model", "target", "retain_model"), ("--model", "--target", "--retain-model"), strict=True
        )
        if settings.get(key)
    }
    _check_unchanged(request, settings, subjects, sets)
    for subject in subjects.values():
        subject.encoder.encode_all(sets["forget"], f"forget (tokens of the {subject.name.replace('_', ' ')})")
    rate = request.relearning_learning_rate or settings.get("learning_rate") or DEFAULT_LEARNING_RATE
    decides_nothing = ("run", "batch_size", "prefixes")
    identity = {
        "settings": {key: value for key, value in vars(request).items() if key not in decides_nothing}
        | {key: settings[key] for key in ("max_length", "dtype")}
        | {"attacks": list(request.attacks), "prefixes": prefixes, "relearning_learning_rate": rate},
        "models": {name: subject.sha256 for name, subject in subjects.items()},
        "data": {name: fingerprint(records) for name, records in sets.items()},
    }
    numbers = _choose(len(sets["forget"]), request.max_rows, request.seed)
    return Battery(request, subjects, sets, numbers, prefixes, rate, identity)


_DEFAULTS = {"max_length": 512, "dtype": "auto"}


def _settings(request: AttackRequest) -> dict[str, Any]:
    """Sources and settings of the run, if one is named, under what the flags say."""
    of_run: dict[str, Any] = {}
    if request.run is not None:
        summary = read_json(request.run / SUMMARY_FILE)
        if not isinstance(summary, dict) or "output_model" not in summary:
            raise UserError(f"{request.run} is not a finished run of gru unlearn: it has no {SUMMARY_FILE} of one")
        own = summary["settings"]
        of_run = own | {"target": own["model"], "model": str(request.run / summary["output_model"]), "run": summary}
    given = vars(request) | request.rows
    flags = {name: value for name, value in given.items() if value is not None and name != "run"}
    settings = _DEFAULTS | {name: value for name, value in of_run.items() if value is not None} | flags
    for name in ("model", "target", "forget"):
        if not settings.get(name):
            raise UserError(f"no {name} given: name a run (gru attack RUN), or pass --{name}")
    return settings


def _check_unchanged(
    request: AttackRequest, settings: Mapping[str, Any], subjects: Mapping[str, Subject], sets: Mapping[str, Any]
) -> None:
    """Rows and models that are taken from a run must be those that the run had."""
    run = settings.get("run") or {}
    for name, about in run.get("data", {}).items():
        if name in sets and getattr(request, name, None) is None and fingerprint(sets[name]) != about["sha256"]:
            raise UserError(
                f"{about['source']}: the rows are not those of the run any more, or a ledger of requests left some of "
                f"them out: pass --{name.replace('_', '-')} to take these, or others"
            )
    for name, key in ((TARGET, "model"), (RETAIN_MODEL, "retain_model")):
        about = run.get(key) or {}
        if name in subjects and getattr(request, name) is None and subjects[name].sha256 != about.get("sha256"):
            flag = name.replace("_", "-")
            raise UserError(
                f"{about.get('source')}: the model is not that of the run any more; pass --{flag} for another"
            )


def _read_prefixes(path: Path | None) -> list[str]:
    source: Any = path or files("gru_unlearn.attacks") / "prefixes.txt"
    try:
        lines = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--prefixes {path} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}"
        ) from None
    if not any(lines):
        raise UserError(f"--prefixes {path}: no line in it")
    return [line for line in lines if line]


def _choose(count: int, at_most: int, seed: int) -> list[int]:
    """Numbers of rows, counted from 1: all, or a random sample in order."""
    return sorted(Random(seed).sample(range(1, count + 1), min(count, at_most)))
