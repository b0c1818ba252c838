"""Which values must not be shown: options declared secret, and URLs with a password."""

from __future__ import annotations

import re
from typing import Any

from oslo_config import cfg

_PASSWORD_IN_URL = re.compile(r"://[^/\s]*:[^/\s]*@")


def is_secret(option: cfg.Opt, value: Any) -> bool:
    """Whether this value of the option must not be shown."""
    return bool(option.secret or _PASSWORD_IN_URL.search(str(value)))
