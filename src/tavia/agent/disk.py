"""Files that are whole or not there, whatever is killed when."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Replace a file at once, readable by its owner only; ``durable``: it survives a power cut from now on."""
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
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
