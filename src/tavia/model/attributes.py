"""How an attribute is declared: once, in the resource's dataclass.

``Annotated[int, Interval(ge=0, le=256), In("R C U N")] = 1`` tells the table (``store``), the validation, filters,
sort keys and OpenAPI (``api``) all that they need. Limits are ``annotated_types``; the markers here add what those
do not know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class In:
    """Where the API takes or shows an attribute, in the letters of api-surface.

    R in responses, C in POST, U in PUT, N nested in a larger POST; ``!`` behind a letter makes it mandatory there.
    An attribute without this marker is internal: a column that the API neither shows nor takes.
    """

    places: str

    def has(self, place: str) -> bool:
        """Whether the attribute exists in ``place`` (one of R, C, U, N)."""
        return any(word[0] == place for word in self.places.split())

    def needs(self, place: str) -> bool:
        """Whether the attribute must be given in ``place``."""
        return f"{place}!" in self.places.split()


@dataclass(frozen=True, slots=True)
class Format:
    """A value's form that ``annotated_types`` has no word for; the API's ``formats`` module checks it by its name."""

    name: str


UUID = Format("uuid")
IP = Format("ip")
CIDR = Format("cidr")
URL_PATH = Format("url_path")
DNS_NAME = Format("dns_name")
EXPECTED_CODES = Format("expected_codes")
HTTP_VERSION = Format("http_version")


@dataclass(frozen=True, slots=True)
class References:
    """The attribute holds the id of a row of ``table``, enforced by the database."""

    table: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """One declared attribute: its name, its type without markers, its markers and whether it has a default."""

    name: str
    type: Any
    markers: tuple[Any, ...]
    field: dataclasses.Field[Any]

    def marker(self, kind: type[M]) -> M | None:
        """The marker of class ``kind``, or None."""
        return next((m for m in self.markers if isinstance(m, kind)), None)

    @property
    def places(self) -> In:
        """Where the API has it; nowhere for an internal one."""
        return self.marker(In) or In("")


_known: dict[type[Any], tuple[Attribute, ...]] = {}


def attributes(resource: type[Any]) -> tuple[Attribute, ...]:
    """All attributes of a resource's dataclass, in the order of declaration."""
    if resource not in _known:
        _known[resource] = tuple(_declared(resource))
    return _known[resource]


def _declared(resource: type[Any]) -> Iterator[Attribute]:
    hints = get_type_hints(resource, include_extras=True)
    for field in dataclasses.fields(resource):
        hint = hints[field.name]
        markers = getattr(hint, "__metadata__", ())
        yield Attribute(field.name, hint.__origin__ if markers else hint, tuple(markers), field)
