"""What a request alone shows to be wrong, told before any library that takes seconds is imported."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from gru_unlearn.common.options import flag_of
from gru_unlearn.common.places import check_model_place, check_rows_place
from gru_unlearn.errors import UserError


def only_shows(request: Any) -> bool:
    """Whether something is to be shown and nothing done: one of its fields that are for that (``shows``) is set."""
    if not is_dataclass(request):
        return False
    return any(getattr(request, one.name) for one in fields(request) if one.metadata.get("shows"))


def check_request(request: Any) -> None:
    """Fields of a request that name a ``place``, or that are ``needed``; a request with a check of its own does that.

    Raises:
        UserError: nothing is there, or nothing was given.
    """
    if hasattr(request, "check"):
        request.check()
        return
    for one in fields(request):
        value, flag = getattr(request, one.name), flag_of(one.name)
        if one.metadata.get("needed") and not value:
            raise UserError(f"no {one.name} given: pass {flag}")
        check = _PLACES.get(one.metadata.get("place", ""))
        if check is not None and value:
            check(str(value), flag)


def _check_rows(source: str, _flag: str) -> None:
    check_rows_place(source)


def _check_folder(folder: str, _flag: str) -> None:
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder")


def _check_file(file: str, flag: str) -> None:
    if not Path(file).is_file():
        raise UserError(f"{flag} {file}: no such file")


_PLACES: Mapping[str, Callable[[str, str], None]] = {
    "model": check_model_place,
    "rows": _check_rows,
    "folder": _check_folder,
    "file": _check_file,
}
"""What a field's ``place`` may be → whether something is there."""
