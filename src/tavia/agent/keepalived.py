"""keepalived in the amphora: checked, started, reloaded, kept running, and what it says of VRRP."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tavia.agent import disk
from tavia.agent.processes import MAX_LOG, Program, run
from tavia.agent.refusals import keepalived_refuses
from tavia.amphora import paths
from tavia.amphora.protocol import AgentFailed

LOG = logging.getLogger(__name__)

KEEPALIVED = "/usr/sbin/keepalived"
EVENT = re.compile(r'^INSTANCE "[^"]*" (MASTER|BACKUP|FAULT|STOP)\b', re.MULTILINE)
"""A line of the notify fifo: the instance's new state."""
PEER = re.compile(r"unicast_peer\s*\{\s*(\S+)")
NOBODY = ("127.0.0.1", "::1")
"""The peer of an amphora whose other half is missing (``tavia.render.keepalived``)."""
PEER_SECONDS = 3.0
"""A master asks for its peer at most this often; the kernel takes as long to find that it doesn't answer."""
ANSWERED, UNANSWERED = {"REACHABLE", "STALE", "DELAY"}, {"FAILED", "INCOMPLETE"}
"""States of a neighbour (ip-neighbour(8)); PROBE, between them, leaves what was known."""


class Keepalived:
    """The one keepalived. ``changed`` is called when VRRP's state changes."""

    def __init__(self, base: Path, changed: Callable[[], None]) -> None:
        run_dir = Path(paths.RUN_DIR)
        self._config = base / "keepalived.conf"
        self._loaded = run_dir / "keepalived.loaded"
        self._state_file = run_dir / "vrrp.state"
        self._own_pid_files = (run_dir / "keepalived-main.pid", run_dir / "keepalived-vrrp.pid")
        self._changed = changed
        self._state: str | None = None
        self._peer_seen: bool | None = None
        self._peer_asked = 0.0
        main, vrrp = (str(path) for path in self._own_pid_files)
        command = [KEEPALIVED, "-n", "-l", "-P", "-f", str(self._config), "-p", main, "-r", vrrp]
        self.program = Program(command, str(self._config), run_dir, self._died, changed)

    @property
    def vrrp_state(self) -> str | None:
        """MASTER, BACKUP or FAULT (also while keepalived is dead); None without VRRP, and until it has spoken."""
        return self._state if self.program.kept else None

    def adopt(self) -> None:
        """Listen to its events, and take over the keepalived that an agent before us left running."""
        fifo = Path(paths.VRRP_FIFO)
        if not fifo.exists():
            os.mkfifo(fifo, 0o600)
        # Opened for writing too, it is never at its end when keepalived goes.
        events = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(events, self._read, events)
        if self.program.adopt():
            self._state = (disk.read(self._state_file) or b"").decode() or None
        else:
            self._loaded.unlink(missing_ok=True)

    async def check(self, text: str) -> None:
        """Raises BundleRefused with keepalived's own words. Its interfaces must be there already."""
        if self._has_loaded() == text:
            return
        trial = self._config.with_name("keepalived.conf.trial")
        disk.write(trial, text.encode())
        try:
            done = await run(KEEPALIVED, "-t", "-f", str(trial))
        finally:
            trial.unlink()
        if done.code != 0:
            raise keepalived_refuses(done.output, trial)

    async def converge(self, text: str | None) -> None:
        """Make keepalived run this configuration; None: make it not run."""
        if text is None:
            await self.program.stop()
            self._config.unlink(missing_ok=True)
            self._loaded.unlink(missing_ok=True)
            return
        if self._has_loaded() == text:
            return
        disk.write(self._config, text.encode())
        if self.program.running:
            self.program.signal(signal.SIGHUP)
        else:
            await self.program.stop()
            self._forget_pids()
            self.program.start()
        disk.write(self._loaded, text.encode())

    async def peer_seen(self) -> bool | None:
        """Whether the other amphora is there, as far as this one can tell.

        A backup hears adverts. A master asks the kernel whether the address that it sends its own to still answers
        address resolution; the answer is at most one call older than PEER_SECONDS.
        """
        peer = PEER.search((disk.read(self._config) or b"").decode())
        if self.vrrp_state != "MASTER" or not peer or peer[1] in NOBODY:
            self._peer_seen = True if self.vrrp_state == "BACKUP" else None
        elif time.monotonic() - self._peer_asked > PEER_SECONDS:
            self._peer_asked = time.monotonic()
            try:
                await self._ask_for(peer[1])
            except AgentFailed as error:
                LOG.warning("nothing is known of the peer: %s", error)
                self._peer_seen = None
        return self._peer_seen

    async def _ask_for(self, peer: str) -> None:
        shown = json.loads((await run("ip", "-j", "neigh", "show", "to", peer)).output or "[]")
        states = {(each["dev"], state) for each in shown for state in each.get("state", ())}
        for interface, state in states:
            if state in ANSWERED:
                self._peer_seen = True
                await run("ip", "neigh", "change", peer, "dev", interface, "nud", "probe")
            elif state in UNANSWERED:
                self._peer_seen = False

    def bound_log(self) -> None:
        """Keep its log from growing for ever."""
        self.program.forget(above=MAX_LOG)

    def _has_loaded(self) -> str | None:
        loaded = disk.read(self._loaded) if self.program.running else None
        return None if loaded is None else loaded.decode()

    def _died(self) -> None:
        self._forget_pids()
        self._note("FAULT")

    def _forget_pids(self) -> None:
        """Left by a killed one, they would make the next one refuse to start."""
        for path in self._own_pid_files:
            path.unlink(missing_ok=True)

    def _read(self, events: int) -> None:
        states = EVENT.findall(os.read(events, 65536).decode(errors="replace"))
        if states:
            self._note("FAULT" if states[-1] == "STOP" else states[-1])

    def _note(self, state: str) -> None:
        self._state = state
        self._state_file.write_text(state)
        self._changed()
