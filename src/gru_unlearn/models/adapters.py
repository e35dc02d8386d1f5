"""Adapters on their base: found as :func:`gru_unlearn.models.locating.base_of` has it, and not by their own loader."""

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from gru_unlearn.models.locating import ADAPTER_CONFIG, base_of, read_object
from gru_unlearn.models.shared_weights import require_mergeable, untie
from gru_unlearn.models.weights import require_base

KIND = "CAUSAL_LM"


def load_merged(folder: Path, options: dict[str, Any]) -> Any:
    """The base of the adapters in a folder, loaded with ``options``, and the adapters merged into it.

    Raises:
        ValueError: they are adapters of another kind of model, or merging would change more than they do.
            Others as of the libraries that load.
    """
    from peft import PeftModel  # noqa: PLC0415 - slow to import

    kind = read_object(folder / ADAPTER_CONFIG, str(folder)).get("task_type")
    if kind not in (None, KIND):
        raise ValueError(f"adapters of the kind {kind}, not {KIND}")
    trusted = bool(options.get("trust_remote_code"))
    whole = base_of(folder, trust_remote_code=trusted)
    require_base(folder, whole)
    base: Any = AutoModelForCausalLM.from_pretrained(whole, **options)
    make_room(base, folder, trusted)
    adapted: Any = PeftModel.from_pretrained(base, folder)
    require_mergeable(adapted)
    merged: Any = adapted.merge_and_unload()
    untie(merged)
    for parameter in merged.parameters():  # those under adapters were frozen
        parameter.requires_grad_(parameter.is_floating_point())
    return merged


def make_room(base: Any, folder: Path, trust_remote_code: bool) -> None:
    """As peft's own loader does: for tokens that came with the adapters."""
    if not (folder / "tokenizer_config.json").is_file():
        return
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if len(tokenizer) > base.get_input_embeddings().weight.shape[0]:
        base.resize_token_embeddings(len(tokenizer), mean_resizing=base.device.type != "meta")
