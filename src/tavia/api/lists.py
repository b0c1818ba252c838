"""Lists as clients ask for them: filters, sorting, pages, fields and tags out of a request's query string.

Where Octavia's own lists go wrong (api-surface, "Lists") these do what was meant: links keep every parameter, the
previous page is the one before, and a parameter given twice is a client's mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, get_origin
from urllib.parse import parse_qsl, urlencode

import falcon
from annotated_types import Interval
from oslo_config import cfg
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, and_

from tavia.api.errors import ApiError
from tavia.model.attributes import Attribute, attributes
from tavia.store import schema
from tavia.store.listing import Listing, tagged
from tavia.store.schema import without_none

Filter = Callable[[str], ColumnElement[bool]]
"""Makes a condition of a parameter's text; ValueError where the text makes no sense."""

_TAG_FILTERS = {"tags": "all_of", "tags-any": "any_of", "not-tags": "not_all_of", "not-tags-any": "none_of"}
_PAGING = ("limit", "marker", "page_reverse")
_SORTING = ("sort", "sort_key", "sort_dir")
_REPEATABLE = frozenset({"fields", "sort", "sort_key", "sort_dir", *_TAG_FILTERS})
_BOOLEAN = TypeAdapter(bool)
_INTEGER = TypeAdapter(Annotated[int, Interval(ge=-(2**63), le=2**63 - 1)])
_NUMBER = TypeAdapter(float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request's list: what to read, what to show, and the parameters that links repeat."""

    listing: Listing
    fields: tuple[str, ...]
    parameters: tuple[tuple[str, str], ...]


class Lists:
    """Reads list requests of one resource. ``more`` are filters beside its own attributes."""

    def __init__(self, conf: cfg.ConfigOpts, resource: type[Any], more: Mapping[str, Filter] | None = None) -> None:
        self._settings = conf.api_settings
        self._resource = resource
        self._has_tags = "tags" in schema.TABLES[resource].c
        self._columns = {a.name: a for a in attributes(resource) if _is_plain(a)}
        self._filters: dict[str, Filter] = {name: _filter(resource, a) for name, a in self._columns.items()}
        if "loadbalancer_id" in self._filters:
            self._filters["load_balancer_id"] = self._filters["loadbalancer_id"]
        self._filters |= dict(more or {})

    def read(self, req: falcon.Request) -> Asked:
        """What the request asks for. Raises ApiError, and HTTPBadRequest for a bad limit or direction."""
        parameters = tuple(parse_qsl(req.query_string, keep_blank_values=True))
        given: dict[str, list[str]] = {}
        for name, value in parameters:
            given.setdefault(name, []).append(value)
        paging = given if self._settings.allow_pagination else {}
        return Asked(
            listing=Listing(
                conditions=tuple(self._conditions(given)),
                order=tuple(self._order(given)) if self._settings.allow_sorting else (),
                marker=paging["marker"][0] if paging.get("marker") else None,
                limit=self._limit(paging),
                backwards=_boolean(paging["page_reverse"][0]) if "page_reverse" in paging else False,
            ),
            fields=self.fields(given),
            parameters=parameters,
        )

    def fields(self, given: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
        """The attributes to show; none means all."""
        return tuple(given.get("fields", ())) if self._settings.allow_field_selection else ()

    def _conditions(self, given: Mapping[str, Sequence[str]]) -> Iterator[ColumnElement[bool]]:
        tags = {}
        for name, values in given.items():
            if len(values) > 1 and name not in _REPEATABLE:
                raise _bad_filter(name)
            if name in _TAG_FILTERS and self._has_tags:
                tags[_TAG_FILTERS[name]] = [tag for value in values for tag in value.split(",")]
            elif name not in (*_PAGING, *_SORTING, "fields") and self._settings.allow_filtering:
                yield self._condition(name, values[0])
        if tags and self._settings.allow_filtering:
            yield from tagged(self._resource, **tags)

    def _condition(self, name: str, value: str) -> ColumnElement[bool]:
        if name not in self._filters:
            raise _bad_filter(name)
        try:
            return self._filters[name](value)
        except (ValueError, OverflowError):
            raise _bad_filter(name) from None

    def _order(self, given: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, bool]]:
        for key, direction in _sort_pairs(given):
            if key not in self._columns:
                raise ApiError(400, f"The sort key '{key[:255]}' is not valid.")
            if direction not in ("asc", "desc"):
                raise falcon.HTTPBadRequest(description=f"The sort direction '{direction[:255]}' is not valid.")
            yield key, direction == "desc"

    def _limit(self, given: Mapping[str, Sequence[str]]) -> int | None:
        most = _number_of_items(self._settings.pagination_max_limit)
        if "limit" not in given:
            return most
        wanted = _number_of_items(given["limit"][0])
        return wanted if wanted is None or most is None else min(wanted, most)


def links(asked: Asked, ids: Sequence[str], url: str) -> list[dict[str, str]]:
    """Where the neighbouring pages are. A full page may be followed by an empty one (api-surface, "Lists")."""
    listing = asked.listing
    full = listing.limit is not None and len(ids) >= listing.limit
    forwards, backwards = (full, listing.marker is not None)
    if listing.backwards:
        forwards, backwards = backwards, forwards
    kept = [(name, value) for name, value in asked.parameters if name not in ("marker", "page_reverse")]
    found = []
    if forwards:
        after = [("marker", ids[-1])] if ids else []
        found.append({"rel": "next", "href": f"{url}?{urlencode([*kept, *after])}"})
    if backwards:
        before = [("marker", ids[0])] if ids else []
        found.append({"rel": "previous", "href": f"{url}?{urlencode([*kept, *before, ('page_reverse', 'True')])}"})
    return found


def bad_marker(marker: str) -> ApiError:
    """The marker names no object."""
    return ApiError(400, f"The marker '{marker[:255]}' is not valid.")


def _bad_filter(name: str) -> ApiError:
    return ApiError(400, f"One or more arguments are either duplicate or invalid: {name[:255]}")


def _number_of_items(text: str) -> int | None:
    """A limit; 0, a negative number and "infinite" are none."""
    if text == "infinite":
        return None
    try:
        number: int = _INTEGER.validate_python(text)
    except ValidationError:
        raise falcon.HTTPBadRequest(description=f"The limit '{text[:255]}' is not valid.") from None
    return number if number > 0 else None


def _sort_pairs(given: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for item in ",".join(given.get("sort", ())).split(","):
        if item:
            key, _, direction = item.partition(":")
            yield key, direction or "asc"
    keys = [key for key in ",".join(given.get("sort_key", ())).split(",") if key]
    directions = [direction for direction in ",".join(given.get("sort_dir", ())).split(",") if direction]
    for position, key in enumerate(keys):
        yield key, directions[position] if position < len(directions) else "asc"


def _boolean(text: str) -> bool:
    try:
        return _BOOLEAN.validate_python(text)
    except ValidationError:
        raise ApiError(400, f"Invalid input for field/attribute page_reverse. Value: '{text[:255]}'.") from None


def _is_plain(attribute: Attribute) -> bool:
    """Whether lists can be filtered and sorted by it: a column of one value that the API knows."""
    in_api = attribute.places.has("R") or attribute.places.has("C")
    return in_api and get_origin(without_none(attribute.type)) not in (list, dict)


def _filter(resource: type[Any], attribute: Attribute) -> Filter:
    column = schema.TABLES[resource].c[attribute.name]
    python_type = without_none(attribute.type)
    if python_type is datetime:
        return lambda text: _within_second(column, datetime.fromisoformat(text))
    if python_type is str or get_origin(python_type) is Literal or issubclass(python_type, StrEnum):
        return lambda text: column == text
    adapters: dict[Any, TypeAdapter[Any]] = {bool: _BOOLEAN, int: _INTEGER, float: _NUMBER}
    return lambda text: column == adapters[python_type].validate_python(text)


def _within_second(column: Any, moment: datetime) -> ColumnElement[bool]:
    """Times are stored more finely than they are shown."""
    start = moment.replace(tzinfo=None, microsecond=0)
    return and_(column >= start, column < start + timedelta(seconds=1))
