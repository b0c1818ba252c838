"""HAProxy in the amphora: checked, started, changed without dropping anybody, kept running."""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tavia.agent import disk
from tavia.agent.transition import Decision, decide, states_to_keep
from tavia.agent.observation import QUESTION, Observation, Totals, observation
from tavia.agent.processes import MAX_LOG, Program, run
from tavia.agent.refusals import haproxy_refuses
from tavia.agent.stats_socket import SocketSilent, StatsSocket
from tavia.amphora import paths
from tavia.amphora.protocol import Action, AgentFailed

LOG = logging.getLogger(__name__)

LOAD_SECONDS = 20.0
"""How long HAProxy may take to load a configuration."""
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


class Haproxy:
    """The one HAProxy. ``changed`` is called whenever it went away or came back.

    Its configuration lies in ``base`` (what it reads when it starts or reloads), a copy of what it has loaded in the
    run directory: after a restart of the agent the two tell what is left to do.
    """

    def __init__(self, command: str, base: Path, changed: Callable[[], None]) -> None:
        run_dir = Path(paths.RUN_DIR)
        self._command = command
        self._config = base / "haproxy.cfg"
        self._loaded = run_dir / "haproxy.loaded"
        self._states = Path(paths.SERVER_STATE)
        self._track_file = Path(paths.TRACK_FILE)
        self._changed = changed
        self._drains: set[asyncio.Task[None]] = set()
        self._checks: set[asyncio.Task[None]] = set()
        self._leaving: set[str] = set()
        self._totals = Totals(base / "haproxy.totals")
        self._socket = StatsSocket(paths.HAPROXY_SOCKET)
        self.program = Program(
            [command, "-W", "-f", str(self._config)], str(self._config), run_dir, self._died, self._restarted
        )

    def adopt(self) -> None:
        """Take over the HAProxy that an agent before us left running, and let VRRP know how it is."""
        if self.program.adopt():
            self._say(HEALTHY)
        else:
            self._loaded.unlink(missing_ok=True)
            self._totals.begin_anew()
            self._say(DEAD)

    async def check(self, text: str) -> None:
        """Raises BundleRefused with HAProxy's own words when it would not take this configuration.

        What needs no reload is not asked for: runtime commands are read by the same parser, at a tenth of the time.
        """
        if decide(self._has_loaded(), text).action in ("none", "runtime"):
            return
        await self._try(text)

    async def _try(self, text: str) -> None:
        trial = self._config.with_name("haproxy.cfg.trial")
        disk.write(trial, text.encode())
        try:
            done = await run(self._command, "-c", "-f", str(trial))
        finally:
            trial.unlink()
        if done.code != 0:
            raise haproxy_refuses(done.output, trial)

    async def converge(self, text: str | None) -> Action:
        """Make HAProxy run this configuration; None: make it not run.

        Raises BundleRefused when it cannot load it (an address that cannot be bound); then it runs as before.
        """
        if text is None:
            return await self._stop()
        disk.write(self._config, text.encode())
        loaded = self._has_loaded()
        decision = decide(loaded, text)
        if decision.action == "none":
            return "none"
        self._loaded.unlink(missing_ok=True)  # not known until all is done
        action = await self._carry_out(decision, loaded or "", text)
        disk.write(self._loaded, text.encode())
        return action

    async def observe(self) -> Observation:
        """What it serves, with counters that go on over reloads. Raises SocketSilent."""
        answer = await self._socket.ask(QUESTION)
        if not answer.endswith("\n\n"):
            raise SocketSilent(EOFError("the answer is cut off"))
        seen = observation(answer, self._leaving)
        return replace(seen, listeners=self._totals.add(seen))

    def bound_log(self) -> None:
        """Keep its log from growing for ever."""
        self.program.forget(above=MAX_LOG)

    def _has_loaded(self) -> str | None:
        """None when it doesn't run; empty when what it has loaded is not known."""
        return (disk.read(self._loaded) or b"").decode() if self.program.running else None

    async def _carry_out(self, decision: Decision, loaded: str, text: str) -> Action:
        if decision.action == "runtime":
            refusal = await self._socket.refused(decision.commands)
            if refusal is None:
                self._drain(decision.leaving)
                return "runtime"
            LOG.warning("reloading, because HAProxy refuses a runtime command: %s", refusal)
            await self._try(text)
            decision = Decision("reload")
        if decision.action == "reload":
            await self._reload(loaded, text)
        elif decision.action == "start":
            await self._start()
        return decision.action

    async def _start(self) -> None:
        await self.program.stop()  # it may be waiting for its next try
        self._forget_states()
        restarts = self.program.restarts
        self.program.start()
        async with _deadline():
            while not await self.answers():
                if self.program.restarts > restarts:
                    said = self.program.said()
                    await self.program.stop()
                    raise haproxy_refuses(said, self._config)
                await asyncio.sleep(POLL_SECONDS)
        self._is_up()

    async def _reload(self, loaded: str, text: str) -> None:
        async with _deadline():
            while not await self.answers():  # it may just be starting
                await asyncio.sleep(POLL_SECONDS)
        self._stop_drains()
        disk.write(self._states, states_to_keep(await self._socket.ask("show servers state"), loaded, text).encode())
        old = (await self.observe()).worker
        self.program.forget()
        signals = 0
        async with _deadline() as started:
            while not await self.answers(other_than=old):
                if LOADING_FAILED in self.program.said():
                    disk.write(self._loaded, loaded.encode())
                    raise haproxy_refuses(self.program.said(), self._config)
                if time.monotonic() >= started + signals * SIGNAL_SECONDS:
                    self.program.signal(signal.SIGUSR2)
                    signals += 1
                await asyncio.sleep(POLL_SECONDS)
        self._is_up()

    async def _stop(self) -> Action:
        self._stop_drains()
        was_kept = self.program.kept
        await self.program.stop()
        for path in (self._config, self._loaded):
            path.unlink(missing_ok=True)
        self._say(HEALTHY)
        return "stop" if was_kept else "none"

    async def answers(self, other_than: int | None = None) -> bool:
        """Whether a worker answers, another than the given one."""
        try:
            return await self._socket.worker() != other_than
        except SocketSilent:
            return False

    def _died(self) -> None:
        """First of all VRRP must move; what follows takes longer."""
        self._say(DEAD)
        self._stop_drains()
        self._forget_states()
        self._changed()

    def _restarted(self) -> None:
        task = asyncio.create_task(self._await_up())
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _await_up(self) -> None:
        """It has read the file, whatever had been loaded before."""
        text = disk.read(self._config)
        while self.program.running:
            if await self.answers():
                disk.write(self._loaded, text or b"")
                self._is_up()
                return
            await asyncio.sleep(POLL_SECONDS)

    def _is_up(self) -> None:
        self._say(HEALTHY)
        self._changed()

    def _say(self, health: str) -> None:
        self._track_file.write_text(health)

    def _forget_states(self) -> None:
        disk.write(self._states, NO_STATES)

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


@asynccontextmanager
async def _deadline() -> AsyncIterator[float]:
    try:
        async with asyncio.timeout(LOAD_SECONDS):
            yield time.monotonic()
    except TimeoutError as error:
        raise AgentFailed("haproxy-silent", f"HAProxy does not answer after {LOAD_SECONDS:.0f} s") from error
