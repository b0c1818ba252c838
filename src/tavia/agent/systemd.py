"""What systemd gives the agent of an amphora image. Without systemd there is nothing of it, and nothing is missing.

The sockets were made in the network namespace of the management network. They stay there, while the agent that uses
them lives in the tenants' namespace, from which nobody reaches that network.
"""

from __future__ import annotations

import os
import socket

FIRST_FD = 3
"""sd_listen_fds(3)."""


def passed_sockets() -> list[socket.socket]:
    """The sockets that were passed, not blocking and not inherited by what we start. To be called once."""
    ours = os.environ.pop("LISTEN_PID", "") == str(os.getpid())
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    os.environ.pop("LISTEN_FDNAMES", None)
    sockets = [socket.socket(fileno=FIRST_FD + number) for number in range(count if ours else 0)]
    for passed in sockets:
        passed.setblocking(False)
        passed.set_inheritable(False)
    return sockets


def say_ready(address: str) -> None:
    """Tell the service manager at ``address`` (NOTIFY_SOCKET) that we are up; nothing when it is empty."""
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(b"READY=1", address.replace("@", "\0", 1))
