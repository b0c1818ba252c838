"""The amphora image in qemu, by software emulation, between two networks that do not know each other.

Management: the amphora 10.30.0.5, the controller .1 in namespace ``control``. The tenant's: as in ``agent_lab``, in
namespace ``world``; what begins with 10.30 there is the tenant's own. One guest at a time.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import ssl
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent_lab import AMPHORA_IDS, CONTROLLER, DAY, HEARTBEAT_KEY, Lab, inside, until

from tavia.amphora.agent_config import render_agent_config
from tavia.amphora.client import AgentClient
from tavia.amphora.heartbeat import derive_key
from tavia.cloud.openstack.userdata import user_data

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = Path(os.environ.get("TAVIA_IMAGE", REPOSITORY / ".tavia" / "image"))
ADDRESS = "10.30.0.5"
MANAGEMENT_MAC = "fa:16:3e:01:00:05"
BOOT_SECONDS = 180.0
"""Far above what it takes: other things run on the machine."""


class ImageLab(Lab):
    """Two bridges in the hub: the tenant's is ``br0``, the management network ``br1`` with the controller on it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.ip(self.hub, "link add br1 type bridge", "link set br1 up")
        self.control = self.namespace("control")
        self.ip(
            self.hub,
            f"link add control type veth peer name eth0 netns {self.control}",
            "link set control master br1 up",
        )
        self.ip(self.control, "link set eth0 up", f"addr add {CONTROLLER}/24 dev eth0")
        self.receiver.close()
        with inside(self.control):
            self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.receiver.bind((CONTROLLER, 5555))
        self.receiver.settimeout(10)
        self.guest: Guest | None = None

    def boot(self, **given: Any) -> Guest:
        assert self.guest is None, "one guest at a time"
        self.guest = Guest(self, **given)
        return self.guest

    def close(self) -> None:
        if self.guest:
            self.guest.power_off()
        super().close()


