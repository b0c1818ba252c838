"""The bodies that the API takes, each built from a resource's declaration; nested ones are put together here.

Each is built once in a process: pydantic takes long over it.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Required

from annotated_types import Interval, MaxLen
from oslo_config import cfg
from pydantic import TypeAdapter

from tavia.api.bodies import LARGEST_INT, Body, closed_dict, format_check, list_of
from tavia.model.attributes import UUID
from tavia.model.protocols import PersistenceType
from tavia.model.resources import Configured, HealthMonitor, Listener, LoadBalancer, Member, Pool

_TIMEOUTS = ("timeout_client_data", "timeout_member_connect", "timeout_member_data", "timeout_tcp_inspect")

_PERSISTENCE: dict[str, Any] = {
    "cookie_name": Annotated[str, MaxLen(255), format_check("cookie_name")],
    "persistence_timeout": Annotated[int, Interval(ge=0, le=LARGEST_INT)],
    "persistence_granularity": Annotated[str, format_check("ip")],
}
_AdditionalVip = closed_dict(
    "AdditionalVip",
    {
        "subnet_id": Required[Annotated[str, format_check(UUID.name)]],
        "ip_address": Annotated[str, format_check("ip")],
    },
)
_PersistencePost = closed_dict("SessionPersistencePost", {"type": Required[PersistenceType]} | _PERSISTENCE)
_PersistencePut = closed_dict("SessionPersistencePut", {"type": PersistenceType} | _PERSISTENCE)


Timeouts = tuple[tuple[str, int], ...]


def timeouts(conf: cfg.ConfigOpts) -> Timeouts:
    """What [haproxy_amphora] says where a listener names no timeout."""
    return tuple((name, conf.haproxy_amphora[name]) for name in _TIMEOUTS)


@cache
def loadbalancer_post(defaults: Timeouts) -> Body:
    """A load balancer with all that may stand below it."""
    pool = Body(Pool, "N", nested=_pool_parts())
    listener = Body(Listener, "N", nested={"default_pool": pool.type}, defaults=dict(defaults))
    nested = {"listeners": list_of(listener), "pools": list_of(pool), "additional_vips": list[_AdditionalVip]}  # type: ignore[valid-type]
    return Body(LoadBalancer, "C", nested=nested)


@cache
def listener_post(defaults: Timeouts) -> Body:
    """A listener, with a new default pool perhaps."""
    pool = Body(Pool, "N", nested=_pool_parts())
    return Body(Listener, "C", nested={"default_pool": pool.type}, defaults=dict(defaults))


@cache
def listener_put(defaults: Timeouts) -> Body:
    """Changes of a listener."""
    return Body(Listener, "U", defaults=dict(defaults))


@cache
def pool_post() -> Body:
    """A pool on a load balancer or on a listener, with members and a monitor perhaps."""
    listener_id = Annotated[str, format_check(UUID.name)]
    return Body(Pool, "C", nested=_pool_parts() | {"listener_id": listener_id})


@cache
def pool_put() -> Body:
    """Changes of a pool."""
    return Body(Pool, "U", nested={"session_persistence": _PersistencePut})


@cache
def post(resource: type[Configured]) -> Body:
    """A resource below which nothing stands."""
    return Body(resource, "C")


@cache
def put(resource: type[Configured]) -> Body:
    """Changes of a resource that has nothing but its attributes."""
    return Body(resource, "U")


@cache
def members_put() -> TypeAdapter[Any]:
    """All members of a pool."""
    return TypeAdapter(list_of(post(Member)))


def _pool_parts() -> dict[str, Any]:
    return {
        "members": list_of(Body(Member, "N")),
        "healthmonitor": Body(HealthMonitor, "N").type,
        "session_persistence": _PersistencePost,
    }
