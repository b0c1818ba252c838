"""haproxy.cfg of one amphora (HAProxy 2.6 and later).

Kept to what lets the agent change members without a reload: a ``server`` line stands alone (no ``default-server``)
and uses only words that ``add server`` takes (management guide 9.3), every algorithm is a dynamic one, and cookies
of HTTP_COOKIE are HAProxy's dynamic ones because ``add server`` of 2.6 takes no ``cookie``. For a server added at
run time HAProxy computes that cookie at ``enable dynamic-cookie backend <name>``, not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from tavia.amphora.paths import HAPROXY_SOCKET, SERVER_STATE
from tavia.model.protocols import LISTENER_PROTOCOLS, Mode
from tavia.model.resources import Amphora, HealthMonitor, Listener, LoadBalancer, Member, Pool
from tavia.model.tree import Tree
from tavia.render.quoting import Place, quoted
from tavia.render.settings import RenderSettings

PEER_PORT = 1025
"""Where the two amphorae tell each other their stick tables, as in Octavia."""

_PEERS = "amphorae"
_OPEN_FILES = 1 << 20
_OLD_WORKERS = 50
_CIDRS_A_LINE = 40
_ALGORITHMS = {
    "ROUND_ROBIN": ["balance roundrobin"],
    "LEAST_CONNECTIONS": ["balance leastconn"],
    "SOURCE_IP": ["balance source", "hash-type consistent"],
}
_SEND_PROXY = {"PROXY": " send-proxy", "PROXYV2": " send-proxy-v2"}
_INSERTED = {
    "X-Forwarded-For": "option forwardfor",
    "X-Forwarded-Port": "http-request set-header X-Forwarded-Port %[dst_port]",
    "X-Forwarded-Proto": "http-request set-header X-Forwarded-Proto http",
    "X-Forwarded-IP": "http-request set-header X-Forwarded-IP %[src]",
    "X-Client-IP": "http-request set-header X-Client-IP %[src]",
    "X-Real-IP": "http-request set-header X-Real-IP %[src]",
}


@dataclass(frozen=True, slots=True)
class Proxies:
    """What both amphorae of a pair have alike: front ends and back ends, and whether any keeps a stick table."""

    text: str
    have_tables: bool


def render_proxies(tree: Tree, settings: RenderSettings) -> Proxies:
    """What is administratively down is left out (a member is ``disabled`` instead), as is a pool that no listener uses.

    A listener without a pool in service answers 503 (HTTP) or closes (TCP).
    """
    served = _served(tree)
    sections = []
    for listener, pool in served:
        sections.append(_frontend(tree.loadbalancer, listener, pool, settings))
        if pool:
            sections.append(_backend(tree, listener, pool, settings))
    return Proxies(_text(sections), any(pool and _stick_table(listener, pool) for listener, pool in served))


def render_haproxy(proxies: Proxies, amphora: Amphora, peer: Amphora | None, settings: RenderSettings) -> str:
    """The configuration of ``amphora``; ``peer`` is the other half of its pair, None when there is none."""
    sections = [_global(amphora, settings), _defaults(settings)]
    if proxies.have_tables:
        sections.append(_peers(amphora, peer))
    return "\n\n".join(filter(None, (_text(sections), proxies.text))) + "\n"


def _text(sections: Iterable[list[str]]) -> str:
    return "\n\n".join("\n    ".join(section) for section in sections)


def unit_of_line(haproxy_cfg: str, line: int) -> str | None:
    """The listener's or pool's id to which a line (the first is 1) belongs, None for the rest of the file."""
    for text in reversed(haproxy_cfg.split("\n")[:line]):
        section, _, name = text.partition(" ")
        if section in ("frontend", "backend"):
            return name.partition(":")[0]
        if section:
            return None
    return None


def bracketed(address: str) -> str:
    """An address as HAProxy takes it before a port. Quoted: Python's IPv6 addresses end in a zone of any characters."""
    return f"[{quoted(address)}]" if isinstance(ip_address(address), IPv6Address) else address


