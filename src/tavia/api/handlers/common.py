"""What all resources share: reading lists and objects, and how a change of a child is accepted.

A handler names its resource and its URLs, and fills in what is its own: attributes that come from other rows
(``related``), rules (``settled``), ancestors (``touch``), creation (``create``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs

import falcon
from oslo_config import cfg
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Connection, Select, select

from tavia.api import rules
from tavia.api.access import Access, access_of
from tavia.api.bodies import Body, read_json
from tavia.api.changes import Changes
from tavia.api.errors import ApiError, immutable, invalid_input, not_found
from tavia.api.lists import Filter, Lists, bad_marker, links
from tavia.api.views import only, view
from tavia.api.vips import Vips
from tavia.store import intents, listing, reading, schema
from tavia.store.database import Database

Related = Mapping[str, Mapping[str, Any]]
"""Attributes that come from other rows, by the object's id."""

Missing = Callable[[str, str], Exception]
"""Makes the error that says that there is no such object, of its title and id."""

Paths = Mapping[str, str | None]
"""A handler's URLs below its prefixes, each with its suffix: ``on_get_<suffix>`` and so on answer there."""

LBAAS = ("/v2/lbaas", "/v2.0/lbaas", "/v2", "/v2.0")
OCTAVIA = ("/v2/octavia", "/v2.0/octavia")

_BOOLEAN = TypeAdapter(bool)


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    """What every handler works with."""

    conf: cfg.ConfigOpts
    database: Database
    changes: Changes
    vips: Vips

    @property
    def heartbeat_timeout(self) -> float:
        """Seconds of silence after which an amphora counts as silent."""
        seconds: float = self.conf.health_manager.heartbeat_timeout
        return seconds


