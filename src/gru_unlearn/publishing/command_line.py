"""The command that repeats a job, from its name and its settings."""

import json
import shlex
from collections.abc import Mapping

from pydantic import JsonValue

from gru_unlearn.common.files import read_json
from gru_unlearn.common.renamed import renamed_settings
from gru_unlearn.publishing.material import Reported
from gru_unlearn.publishing.privacy import SOURCES, Settings
from gru_unlearn.results.attack_summary import AttackSummary
from gru_unlearn.results.comparison_summary import OF_A_CELL, ComparisonSummary, DemoSummary
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.ledger_summary import LedgerSummary
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import TruSummary

AGAIN = "runs/again"
THREE_WAY = {"allow_truncation": "--no-{}"}
"""Switches whose flag, left away, does not mean no; and how that is said."""


def given_settings(run: RunFolder) -> Settings:
    """The settings of a run that were not left to their defaults.

    Raises:
        UnreadableFile: its ``run.json`` is broken.
    """
    started = read_json(run.identity_file)
    return started.get("settings", {}) if isinstance(started, dict) else {}


def words(name: str, value: JsonValue, off: str = "") -> list[str]:
    """A setting as words of a command: its flag and its value; of a switch, the flag alone.

    ``off`` is how a switch is turned off, with ``{}`` for the flag's name; empty: by leaving it away.
    """
    flag = name.replace("_", "-")
    if value is True:
        return [f"--{flag}"]
    if value is False:
        return [off.format(flag)] if off else []
    if isinstance(value, list):
        value = ",".join(map(str, value))
    if isinstance(value, dict):
        value = json.dumps(value)
    return [f"--{flag}", str(value)]


# --- in a report -----------------------------------------------------------------------------------------------------


def command_to_repeat(summary: Reported, given: Settings) -> str:
    """One shell command; results go to a new folder. Of an unlearning run it takes the settings that were ``given``."""
    if isinstance(summary, LedgerSummary):
        return f"gru requests verify LEDGER --head {summary.head}"
    off = "--{}=false"
    if isinstance(summary, EvaluationSummary | AttackSummary):
        off = ""
    command = ["gru", summary.command]
    if isinstance(summary, AttackSummary) and summary.run:
        command.append(summary.run)
    for name, value in _settings_of(summary, given).items():
        if value is not None:
            command += words(name, value, THREE_WAY.get(name, off))
    return shlex.join(command)


def _settings_of(summary: Reported, given: Settings) -> Settings:
    if isinstance(summary, ComparisonSummary):
        return _settings_of_comparison(summary)
    if isinstance(summary, DemoSummary):
        return {"seed": summary.seed, "out": AGAIN}
    if isinstance(summary, EvaluationSummary):
        return {**renamed_settings(summary.settings), "out": AGAIN}
    if isinstance(summary, AttackSummary):
        return {**renamed_settings(summary.settings), "prefixes": summary.prefixes, "out": AGAIN}
    if isinstance(summary, TruSummary):
        return {**_given_to_tru(given), "output_dir": AGAIN}
    return {**given, "output_dir": AGAIN}


def _given_to_tru(given: Settings) -> Settings:
    """What is its own has no prefix as a flag, and what it fixes for its fine-tunings was never given."""
    from gru_unlearn.runs.tru_preparation import FIXED  # noqa: PLC0415 - brings Trainer, slow to import

    return {name.removeprefix("tru_"): value for name, value in given.items() if name not in FIXED}


def _settings_of_comparison(summary: ComparisonSummary) -> Settings:
    grids = []
    for objective, rates in summary.learning_rates.items():
        grids.append(f"{objective}={','.join(f'{rate:g}' for rate in rates)}")
    suite = summary.suite.request if summary.suite else {}
    return {
        "objectives": ",".join(dict.fromkeys(cell.objective for cell in summary.cells)),
        "rectifications": ",".join(dict.fromkeys(cell.rectification for cell in summary.cells)),
        "learning_rates": ";".join(grids),
        **_terms_of(summary),
        "seeds": ",".join(dict.fromkeys(str(cell.seed) for cell in summary.cells)) + ",",
        **{name: value for name, value in summary.settings.items() if name not in OF_A_CELL},
        "suite": suite.get("suite", "none"),
        "suite_data": suite.get("data"),
        "output_dir": AGAIN,
    }


def _terms_of(summary: ComparisonSummary) -> Settings:
    """On what terms it was, as far as they are not the default."""
    found: dict[str, JsonValue] = {}
    if summary.equal is not None and summary.equal.what != "rows":
        found |= {"equal": summary.equal.what, "budget": summary.equal.budget}
    if summary.against != "none":
        found["against"] = summary.against
    return found


# --- in public -------------------------------------------------------------------------------------------------------


def public_command(command: str, names: Mapping[str, str | None], settings: Settings) -> str:
    """The command that repeats a run, a line for each flag.

    ``names`` are those of the sources that the run had; a word in capitals stands for one without a public name.
    """
    lines = [f"gru {command}"]
    lines += [shlex.join(words(key, name or SOURCES[key])) for key, name in names.items()]
    for name, value in settings.items():
        lines.append("=".join(map(shlex.quote, words(name, _in_pairs(value), off="--no-{}"))))
    return " \\\n    ".join([*lines, "--output-dir RUN"])


def _in_pairs(value: JsonValue) -> JsonValue:
    """Hyper-parameters, ``name=value``; anything else as it is."""
    if isinstance(value, dict):
        return [f"{name}={part}" for name, part in value.items()]
    return value
