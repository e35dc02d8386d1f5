"""What a run was given, beside what was in force."""

from pydantic import JsonValue

from gru_unlearn.results.file_model import FileModel, JsonObject
from gru_unlearn.results.run_folder import RunFolder


class StartedRun(FileModel):
    """What ``run.json`` says of a run's settings."""

    settings: JsonObject = {}


def given_settings(folder: RunFolder) -> dict[str, JsonValue]:
    """The settings that were not left to their defaults.

    Raises:
        UnreadableFile: the folder's ``run.json`` is broken.
    """
    started = StartedRun.read(folder.identity_file)
    return {} if started is None else started.settings
