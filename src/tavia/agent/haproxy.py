"""HAProxy in the amphora: checked, started, changed without dropping anybody, kept running."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tavia.agent import disk
from tavia.agent.accounts import Account
from tavia.agent.observation import QUESTION, Observation, Totals, observation
from tavia.agent.processes import MAX_LOG, Daemon, run, version_of
from tavia.agent.program import Facts, Files
from tavia.agent.refusals import refused
from tavia.agent.stats_socket import SocketSilent, StatsSocket
from tavia.agent.transition import Decision, decide, states_to_keep
from tavia.amphora import paths
from tavia.amphora.agent_config import AgentConfig
from tavia.amphora.bundle import ProgramFile
from tavia.amphora.protocol import Action, AgentFailed, BundleRefused

LOG = logging.getLogger(__name__)

FILE = ProgramFile.HAPROXY

LOAD_SECONDS = 20.0
"""How long HAProxy may take to load a configuration."""
GIVE_UP_SECONDS = 60.0
"""One that never answered since its start is hung then: who needs more than LOAD_SECONDS is late, not dead."""
POLL_SECONDS = 0.01
SIGNAL_SECONDS = 3.0
"""A reload is asked for again after this time: a master that is just loading loses the signal."""
DRAIN_SECONDS = 300.0
"""How long a removed member may finish its responses; then they are cut off."""
DRAIN_POLL_SECONDS = 0.5
HEALTHY, DEAD = "0\n", "-254\n"
"""The track file's contents: nothing, and enough for keepalived to give up the VIP (FAULT)."""
GONE = {"Server deleted.", "No such server."}
NO_STATES = b"1\n"
"""An empty server-state file."""
LOADING_FAILED = "Loading failure!"
"""HAProxy's master says it when a reload fails; the old worker goes on."""
ALERT = re.compile(r"^\[ALERT\]\s+\(\d+\) : (.*)$", re.MULTILINE)
CONCLUSIONS = ("Error(s) found in configuration file", "Fatal errors found in configuration")
REFUSED_LINE = re.compile(r"\[haproxy\.cfg:(\d+)\]")


