"""[glance]: how images are found."""

from __future__ import annotations

from tavia.config import catalog

GROUP = "glance"
OPTIONS = catalog.options("Glance")
