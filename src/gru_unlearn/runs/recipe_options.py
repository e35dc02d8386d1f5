"""Options of a command that may stand in its recipe, beside the settings of the run."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from gru_unlearn.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")


def with_recipe(options: Options, settings: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """The options under those of a recipe file, whose other settings come back beside them; flags go before the file.

    Raises:
        UserError: an option in the file is not of its kind, or not what its field says.
    """
    typed = {name: value for name, value in asdict(options).items() if value not in (None, (), False)}
    in_file = {}
    for one in fields(options):
        value = settings.get(one.name)
        if isinstance(value, str) and one.default == ():  # of what may be many, one is written as it is
            value = [value]
        if value is not None:
            in_file[one.name] = value
    others = {name: value for name, value in settings.items() if name not in asdict(options)}
    return _validated(type(options), {**in_file, **typed}), others


def _validated(kind: type[Options], values: Mapping[str, Any]) -> Options:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"{problem['loc'][0]}: {problem['msg'][0].lower()}{problem['msg'][1:]}") from None
