"""A model's files for others: copied, or converted, and compared with the model that they are of."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gru_unlearn.common.files import write_json
from gru_unlearn.data import Record
from gru_unlearn.errors import NonFiniteError, UserError, first_line
from gru_unlearn.evaluation.answers import score_answers
from gru_unlearn.evaluation.tasks import Task
from gru_unlearn.models.loading import load_model, load_tokenizer
from gru_unlearn.models.locating import ADAPTER_CONFIG, holds_adapters
from gru_unlearn.models.shared_weights import require_mergeable
from gru_unlearn.publishing.export_request import TYPES_TO_WRITE
from gru_unlearn.results.export_summary import Checks
from gru_unlearn.results.manner import Manner

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in TYPES_TO_WRITE}

COPIED = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "*.py")
"""What is copied of a model that is published as it is. Trainer's other files name folders of this machine."""

SEQUENCES, LENGTH = 4, 24
"""Fixed random token sequences on which log-probabilities are compared."""

MERGE_TOLERANCE = 1e-3
"""Largest accepted mean |Δ log p| of a token after merging in float32."""

BFLOAT16_TOLERANCE = 0.1
"""The same after a conversion from or to bfloat16, of which eight bits of each weight are left."""

ADAPTER_SHARE = 0.2
"""Merging may cost at most this share of what the adapters change: rounding must not undo the unlearning."""


@dataclass(frozen=True)
class ModelFiles:
    """A model to be published, and what should become of it."""

    folder: Path
    base: Path | None = None
    """folder of the base model, where ``folder`` holds adapters"""
    base_name: str | None = None
    """what published adapters call their base"""
    base_revision: str | None = None
    """which commit of that repository it is, where the run knows"""
    merge: bool = False
    dtype: str | None = None
    max_shard_size: str | None = None
    trust_remote_code: bool = False
    manner: Manner | None = None
    """how the run asked it, in public terms"""

    @property
    def adapters(self) -> bool:
        """Whether adapters are published."""
        return self.base is not None and not self.merge

    @property
    def is_of_adapters(self) -> bool:
        """Whether the run trained adapters."""
        return holds_adapters(self.folder)


def write_model_files(model: ModelFiles, out: Path, on_stage: Callable[[str], Any]) -> Checks:
    """Write weights, configuration and tokenizer to an empty folder, load them from scratch, and compare the scores.

    Raises:
        NonFiniteError: a weight or a score is NaN or infinite.
        UserError: the model does not load, or the conversion changes it more than it may.
        RuntimeError: the files do not score like what was written.
    """
    on_stage("Loading and scoring the run's model ...")
    loaded = _load(model, model.folder, merging=model.merge)
    original = _scores(loaded)
    loaded, conversion, tolerance = _convert_weights(model, loaded, original)
    scores = original
    if conversion:
        scores = _scores(loaded)
    change = (scores - original).abs()
    checks = Checks(
        tokens=len(scores),
        conversion=conversion,
        mean_change=float(change.mean()),
        largest_change=float(change.max()),
        tolerance=tolerance,
    )
    _refuse_change(model, checks)
    _write(model, loaded, out, converted=conversion is not None)
    del loaded
    on_stage("Loading the exported files from scratch, and scoring them ...")
    _compare(model, out, scores)
    return checks


def _refuse_change(model: ModelFiles, checks: Checks) -> None:
    if checks.conversion is None or checks.mean_change <= checks.tolerance:
        return
    other_way = ", or leave out --merge" if model.merge else ""
    raise UserError(
        f"{checks.conversion} changes log-probabilities by {checks.mean_change:.2g} on average, more than the "
        f"{checks.tolerance:.2g} that is accepted: pass --dtype float32{other_way}"
    )


def _write(model: ModelFiles, loaded: Any, out: Path, *, converted: bool) -> None:
    if model.adapters:
        _copy(model.folder, "*.safetensors", out)
        _copy(model.folder, ADAPTER_CONFIG, out)
    elif model.max_shard_size:
        loaded.save_pretrained(out, max_shard_size=model.max_shard_size)
    elif converted:
        loaded.save_pretrained(out)
    else:
        for pattern in COPIED:
            _copy(model.folder, pattern, out)
    write_beside_weights(model, out)


