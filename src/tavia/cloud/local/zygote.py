"""The zygote: a single-threaded process that has imported the agent once and forks sandboxes on command.

Forking a process with threads is unsafe, so the daemon (which has threads) starts this one by exec and talks to it
over a socketpair: one message a sandbox, with one end of that sandbox's control channel. When the daemon goes, the
zygote goes; when the zygote dies the daemon starts another. Sandboxes outlive both.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tavia.cloud.local import linux, sandbox
from tavia.cloud.local.instance import Instance
from tavia.model.seams import Seam, SeamError

_MESSAGE_BYTES = 65536
_TIMEOUT = 30.0
"""Seconds that a sandbox may take to answer on its control channel; the first one waits for the agent's import."""


class Zygote:
    """The daemon's side. Safe for threads."""

    def __init__(self, instance: Instance, agent: str) -> None:
        self._instance = instance
        self._agent = agent
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = [str(self._instance.state_dir), self._agent, str(theirs.fileno())]
        with theirs:
            command = [sys.executable, "-m", "tavia.cloud.local.zygote", *arguments]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def fork(self, plan: sandbox.Plan) -> tuple[int, Path, socket.socket]:
        """Fork a sandbox: returns the pid of its PID 1 as we see it, its management namespace, its control channel.

        The sandbox waits for :func:`tavia.cloud.local.sandbox.start` on the channel, and ends when it is closed.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_TIMEOUT)
        with theirs:
            self._send(json.dumps(plan.to_json()).encode(), theirs)
        forked = receive(ours)
        return int(forked["pid"]), Path(f"/proc/{forked['pid']}/fd/{forked['management']}"), ours

    def _send(self, message: bytes, channel: socket.socket) -> None:
        with self._lock:
            if self._process.poll() is None:
                try:
                    socket.send_fds(self._socket, [message], [channel.fileno()])
                    return
                except OSError:
                    self._process.kill()
            self._process.wait()
            self._socket.close()
            self._start()
            socket.send_fds(self._socket, [message], [channel.fileno()])


def receive(channel: socket.socket) -> Mapping[str, Any]:
    """A sandbox's next message. Raises SeamError sandbox-failed with its reason, or when it died without one."""
    try:
        message = channel.recv(_MESSAGE_BYTES)
    except OSError as error:
        raise SeamError(Seam.BOOT, "sandbox-failed", f"the sandbox does not come up: {error}") from error
    answer: dict[str, Any] = json.loads(message) if message else {"error": "it died; see its console.log"}
    if "error" in answer:
        raise SeamError(Seam.BOOT, "sandbox-failed", f"the sandbox does not come up: {answer['error']}")
    return answer


def serve(state_dir: Path, agent: Callable[[Path], object], commands: socket.socket) -> None:
    """The zygote's own loop; ends when the daemon has gone."""
    # The kernel reaps our children for us, and the sandboxes' PID 1s, whose parents leave at once, are our children
    # too: the machine's own PID 1 may be one that reaps nothing.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    linux.become_subreaper()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    root = sandbox.make_skeleton(state_dir)
    gc.collect()
    gc.freeze()
    while True:
        message, channels, _, _ = socket.recv_fds(commands, _MESSAGE_BYTES, 1)
        if not message:
            return
        channel = socket.socket(fileno=channels[0])
        if os.fork() == 0:
            commands.close()
            sandbox.enter(sandbox.Plan.from_json(json.loads(message)), root, channel, agent)
        channel.close()


def main() -> None:
    """Started by :class:`Zygote` only: state directory, agent (module:function), descriptor of the socket."""
    state_dir, agent, descriptor = sys.argv[1:]
    module, _, function = agent.partition(":")
    serve(Path(state_dir), getattr(importlib.import_module(module), function), socket.socket(fileno=int(descriptor)))


if __name__ == "__main__":
    main()
