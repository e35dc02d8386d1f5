"""Beside every model that a run writes: how the run asked it (:mod:`gru_unlearn.results.manner`)."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

import gru_unlearn
from gru_unlearn.models.fetching import commit_of
from gru_unlearn.models.locating import holds_adapters
from gru_unlearn.models.subject import Subject
from gru_unlearn.results.manner import AdapterBase, Manner
from gru_unlearn.runs.run_preparation import Prepared


def write_manner(prepared: Prepared, folder: Path) -> None:
    """Into a folder that holds a model of the run."""
    manner = Manner(asked=prepared.model.settings.asked, version=gru_unlearn.__version__)
    if holds_adapters(folder):
        manner.base = _as_base(prepared.model)
    manner.write_beside(folder)


def _as_base(model: Subject) -> AdapterBase:
    """What adapters on a model say of it: a folder has an absolute path, and what can be made or fetched again its
    source, with the name of the folder that it makes or the commit."""
    if model.is_made:
        return AdapterBase(source=model.place, revision=model.folder.name, sha256=model.sha256)
    commit = None if model.is_local else commit_of(model.folder)
    if commit is None:
        return AdapterBase(source=str(model.folder.resolve()), sha256=model.sha256)
    return AdapterBase(source=model.source, revision=commit, sha256=model.sha256)


class MannerInCheckpoints(TrainerCallback):
    """A checkpoint is a model, too."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write it into the checkpoint that was saved just now."""
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            write_manner(self.prepared, folder)
