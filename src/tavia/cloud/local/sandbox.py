"""Inside the forked child: from a copy of the zygote to a machine of its own whose PID 1 is our small init.

The order: cgroups, namespaces, a private file system, tell the daemon, wait until it has plugged the interfaces,
configure the management one, give up capabilities, run :mod:`tavia.cloud.local.init`. A process here never returns.

There are two network namespaces, as in the image's guest: the first port is alone in one, all that runs and every other
port is in the other. What keeps the first alive are the agent's sockets in it, which are passed as systemd passes them.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import tavia
from tavia.agent.programs import PROGRAMS
from tavia.agent.systemd import FIRST_FD
from tavia.amphora import paths
from tavia.cloud.local import init, linux
from tavia.cloud.local.records import write_atomically

CONFIG_DRIVE = Path(paths.AGENT_CONFIG).parent
"""Where the server's files go."""
_PERSISTENT = (CONFIG_DRIVE, Path(paths.STATE_DIR))
"""What is on the server's disk and survives a power off."""

_ETC = (
    *("alternatives", "hosts", "iproute2", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime"),
    *("nsswitch.conf", "protocols", "services", "ssl/certs", "ssl/openssl.cnf"),
)
"""What of the host's /etc the sandbox sees: no secrets, no configuration of services."""

_FIRST_UID = 60600
"""Of a range that no distribution gives to anybody (systemd's UIDS-GIDS)."""
_USERS = {"root": 0, "nobody": 65534} | {each.account.user: _FIRST_UID + n for n, each in enumerate(PROGRAMS)}
"""Of a sandbox: the agent's own, root, and one for each of its programs."""

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
"""Linux' admin-guide/devices.txt"""

_CAPABILITIES = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 18, 23))
"""CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE,
NET_BROADCAST, NET_ADMIN, NET_RAW, SYS_CHROOT, SYS_NICE (capability.h): what the agent and its programs need."""