class Reader:
    """GET of a collection and of one object."""

    resource: ClassVar[type[Any]]
    paths: ClassVar[Paths]
    prefixes: ClassVar[Sequence[str]] = LBAAS
    filters: ClassVar[Mapping[str, Filter]] = {}

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.policy_word = self.resource.names.word
        self.lists = Lists(backend.conf, self.resource, self.filters)

    def scope(self, conn: Connection, **parents: str) -> Sequence[ColumnElement[bool]]:
        """Conditions that the path sets; a handler whose objects lie below others checks those here."""
        return ()

    def related(self, conn: Connection, rows: Sequence[Any], ids: Select[tuple[str]]) -> Related:
        """What the rows show beside their own attributes, in a fixed number of queries; ``ids`` selects theirs."""
        return {}

    def show(self, conn: Connection, row: Any) -> dict[str, Any]:
        """One object as clients see it."""
        table = schema.TABLES[self.resource]
        related = self.related(conn, [row], select(table.c.id).where(table.c.id == row.id))
        return view(row, related.get(row.id))

    def find(self, conn: Connection, object_id: str, **parents: str) -> Any:
        """The row of an object. Raises ApiError 404."""
        row = reading.find(conn, self.resource, object_id, *self.scope(conn, **parents))
        if row is None:
            raise not_found(self.resource.names.title, object_id)
        return row

    def reach(self, conn: Connection, access: Access, object_id: str, **parents: str) -> Any:
        """The row of an object that the caller may act on as the route's rule says. Raises ApiError 404, 403."""
        row = self.find(conn, object_id, **parents)
        access.check(row.project_id)
        return row

    def allowed(self, req: falcon.Request, object_id: str, **parents: str) -> Any:
        """As :meth:`reach`, in a transaction of its own, ahead of the one that accepts a change."""
        with self.backend.database.read() as conn:
            return self.reach(conn, access_of(req), object_id, **parents)

    def listed(self, conn: Connection, req: falcon.Request, **parents: str) -> Sequence[ColumnElement[bool]]:
        """Conditions for what the caller may see of the collection. Raises ApiError 403, and 404 for a parent."""
        project_id = access_of(req).project_of_list(req.get_param("project_id"))
        return () if project_id is None else (schema.TABLES[self.resource].c.project_id == project_id,)

    def on_get(self, req: falcon.Request, resp: falcon.Response, **parents: str) -> None:
        """A page of the collection."""
        asked = self.lists.read(req)
        with self.backend.database.read() as conn:
            wanted = dataclasses.replace(asked.listing, scope=self.listed(conn, req, **parents))
            try:
                rows, ids = listing.page(conn, self.resource, wanted)
            except listing.NoSuchMarker:
                raise bad_marker(wanted.marker or "") from None
            related = self.related(conn, rows, ids)
        shown = [only(view(row, related.get(row.id)), asked.fields) for row in rows]
        neighbours = links(asked, [row.id for row in rows], f"{self.base_url(req)}{req.path}")
        resp.media = {self.resource.names.words: shown, f"{self.resource.names.words}_links": neighbours}

    def on_get_one(self, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        """One object."""
        object_id = path.pop(self.resource.names.parameter)
        fields = self.lists.fields(parse_qs(req.query_string))
        with self.backend.database.read() as conn:
            row = self.reach(conn, access_of(req), object_id, **path)
            resp.media = {self.resource.names.word: only(self.show(conn, row), fields)}

    def base_url(self, req: falcon.Request) -> str:
        """Where links begin."""
        configured: str | None = self.backend.conf.api_settings.api_base_uri
        return configured.rstrip("/") if configured else req.prefix


class Writer(Reader):
    """POST, PUT and DELETE too. Bodies come from the declarations; what they do, from the handlers."""

    post_body: Body
    put_body: Body

    def on_post(self, req: falcon.Request, resp: falcon.Response, **parents: str) -> None:
        """A new object."""
        body = self.post_body.parse(self.document(req), self.resource.names.argument, self.resource.names.word)
        resp.media = {self.resource.names.word: self.create(req, body, **parents)}
        resp.status = falcon.HTTP_201

    def on_put_one(self, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        """New values for some of an object's attributes."""
        object_id = path.pop(self.resource.names.parameter)
        body = self.put_body.parse(self.document(req), self.resource.names.argument, self.resource.names.word)
        resp.media = {self.resource.names.word: self.update(req, object_id, body, **path)}

    def on_delete_one(self, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        """The object is to go."""
        self.delete(req, path.pop(self.resource.names.parameter), **path)
        resp.status = falcon.HTTP_204

    def document(self, req: falcon.Request) -> Any:
        """What the request's body says. Raises as read_json."""
        return read_json(req, self.backend.conf.oslo_middleware.max_request_body_size)

    def create(self, req: falcon.Request, body: dict[str, Any], **parents: str) -> dict[str, Any]:
        """Accept a new object; what the answer shows."""
        raise NotImplementedError

    def update(self, req: falcon.Request, object_id: str, body: dict[str, Any], **parents: str) -> dict[str, Any]:
        """Accept new values; what the answer shows."""
        raise NotImplementedError

    def delete(self, req: falcon.Request, object_id: str, **parents: str) -> None:
        """Accept the object's deletion."""
        raise NotImplementedError


class ChildWriter(Writer):
    """An object below a load balancer: changing it is a change of the load balancer."""

    def settled(self, conn: Connection, old: Any, new: Any) -> Any:
        """The changed object as the rules have it. Raises ApiError."""
        return new

    def touch(self, conn: Connection, row: Any, generation: int) -> None:
        """Set the ancestors pending, but for the load balancer, which is already."""

    def take_down(self, conn: Connection, row: Any, generation: int) -> None:
        """What else goes, or changes, when the object goes."""

    def update(self, req: falcon.Request, object_id: str, body: dict[str, Any], **parents: str) -> dict[str, Any]:
        """Change it and its ancestors, at one generation."""

        def work(conn: Connection, generation: int) -> dict[str, Any]:
            old = self.find(conn, object_id)
            if old.deleted_generation is not None:
                raise immutable(self.resource.names.title, object_id)
            new = self.settled(conn, old, dataclasses.replace(old, **body))
            values = rules.differences(old, new)
            intents.change(conn, self.resource, [object_id], generation, **values)
            self.touch(conn, new, generation)
            return self.show(conn, self.find(conn, object_id))

        owner: str = self.allowed(req, object_id, **parents).loadbalancer_id
        return self.backend.changes.change_below(owner, work)

    def delete(self, req: falcon.Request, object_id: str, **parents: str) -> None:
        """Mark it, and what goes with it; again too while it is under way."""

        def work(conn: Connection, generation: int) -> None:
            row = self.find(conn, object_id)
            intents.mark_deleted(conn, self.resource, [object_id], generation)
            self.take_down(conn, row, generation)
            self.touch(conn, row, generation)

        self.backend.changes.change_below(self.allowed(req, object_id, **parents).loadbalancer_id, work)


def parent(backend: Backend, req: falcon.Request, resource: type[Any], object_id: str) -> Any:
    """As :func:`parent_in`, ahead of the transaction that accepts a change."""
    with backend.database.query() as conn:
        return parent_in(conn, req, resource, object_id)


def parent_in(
    conn: Connection, req: falcon.Request, resource: type[Any], object_id: str, missing: Missing = not_found
) -> Any:
    """The object whose children the caller may act on as the route says. Raises ApiError 404 (``missing``), 403."""
    return reachable(req, reading.find(conn, resource, object_id), resource, object_id, missing)


def reachable(req: falcon.Request, row: Any, resource: type[Any], object_id: str, missing: Missing = not_found) -> Any:
    """The same of a row that was read, None where there was none."""
    if row is None:
        raise missing(resource.names.title, object_id)
    access_of(req).check(row.project_id)
    return row


def in_use(conn: Connection, resource: type[Any], object_id: str, loadbalancer_id: str) -> Any:
    """An object that another is to refer to: of this load balancer, and not on its way out. Raises ApiError."""
    return still_in_use(reading.find(conn, resource, object_id), resource, object_id, loadbalancer_id)


def still_in_use(row: Any, resource: type[Any], object_id: str, loadbalancer_id: str) -> Any:
    """The same of a row that was read, None where there was none."""
    if row is None or row.loadbalancer_id != loadbalancer_id:
        raise not_found(resource.names.title, object_id)
    if row.deleted_generation is not None:
        raise immutable(resource.names.title, object_id)
    return row


def flag(req: falcon.Request, name: str) -> bool:
    """A true/false parameter of the URL, false when it is missing. Raises ApiError."""
    values = parse_qs(req.query_string, keep_blank_values=True).get(name, ["false"])
    if len(values) > 1:
        raise ApiError(400, f"One or more arguments are either duplicate or invalid: {name}")
    try:
        return _BOOLEAN.validate_python(values[0])
    except ValidationError:
        raise invalid_input(name, values[0], "Value is not an unambiguous boolean") from None
