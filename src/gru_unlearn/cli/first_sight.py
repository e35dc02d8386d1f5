"""What a request alone shows to be wrong, told before any library that takes seconds is imported."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from gru_unlearn.common.options import flag_of
from gru_unlearn.common.places import check_ledger_place, check_model_place, check_rows_place, sources_in
from gru_unlearn.errors import UserError


def only_shows(request: Any) -> bool:
    """Whether something is to be shown and nothing done: one of its fields that are for that (``shows``) is set."""
    if not is_dataclass(request):
        return False
    return any(getattr(request, one.name) for one in fields(request) if one.metadata.get("shows"))


def check_request(request: Any) -> None:
    """Fields of a request that name a ``place``, or that are ``needed``; then its own check, if it has one.

    Raises:
        UserError: nothing is there, or nothing was given, or what its own check finds.
    """
    for one in fields(request):
        value, flag = getattr(request, one.name), flag_of(one.name)
        if one.metadata.get("needed") and not value:
            raise UserError(f"no {one.name} given: pass {flag}")
        check = _PLACES.get(one.metadata.get("place", ""))
        several = value if isinstance(value, tuple) else filter(None, (value,))
        for place in several:
            if check is not None:
                check(str(place), flag)
    if hasattr(request, "check"):
        request.check()


def _check_rows(source: str, _flag: str) -> None:
    check_rows_place(source)


def _check_joined_rows(sources: str, _flag: str) -> None:
    for source in sources_in(sources):
        check_rows_place(source)


def _check_ledger(folder: str, _flag: str) -> None:
    check_ledger_place(Path(folder))


def _check_folder(folder: str, _flag: str) -> None:
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder")


def _check_file(file: str, flag: str) -> None:
    if not Path(file).is_file():
        raise UserError(f"{flag} {file}: no such file")


_PLACES: Mapping[str, Callable[[str, str], None]] = {
    "model": check_model_place,
    "rows": _check_rows,
    "joined rows": _check_joined_rows,
    "ledger": _check_ledger,
    "folder": _check_folder,
    "file": _check_file,
}
"""What a field's ``place`` may be → whether something is there."""