class Guest:
    """An amphora: ``disk`` of the image (a layer above it), config drive, management NIC and one in the tenant's net.

    ``loader``: boot by the disk's own boot loader, of the BIOS or of ``efi`` firmware; otherwise qemu loads the kernel.
    ``files`` replace those of the config drive. ``script`` is run as root at the boot.
    """

    number = 5
    mac = "fa:16:3e:00:00:05"

    def __init__(
        self,
        lab: ImageLab,
        *,
        loader: bool = False,
        firmware: str | None = None,
        files: Mapping[str, bytes] | None = None,
        script: str | None = None,
    ) -> None:
        self.lab = lab
        self.id = AMPHORA_IDS[0]
        self.loader = loader
        self.firmware = firmware
        self.script = script
        self.directory = lab.directory / "guest"
        self.directory.mkdir()
        self.console = self.directory / "console.log"
        image = IMAGE / ("amphora.qcow2" if loader else "rootfs.qcow2")
        disk = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "qcow2", str(self._path("disk"))]
        subprocess.run(disk, check=True)
        certificate = lab.server_ca.issue_amphora(self.id, DAY).pem
        config = render_agent_config(
            amphora_id=self.id,
            controllers=[f"{CONTROLLER}:5555"],
            heartbeat_interval=1,
            heartbeat_key_hex=derive_key(HEARTBEAT_KEY, self.id).hex(),
            bind_host=ADDRESS,
            bind_port=9443,
        )
        self.files = {
            "/etc/octavia/amphora-agent.conf": config.encode(),
            "/etc/octavia/certs/server.pem": certificate,
            "/etc/octavia/certs/client_ca.pem": (lab.directory / "client_ca.pem").read_bytes(),
            **(files or {}),
        }
        self._write_drive()
        lab.ip(
            lab.hub,
            *(f"tuntap add dev tap{n} mode tap" for n in range(3)),
            "link set tap0 master br1 up",
            *(f"link set tap{n} master br0 up" for n in (1, 2)),
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.power_on()

    def _path(self, name: str) -> Path:
        return self.directory / name

    def _write_drive(self) -> None:
        """As Nova makes it: iso9660, labelled config-2."""
        latest = self._path("drive") / "openstack" / "latest"
        latest.mkdir(parents=True)
        links = [
            {"id": "tap-m", "ethernet_mac_address": MANAGEMENT_MAC, "mtu": 1450, "type": "bridge"},
            {"id": "tap-d", "ethernet_mac_address": self.mac, "mtu": 1450, "type": "bridge"},
        ]
        address = {"ip_address": ADDRESS, "netmask": "255.255.255.0", "routes": []}
        networks = [
            {"id": "network0", "link": "tap-m", "type": "ipv4", **address},
            {"id": "network1", "link": "tap-d", "type": "ipv4_dhcp"},
        ]
        network_data = {"links": links, "networks": networks, "services": []}
        (latest / "meta_data.json").write_text(json.dumps({"uuid": str(uuid.uuid4()), "hostname": "amphora"}))
        (latest / "network_data.json").write_text(json.dumps(network_data))
        (latest / "user_data").write_bytes(base64.b64decode(user_data(self.files)))
        _iso(self._path("drive"), "config-2", self._path("drive.iso"))
        if self.script is not None:
            scripts = self._path("scripts")
            scripts.mkdir()
            (scripts / "run").write_text(self.script)
            _iso(scripts, "scripts", self._path("scripts.iso"))

    def power_on(self) -> None:
        cmdline = json.loads((IMAGE / "image.json").read_text())["cmdline"]
        drives = [self._path("drive.iso")]
        if self.script is not None:
            drives.append(self._path("scripts.iso"))
            run = "systemctl --no-block start multi-user.target; "
            run += "until mount -o ro -L scripts /mnt; do sleep 1; done; exec sh /mnt/run"
            cmdline += f" systemd.run=\"/bin/sh -c '{run}'\""
            cmdline += " systemd.run_success_action=none systemd.run_failure_action=none"
        kernel = ["-kernel", str(IMAGE / "vmlinuz"), "-initrd", str(IMAGE / "initrd"), "-append", cmdline]
        command = [
            *("ip", "netns", "exec", self.lab.hub, "qemu-system-x86_64", "-nodefaults", "-no-user-config"),
            *("-machine", "pc", "-m", "512", "-smp", "1", "-display", "none"),
            *("-accel", "tcg,tb-size=64"),
            *("-serial", f"file:{self.console}", "-device", "virtio-rng-pci"),
            *("-drive", f"file={self._path('disk')},if=virtio,format=qcow2,cache=unsafe"),
            *(w for each in drives for w in ("-drive", f"file={each},if=ide,media=cdrom,format=raw,readonly=on")),
            *(w for n in range(3) for w in ("-netdev", f"tap,id=net{n},ifname=tap{n},script=no,downscript=no")),
            *("-device", _nic(0, MANAGEMENT_MAC), "-device", _nic(1, self.mac)),
            *("-qmp", f"unix:{self._path('monitor')},server=on,wait=off"),
            *([] if self.loader else kernel),
            *(["-bios", self.firmware] if self.firmware else []),
        ]
        self.console.unlink(missing_ok=True)
        with self._path("qemu.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def power_off(self) -> None:
        """The hard way."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def plug(self, mac: str) -> None:
        """A third NIC, in the tenant's network, while it runs."""
        driver, *arguments = _nic(2, mac).split(",")
        device = dict(argument.split("=", 1) for argument in arguments)
        commands = {"execute": "qmp_capabilities"}, {"execute": "device_add", "arguments": {"driver": driver, **device}}
        with socket.socket(socket.AF_UNIX) as monitor, monitor.makefile("rw") as stream:
            monitor.settimeout(10)
            monitor.connect(str(self._path("monitor")))
            stream.readline()
            for command in commands:
                stream.write(json.dumps(command) + "\n")
                stream.flush()
                answer = stream.readline()
                assert "return" in answer or "event" in answer, answer

    def said(self) -> str:
        """Its console."""
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def says(self, words: str) -> str:
        """Wait until the console has words that match; the line with them."""

        def found() -> re.Match[str] | None:
            assert self.process and self.process.poll() is None, self._path("qemu.log").read_text()
            return re.search(f"^.*{words}.*$", self.said(), re.MULTILINE)

        try:
            line: re.Match[str] = until(found, BOOT_SECONDS)
        except AssertionError:
            raise AssertionError(f"{words!r} is not on the console:\n{self.said()[-4000:]}") from None
        return line[0]

    def ready(self) -> Guest:
        """Wait until the agent answers."""
        self.says("tavia: agent ready")
        until(lambda: self.open(9443), 10)
        return self

    def open(self, port: int, address: str = ADDRESS, namespace: str | None = None) -> bool:
        """Whether a TCP port takes connections, from the management network by default."""
        with inside(namespace or self.lab.control):
            try:
                socket.create_connection((address, port), 2).close()
            except OSError:
                return False
        return True

    def certificate(self) -> bytes:
        """What the agent shows to a new connection, DER."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self.lab.directory / "client.pem")
        with (
            inside(self.lab.control),
            socket.create_connection((ADDRESS, 9443), 5) as connection,
            context.wrap_socket(connection) as tls,
        ):
            return tls.getpeercert(binary_form=True) or b""

    @contextmanager
    def client(self, client_cert: Path | None = None, server_ca: Path | None = None) -> Iterator[AgentClient]:
        """A controller's client, used inside the ``with`` only."""
        with inside(self.lab.control):
            client = AgentClient(
                ADDRESS,
                9443,
                self.id,
                client_cert=client_cert or self.lab.directory / "client.pem",
                server_ca=server_ca or self.lab.directory / "server_ca.pem",
                connect_timeout=5.0,
                read_timeout=60.0,
            )
            try:
                yield client
            finally:
                client.close()


def _nic(number: int, mac: str) -> str:
    return f"virtio-net-pci,netdev=net{number},mac={mac}"


def _iso(directory: Path, label: str, image: Path) -> None:
    command = ["genisoimage", "-quiet", "-J", "-r", "-V", label, "-o", str(image), str(directory)]
    subprocess.run(command, check=True, capture_output=True)
