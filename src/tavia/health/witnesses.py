"""Gathers the evidence about amphorae in trouble: what compute says, whether the agent answers, what the peer sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from tavia.amphora.client import TlsRefused, Unreachable
from tavia.amphora.protocol import AgentFailed, AgentStatus
from tavia.cloud.protocols import Compute, Server, ServerStatus
from tavia.diagnosis.evidence import Evidence, Fact
from tavia.model.seams import SeamError

MOST_ASKED = 100
"""Agents asked in one cycle. Of the others it stays unknown whether they answer, which proves nothing."""

FEW = 10
"""Suspects up to whom compute is asked for each by name. The list of a thousand servers takes Nova seconds, and those
whose replacement is held are suspects in every cycle."""

AskAgent = Callable[[str, str], AgentStatus]
"""Amphora id and management address to its agent's status; raises as AgentClient does."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """An amphora in trouble, with what is known before anybody is asked."""

    id: str
    compute_id: str | None
    address: str | None
    known: Evidence


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

    def gather(self, suspects: Sequence[Suspect], one_heard: tuple[str, str, str] | None) -> dict[str, Evidence]:
        """The evidence of each suspect, by id.

        ``one_heard`` is a healthy amphora to compare with: its id, management address and server.
        """
        servers = self._servers(one_heard[2] if one_heard and len(suspects) <= FEW else None)
        asked = {s.id for s in suspects[:MOST_ASKED]}
        gathered = self._executor.map(lambda s: self._about(s, servers, ask_agent=s.id in asked), suspects)
        evidence = {s.id: e for s, e in zip(suspects, gathered, strict=True)}
        return self._compared(evidence, one_heard)

    def _servers(self, enough: str | None) -> dict[str, Server] | None:
        """All of ours, or the one whose sight is enough to trust what compute says of others."""
        try:
            found = [self._compute.server(enough)] if enough else self._compute.servers(self._tags)
            return {server.id: server for server in found if server}
        except SeamError:
            return None

    def _about(self, suspect: Suspect, servers: Mapping[str, Server] | None, *, ask_agent: bool) -> Evidence:
        evidence = self._server_facts(suspect, servers)
        is_gone = evidence.server_exists is False and evidence.another_server_visible
        if is_gone or evidence.server_runs is False or not ask_agent or not suspect.address:
            return evidence  # the agent of a server that does not run would only cost a timeout
        return self._agent_facts(suspect.id, suspect.address, evidence)

    def _server_facts(self, suspect: Suspect, servers: Mapping[str, Server] | None) -> Evidence:
        if suspect.compute_id is None or servers is None:
            return suspect.known
        another_visible = bool(servers.keys() - {suspect.compute_id})
        try:
            # A list may leave a server out (a cell that is down), so who is not in it is asked for by name.
            server = servers.get(suspect.compute_id) or self._compute.server(suspect.compute_id)
        except SeamError:
            return suspect.known
        return replace(
            suspect.known,
            server_exists=server is not None,
            server_runs=_RUNS.get(server.status) if server else None,
            server_busy=server is not None and (server.busy or server.status is ServerStatus.BUILDING),
            another_server_visible=another_visible,
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

    def _compared(self, evidence: dict[str, Evidence], one_heard: tuple[str, str, str] | None) -> dict[str, Evidence]:
        """Where TLS fails: does it fail with others too, seen from here?"""
        refusing = [i for i, e in evidence.items() if e.tls_fails]
        if not refusing:
            return evidence
        others: Iterable[Evidence] = evidence.values()
        if one_heard is not None:
            others = [*others, self._agent_facts(*one_heard[:2], Evidence())]
        failing = sum(e.tls_fails is True for e in others)
        answering = any(e.agent_answers for e in others)
        elsewhere: Fact = True if failing > 1 else False if answering else None
        return evidence | {i: replace(evidence[i], tls_fails_elsewhere=elsewhere) for i in refusing}


_RUNS: Mapping[ServerStatus, Fact] = {ServerStatus.ACTIVE: True, ServerStatus.OFF: False}
"""What a status says of whether the server runs; the others say nothing."""
