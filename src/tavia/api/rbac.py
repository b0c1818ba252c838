"""Every rule of the API with its default check, as data: Octavia's names, so that an operator's policy.yaml fits.

``access`` enforces them. Rules of resources that a later release brings are here too: a policy.yaml that names them
is no mistake.
"""

from __future__ import annotations

from collections.abc import Iterator

from oslo_policy.policy import DeprecatedRule, RuleDefault

API = "os_load-balancer_api:"
"""What the name of every rule that a route enforces begins with."""

READ = "load-balancer:read"
READ_GLOBAL = "load-balancer:read-global"
IS_ADMIN = "context_is_admin"

_OWNER = "project_id:%(project_id)s"

_ACCESS = {
    READ: "rule:load-balancer:observer_and_owner or rule:load-balancer:global_observer or "
    "rule:load-balancer:member_and_owner or rule:load-balancer:admin",
    READ_GLOBAL: "rule:load-balancer:global_observer or rule:load-balancer:admin",
    "load-balancer:write": "rule:load-balancer:member_and_owner or rule:load-balancer:admin",
    "load-balancer:read-quota": "rule:load-balancer:observer_and_owner or rule:load-balancer:global_observer or "
    "rule:load-balancer:member_and_owner or rule:load-balancer:quota-admin or rule:load-balancer:admin",
    "load-balancer:read-quota-global": "rule:load-balancer:global_observer or rule:load-balancer:quota-admin or "
    "rule:load-balancer:admin",
    "load-balancer:write-quota": "rule:load-balancer:quota-admin or rule:load-balancer:admin",
    "project-member": f"role:member and {_OWNER}",
    "project-reader": f"role:reader and {_OWNER}",
    IS_ADMIN: "role:admin",
    "load-balancer:admin": "is_admin:True or role:admin",
    "service": "role:service",
    "load-balancer:global_observer": "role:admin",
    "load-balancer:member_and_owner": "rule:project-member",
    "load-balancer:observer_and_owner": "rule:project-reader",
    "load-balancer:quota-admin": "role:admin",
    "load-balancer:owner": _OWNER,
}
"""Who has which kind of access: what the rules of the routes are made of."""

_FORMERLY = {
    IS_ADMIN: "role:admin or role:load-balancer_admin",
    "load-balancer:admin": "is_admin:True or role:admin or role:load-balancer_admin",
    "load-balancer:global_observer": "role:load-balancer_global_observer",
    "load-balancer:member_and_owner": "role:load-balancer_member and rule:load-balancer:owner",
    "load-balancer:observer_and_owner": "role:load-balancer_observer and rule:load-balancer:owner",
    "load-balancer:quota-admin": "role:load-balancer_quota_admin",
}
"""What is enough, too, with ``[oslo_policy] enforce_new_defaults = false``."""

_READ = ("get_all", "get_one")
_CHANGE = ("post", "put", "delete")


def _routes() -> Iterator[RuleDefault]:
    yield from _of("flavor", read=_READ, admin=_CHANGE)
    yield from _of("flavor-profile", admin=(*_READ, *_CHANGE))
    yield from _of("availability-zone", read=_READ, admin=_CHANGE)
    yield from _of("availability-zone-profile", admin=(*_READ, *_CHANGE))
    for word in ("loadbalancer", "listener", "pool", "healthmonitor", "l7policy"):
        yield from _of(word, read=_READ, read_global=("get_all-global",), write=_CHANGE)
    yield from _of("loadbalancer", read=("get_stats", "get_status"), admin=("put_failover",))
    yield from _of("loadbalancer", write=("post:vip_sg_ids", "put:vip_sg_ids"))
    yield from _of("listener", read=("get_stats",))
    yield from _of("member", read=("get_one",), write=_CHANGE)
    yield RuleDefault(f"{API}member:get_all", f"rule:{READ} or rule:service")
    yield from _of("l7rule", read=_READ, write=_CHANGE)
    yield from _of("provider", read=("get_all",))
    yield from _of("provider-flavor", admin=("get_all",))
    yield from _of("provider-availability-zone", admin=("get_all",))
    yield from _of("quota", read_quota=(*_READ, "get_defaults"), read_quota_global=("get_all-global",))
    yield from _of("quota", write_quota=("put", "delete"))
    yield from _of("amphora", admin=(*_READ, "get_stats", "delete", "put_config", "put_failover"))


def _of(word: str, **actions: tuple[str, ...]) -> Iterator[RuleDefault]:
    """The rules of a resource, by the access that they take."""
    for access, names in actions.items():
        for name in names:
            yield RuleDefault(f"{API}{word}:{name}", f"rule:load-balancer:{access.replace('_', '-')}")


def _formerly(name: str) -> DeprecatedRule | None:
    if name not in _FORMERLY:
        return None
    return DeprecatedRule(
        name,
        _FORMERLY[name],
        deprecated_reason="Keystone's default roles took the place of the load-balancer_* roles.",
        deprecated_since="Wallaby",
    )


def list_rules() -> list[RuleDefault]:
    """All of them, in the form that oslo.policy and its tools take."""
    access = [RuleDefault(name, check, deprecated_rule=_formerly(name)) for name, check in _ACCESS.items()]
    return [*access, *_routes()]