_NAMESPACES = linux.NEWNS | linux.NEWCGROUP | linux.NEWUTS | linux.NEWIPC | linux.NEWPID | linux.NEWNET
_AGENT_PORT = 9443
"""Where the agent of the image's guest listens, too."""
_PASSED_FDS = 64
"""PID 1 keeps the agent's sockets from this descriptor on, out of the way of where they are passed."""
_SAFE = linux.MS_NOSUID | linux.MS_NODEV
_READ_ONLY = _SAFE | linux.MS_RDONLY


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the zygote is told of a sandbox. ``cgroups`` are the files to join them by."""

    hostname: str
    directory: Path
    cgroups: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """For the zygote's socket."""
        return {key: [str(p) for p in v] if isinstance(v, tuple) else str(v) for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The other way."""
        cgroups = tuple(Path(path) for path in data["cgroups"])
        return cls(hostname=data["hostname"], directory=Path(data["directory"]), cgroups=cgroups)


# -- the file system ------------------------------------------------------------------------------------------------


def make_skeleton(state_dir: Path) -> Path:
    """The root that all sandboxes share, read-only, in a mount namespace of the zygote's own; returns its path.

    It holds what is listed here and nothing else of the host: programs and libraries, a little of /etc, our Python.
    """
    linux.unshare(linux.NEWNS)
    linux.mount("none", Path("/"), flags=linux.MS_REC | linux.MS_PRIVATE)
    root = state_dir / "local-cloud" / "root"
    root.mkdir(exist_ok=True)
    linux.mount("tavia", root, "tmpfs", options="size=1m,mode=755")
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "var/lib", "etc"):
        (root / name).mkdir(parents=True)
    for path in _PERSISTENT:
        _within(root, path).mkdir(parents=True)
    (root / "var/run").symlink_to("../run")
    (root / "var/tmp").symlink_to("../tmp")
    for path in [Path("/usr"), *Path("/").glob("lib*"), Path("/bin"), Path("/sbin"), *_python(state_dir)]:
        _show(path, root)
    for name in _ETC:
        _show(Path("/etc") / name, root)
    for name, line in {"passwd": "{0}:x:{1}:{1}::/:/usr/sbin/nologin", "group": "{0}:x:{1}:"}.items():
        (root / "etc" / name).write_text("".join(f"{line.format(user, uid)}\n" for user, uid in _USERS.items()))
    _make_devices(root / "dev")
    linux.mount("none", root, flags=linux.MS_REMOUNT | linux.MS_RDONLY | linux.MS_NOSUID)
    return root


def _python(state_dir: Path) -> list[Path]:
    """Where the running Python and our own code come from, outermost directories only; never the state directory."""
    found = {Path(sys.prefix), Path(sys.base_prefix), Path(tavia.__path__[0]).parent}
    found |= {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found = {path for path in found if not state_dir.is_relative_to(path)}
    return [path for path in found if not any(map(path.is_relative_to, {Path("/usr")} | (found - {path})))]


def _show(path: Path, root: Path) -> None:
    """Show a path of the host at the same place under ``root``, read-only; a link as a link."""
    target = _within(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() and not path.readlink().is_absolute():
        target.symlink_to(path.readlink())
    elif path.is_dir():
        target.mkdir(exist_ok=True)
        linux.bind(path, target, _READ_ONLY)
    elif path.exists():
        target.touch()
        linux.bind(path, target, _READ_ONLY)


def _within(root: Path, path: Path) -> Path:
    """Where an absolute path is when ``root`` is the root."""
    return root / path.relative_to("/")


def make_disk(directory: Path, files: Mapping[Path, bytes]) -> None:
    """The daemon's side: a new server's disk, with its files, for root's eyes only."""
    for path in _PERSISTENT:
        _within(directory / "disk", path).mkdir(parents=True, mode=0o700)
    for path, content in files.items():
        target = _within(directory / "disk", path)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(target, content)


def _make_devices(directory: Path) -> None:
    for name, (major, minor) in _DEVICES.items():
        os.mknod(directory / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        (directory / name).chmod(0o666)
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        (directory / name).symlink_to(f"/proc/self/fd{target}")
    (directory / "shm").mkdir()


def _mount_private(root: Path, directory: Path) -> None:
    """What every sandbox has for itself, on top of the skeleton, which then becomes its root."""
    safe = _SAFE | linux.MS_NOEXEC
    linux.mount("proc", root / "proc", "proc", safe)
    # Of the kernel's settings only the network's are its own; the others are the whole machine's.
    for path in (root / "proc/sysrq-trigger", root / "proc/sys"):
        if path.exists():
            linux.bind(path, path, _READ_ONLY)
    linux.bind(root / "proc/sys/net", root / "proc/sys/net", safe)
    linux.mount("sysfs", root / "sys", "sysfs", safe | linux.MS_RDONLY)
    for name, size in {"run": "32m", "tmp": "32m", "dev/shm": "16m"}.items():
        linux.mount("tmpfs", root / name, "tmpfs", _SAFE, f"size={size},mode={'755' if name == 'run' else '1777'}")
    for path in _PERSISTENT:
        linux.bind(_within(directory / "disk", path), _within(root, path), _SAFE)
    linux.pivot_into(root)


# -- becoming a machine ---------------------------------------------------------------------------------------------


def enter(plan: Plan, root: Path, channel: socket.socket, agent: Callable[[Path], object]) -> NoReturn:
    """The zygote's child: make the namespaces, fork their PID 1 and leave."""
    try:
        for procs in plan.cgroups:
            procs.write_text(str(os.getpid()))
        linux.unshare(_NAMESPACES)
        sockets = _management_sockets()
        management = os.open(linux.OWN_NETWORK, os.O_RDONLY)
        linux.unshare(linux.NEWNET)
        pid = os.fork()
        if pid:
            _say(channel, {"pid": pid, "management": management})
            os._exit(0)
        _become_machine(plan, root, channel, management)
    except BaseException as error:
        with suppress(OSError):
            _say(channel, {"error": repr(error)})
        traceback.print_exc()
        os._exit(1)
    init.run(lambda: _run_agent(agent, sockets))


def _management_sockets() -> list[int]:
    """One that listens for controllers, and one a family to send heartbeats from, in the namespace that we are in."""
    dual = socket.has_dualstack_ipv6()
    host, family = ("::", socket.AF_INET6) if dual else ("0.0.0.0", socket.AF_INET)  # noqa: S104
    listening = socket.create_server((host, _AGENT_PORT), family=family, backlog=128, dualstack_ipv6=dual)
    # asyncio sets it only on sockets that were made with IPPROTO_TCP; without it an answer waits 40 ms for an ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    families = (socket.AF_INET, socket.AF_INET6) if socket.has_ipv6 else (socket.AF_INET,)
    made = [listening, *(socket.socket(each, socket.SOCK_DGRAM) for each in families)]
    return [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _PASSED_FDS) for each in made]


def _run_agent(agent: Callable[[Path], object], sockets: Sequence[int]) -> None:
    """With the sockets as its first descriptors, sd_listen_fds(3)."""
    for number, each in enumerate(sockets):
        os.dup2(each, FIRST_FD + number, inheritable=False)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(sockets))}
    agent(Path(paths.AGENT_CONFIG))


def _become_machine(plan: Plan, root: Path, channel: socket.socket, management: int) -> None:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_console(plan.directory / "console.log")
    os.umask(0o022)
    _mount_private(root, plan.directory)
    socket.sethostname(plan.hostname)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    commands = channel.recv(65536)
    if not commands:
        os._exit(1)  # the daemon died before it had plugged us: nobody knows of this sandbox
    _configure_network(b"link set lo up\n")
    with linux.in_network(management):
        _configure_network(commands)
    os.close(management)
    linux.keep_capabilities(_CAPABILITIES)
    _say(channel, {"up": True})
    channel.close()


def _configure_network(commands: bytes) -> None:
    """Run ``ip`` commands in the network namespace that we are in."""
    # Neighbours learn at once when an address has moved to this machine (ip-sysctl, arp_notify). For all interfaces:
    # the default is for later ones, and the daemon may have plugged ours already.
    Path("/proc/sys/net/ipv4/conf/all/arp_notify").write_text("1")
    subprocess.run([shutil.which("ip") or "ip", "-batch", "-"], input=commands, check=True)


def _open_console(path: Path) -> None:
    """Output goes to the server's console log, which starts anew with each power on."""
    console = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(console, 1)
    os.dup2(console, 2)
    os.close(console)


def _say(channel: socket.socket, message: Mapping[str, Any]) -> None:
    channel.send(json.dumps(message).encode())


def start(channel: socket.socket, commands: list[str]) -> None:
    """The daemon's side: the interfaces are plugged, configure the management one with these commands and run."""
    channel.send("".join(f"{line}\n" for line in commands).encode())
