"""Whether files hold all weights of a model: a loader would make up the others at random."""

from collections.abc import Collection

from torch import nn

from gru_unlearn.errors import UserError


def require_whole(model: nn.Module, missing: Collection[str], name: str) -> None:
    """Weights that the files lack would be random ones: those of the head, where something else was saved.

    Args:
        model: as loaded.
        missing: names that its loader found in no file.
        name: of folder or file, for messages.

    Raises:
        UserError: there are such weights.
    """
    lacking = sorted(set(missing) & dict(model.named_parameters()).keys())
    if not lacking:
        return
    count = f"{len(lacking)} weights of a {type(model).__name__}, such as {lacking[-1]}"
    raise UserError(f"{name}: its files lack {count}: only causal language models, saved whole, can be used here")
