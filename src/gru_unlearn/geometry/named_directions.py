"""Directions as plain tensors for checkpoints, by their parameters' names and what kind of direction they are of."""

from collections.abc import Mapping

from torch import Tensor, nn

from gru_unlearn.geometry.attachment import plain_name
from gru_unlearn.geometry.direction import Direction
from gru_unlearn.geometry.sharding import distribute


def named_tensors(directions: Mapping[str, Direction], names: Mapping[nn.Parameter, str]) -> dict[str, Tensor]:
    """Copies of all tensors that are not zero.

    Args:
        directions: by what stands behind a parameter's name: ``""``, ``@0``, ``@momentum``.
        names: of the parameters that they span.
    """
    found = {}
    for kind, direction in directions.items():
        for param, tensor in direction.copies():
            found[names[param] + kind] = tensor
    return found


def put_named(
    saved: Mapping[str, Tensor], directions: Mapping[str, Direction], names: Mapping[nn.Parameter, str]
) -> None:
    """Put what :func:`named_tensors` gave into directions that are empty.

    Raises:
        ValueError: an unknown parameter name, or another shape.
    """
    places: dict[str, tuple[nn.Parameter, Direction]] = {}
    for kind, direction in directions.items():
        places |= {name + kind: (param, direction) for param, name in names.items()}

    for saved_name, tensor in saved.items():
        name = plain_name(saved_name)
        if name not in places:
            raise ValueError(f"the saved retain direction has a parameter that is not trained here: {name}")
        param, direction = places[name]
        if tensor.shape != param.shape:
            raise ValueError(f"{name}: saved shape {tuple(tensor.shape)}, here {tuple(param.shape)}")
        direction.put(param, distribute(tensor, param))