class Haproxy:
    """A :class:`~tavia.agent.program.Program`. ``changed`` is called whenever it went away or came back.

    Its configuration lies in ``base`` (what it reads when it starts or reloads), a copy of what it has loaded in the
    run directory: after a restart of the agent the two tell what is left to do.
    """

    account = Account("haproxy", ("net_bind_service",))
    needs_interfaces = False

    def __init__(self, config: AgentConfig, changed: Callable[[], None]) -> None:
        base = config.base_path
        self._command = command = config.haproxy_cmd
        self._version = ""
        self._config = base / FILE
        self._loaded = disk.own_run_dir() / "haproxy.loaded"
        self._states = Path(paths.SERVER_STATE)
        self._track_file = Path(paths.TRACK_FILE)
        self._changed = changed
        self._drains: set[asyncio.Task[None]] = set()
        self._checks: set[asyncio.Task[None]] = set()
        self._leaving: set[str] = set()
        self._loads_until = 0.0
        self._totals = Totals(base / "haproxy.totals")
        self._socket = StatsSocket(paths.HAPROXY_SOCKET, self.account)
        self.daemon = Daemon(
            [command, "-W", "-f", str(self._config)], str(self._config), self.account, self._died, self._restarted
        )

    async def adopt(self) -> None:
        """Let VRRP know how it is, too."""
        if self.daemon.adopt():
            self._say(HEALTHY)
        else:
            self._loaded.unlink(missing_ok=True)
            self._totals.begin_anew()
            self._say(DEAD)
        self._track_file.chmod(0o644)  # for keepalived
        self._version = await version_of(self._command)
        # It makes its socket there, beside which it removes nothing: what it finds by the paths of its configuration,
        # which older agents know, is shared. For all else others have directories of their own.
        self.account.give(Path(paths.RUN_DIR), 0o1775)

    async def check(self, files: Files) -> None:
        """What needs no reload is not asked for: runtime commands are read by the same parser, at a tenth of the time.

        See Program.
        """
        text = files.get(FILE)
        if text is not None and decide(self._has_loaded(), text).action not in ("none", "runtime"):
            await self._try(text)

    async def _try(self, text: str) -> None:
        trial = self._config.with_name(f"{FILE}.trial")
        disk.write(trial, text.encode(), reader=self.account)
        try:
            done = await run(*self.account.running(self._command, "-c", "-f", str(trial)))
        finally:
            trial.unlink()
        if done.code != 0:
            raise haproxy_refuses(done.output, trial)

    async def converge(self, files: Files) -> Action:
        """It refuses an address that cannot be bound, among others. See Program."""
        text = files.get(FILE)
        if text is None:
            return await self._stop()
        disk.write(self._config, text.encode(), reader=self.account)
        loaded = self._has_loaded()
        decision = decide(loaded, text)
        if decision.action == "none":
            return "none"
        self._loaded.unlink(missing_ok=True)  # not known until all is done
        action = await self._carry_out(decision, loaded or "", text)
        disk.write(self._loaded, text.encode())
        return action

    async def observe(self, files: Files) -> Facts:
        """What it serves, with counters that go on over reloads. See Program."""
        self.daemon.forget(above=MAX_LOG)
        facts = {"haproxy_version": self._version, "haproxy_restarts": self.daemon.restarts, "haproxy_up": True}
        if FILE not in files:
            return facts
        try:
            seen = await self._seen()
        except SocketSilent:
            return facts | {"haproxy_up": False}
        return facts | {"listeners": seen.listeners, "pools": seen.pools}

    async def watch(self) -> None:
        """It answers on its stats socket, whoever of its threads is busy. See Program."""
        if time.monotonic() > self._loads_until and await self.daemon.is_hung(self._answers):
            LOG.error("HAProxy does not answer on its stats socket: killed, to be started again")
            self.daemon.kill()
            self._say(DEAD)

    async def _seen(self) -> Observation:
        """Raises SocketSilent."""
        answer = await self._socket.ask(QUESTION)
        if not answer.endswith("\n\n"):
            raise SocketSilent(EOFError("the answer is cut off"))
        try:
            seen = observation(answer, self._leaving)
        except (ValueError, KeyError) as error:
            raise SocketSilent(error) from error
        return replace(seen, listeners=self._totals.add(seen))

    def _has_loaded(self) -> str | None:
        """None when it doesn't run; empty when what it has loaded is not known."""
        return (disk.read(self._loaded) or b"").decode() if self.daemon.running else None

    async def _carry_out(self, decision: Decision, loaded: str, text: str) -> Action:
        if decision.action == "runtime":
            refusal = await self._socket.refused(decision.commands)
            if refusal is None:
                self._drain(decision.leaving)
                return "runtime"
            LOG.warning("reloading, because HAProxy refuses a runtime command: %s", refusal)
            await self._try(text)
            decision = Decision("reload")
        if decision.action == "reload" and not await self._comes_up():
            decision = Decision("start")
        if decision.action == "reload":
            await self._reload(loaded, text)
        elif decision.action == "start":
            await self._start()
        return decision.action

    async def _start(self) -> None:
        await self.daemon.stop()  # it may be waiting for its next try
        self._clear_away()
        restarts = self.daemon.restarts
        self._loads_until = time.monotonic() + GIVE_UP_SECONDS
        self.daemon.start()
        async with _deadline():
            while not await self._answers():
                if self.daemon.restarts > restarts:
                    said = self.daemon.said()
                    await self.daemon.stop()
                    raise haproxy_refuses(said, self._config)
                await asyncio.sleep(POLL_SECONDS)
        self._is_up()

    async def _comes_up(self) -> bool:
        """It may just be starting, and die of what it reads: then it would wait for its next try."""
        async with _deadline():
            while not await self._answers():
                if not self.daemon.running:
                    return False
                await asyncio.sleep(POLL_SECONDS)
        return True

    async def _reload(self, loaded: str, text: str) -> None:
        self._stop_drains()
        kept = states_to_keep(await self._socket.ask("show servers state"), loaded, text)
        disk.write(self._states, kept.encode(), reader=self.account)
        old = (await self._seen()).worker
        self.daemon.forget()
        signals = 0
        async with _deadline() as started:
            while not await self._answers(other_than=old):
                if LOADING_FAILED in self.daemon.said():
                    disk.write(self._loaded, loaded.encode())
                    raise haproxy_refuses(self.daemon.said(), self._config)
                if time.monotonic() >= started + signals * SIGNAL_SECONDS:
                    self.daemon.signal(signal.SIGUSR2)
                    signals += 1
                await asyncio.sleep(POLL_SECONDS)
        self._is_up()

    async def _stop(self) -> Action:
        self._stop_drains()
        was_kept = self.daemon.kept
        await self.daemon.stop()
        for path in (self._config, self._loaded):
            path.unlink(missing_ok=True)
        self._say(HEALTHY)
        return "stop" if was_kept else "none"

    async def _answers(self, other_than: int | None = None) -> bool:
        """Whether a worker answers, another than the given one."""
        try:
            return await self._socket.worker() != other_than
        except SocketSilent:
            return False

    def _died(self) -> None:
        """First of all VRRP must move; what follows takes longer.

        Its workers end with their master by themselves, but for one that hangs: it would still get its share of the
        connections, and answer none.
        """
        self._say(DEAD)
        self.daemon.kill()
        self._stop_drains()
        self._clear_away()
        self._changed()

    def _restarted(self) -> None:
        self._loads_until = time.monotonic() + GIVE_UP_SECONDS
        task = asyncio.create_task(self._await_up())
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _await_up(self) -> None:
        """It has read the file, whatever had been loaded before."""
        text = disk.read(self._config)
        while self.daemon.running:
            if await self._answers():
                disk.write(self._loaded, text or b"")
                self._is_up()
                return
            await asyncio.sleep(POLL_SECONDS)

    def _is_up(self) -> None:
        self._loads_until = 0.0
        self._say(HEALTHY)
        self._changed()

    def _say(self, health: str) -> None:
        self._track_file.write_text(health)

    def _clear_away(self) -> None:
        disk.write(self._states, NO_STATES, reader=self.account)
        Path(paths.HAPROXY_SOCKET).unlink(missing_ok=True)  # another user's, of an agent before us, would be in the way

    def _drain(self, servers: frozenset[str]) -> None:
        if servers:
            self._leaving |= servers
            task = asyncio.create_task(self._delete_when_idle(set(servers)))
            self._drains.add(task)
            task.add_done_callback(self._drains.discard)

    def _stop_drains(self) -> None:
        """A new HAProxy doesn't know the removed servers; the old one finishes their responses by itself."""
        for task in self._drains:
            task.cancel()
        self._leaving.clear()

    async def _delete_when_idle(self, servers: set[str]) -> None:
        """A connection that became idle after the removal would keep its server for ever; a new address closes it."""
        deadline = time.monotonic() + DRAIN_SECONDS
        for port in itertools.cycle((1, 2)):
            cut_off = time.monotonic() > deadline
            for server in sorted(servers):
                commands = [f"set server {server} addr 127.0.0.1 port {port}", f"del server {server}"]
                if cut_off:
                    LOG.warning("server %s has sessions %d s after its removal: cut off", server, DRAIN_SECONDS)
                    commands.insert(0, f"shutdown sessions server {server}")
                try:
                    said = await self._socket.ask(";".join(commands))
                except SocketSilent as error:
                    said = str(error)
                if cut_off or GONE & set(said.splitlines()):
                    servers.discard(server)
                    self._leaving.discard(server)
            if not servers:
                return
            await asyncio.sleep(DRAIN_POLL_SECONDS)


def haproxy_refuses(output: str, file: Path) -> BundleRefused:
    """Its alerts, without the process id and our path of the ``file`` that it read."""
    alerts = ALERT.findall(output.replace(str(file), FILE))
    message = "\n".join(line for line in alerts if not any(words in line for words in CONCLUSIONS))
    return refused(FILE, message or output, REFUSED_LINE)


@asynccontextmanager
async def _deadline() -> AsyncIterator[float]:
    try:
        async with asyncio.timeout(LOAD_SECONDS):
            yield time.monotonic()
    except TimeoutError as error:
        raise AgentFailed("haproxy-silent", f"HAProxy does not answer after {LOAD_SECONDS:.0f} s") from error
