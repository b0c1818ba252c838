"""What a server is given at its boot: files, as cloud-init's user data. Pure.

It is ``#cloud-config`` and one line of JSON, which is YAML too: cloud-init reads it, and an image without cloud-init
can, with any JSON parser.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from tavia.model.seams import Seam, SeamError

LARGEST = 65535
"""Bytes of user data, in base64, that Nova takes."""


def user_data(files: Mapping[str, bytes]) -> str:
    """The files (path -> content), for root alone, as Nova wants them. Raises SeamError (boot, user-data-too-large)."""
    written = [
        {
            "path": path,
            "owner": "root:root",
            "permissions": "0600",
            "encoding": "b64",
            "content": base64.b64encode(content).decode(),
        }
        for path, content in sorted(files.items())
    ]
    encoded = base64.b64encode(f"#cloud-config\n{json.dumps({'write_files': written})}\n".encode()).decode()
    if len(encoded) > LARGEST:
        sizes = ", ".join(f"{path}: {len(content)}" for path, content in sorted(files.items()))
        message = f"an amphora's files take {len(encoded)} bytes of user data, Nova takes {LARGEST}; in bytes: {sizes}"
        raise SeamError(Seam.BOOT, "user-data-too-large", message, permanent=True)
    return encoded