def _served(tree: Tree) -> list[tuple[Listener, Pool | None]]:
    if not tree.loadbalancer.admin_state_up:
        return []
    pools = {pool.id: pool for pool in tree.of(Pool) if pool.admin_state_up}
    return [(each, pools.get(each.default_pool_id or "")) for each in tree.of(Listener) if each.admin_state_up]


def _global(amphora: Amphora, settings: RenderSettings) -> list[str]:
    # No maxconn: HAProxy derives it from the open files it may have. Bounded, because some systems allow a billion.
    lines = [
        "global",
        "user haproxy",
        "group haproxy",
        f"localpeer {amphora.id}",
        f"stats socket {HAPROXY_SOCKET} mode 600 level admin expose-fd listeners",
        f"server-state-file {SERVER_STATE}",
        f"hard-stop-after {round(settings.hard_stop_after * 1000)}ms",
        f"mworker-max-reloads {_OLD_WORKERS}",
        f"fd-hard-limit {_OPEN_FILES}",
    ]
    if settings.nbthread is not None:
        lines.append(f"nbthread {settings.nbthread}")
    if settings.connection_logging:
        lines.append("log stdout format raw local0 info")
    return lines


def _defaults(settings: RenderSettings) -> list[str]:
    logging = ["log global"] if settings.connection_logging else []
    return ["defaults", "retries 3", "option redispatch", *logging]


def _peers(amphora: Amphora, peer: Amphora | None) -> list[str]:
    # Also alone: the local peer hands the stick tables over to the next HAProxy at a reload.
    if not (peer and peer.vrrp_ip and amphora.vrrp_ip):
        return [f"peers {_PEERS}", f"peer {amphora.id} 127.0.0.1:{PEER_PORT}"]
    pair = ((amphora.id, amphora.vrrp_ip), (peer.id, peer.vrrp_ip))
    return [f"peers {_PEERS}", *(f"peer {name} {bracketed(address)}:{PEER_PORT}" for name, address in pair)]


def _frontend(lb: LoadBalancer, listener: Listener, pool: Pool | None, settings: RenderSettings) -> list[str]:
    limit = listener.connection_limit if listener.connection_limit > 0 else settings.default_connection_limit
    lines = [
        f"frontend {listener.id}",
        f"mode {_mode(listener)}",
        *(f"bind {bracketed(address)}:{listener.protocol_port}" for address in lb.vips),
        f"maxconn {limit}",
        f"timeout client {listener.timeout_client_data}ms",
        *_logging(lb, listener, settings),
        *_allowed(listener.allowed_cidrs or []),
    ]
    if listener.timeout_tcp_inspect:
        lines.append(f"tcp-request inspect-delay {listener.timeout_tcp_inspect}ms")
    if _mode(listener) == "http":
        # Without it a reload closes idle keep-alive connections under the client (namespaces 3b).
        lines.append("option idle-close-on-response")
        lines += [line for name, line in _INSERTED.items() if listener.insert_headers.get(name, "").lower() == "true"]
    if pool:
        lines.append(f"default_backend {_backend_name(listener, pool)}")
    return lines


def _allowed(cidrs: list[str]) -> Iterator[str]:
    # HAProxy takes at most 64 words a line; ACLs of one name are one.
    for start in range(0, len(cidrs), _CIDRS_A_LINE):
        yield "acl allowed src " + " ".join(quoted(cidr) for cidr in cidrs[start : start + _CIDRS_A_LINE])
    if cidrs:
        yield "tcp-request connection reject unless allowed"


def _logging(lb: LoadBalancer, listener: Listener, settings: RenderSettings) -> list[str]:
    if not settings.connection_logging:
        return []
    if settings.log_format is None:
        return [f"option {_mode(listener)}log"]
    line = settings.log_format.replace("{{ project_id }}", lb.project_id).replace("{{ lb_id }}", lb.id)
    if _mode(listener) != "http":
        # HAProxy refuses these two outside HTTP.
        line = line.replace("%{+Q}r", "-").replace("%ST", "-")
    return [f"log-format {quoted(line)}"]


