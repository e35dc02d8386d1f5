"""The base of everything that stands in a file: checked where it is read or written, and nowhere else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue, ValidationError

from gru_unlearn.common.files import UnreadableFile, read_json, write_json

T = TypeVar("T")
Number = int | float


class IncompleteFile(UnreadableFile):
    """A file that lacks what it should hold, or holds it in another form: most likely one of another version."""


def as_json(content: Any) -> Any:
    """A value as it will be when it is read back: tuples are lists, paths and types of numbers are text."""
    return json.loads(json.dumps(content, default=str))


JsonObject = Annotated[dict[str, JsonValue], BeforeValidator(as_json)]
"""Settings, or whatever else has names of its own: an object as JSON knows it."""


class FileModel(BaseModel):
    """What stands in a JSON file, or in a part of one.

    Only what was set is written: a key that was never measured stays away. Keys of other versions are kept as they are.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    def model_post_init(self, _context: Any) -> None:
        """The command that wrote a summary is always written."""
        if "command" in type(self).model_fields:
            self.model_fields_set.add("command")

    def to_json(self) -> dict[str, JsonValue]:
        """As it stands in the file."""
        return self.model_dump(mode="json", exclude_unset=True)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            ValueError: a number in it is NaN or infinite; nothing is written.
        """
        # In Python's own numbers: as JSON, pydantic would write NaN as null, and nobody would notice.
        write_json(path, self.model_dump(exclude_unset=True))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The file's content, or None where there is no such file.

        Raises:
            UnreadableFile: it is not JSON.
            IncompleteFile: it lacks what it should hold.
        """
        content = read_json(path)
        if content is None:
            return None
        return validated(path, content, cls.model_validate)


class JobSummary(FileModel):
    """What a finished job leaves in ``summary.json``, and when it was finished."""

    finished: str | None = None
    """UTC in ISO form, to the second; earlier versions did not say it"""


def validated(path: Path, content: object, validate: Callable[[object], T]) -> T:
    """A file's content as a type.

    Raises:
        IncompleteFile: it lacks what it should hold.
    """
    try:
        return validate(content)
    except ValidationError as error:
        raise IncompleteFile(f"{path}: {first_problem(error)}; was it written by another version?") from None


def first_problem(error: ValidationError) -> str:
    """Where a file is not as it should be, in a few words."""
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"])) or "its content"
    if problem["type"] == "missing":
        return f"it lacks {place}"
    return f"{place}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
