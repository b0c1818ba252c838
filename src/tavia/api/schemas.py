"""The bodies that the API takes, each built from a resource's declaration; nested ones are put together here."""

from __future__ import annotations

from typing import Annotated, Any, Required

from annotated_types import Interval, MaxLen
from oslo_config import cfg

from tavia.api.bodies import LARGEST_INT, Body, closed_dict, format_check, list_of
from tavia.model.attributes import UUID
from tavia.model.protocols import PersistenceType
from tavia.model.resources import HealthMonitor, Listener, LoadBalancer, Member, Pool

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


def loadbalancer_post(conf: cfg.ConfigOpts) -> Body:
    """A load balancer with all that may stand below it."""
    pool = Body(Pool, "N", nested=_pool_parts())
    listener = Body(Listener, "N", nested={"default_pool": pool.type}, defaults=_timeouts(conf))
    nested = {"listeners": list_of(listener), "pools": list_of(pool), "additional_vips": list[_AdditionalVip]}  # type: ignore[valid-type]
    return Body(LoadBalancer, "C", nested=nested)


def listener_post(conf: cfg.ConfigOpts) -> Body:
    """A listener, with a new default pool perhaps."""
    pool = Body(Pool, "N", nested=_pool_parts())
    return Body(Listener, "C", nested={"default_pool": pool.type}, defaults=_timeouts(conf))


def listener_put(conf: cfg.ConfigOpts) -> Body:
    """Changes of a listener."""
    return Body(Listener, "U", defaults=_timeouts(conf))


def pool_post() -> Body:
    """A pool on a load balancer or on a listener, with members and a monitor perhaps."""
    listener_id = Annotated[str, format_check(UUID.name)]
    return Body(Pool, "C", nested=_pool_parts() | {"listener_id": listener_id})


def pool_put() -> Body:
    """Changes of a pool."""
    return Body(Pool, "U", nested={"session_persistence": _PersistencePut})


def _pool_parts() -> dict[str, Any]:
    return {
        "members": list_of(Body(Member, "N")),
        "healthmonitor": Body(HealthMonitor, "N").type,
        "session_persistence": _PersistencePost,
    }


def _timeouts(conf: cfg.ConfigOpts) -> dict[str, int]:
    """What [haproxy_amphora] says where a listener names no timeout."""
    return {name: conf.haproxy_amphora[name] for name in _TIMEOUTS}
