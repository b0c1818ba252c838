"""Who an amphora of the image is: read from its config drive at its first boot, before the agent starts. Runs as root.

User data are ``#cloud-config`` and JSON; of its ``write_files`` only the agent's own three files are taken. They are
written once a server: what the controller has put there since (a rotated certificate) is not overwritten at a reboot.
``network_data.json`` names the interfaces, the management one first, as the server was asked for.

All that is wrong is said, a line each, on the console: it is the only thing that an operator sees of a server that
does not answer.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from tavia.agent import disk
from tavia.amphora import paths
from tavia.amphora.agent_config import AgentConfigError, parse_agent_config

FILES = (paths.AGENT_CONFIG, paths.AGENT_CERT, paths.AGENT_CLIENT_CA)
"""All that is written, all of it needed."""
OWNER = "tavia"
"""The agent's user."""
DRIVES = tuple(Path("/dev/disk/by-label", label) for label in ("config-2", "CONFIG-2"))
FIRST_WAIT, LATER_WAIT = 30.0, 2.0
"""Seconds in which the drive must appear; one that was read before is not needed."""
STORED = Path("/var/lib/tavia-identity.json")
MANAGEMENT_MAC = Path("/run/tavia-management-mac")
"""Read by the unit that moves every other interface into the tenants' namespace."""
NETWORK_FILE = Path("/run/systemd/network/10-management.network")


class IdentityError(ValueError):
    """Something that is wrong with a config drive; a line each."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Identity:
    """Of which server it is, its management interface, and that one's settings as a file of systemd-networkd."""

    uuid: str
    mac: str
    network: str


def main() -> None:
    """Write what the agent and the network need, or say what is wrong and fail."""
    try:
        identity = _identity()
    except IdentityError as error:
        for line in error.lines:
            sys.stdout.write(f"tavia: {line}\n")
        sys.exit(1)
    MANAGEMENT_MAC.write_text(identity.mac)
    NETWORK_FILE.parent.mkdir(parents=True, exist_ok=True)
    NETWORK_FILE.write_text(identity.network)


def _identity() -> Identity:
    stored = _stored()
    drive = _drive(LATER_WAIT if stored else FIRST_WAIT)
    if drive is None:
        if stored:
            return stored
        raise IdentityError(f"no config drive (a disk labelled config-2) after {FIRST_WAIT:.0f} s: boot with one")
    with _mounted(drive) as directory:
        latest = directory / "openstack" / "latest"
        uuid = str(_json(latest, "meta_data.json").get("uuid"))
        if stored and stored.uuid == uuid:
            return stored
        mac, network = management(_json(latest, "network_data.json"))
        files = files_of(_read(latest, "user_data"))
    owner = pwd.getpwnam(OWNER)
    for path, content in files.items():
        disk.write(Path(path), content, durable=True)
        os.chown(path, owner.pw_uid, owner.pw_gid)
    identity = Identity(uuid, mac, network)
    disk.write(STORED, json.dumps(asdict(identity)).encode(), durable=True)
    return identity


def files_of(user_data: bytes) -> dict[str, bytes]:
    """The content of each of FILES. Raises IdentityError with all that is wrong."""
    head, _, body = user_data.partition(b"\n")
    if head.strip() != b"#cloud-config":
        raise IdentityError("user_data of the config drive does not begin with #cloud-config")
    try:
        entries = json.loads(body)["write_files"]
        found = {str(each["path"]): _content(each) for each in entries}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IdentityError(f"user_data of the config drive is not JSON with write_files: {error!r}") from None
    wrong = [f"{path} in user_data of the config drive: only {', '.join(FILES)}" for path in found if path not in FILES]
    wrong += [f"{path} is missing in user_data of the config drive" for path in FILES if path not in found]
    if paths.AGENT_CONFIG in found:
        try:
            parse_agent_config(found[paths.AGENT_CONFIG].decode())
        except (AgentConfigError, UnicodeDecodeError) as error:
            wrong.append(f"{paths.AGENT_CONFIG} of the config drive: {error}")
    if wrong:
        raise IdentityError(*wrong)
    return found


def management(network_data: dict[str, Any]) -> tuple[str, str]:
    """MAC address of the management interface, and its .network file. Raises IdentityError."""
    try:
        link = network_data["links"][0]
        mac = str(link["ethernet_mac_address"]).lower()
        networks = [each for each in network_data.get("networks", ()) if each["link"] == link["id"]]
        lines = ["[Match]", f"MACAddress={mac}"]
        if link.get("mtu"):
            lines += ["[Link]", f"MTUBytes={link['mtu']}"]
        fixed = [each for each in networks if each["type"] in ("ipv4", "ipv6")]
        kinds = {each["type"] for each in networks if each not in fixed} if networks else {"ipv4_dhcp"}
        lines += ["[Network]", f"DHCP={_dhcp(kinds)}", "LinkLocalAddressing=ipv6"]
        lines += [f"IPv6AcceptRA={'yes' if any(kind.startswith('ipv6') for kind in kinds) else 'no'}"]
        lines += [f"Address={_prefixed(each['ip_address'], each['netmask'])}" for each in fixed]
        for route in (route for each in fixed for route in each.get("routes", ())):
            destination = _prefixed(route["network"], route["netmask"])
            lines += ["[Route]", f"Destination={destination}", f"Gateway={route['gateway']}"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise IdentityError(f"network_data.json of the config drive names no management interface: {error!r}") from None
    return mac, "\n".join([*lines, "[DHCPv4]", "ClientIdentifier=mac", "UseDNS=no", "UseHostname=no", ""])


def _dhcp(kinds: set[str]) -> str:
    families = [family for family in ("ipv4", "ipv6") if any(k.startswith(f"{family}_dhcp") for k in kinds)]
    return {0: "no", 1: families[0] if families else "", 2: "yes"}[len(families)]


def _prefixed(address: str, netmask: str) -> str:
    """Nova writes masks out, IPv6's too."""
    if "/" in address:
        return address
    bits = 128 if isinstance(ip_address(address), IPv6Address) else 32
    return f"{address}/{f'{int(ip_address(netmask)):0{bits}b}'.count('1')}"


def _content(entry: dict[str, Any]) -> bytes:
    if entry.get("encoding") in ("b64", "base64"):
        try:
            return base64.b64decode(entry["content"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"content of {entry['path']} is not base64: {error}") from error
    return str(entry["content"]).encode()


def _stored() -> Identity | None:
    content = disk.read(STORED)
    return Identity(**json.loads(content)) if content else None


def _drive(seconds: float) -> Path | None:
    deadline = time.monotonic() + seconds
    while True:
        for path in DRIVES:
            if path.exists():
                return path
        if time.monotonic() > deadline:
            return None
        time.sleep(0.1)


@contextmanager
def _mounted(drive: Path) -> Iterator[Path]:
    directory = Path("/run/tavia-config-drive")
    directory.mkdir(mode=0o700, exist_ok=True)
    command = ["mount", "-o", "ro,nosuid,nodev,noexec", str(drive), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise IdentityError(f"the config drive {drive} cannot be mounted: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)
        directory.rmdir()


def _read(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except OSError as error:
        raise IdentityError(f"{name} of the config drive cannot be read: {error.strerror}") from None


def _json(directory: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(_read(directory, name))
    except ValueError as error:
        raise IdentityError(f"{name} of the config drive is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise IdentityError(f"{name} of the config drive is not a JSON object")
    return content
