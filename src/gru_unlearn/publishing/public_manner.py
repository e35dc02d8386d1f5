"""How a run asked its model, without anything of this machine: what goes out beside an exported model."""

from pathlib import Path

import gru_unlearn
from gru_unlearn.models.model_settings import ModelSettings
from gru_unlearn.results.manner import AdapterBase, Manner
from gru_unlearn.results.run_summary import RunRecord


def public_manner(model: Path, run: RunRecord, *, base_name: str | None, adapters: bool) -> Manner:
    """As stands beside the run's model, or, where an earlier version wrote none, as the run's settings say.

    Args:
        model: folder of the run's model.
        run: its summary.
        base_name: hub id of the adapters' base; None where it has no public name.
        adapters: whether adapters go out as adapters.
    """
    kept = Manner.beside(model)
    if kept is None:
        kept = Manner(asked=ModelSettings.among(run.settings).asked, version=gru_unlearn.__version__)
    manner = Manner(asked=kept.asked, version=kept.version)
    if adapters and run.model.sha256:
        manner.base = _public_base(kept.base, base_name, run.model.sha256)
    return manner


def _public_base(kept: AdapterBase | None, name: str | None, sha256: str) -> AdapterBase:
    """Under the name by which anybody finds it, at the commit that the run had where it had it from there."""
    base = AdapterBase(sha256=sha256)
    if name is not None:
        base.source = name
    if name is not None and kept is not None and kept.source == name:
        base.revision = kept.revision
    return base
