"""Gathers the evidence about amphorae in trouble: what compute says, whether the agent answers, what the peer sees.

Everybody is asked by name, a bounded number in a cycle, side by side and within one time for all: neither a cloud with
thousands of servers nor an amphora that answers a byte at a time keeps the watch from looking at the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TypeVar

from tavia.amphora.client import TlsRefused, Unreachable
from tavia.amphora.protocol import AgentFailed, AgentStatus
from tavia.cloud.protocols import Compute, Server, ServerStatus
from tavia.diagnosis.evidence import Evidence, Fact
from tavia.health.unforeseen import unforeseen
from tavia.model.seams import SeamError

MOST_ASKED = 100
"""Suspects asked about in one cycle. The others wait for a later one."""
COMPUTE_SECONDS, AGENT_SECONDS = 26.0, 10.0
"""For all answers of compute together, and of the agents. A call of compute ends in 25 by itself, an agent's in 4."""

T = TypeVar("T")

Heard = tuple[str, str, str]
"""An amphora that is heard: its id, management address and server."""

AskAgent = Callable[[str, str], AgentStatus]
"""Amphora id and management address to its agent's status; raises as AgentClient does."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """An amphora in trouble, with what is known before anybody is asked."""

    id: str
    compute_id: str | None
    address: str | None
    known: Evidence


@dataclass(frozen=True, slots=True)
class _Look:
    """Compute's answer about a server: there is none, too."""

    server: Server | None


class Witnesses:
    """``tags`` are those of all servers of this deployment; ``threads`` ask side by side."""

    def __init__(self, compute: Compute, ask_agent: AskAgent, tags: frozenset[str], threads: int) -> None:
        self._compute = compute
        self._ask_agent = ask_agent
        self._tags = tags
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="witness")

    def close(self) -> None:
        """Ask no more; answers under way are not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def gather(self, suspects: Sequence[Suspect], heard: Sequence[Heard]) -> dict[str, Evidence]:
        """The evidence of the suspects that were asked about, by id; the first ones come first.

        ``heard`` are healthy amphorae to compare with.
        """
        asked = suspects[:MOST_ASKED]
        of_heard = [server_id for _, _, server_id in heard]
        server_ids = list(dict.fromkeys([*of_heard, *(s.compute_id for s in asked if s.compute_id)]))
        looks = self._side_by_side(self._server, server_ids, COMPUTE_SECONDS)
        visible = self._visible(looks)
        known = {
            s.id: self._server_facts(s, looks.get(s.compute_id or ""), visible)
            for s in asked
            if s.compute_id is None or s.compute_id in looks
        }
        addresses = {s.id: s.address for s in asked if s.id in known and s.address and not _is_down(known[s.id])}
        answers = self._side_by_side(
            lambda i: self._agent_facts(i, addresses[i], known[i]), list(addresses), AGENT_SECONDS
        )
        told = {i: e or known[i] for i, e in answers.items()}
        return self._compared({i: e for i, e in known.items() if i not in addresses} | told, heard)

    def _side_by_side(self, ask: Callable[[str], T], whom: Sequence[str], seconds: float) -> dict[str, T | None]:
        """What each of those said whom there was time to ask; None for what did not come in time, or failed."""
        futures = {name: self._executor.submit(ask, name) for name in whom}
        wait(futures.values(), timeout=seconds)
        asked = {name: future for name, future in futures.items() if not future.cancel()}
        return {name: self._outcome(name, future) for name, future in asked.items()}

    def _outcome(self, name: str, future: Future[T]) -> T | None:
        if not future.done():
            return None
        try:
            return future.result()
        except SeamError:
            return None
        except Exception as error:
            unforeseen("watch", error, name)
            return None

    def _server(self, server_id: str) -> _Look:
        return _Look(self._compute.server(server_id))

    def _visible(self, looks: Mapping[str, _Look | None]) -> frozenset[str] | None:
        """The servers of ours that compute shows us; where it shows none of those it was asked for, its list is asked.

        That is in a small deployment, where the list is short, or when compute shows us nothing at all.
        """
        visible = {server_id for server_id, look in looks.items() if look and look.server}
        if visible or not any(looks.values()):
            return frozenset(visible)
        listed = self._side_by_side(lambda _: self._compute.servers(self._tags), ["all"], COMPUTE_SECONDS)["all"]
        return None if listed is None else frozenset(server.id for server in listed)

    def _server_facts(self, suspect: Suspect, look: _Look | None, visible: frozenset[str] | None) -> Evidence:
        if look is None:
            return suspect.known
        server = look.server
        return replace(
            suspect.known,
            server_exists=server is not None,
            server_runs=_RUNS.get(server.status) if server else None,
            host=server.host if server else None,
            server_busy=server is not None and (server.busy or server.status is ServerStatus.BUILDING),
            another_server_visible=None if visible is None else bool(visible - {suspect.compute_id}),
        )

    def _agent_facts(self, amphora_id: str, address: str, known: Evidence) -> Evidence:
        try:
            status = self._ask_agent(amphora_id, address)
        except Unreachable:
            return replace(known, agent_answers=False, tls_fails=False)
        except TlsRefused as refused:
            wrong = refused.by == "controller"
            return replace(known, agent_answers=False, tls_fails=True, certificate_wrong=wrong)
        except AgentFailed:
            return replace(known, agent_answers=True, tls_fails=False)
        except SeamError:
            return known
        return replace(known, agent_answers=True, tls_fails=False, serves=status.haproxy_up)

    def _compared(self, evidence: dict[str, Evidence], heard: Sequence[Heard]) -> dict[str, Evidence]:
        """Where TLS fails: does it fail with others too, seen from here? One that is heard may lie, hardly all."""
        refusing = [i for i, e in evidence.items() if e.tls_fails]
        if not refusing:
            return evidence
        addresses = {amphora_id: address for amphora_id, address, _ in heard}
        answers = self._side_by_side(
            lambda i: self._agent_facts(i, addresses[i], Evidence()), list(addresses), AGENT_SECONDS
        )
        healthy = [e for e in answers.values() if e]
        fails_with_all = bool(healthy) and all(e.tls_fails for e in healthy)
        answering = any(e.agent_answers for e in (*evidence.values(), *healthy))
        elsewhere: Fact = True if len(refusing) > 1 or fails_with_all else False if answering else None
        return evidence | {i: replace(evidence[i], tls_fails_elsewhere=elsewhere) for i in refusing}


def _is_down(evidence: Evidence) -> bool:
    """Its agent would only cost a timeout."""
    is_gone = evidence.server_exists is False and evidence.another_server_visible
    return bool(is_gone) or evidence.server_runs is False


_RUNS: Mapping[ServerStatus, Fact] = {ServerStatus.ACTIVE: True, ServerStatus.OFF: False}
"""What a status says of whether the server runs; the others say nothing."""