def _backend(tree: Tree, listener: Listener, pool: Pool, settings: RenderSettings) -> list[str]:
    monitor = tree.monitor_of(pool.id)
    checked = monitor if monitor and monitor.admin_state_up else None
    return [
        f"backend {_backend_name(listener, pool)}",
        f"mode {_mode(listener)}",
        *_ALGORITHMS[pool.lb_algorithm],
        "option allbackups",
        f"timeout connect {listener.timeout_member_connect}ms",
        f"timeout server {listener.timeout_member_data}ms",
        *(_monitor(tree.loadbalancer, checked) if checked else ()),
        *_persistence(listener, pool, settings),
        *(_server(pool, member, checked) for member in tree.below(Member, pool.id)),
    ]


def _monitor(lb: LoadBalancer, monitor: HealthMonitor) -> Iterator[str]:
    # Only here: a server that nothing checks must not stay DOWN because the last HAProxy saw it so.
    yield "load-server-state-from-file global"
    yield f"timeout check {monitor.timeout}s"
    if monitor.type != "HTTP":
        return
    version = f"{monitor.http_version or 1.0:.1f}"
    # HTTP/1.1 demands a Host (RFC 9112, 3.2).
    host = monitor.domain_name or (bracketed(lb.vip_address or "") if version == "1.1" else None)
    yield "option httpchk"
    yield (
        f"http-check send meth {monitor.http_method or 'GET'} uri {quoted(monitor.url_path or '/')} ver HTTP/{version}"
        + (f" hdr Host {quoted(host, Place.FORMAT)}" if host else "")
    )
    yield f"http-check expect status {quoted(''.join((monitor.expected_codes or '200').split()))}"


def _stick_table(listener: Listener, pool: Pool) -> list[str]:
    """The table's type and what is kept in it; empty when the pool needs no table."""
    persistence = pool.session_persistence or {}
    if persistence.get("type") == "SOURCE_IP":
        return ["type ipv6", "stick on src"]  # IPv4 clients are kept as mapped addresses
    if persistence.get("type") == "APP_COOKIE" and _mode(listener) == "http":
        # A digest: whole cookies would not fit, and the table crosses the tenant's network in the clear.
        cookie = quoted(persistence.get("cookie_name") or "", Place.ARGUMENT)
        stored, shown = f"res.cook({cookie}),sha1", f"req.cook({cookie}),sha1"
        return ["type binary len 20", f"stick store-response {stored}", f"stick match {shown}"]
    return []


def _persistence(listener: Listener, pool: Pool, settings: RenderSettings) -> Iterator[str]:
    """A TCP listener sees no cookies, so there the two kinds that need them do nothing."""
    if table := _stick_table(listener, pool):
        yield f"stick-table {table[0]} size {settings.stick_size} peers {_PEERS}"
        yield from table[1:]
    elif (pool.session_persistence or {}).get("type") == "HTTP_COOKIE" and _mode(listener) == "http":
        yield "cookie SRV insert indirect nocache dynamic"
        yield f"dynamic-cookie-key {pool.id}"


def _server(pool: Pool, member: Member, monitor: HealthMonitor | None) -> str:
    line = f"server {member.id} {bracketed(member.address)}:{member.protocol_port} weight {member.weight}"
    if monitor:
        # HAProxy refuses an interval of 0.
        line += f" check inter {monitor.delay or 1}s fall {monitor.max_retries_down} rise {monitor.max_retries}"
        line += f" addr {bracketed(member.monitor_address)}" if member.monitor_address else ""
        line += f" port {member.monitor_port}" if member.monitor_port else ""
    line += _SEND_PROXY.get(pool.protocol, "")
    line += " backup" if member.backup else ""
    return line + ("" if member.admin_state_up else " disabled")


def _mode(listener: Listener) -> Mode:
    return LISTENER_PROTOCOLS[listener.protocol].mode


def _backend_name(listener: Listener, pool: Pool) -> str:
    return f"{pool.id}:{listener.id}"
