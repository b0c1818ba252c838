"""Files that are whole or not there, whatever is killed when."""

from __future__ import annotations

import os
from pathlib import Path

from tavia.agent.accounts import Account
from tavia.amphora import paths


def own_run_dir() -> Path:
    """For what is gone after a reboot and no program is to see."""
    return Path(paths.RUN_DIR) / "agent"


def write(path: Path, content: bytes, *, durable: bool = False, reader: Account | None = None) -> None:
    """Replace a file at once, readable by the agent and ``reader``; ``durable``: it survives a power cut from now on.

    Where others may make files, what they put in the way is not written to.
    """
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        if reader:
            reader.give(fresh, 0o640)
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(path)
    if durable:
        _sync_directory(path.parent)


def read(path: Path) -> bytes | None:
    """The file's content, None when there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
