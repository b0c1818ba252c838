"""The tables: one for each resource of the model, built from its declaration, and the loop's own.

Alembic's migrations bring a database to what stands here; a test compares the two.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import MaxLen
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from tavia.model.attributes import Attribute, References, attributes
from tavia.model.resources import CHILDREN, Amphora, Configured, LoadBalancer
from tavia.store.clock import utcnow

metadata = MetaData()

TIMESTAMP = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def column_type(attribute: Attribute) -> TypeEngine[Any]:
    """The SQL type of a declared attribute: strings by their ``MaxLen``, lists and maps as JSON."""
    python_type = without_none(attribute.type)
    if get_origin(python_type) in (list, dict):
        return JSON(none_as_null=True)
    limit = attribute.marker(MaxLen)
    if get_origin(python_type) is Literal or python_type is str or issubclass(python_type, StrEnum):
        return String(limit.max_length if limit else 255)
    by_type: dict[Any, TypeEngine[Any]] = {bool: Boolean(), int: BigInteger(), float: Double(), datetime: TIMESTAMP}
    return by_type[python_type]


def without_none(annotation: Any) -> Any:
    """``X | None`` -> ``X``; anything else as it is."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(arm for arm in get_args(annotation) if arm is not type(None))
    return annotation


def _column(attribute: Attribute) -> Column[Any]:
    reference = attribute.marker(References)
    constraints: list[ForeignKey] = [ForeignKey(f"{reference.table}.id")] if reference else []
    nullable = without_none(attribute.type) is not attribute.type
    return Column(
        attribute.name,
        column_type(attribute),
        *constraints,
        primary_key=attribute.name == "id",
        nullable=nullable,
        onupdate=utcnow if attribute.name == "updated_at" else None,
    )


def _table(resource: type[Any], *extra: Any) -> Table:
    columns = [_column(a) for a in attributes(resource)]
    return Table(resource.table, metadata, *columns, *_list_indexes(resource), *extra)


def _list_indexes(resource: type[Any]) -> Iterator[Index]:
    """Lists come in order of creation: a project's (which quotas count too), and an operator's of all."""
    yield Index(f"ix_{resource.table}_created_at", "created_at")
    if any(a.name == "project_id" for a in attributes(resource)):
        yield Index(f"ix_{resource.table}_project", "project_id", "created_at")


def _child_indexes(resource: type[Configured]) -> Iterator[Index]:
    """Rows are found by their load balancer and by their parent."""
    for column in dict.fromkeys(("loadbalancer_id", resource.parent)):
        yield Index(f"ix_{resource.table}_{column.removesuffix('_id')}", column)


load_balancer = _table(
    LoadBalancer,
    Column("unattempted", Boolean, Computed("generation > attempted_generation", persisted=False)),
    Index("ix_load_balancer_unattempted", "unattempted"),
    Index("ix_load_balancer_due_at", "due_at"),
)
"""``unattempted`` is the database's own: workers, who look every second, find what is due by index."""
amphora = _table(Amphora, Index("ix_amphora_status", "status"), Index("ix_amphora_loadbalancer", "loadbalancer_id"))

TABLES: dict[type[Any], Table] = {
    LoadBalancer: load_balancer,
    **{child: _table(child, *_child_indexes(child)) for child in CHILDREN},
    Amphora: amphora,
}
"""A resource's table."""

pool, listener, health_monitor, member = (metadata.tables[n] for n in ("pool", "listener", "health_monitor", "member"))
"""For statements that are about just these."""

lease = Table(
    "lease",
    metadata,
    Column("loadbalancer_id", String(36), ForeignKey("load_balancer.id", ondelete="CASCADE"), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("until", Double, nullable=False),
    Column("written", String(48), nullable=False),
)
"""``written`` names the run of a transaction that wrote last under this lease: see :mod:`tavia.store.once`."""

accepted_change = Table(
    "accepted_change",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("run", Integer, nullable=False),
    Column("loadbalancer_id", String(36), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("accepted", Double, nullable=False),
    Index("ix_accepted_change_accepted", "accepted"),
)
"""Each change that was accepted, by its transaction: the proof that it was committed, see :mod:`tavia.store.once`."""

turn = Table(
    "turn",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("taken", BigInteger, nullable=False),
)
"""What transactions take turns at, by name: see :mod:`tavia.store.turns`."""

operation = Table(
    "operation",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("loadbalancer_id", String(36), nullable=False),
    Column("what", String(64), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("started", Double, nullable=False),
    Column("ended", Double),
    Column("seam", String(16)),
    Column("code", String(64)),
    Column("reason", Text),
    Column("host", String(255), nullable=False),
    Index("ix_operation_loadbalancer", "loadbalancer_id", "started"),
    Index("ix_operation_started", "started"),
)

step = Table(
    "step",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("operation_id", String(36), ForeignKey("operation.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("what", String(64), nullable=False),
    Column("seam", String(16), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("started", Double, nullable=False),
    Column("ended", Double),
    Column("code", String(64)),
    Column("reason", Text),
)

amphora_health = Table(
    "amphora_health",
    metadata,
    Column("amphora_id", String(36), ForeignKey("amphora.id", ondelete="CASCADE"), primary_key=True),
    Column("last_update", Double, nullable=False, index=True),
    Column("boot_count", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("bundle_hash", String(64)),
    Column("vrrp_state", String(16)),
    Column("peer_seen", Boolean),
    Column("haproxy_up", Boolean, nullable=False),
    Column("agent_version", String(64)),
    Column("start_id", String(36)),
    Column("no_carrier", String(512)),
)

COUNTERS = ("bytes_in", "bytes_out", "active_connections", "total_connections", "request_errors")
"""The statistics that are kept of each listener on each amphora."""

listener_statistics = Table(
    "listener_statistics",
    metadata,
    Column("listener_id", String(36), primary_key=True),
    Column("amphora_id", String(36), primary_key=True, index=True),
    Column("loadbalancer_id", String(36), nullable=False, index=True),
    *(Column(name, BigInteger, nullable=False) for name in COUNTERS),
)

deployment = Table(
    "deployment",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("created", Double, nullable=False),
    Column("single", Integer, nullable=False, unique=True),
)

service = Table(
    "service",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("name", String(64), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", Double, nullable=False),
    Column("seen", Double, nullable=False),
    Column("version", String(64), nullable=False),
    Column("config_hash", String(64), nullable=False),
    Column("config_group_hashes", JSON, nullable=False),
    Index("ix_service_seen", "seen"),
)
"""The processes of the controllers: who runs where, since when, and with which configuration."""
