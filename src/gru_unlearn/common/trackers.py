"""Packages behind the names of ``--report-to``, looked for without importing them."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import NamedTuple

from gru_unlearn.errors import UserError


class Tracker(NamedTuple):
    """What a tracker is called elsewhere."""

    package: str
    """as it is installed"""
    modules: tuple[str, ...]
    """as it is imported; any of them will do"""


TRACKERS = {
    **{name: Tracker(name, (name,)) for name in ("clearml", "codecarbon", "dagshub", "dvclive", "kubeflow", "mlflow")},
    **{name: Tracker(name, (name,)) for name in ("neptune", "swanlab", "trackio", "wandb")},
    "azure_ml": Tracker("azureml-core", ("azureml",)),
    "comet_ml": Tracker("comet-ml", ("comet_ml",)),
    "flyte": Tracker("flytekit", ("flytekit",)),
    "tensorboard": Tracker("tensorboard", ("tensorboard", "tensorboardX")),
}
"""Name of a tracker in transformers → its package."""


def require_trackers(names: Iterable[object]) -> None:
    """Whether the packages of these trackers are there.

    Raises:
        UserError: the first that is not. Names of no tracker are passed over.
    """
    for name in names:
        tracker = TRACKERS.get(str(name))
        if tracker is not None and not any(map(find_spec, tracker.modules)):
            raise UserError(
                f"--report-to {name} needs the package {tracker.package}, which is missing: pip install "
                f"{tracker.package}, or leave it out"
            )
