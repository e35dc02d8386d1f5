"""The hub, for publishing: is the user logged in, is the name free, and the upload itself."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils._validators import validate_repo_id

from gru_unlearn.errors import UserError, first_line


class UploadError(Exception):
    """The folder is whole, but the hub did not take it. Exit code 1."""

    exit_code = 1


def check_repository(name: str, flag: str) -> None:
    """Whether a name is one that the hub could have.

    Raises:
        UserError: it is not.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"{flag}: {error}") from None
    if "/" not in name:
        raise UserError(f"{flag} {name}: expected OWNER/NAME")


def check_push(repository: str) -> None:
    """A user who is logged in, and a repository that is not there yet: nothing published is overwritten.

    Raises:
        UserError: neither is so, or the hub cannot be asked.
    """
    check_repository(repository, "--push")
    api = HfApi()
    try:
        api.whoami()
        exists = api.repo_exists(repository)
    except LocalTokenNotFoundError:
        raise UserError("--push: not logged in to the hub: run `hf auth login` first") from None
    except Exception as error:  # the hub client raises many types; each becomes one line
        raise UserError(f"--push: the hub cannot be asked ({first_line(error)})") from None
    if exists:
        raise UserError(f"--push {repository}: there is such a repository already: name a new one")


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a finished folder to a new repository; returns its address.

    Raises:
        UploadError: the hub did not take it.
    """
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Model and model card")
    except Exception as error:  # as above
        raise UploadError(
            f"exported to {folder}, but the upload failed ({first_line(error)}): "
            f"`hf upload {repository} {folder}` tries again"
        ) from None
    return str(address)
