"""A guest of the image: who gets in and where, what its programs may do, and that it serves. One boot for all."""

from __future__ import annotations

import http.server
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from agent_lab import SETTINGS, VIP, bundle, inside, until
from cryptography.x509.oid import ExtendedKeyUsageOID
from image_lab import ADDRESS, Guest, ImageLab
from trees import NETWORK, amphora, listener, member, pool, tree

from tavia.amphora.bundle import Bundle, Fence, Interface
from tavia.amphora.client import AgentFailed, TlsRefused
from tavia.model.statuses import Role, Topology
from tavia.pki import Authority
from tavia.render import render_bundle

SERIAL = itertools.count(1)
BIND_SERVICE = 0x400
OF_THE_AGENT = 0x34E0
"""KILL, SETGID, SETUID, NET_BIND_SERVICE, NET_ADMIN, NET_RAW: capability.h."""
UDP_PORT = 5300
HOT_MAC = "fa:16:3e:00:01:05"

# The agent's own unit, with keepalived for IPVS in the agent's place: UDP is not in the API yet. Then who may do what.
SCRIPT = f"""
exec > /dev/console 2>&1
cat > /run/ipvs.conf <<K
global_defs {{
    router_id test
}}
virtual_server {VIP} {UDP_PORT} {{
    delay_loop 5
    lb_algo rr
    lb_kind NAT
    protocol UDP
    real_server 10.20.0.101 {UDP_PORT} {{
        weight 1
    }}
}}
K
cat > /run/ipvs.sh <<'S'
set -e
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv4/vs/conntrack
nft add table ip masq
nft add chain ip masq out '{{ type nat hook postrouting priority srcnat; }}'
nft add rule ip masq out ip protocol udp masquerade
exec /usr/sbin/keepalived -n -l -C -f /run/ipvs.conf -p /run/ipvs/main.pid -c /run/ipvs/checkers.pid
S
sed -e 's|^ExecStart=.*|ExecStart=/bin/sh /run/ipvs.sh|; s/^Type=.*/Type=simple\\nRuntimeDirectory=ipvs/' \\
    -e '/^Sockets=/d; /^StateDirectory/d; /^Requires=/d; /^After=/d' \\
    /etc/systemd/system/tavia-agent.service > /run/systemd/system/ipvs.service
until ip -n amphora-haproxy addr | grep -q {VIP}/; do sleep 1; done
systemctl start ipvs
until pidof keepalived > /dev/null; do sleep 1; done
for pid in $(ip netns pids amphora-haproxy); do
    powers=$(grep -E '^(Uid|CapPrm|CapBnd|NoNewPrivs)' /proc/$pid/status | tr -s '\\t\\n' ' ')
    echo "TEST $(cat /proc/$pid/comm) $powers"
done
echo "TEST shadow $(grep -c -v '^[^:]*:[!*]' /etc/shadow)"
agent=$(systemctl show -p MainPID --value tavia-agent)
may='m=; [ -r "$0" ] && m=r; [ -w "$0" ] && m=${{m}}w; [ -z "$m" ] || echo "TEST may $(id -un) $0 $m"'
for user in haproxy keepalived; do
    as="setpriv --reuid $user --regid $user --clear-groups"
    for path in $(find /etc/octavia /run/tavia /var/lib/tavia* ! -type d) /proc/$agent/environ /proc/$agent/mem; do
        $as sh -c "$may" $path
    done
    $as kill -0 $agent && echo "TEST may $user signal the agent"
done
# The agent may become root by SETUID, as it lives: without a capability, in its namespaces.
as="nsenter -t $agent -m -n setpriv --securebits +noroot,+noroot_locked --inh-caps=-all --no-new-privs"
for path in $(find /run -type d) /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_helper \
    /sys/fs/cgroup/cgroup.procs /etc/passwd /run/udev/control /usr/sbin/haproxy /dev/vda; do
    $as sh -c '[ ! -w "$0" ] || echo "TEST may root $0"' $path
done
$as sh -c 'echo "TEST lives as $(id -u) $(grep CapEff /proc/self/status)"'
$as systemctl daemon-reload && echo "TEST may root systemd"
echo "TEST end"
"""


