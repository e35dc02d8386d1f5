"""What is fetched of a model on the hub: weights as safetensors, whatever a tokenizer may need, and code if asked."""

from pathlib import Path

from gru_unlearn.errors import UserError, first_line

LOADED_FILES = [
    "*.safetensors",
    "*.json",  # configurations, indices of shards, tokenizers and their vocabularies
    "*.jinja",  # chat templates, those in additional_chat_templates/ too
    *("*.model", "*.txt", "*.tiktoken", "*.spm", "*.bpe", "*.codes"),  # vocabularies and merges
    "README.md",
]
CODE = "*.py"
NOT_LOADED = ["*/*.safetensors"]
"""A second form of the weights, in a folder inside of the model's."""


def fetch(model: str, name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Path:
    """The folder of a hub model's files, all of one commit: code of its own is among them if it may be run.

    Args:
        model: hub id.
        name: for messages.
        revision: commit, branch or tag; None: the newest.
        trust_remote_code: whether code may be run.

    Raises:
        UserError: the hub does not give it.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only for hub models

    wanted = [*LOADED_FILES, CODE] if trust_remote_code else LOADED_FILES
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=wanted, ignore_patterns=NOT_LOADED))
    except Exception as error:  # the hub client raises many types; each becomes one line
        reason = first_line(error)
        raise UserError(f"{name}: no such folder, and the hub does not give it ({reason})") from None


def fetched(model: str, revision: str) -> Path | None:
    """The folder of a hub model's commit, if it was fetched before."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only for hub models

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except Exception:  # as above; here each says that it is not there
        return None


def commit_of(folder: Path) -> str | None:
    """The commit of a folder that :func:`fetch` gave; None for any other."""
    return folder.name if folder.parent.name == "snapshots" else None
