"""What the daemon knows, as one small JSON file per object, written atomically: it survives any ``kill -9``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from tavia.cloud.local import wire

T = TypeVar("T")


class Records(Generic[T]):
    """The objects of one kind, in memory and in ``directory``. The caller serializes changes."""

    def __init__(self, directory: Path, decode: Callable[[Mapping[str, Any]], T]) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._objects = {path.stem: decode(json.loads(path.read_bytes())) for path in sorted(directory.glob("*.json"))}

    def __iter__(self) -> Iterator[T]:
        """All that there are now."""
        return iter(list(self._objects.values()))

    def get(self, object_id: str) -> T | None:
        """The object, or None."""
        return self._objects.get(object_id)

    def put(self, object_id: str, value: T) -> None:
        """Write it to disk, then remember it."""
        path = self._directory / f"{object_id}.json"
        write_atomically(path, json.dumps(wire.encode(value), indent=1).encode())
        self._objects[object_id] = value

    def remove(self, object_id: str) -> None:
        """Forget it; nothing when it is not there."""
        (self._directory / f"{object_id}.json").unlink(missing_ok=True)
        self._objects.pop(object_id, None)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content, for root's eyes only: who comes after a crash sees the old content or the new one."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_bytes(content)
    temporary.replace(path)