@pytest.fixture(scope="module")
def lab(image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageLab]:
    lab = ImageLab(tmp_path_factory.mktemp("guest"))
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="module")
def guest(lab: ImageLab) -> Guest:
    """It holds a bundle: HTTP at the VIP, one member."""
    lab.member(1)
    guest = lab.boot(script=SCRIPT).ready()
    put(guest, made(guest, listener(), pool(), member()))
    return guest


def made(guest: Guest, *rows: Any) -> Bundle:
    return bundle(guest, *rows, fence=Fence(1, next(SERIAL), "worker"))  # type: ignore[arg-type]  # all that it asks for


def put(guest: Guest, bundle: Bundle) -> None:
    with guest.client() as client:
        client.put_bundle(bundle)


def test_a_controller_is_answered_over_mutual_tls(guest: Guest) -> None:
    with guest.client() as client:
        status = client.status()
    assert (status.amphora_id, status.boot_count, status.fault) == (guest.id, 1, None)
    assert status.haproxy_version.startswith("2.6.") and status.keepalived_version.startswith("2.2.")
    assert status.agent_version


def test_a_certificate_of_another_authority_is_refused(lab: ImageLab, guest: Guest) -> None:
    day = timedelta(days=1)
    stranger = Authority.create("strangers", ExtendedKeyUsageOID.CLIENT_AUTH, day).issue_controller("stranger", day)
    with guest.client(client_cert=lab.file("stranger.pem", stranger.pem)) as client, pytest.raises(TlsRefused) as no:
        client.status()
    assert no.value.by == "amphora"


def test_it_serves(lab: ImageLab, guest: Guest) -> None:
    put(guest, made(guest, listener(), pool(), member()))
    assert until(lab.get) == b"10.20.0.101"


def test_heartbeats_tell_the_generation_and_are_signed_with_the_amphora_s_key(lab: ImageLab, guest: Guest) -> None:
    heartbeat = lab.heartbeat(lambda said: said.generation == 7 and "web" in said.listeners)
    assert (heartbeat.amphora_id, heartbeat.haproxy_up) == (guest.id, True)


def test_on_the_management_side_nothing_is_open_but_the_agent(guest: Guest) -> None:
    assert [port for port in (22, 53, 80, 111, 1025, 5355, 5555, 8080, 9443) if guest.open(port)] == [9443]


def test_the_agent_is_not_on_the_tenant_s_side(lab: ImageLab, guest: Guest) -> None:
    at = [(VIP, 80), (VIP, 9443), ("10.20.0.5", 9443), (ADDRESS, 9443)]
    assert [guest.open(port, address, lab.world) for address, port in at] == [True, False, False, False]


def test_what_looks_like_the_management_network_to_a_tenant_is_the_tenant_s_own(lab: ImageLab, guest: Guest) -> None:
    """The controller's very address, as a member's: HAProxy gets to the tenant's by its gateway."""
    asked: list[str] = []
    with serving(lab, lab.control, "10.30.0.1", asked):
        put(guest, made(guest, listener(), pool(), member(address="10.30.0.1")))
        lab.ip(lab.world, "addr add 10.30.0.1/32 dev lo")
        with serving(lab, lab.world, "10.30.0.1", []):
            assert until(lab.get) == b"10.30.0.1"
        lab.ip(lab.world, "addr del 10.30.0.1/32 dev lo")
    assert asked == []


def test_an_interface_that_is_plugged_in_later_is_the_tenant_s(lab: ImageLab, guest: Guest) -> None:
    wanted = made(guest, listener(), pool(), member())
    second = Interface(name="eth2", mac=HOT_MAC, mtu=1450, addresses=("10.20.0.77/24",))
    with_it = replace(wanted, interfaces=(*wanted.interfaces, second))
    guest.plug(HOT_MAC)

    def taken() -> bool:
        try:
            put(guest, with_it)
        except AgentFailed as error:
            assert error.code == "interface-missing"
            return False
        return True

    until(taken)
    assert not guest.open(9443, "10.20.0.77", lab.world)
    assert "10.20.0.77" in lab.show(lab.world, "neigh"), "it answers ARP, so it is there"


