"""Where this machine has the bases of published adapters: those name no folder, so the cache has a note, by hash."""

from pathlib import Path

from gru_unlearn.common.files import UnreadableFile, default_cache, read_json, write_json


def remember_base(sha256: str, folder: Path) -> None:
    """Note where the model with this hash of its weights is; a cache that cannot be written is passed over."""
    try:
        write_json(_note(sha256), {"sha256": sha256, "folder": str(folder.resolve())})
    except OSError:
        return


def remembered_base(sha256: str) -> Path | None:
    """The folder that was noted, if it is still there. What is in it now is for others to check."""
    try:
        note = read_json(_note(sha256))
    except UnreadableFile:
        return None
    if not isinstance(note, dict) or note.get("sha256") != sha256:
        return None
    folder = Path(str(note.get("folder")))
    return folder if folder.is_dir() else None


def _note(sha256: str) -> Path:
    return default_cache() / "bases" / f"{sha256[:16]}.json"
