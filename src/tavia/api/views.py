"""How objects look in answers: every attribute that the model declares for responses, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from tavia.api.later import LATER
from tavia.model.attributes import attributes
from tavia.model.resources import Listener, Member, Pool
from tavia.model.tree import Tree


def view(row: Any, related: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An object as clients see it. ``related`` are attributes that come from other rows."""
    shown = {name: _shown(getattr(row, name)) for name in _names(type(row))}
    shown |= _neutral(type(row)) | dict(related or {})
    if "project_id" in shown:
        shown["tenant_id"] = shown["project_id"]
    return shown


def only(shown: Mapping[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """The attributes that were asked for; all of them where none was."""
    return {name: value for name, value in shown.items() if not fields or name in fields}


def ids(object_ids: Collection[str]) -> list[dict[str, str]]:
    """References to other objects."""
    return [{"id": object_id} for object_id in object_ids]


_known: dict[type[Any], tuple[str, ...]] = {}


def _names(resource: type[Any]) -> tuple[str, ...]:
    if resource not in _known:
        _known[resource] = tuple(a.name for a in attributes(resource) if a.places.has("R"))
    return _known[resource]


def _neutral(resource: type[Any]) -> dict[str, Any]:
    later = LATER.get(resource)
    if later is None:
        return {}
    neutral = later()
    return {a.name: getattr(neutral, a.name) for a in attributes(later) if a.places.has("R")}


def _shown(value: Any) -> Any:
    return value.strftime("%Y-%m-%dT%H:%M:%S") if isinstance(value, datetime) else value


def status_tree(tree: Tree) -> dict[str, Any]:
    """Load balancer > listeners > pools > monitor and members, each with its statuses (api-surface, "Statuses")."""
    pools = {pool.id: pool for pool in tree.of(Pool)}
    listeners = [
        _status(listener) | {"pools": [_pool_status(tree, pools[pool_id]) for pool_id in _pool_ids(listener)]}
        for listener in tree.of(Listener)
    ]
    return _status(tree.loadbalancer) | {"listeners": listeners}


def _pool_ids(listener: Any) -> Iterator[str]:
    if listener.default_pool_id is not None:
        yield listener.default_pool_id


def _pool_status(tree: Tree, pool: Any) -> dict[str, Any]:
    status = _status(pool)
    if monitor := tree.monitor_of(pool.id):
        status["health_monitor"] = _status(monitor, "type")
    return status | {"members": [_status(m, "address", "protocol_port") for m in tree.below(Member, pool.id)]}


def _status(row: Any, *more: str) -> dict[str, Any]:
    names = ("id", "name", "operating_status", "provisioning_status", *more)
    return {name: getattr(row, name) for name in names}
