"""How a rectifier hangs on a model and its optimizer: the parameters it spans, and hooks that do not keep it alive."""

import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

_ATTACHED: "weakref.WeakSet[Attachment]" = weakref.WeakSet()


def plain_name(name: str) -> str:
    """A parameter's name without what ``torch.compile`` puts into it."""
    return name.replace("_orig_mod.", "")


def unwrapped(optimizer: Any) -> tuple[Optimizer, "torch.amp.GradScaler | None"]:
    """The optimizer that steps, under a wrapper such as accelerate's, and the scaler that the wrapper steps it with.

    Raises:
        TypeError: it is no optimizer.
    """
    scaler = None
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        scaler = scaler or getattr(optimizer, "scaler", None)
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    return optimizer, scaler


class Attachment:
    """The parameters that a model trains and its optimizer holds, and a rectifier's hooks on both.

    Args:
        model: its ``named_parameters`` give the names.
        optimizer: the one that steps.

    Attributes:
        names: the parameters with their names.

    Raises:
        TypeError: the model is none.
        ValueError: the optimizer holds no trainable parameter of the model.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        self._model, self.optimizer = model, optimizer
        self.names = self._stepped_now()
        if not self.names:
            raise ValueError("the optimizer holds no trainable parameter of this model")
        self._seen = self._count_trainable()
        self._handles: list[RemovableHandle] = []
        self._warned = False

    def _stepped_now(self) -> dict[nn.Parameter, str]:
        stepped: set[int] = set()
        for group in self.optimizer.param_groups:
            stepped.update(map(id, group["params"]))
        return {
            p: plain_name(name) for name, p in self._model.named_parameters() if p.requires_grad and id(p) in stepped
        }

    def _count_trainable(self) -> int:
        return sum(sum(p.requires_grad for p in group["params"]) for group in self.optimizer.param_groups)

    def hang(
        self,
        owner: object,
        on_gradient: Callable[[nn.Parameter], None],
        before_step: Callable[..., None],
        after_step: Callable[..., None],
    ) -> None:
        """Call the owner's methods at each gradient and step for as long as somebody holds the owner."""
        self._handles += [p.register_post_accumulate_grad_hook(_weakly(on_gradient)) for p in self.names]
        self._handles.append(self.optimizer.register_step_pre_hook(_weakly(before_step)))
        self._handles.append(self.optimizer.register_step_post_hook(_weakly(after_step)))
        weakref.finalize(owner, _remove, self._handles).atexit = False
        _ATTACHED.add(self)

    def close(self) -> None:
        """Take the hooks off."""
        _remove(self._handles)
        _ATTACHED.discard(self)

    def check(self) -> None:
        """That it still hangs on all that steps, and alone: a second rectifier (a cell run twice) gets a warning.

        Raises:
            RuntimeError: it was closed.
            ValueError: the optimizer has got, or the model unfrozen, parameters that are not spanned.
        """
        if not self._handles:
            raise RuntimeError("this rectifier was closed: make a new one")
        if self._count_trainable() != self._seen:
            self._refuse_late_parameters()
        if not self._warned and any(self._meets(other) for other in list(_ATTACHED)):
            self._warned = True
            warnings.warn(
                "two GradientRectifiers hang on the same parameters, so that they are rectified twice: "
                "close() the one that is not needed",
                RuntimeWarning,
                stacklevel=4,
            )

    def _refuse_late_parameters(self) -> None:
        late = [name for p, name in self._stepped_now().items() if p not in self.names]
        if late:
            raise ValueError(
                f"{late[0]} (of {len(late)}) is trained only since after the rectifier was made, which does not know "
                "it: close() the rectifier and make a new one (state_dict() carries r over)"
            )
        self._seen = self._count_trainable()

    def _meets(self, other: "Attachment") -> bool:
        return other is not self and bool(other._handles) and not self.names.keys().isdisjoint(other.names)


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    """The method of an object that it does not keep alive."""
    reference = weakref.WeakMethod(method)

    def call(*args: Any) -> None:
        alive = reference()
        if alive is not None:
            alive(*args)

    return call


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
    handles.clear()