def write_beside_weights(model: ModelFiles, out: Path) -> None:
    """The tokenizer, and how the model was asked; adapters name their base only if anybody can find it so."""
    load_tokenizer(model.folder, trust_remote_code=model.trust_remote_code).save_pretrained(out)
    if model.manner is not None:
        model.manner.write_beside(out)
    if model.adapters:
        config = json.loads((out / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        public = {"base_model_name_or_path": model.base_name, "revision": model.base_revision}
        write_json(out / ADAPTER_CONFIG, config | public)


def _copy(folder: Path, pattern: str, out: Path) -> None:
    for file in folder.glob(pattern):
        shutil.copyfile(file, out / file.name)


def _compare(model: ModelFiles, out: Path, scores: torch.Tensor) -> None:
    """Whether the files load, and give the very scores of what was written."""
    load_tokenizer(out, trust_remote_code=model.trust_remote_code)
    difference = float((_scores(_load(model, out)) - scores).abs().max())
    if difference:
        raise RuntimeError(
            f"the exported files give other log-probabilities (by up to {difference:.2g}); not published"
        )


def _load(model: ModelFiles, folder: Path, *, merging: bool = False) -> Any:
    """The model in ``folder``, on the CPU: adapters on their base; float32 where they will be merged."""
    if not holds_adapters(folder):
        return load_model(folder, trust_remote_code=model.trust_remote_code)
    from peft import PeftModel  # noqa: PLC0415 - slow to import

    base = _load_base(model, "float32" if merging else "auto")
    try:
        return PeftModel.from_pretrained(base, folder)
    except Exception as error:  # as in load_model
        raise UserError(f"{folder}: the adapters do not load ({first_line(error)})") from error


def _load_base(model: ModelFiles, dtype: str = "auto") -> Any:
    assert model.base is not None
    return load_model(model.base, dtype=dtype, trust_remote_code=model.trust_remote_code)


def _convert_weights(model: ModelFiles, loaded: Any, original: torch.Tensor) -> tuple[Any, str | None, float]:
    """The model to write, what was done to it in words (None: nothing), and how much that may change scores."""
    if model.merge:
        return _merge(model, loaded, original)
    if model.dtype and loaded.dtype != DTYPES[model.dtype]:
        return _as(loaded, DTYPES[model.dtype]), f"conversion to {model.dtype}", BFLOAT16_TOLERANCE
    return loaded, None, 0.0


def _merge(model: ModelFiles, loaded: Any, original: torch.Tensor) -> tuple[Any, str, float]:
    """Merged in bfloat16, the sum would round much of a small change away. So it is made in float32, and what rounding
    to the base's type then costs is set against what the adapters do.
    """
    try:
        require_mergeable(loaded)
    except ValueError as error:
        raise UserError(f"--merge: {error}") from None
    with loaded.disable_adapter():
        effect = float((original - _scores(loaded)).abs().mean())
    dtype = DTYPES[model.dtype] if model.dtype else _load_base(model).dtype
    tolerance = MERGE_TOLERANCE
    if dtype != torch.float32:
        tolerance = max(MERGE_TOLERANCE, ADAPTER_SHARE * effect)
    words = f"merging the adapters in {str(dtype).removeprefix('torch.')}"
    return _as(loaded.merge_and_unload(), dtype), words, tolerance


def _as(model: Any, dtype: torch.dtype) -> Any:
    """Parameters only: tables of a model's positions stay in float32, as they do when it is loaded."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def _scores(model: Any) -> torch.Tensor:
    """Log-probabilities [N] of fixed random tokens.

    Raises:
        NonFiniteError: they, or the weights, are not finite.
    """
    model.eval()
    for parameter in model.parameters():  # to memory aligned alike: files place tensors differently, and bits follow
        parameter.data = parameter.data.clone()
    tasks = [Task(Record(), ids=ids, start=1) for ids in _fixed_tokens(model)]
    found = dict(score_answers(model, tasks, batch_size=1, share=False, pad_token_id=0))
    scores = torch.cat([torch.from_numpy(found[number].logps) for number in range(SEQUENCES)])
    if not (scores.isfinite().all() and all(parameter.isfinite().all() for parameter in model.parameters())):
        raise NonFiniteError("the run's model has weights or scores that are not finite: it is not published")
    return scores


def _fixed_tokens(model: Any) -> list[list[int]]:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", LENGTH)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocabulary, (SEQUENCES, min(LENGTH, limit)), generator=generator).tolist()
