"""Recipes as they stand in YAML files: plain data, no name twice, and one line for whatever is wrong."""

from pathlib import Path
from typing import Any

import yaml

from gru_unlearn.errors import UserError


def read_recipe(path: str) -> dict[str, Any]:
    """Settings of a YAML file.

    Raises:
        UserError: not there, not YAML, or not a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"recipe {path} cannot be read: {problem}") from None
    content = parse_yaml(text, f"recipe {path}")
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"recipe {path}: expected lines of the form 'setting: value'")
    return content


def parse_yaml(text: str, what: str) -> Any:
    """What YAML says; ``what`` it is, for messages.

    Raises:
        UserError: it is not YAML, or more than plain data.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        if mark is not None:
            what += f", line {mark.line + 1}"
        problem = " ".join(str(getattr(error, "problem", error)).split())[:200]
        raise UserError(f"{what}: not valid YAML ({problem})") from None
    except RecursionError:
        raise UserError(f"{what}: not valid YAML (nested too deeply)") from None
    except Exception as error:  # of numbers, dates and the like that are none
        raise UserError(f"{what}: not valid YAML ({' '.join(str(error).split())})") from None


class _Loader(yaml.SafeLoader):
    """Plain data only, and no name twice: YAML would keep the last value without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in names:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} stands there twice", problem_mark=key.start_mark
                )
            names.add(key.value)
        return super().construct_mapping(node, deep)