def test_half_of_a_pair_becomes_master(lab: ImageLab, guest: Guest) -> None:
    own = amphora(guest.id, role=Role.MASTER, vrrp_mac=guest.mac)
    whole = tree(listener(), pool(), member(), topology=Topology.ACTIVE_STANDBY)
    put(guest, render_bundle(whole, own, None, NETWORK, SETTINGS, Fence(1, next(SERIAL), "worker")))

    def state() -> str | None:
        with guest.client() as client:
            return client.status().vrrp_state

    until(lambda: state() == "MASTER")
    assert until(lab.get) == b"10.20.0.101"


def test_udp_is_forwarded_by_ipvs_under_the_agent_s_own_unit(lab: ImageLab, guest: Guest) -> None:
    guest.says("TEST end")
    with inside(lab.world):
        echo, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with echo, client:
        echo.bind(("10.20.0.101", UDP_PORT))
        client.bind(("10.20.0.102", 0))
        echo.settimeout(1)
        client.settimeout(1)

        def echoed() -> bytes:
            try:
                client.sendto(b"ping", (VIP, UDP_PORT))
                asked, asker = echo.recvfrom(100)
                echo.sendto(asked + b" from the member", asker)
                return client.recv(100)
            except TimeoutError:
                return b""

        assert until(echoed) == b"ping from the member"


def told(guest: Guest) -> list[list[str]]:
    """What SCRIPT found, a list of words each."""
    guest.says("TEST end")
    return [line.split("TEST ", 1)[1].split() for line in guest.said().splitlines() if "TEST " in line]


def test_nothing_in_the_tenant_s_namespace_is_root_or_has_more_than_it_needs(guest: Guest) -> None:
    lines = told(guest)
    powers = {"haproxy": BIND_SERVICE, "python3": OF_THE_AGENT, "keepalived": OF_THE_AGENT}  # that one in its place
    programs = [words for words in lines if "Uid:" in words]
    assert set(powers) <= {words[0] for words in programs}
    for words in programs:
        assert "0" not in words[words.index("Uid:") + 1 : words.index("Uid:") + 5], words
        assert int(words[words.index("CapPrm:") + 1], 16) & ~powers.get(words[0], OF_THE_AGENT) == 0, words
        assert int(words[words.index("CapBnd:") + 1], 16) & ~OF_THE_AGENT == 0, words
        assert words[words.index("NoNewPrivs:") + 1] == "1", words
    users = {words[0]: words[words.index("Uid:") + 1] for words in programs}
    assert users["haproxy"] != users["python3"]
    assert ["shadow", "0"] in lines, "a password is set"


def test_who_breaks_a_program_gets_nothing_of_the_agent_s_or_another_s(guest: Guest) -> None:
    found = {tuple(words[1:]) for words in told(guest) if words[0] == "may" and words[1] in ("haproxy", "keepalived")}
    assert found == {
        ("haproxy", "/run/tavia/haproxy.sock", "rw"),
        ("haproxy", "/run/tavia/haproxy.track", "r"),
        ("haproxy", "/run/tavia/server-state", "r"),
        ("haproxy", "/var/lib/tavia/haproxy.cfg", "r"),
        ("keepalived", "/run/tavia/haproxy.track", "r"),
        ("keepalived", "/run/tavia/vrrp.fifo", "rw"),
    }


def test_who_breaks_the_agent_and_becomes_root_can_do_nothing_with_it(guest: Guest) -> None:
    lines = told(guest)
    assert ["lives", "as", "0", "CapEff:", "0000000000000000"] in lines
    assert [words for words in lines if words[:2] == ["may", "root"]] == []


@contextmanager
def serving(lab: ImageLab, namespace: str, address: str, asked: list[str]) -> Iterator[None]:
    """An HTTP server that says its address and notes who asks."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.client_address[0])
            self.send_response(200)
            self.send_header("Content-Length", str(len(address)))
            self.end_headers()
            self.wfile.write(address.encode())

    with inside(namespace):
        server = http.server.ThreadingHTTPServer((address, 8080), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
