"""One run of OpenUnlearning's ``src/train.py``, for ``same_run.py``, in that project's environment:

    python same_run_there.py CHECKOUT ORDER.json OUT OVERRIDE...

Nothing of it is replaced but which rows come when: ORDER.json holds, for each epoch, pairs of a forget row and a retain
row. What every call of its ``compute_loss`` returns is noted in OUT/losses.json.
"""

import importlib.machinery
import importlib.util
import json
import runpy
import sys
import types
from functools import wraps
from pathlib import Path

import transformers
from torch.utils.data import Sampler

NOT_NEEDED = ("deepspeed", "lm_eval", "lm_eval.models", "lm_eval.models.hf_vlms", "lm_eval.tasks")
"""It imports them whatever it is asked for."""


class Placeholder(types.ModuleType):
    """Stands for a library that is not installed: every name in it is a class without anything."""

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.__path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class InOrder(Sampler):
    """The pairs of one epoch after the other."""

    def __init__(self, epochs):
        self.size, self.epochs = len(epochs[0]), iter(epochs)

    def __iter__(self):
        return iter(next(self.epochs))

    def __len__(self):
        return self.size


def put_placeholders():
    missing = {name for name in NOT_NEEDED if "." not in name and importlib.util.find_spec(name) is None}
    for name in NOT_NEEDED:
        if name.split(".")[0] in missing:
            sys.modules[name] = Placeholder(name)


def take_order(epochs):
    """Rows come in this order, instead of one drawn there."""
    from data.unlearn import ForgetRetainDataset  # noqa: PLC0415 - of the checkout

    def pair(self, indices):
        forget, retain = indices
        return {"forget": self.forget[forget], "retain": self.retain[retain]}

    ForgetRetainDataset.__getitem__ = pair
    transformers.Trainer._get_train_sampler = lambda _trainer: InOrder(epochs)


def note_losses(trainers):
    """A list that grows by every batch's loss."""
    noted = []

    def noting(compute_loss):
        @wraps(compute_loss)
        def noted_loss(*args, **kwargs):
            found = compute_loss(*args, **kwargs)
            loss = found[0] if isinstance(found, tuple) else found
            noted.append({"loss": loss.item()})
            return found

        return noted_loss

    for trainer in set(trainers):
        if trainer is not transformers.Trainer and "compute_loss" in vars(trainer):
            trainer.compute_loss = noting(trainer.compute_loss)
    return noted


def main():
    checkout, order, out, *overrides = sys.argv[1:]
    put_placeholders()
    source = Path(checkout) / "src"
    sys.path.insert(0, str(source))
    from trainer import TRAINER_REGISTRY  # noqa: PLC0415 - of the checkout

    take_order(json.loads(Path(order).read_text(encoding="utf-8")))
    noted = note_losses(TRAINER_REGISTRY.values())
    sys.argv = [str(source / "train.py"), "--config-name=unlearn.yaml", f"hydra.run.dir={out}", *overrides]
    runpy.run_path(sys.argv[0], run_name="__main__")
    (Path(out) / "losses.json").write_text(json.dumps(noted), encoding="utf-8")


if __name__ == "__main__":
    main()
