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
from tavia.agent.accounts import Account
from tavia.agent.processes import MAX_LOG, Daemon, run, version_of
from tavia.agent.program import Facts, Files
from tavia.agent.refusals import refused
from tavia.amphora import paths
from tavia.amphora.agent_config import AgentConfig
from tavia.amphora.bundle import ProgramFile
from tavia.amphora.protocol import Action, AgentFailed, BundleRefused

LOG = logging.getLogger(__name__)

FILE = ProgramFile.KEEPALIVED
KEEPALIVED = "/usr/sbin/keepalived"
EVENT = re.compile(r'^INSTANCE "[^"]*" (MASTER|BACKUP|FAULT|STOP)\b', re.MULTILINE)
"""A line of the notify fifo: the instance's new state."""
REFUSED_LINE = re.compile(r"\bLine (\d+)\)")
PEER = re.compile(r"unicast_peer\s*\{\s*(\S+)")
NOBODY = ("127.0.0.1", "::1")
"""The peer of an amphora whose other half is missing (``tavia.render.keepalived``)."""
PEER_SECONDS = 3.0
"""A master asks for its peer at most this often; the kernel takes as long to find that it doesn't answer."""
ANSWERED, UNANSWERED = {"REACHABLE", "STALE", "DELAY"}, {"FAILED", "INCOMPLETE"}
"""States of a neighbour (ip-neighbour(8)); PROBE, between them, leaves what was known."""


class Keepalived:
    """A :class:`~tavia.agent.program.Program`. ``changed`` is called when VRRP's state changes."""

    account = Account("keepalived", ("net_admin", "net_raw"))
    needs_interfaces = True

    def __init__(self, config: AgentConfig, changed: Callable[[], None]) -> None:
        own, self._run_dir = disk.own_run_dir(), Path(paths.RUN_DIR) / self.account.user
        self._version = ""
        self._config = config.base_path / FILE
        self._loaded = own / "keepalived.loaded"
        self._state_file = own / "vrrp.state"
        self._own_pid_files = (self._run_dir / "main.pid", self._run_dir / "vrrp.pid")
        self._changed = changed
        self._state: str | None = None
        self._peer_seen: bool | None = None
        self._peer_asked = 0.0
        main, vrrp = (str(path) for path in self._own_pid_files)
        command = [KEEPALIVED, "-n", "-l", "-P", "-f", str(self._config), "-p", main, "-r", vrrp]
        self.daemon = Daemon(command, str(self._config), self.account, self._died, changed)

    @property
    def vrrp_state(self) -> str | None:
        """MASTER, BACKUP or FAULT (also while keepalived is dead); None without VRRP, and until it has spoken."""
        return self._state if self.daemon.kept else None

    async def adopt(self) -> None:
        """Listen to its events, too."""
        fifo = Path(paths.VRRP_FIFO)
        if not fifo.exists():
            os.mkfifo(fifo, 0o600)
        # Opened for writing too, it is never at its end when keepalived goes.
        events = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(events, self._read, events)
        if self.daemon.adopt():
            self._state = (disk.read(self._state_file) or b"").decode() or None
        else:
            self._loaded.unlink(missing_ok=True)
        self._version = await version_of(KEEPALIVED)
        self._run_dir.mkdir(exist_ok=True)
        self.account.give(self._run_dir, 0o770)
        self.account.give(fifo, 0o660)

    async def check(self, files: Files) -> None:
        """See Program."""
        text = files.get(FILE)
        if text is None or self._has_loaded() == text:
            return
        trial = self._config.with_name(f"{FILE}.trial")
        disk.write(trial, text.encode(), reader=self.account)
        try:
            done = await run(*self.account.running(KEEPALIVED, "-t", "-f", str(trial)))
        finally:
            trial.unlink()
        if done.code != 0:
            raise keepalived_refuses(done.output, trial)

    async def converge(self, files: Files) -> Action:
        """See Program."""
        text = files.get(FILE)
        if text is None:
            return await self._stop()
        disk.write(self._config, text.encode(), reader=self.account)
        if self._has_loaded() == text:
            return "none"
        action: Action = "reload" if self.daemon.running else "start"
        if action == "reload":
            self.daemon.signal(signal.SIGHUP)
        else:
            await self.daemon.stop()
            self._forget_pids()
            self.daemon.start()
        disk.write(self._loaded, text.encode())
        return action

    async def observe(self, files: Files) -> Facts:
        """See Program."""
        self.daemon.forget(above=MAX_LOG)
        return {
            "keepalived_version": self._version,
            "keepalived_up": self.daemon.running,
            "vrrp_state": self.vrrp_state,
            "peer_seen": await self._peer_is_seen(),
        }

    async def watch(self) -> None:
        """Nobody can ask it anything without a file and a line in its log, but it reads signals where it sends adverts:
        in the one loop that each of its two processes has. See Program.
        """
        if await self.daemon.is_hung(self.daemon.reads_signals):
            LOG.error("keepalived does not read its signals: killed, to be started again")
            self.daemon.kill()

    async def _stop(self) -> Action:
        was_kept = self.daemon.kept
        await self.daemon.stop()
        for path in (self._config, self._loaded):
            path.unlink(missing_ok=True)
        return "stop" if was_kept else "none"

    async def _peer_is_seen(self) -> bool | None:
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

    def _has_loaded(self) -> str | None:
        loaded = disk.read(self._loaded) if self.daemon.running else None
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


def keepalived_refuses(output: str, file: Path) -> BundleRefused:
    """All that it says, each line once."""
    lines = output.replace(str(file), FILE).splitlines()
    return refused(FILE, "\n".join(dict.fromkeys(lines)), REFUSED_LINE)
