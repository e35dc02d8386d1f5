"""From a GGUF file to a folder of safetensors: transformers reads it, and what it would leave out is refused."""

import io
from collections import Counter
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils.import_utils import is_gguf_available

from gru_unlearn.common.files import read_json, write_json
from gru_unlearn.errors import UserError, first_line
from gru_unlearn.models.completeness import require_whole
from gru_unlearn.objectives.causality import require_causal_config
from gru_unlearn.results.conversion import CONVERSION_FILE, PLAIN_TYPES, Conversion

ROTARY_FACTORS = "rope_freqs.weight"
"""How llama.cpp writes Llama 3's scaling of rotary positions; transformers passes over it."""
LIBRARIES = ("gguf", "transformers", "torch")


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself."""

    types: Mapping[str, int]
    """type → how many weights are stored in it, most first"""
    scaled_positions: str | None
    """what says that rotary positions are scaled; None: nothing does"""


def require_package(name: str) -> None:
    """Whether there is what reads GGUF.

    Raises:
        UserError: the package gguf is missing.
    """
    if not is_gguf_available():
        raise UserError(f"{name}: GGUF files need the package gguf, which is missing: pip install 'gru-unlearn[gguf]'")


def convert(file: Path, sha256: str, folder: Path, name: str) -> None:
    """Write a GGUF file's model into a folder: weights, configuration, tokenizer, and where they came from.

    Quantised weights become float32; those of 16 bits stay what they are.

    Raises:
        UserError: the package gguf is missing; the file is broken, holds no causal language model, or one that
            transformers does not read, or not as a whole.
    """
    require_package(name)
    try:
        with redirect_stderr(io.StringIO()):  # bars that no setting takes away
            header = _read_header(file)
            model = _read(file, header, name)
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except UserError:
        raise
    except Exception as error:  # files of many writers, and readers of many architectures; each becomes one line
        raise UserError(f"{name}: transformers does not read it ({first_line(error)})") from None
    stored = PLAIN_TYPES.get(next(iter(header.types)))
    if stored in ("float16", "bfloat16"):
        _keep_width(model, getattr(torch, stored))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _drop_tokens_without_embedding(folder / "tokenizer.json", model.get_input_embeddings().weight.shape[0])
    versions = {library: version(library) for library in LIBRARIES}
    conversion = Conversion(file=file.name, sha256=sha256, types=dict(header.types), versions=versions)
    conversion.write(folder / CONVERSION_FILE)


def _read_header(file: Path) -> Header:
    from gguf import GGUFReader  # noqa: PLC0415 - an optional package

    reader = GGUFReader(file)
    types: Counter[str] = Counter()
    for tensor in reader.tensors:
        types[tensor.tensor_type.name] += int(tensor.n_elements)
    if not types:
        raise ValueError("it holds no weights")
    return Header(dict(types.most_common()), _scaled_positions(reader))


def _scaled_positions(reader: Any) -> str | None:
    for tensor in reader.tensors:
        if tensor.name == ROTARY_FACTORS:
            return ROTARY_FACTORS
    for name, field in reader.fields.items():
        if name.endswith(".rope.scaling.type") and field.contents() != "none":
            return f"{name} = {field.contents()}"
    return None


def _read(file: Path, header: Header, name: str) -> Any:
    """A model as plain float32 tensors, of which nothing says any more that it was read from GGUF."""
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    require_causal_config(config, name)
    _require_same_positions(config, header, name)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
    )
    model, found = loaded
    require_whole(model, found["missing_keys"], name)
    _require_all_read(model, header, name)
    with torch.device("meta"):
        plain: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    return plain


def _require_same_positions(config: Any, header: Header, name: str) -> None:
    """A scaling of positions that transformers does not read would give a model that answers worse, and no error."""
    read = getattr(config, "rope_parameters", None) or {}
    if header.scaled_positions is not None and read.get("rope_type", "default") == "default":
        raise UserError(
            f"{name}: it scales its rotary positions ({header.scaled_positions}), which transformers does not read "
            "from GGUF: name the model's safetensors"
        )


def _require_all_read(model: nn.Module, header: Header, name: str) -> None:
    """Weights for which transformers has no place would be left out."""
    stored, read = sum(header.types.values()), sum(p.numel() for p in model.parameters())
    if stored > read:
        raise UserError(
            f"{name}: transformers reads {read} of its {stored} weights as a {type(model).__name__}, and would leave "
            "the others out: name the model's safetensors"
        )


def _drop_tokens_without_embedding(file: Path, embeddings: int) -> None:
    """The class that transformers builds a tokenizer with adds tokens of its own where the file has none like them."""
    content = read_json(file)
    if content is None:
        return
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < embeddings]
    write_json(file, content)


def _keep_width(model: Any, dtype: torch.dtype) -> None:
    """Hold what fits exactly into 16 bits in them, as the file does; norms may stand in float32 beside it."""
    for parameter in model.parameters():
        narrow = parameter.data.to(dtype)
        if torch.equal(narrow.float(), parameter.data):
            parameter.data = narrow
    model.config.dtype = dtype
