"""Tells every controller how the amphora is: each interval, and at once when there is news."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

from tavia.agent.amphora import Amphora
from tavia.agent.program import part_of
from tavia.amphora.agent_config import AgentConfig
from tavia.amphora.heartbeat import Heartbeat, encode, split

LOG = logging.getLogger(__name__)

LEAST_GAP = 0.1
"""Seconds between two heartbeats, however much news there is."""


class Heartbeats:
    """Sends until cancelled, from the ``passed`` sockets if there are any. ``config`` may be replaced at any time."""

    def __init__(
        self,
        amphora: Amphora,
        config: AgentConfig,
        news: asyncio.Event,
        version: str,
        passed: Sequence[socket.socket] = (),
    ) -> None:
        self.config = config
        self._amphora = amphora
        self._news = news
        self._version = version
        self._seq = 0
        self._unreachable: set[tuple[str, int]] = set()
        self._sockets = {each.family: each for each in passed or _own_sockets()}

    async def run(self) -> None:
        """The loop."""
        while True:
            self._news.clear()
            self._send(await self.heartbeat())
            await asyncio.sleep(LEAST_GAP)
            try:
                await asyncio.wait_for(self._news.wait(), max(0.0, self.config.heartbeat_interval - LEAST_GAP))
            except TimeoutError:
                continue

    async def heartbeat(self) -> Heartbeat:
        """What there is to say now."""
        amphora, bundle = self._amphora, self._amphora.bundle
        self._seq += 1
        return Heartbeat(
            amphora_id=amphora.amphora_id,
            boot_count=amphora.boot_count,
            seq=self._seq,
            generation=bundle.generation if bundle else 0,
            bundle_hash=bundle.hash if bundle else None,
            agent_version=self._version,
            **part_of(Heartbeat, await amphora.observe()),
        )

    def _send(self, heartbeat: Heartbeat) -> None:
        parts = split(heartbeat)
        self._seq = parts[-1].seq
        for part in parts:
            datagram = encode(part, self.config.heartbeat_key)
            for controller in self.config.controllers:
                self._send_to(controller, datagram)

    def _send_to(self, controller: tuple[str, int], datagram: bytes) -> None:
        family = socket.AF_INET6 if ":" in controller[0] else socket.AF_INET
        try:
            self._sockets[family].sendto(datagram, controller)
        except (OSError, KeyError) as error:
            if controller not in self._unreachable:
                LOG.warning("heartbeats don't reach %s port %d: %r", *controller, error)
            self._unreachable.add(controller)
        else:
            self._unreachable.discard(controller)


def _own_sockets() -> list[socket.socket]:
    families = [socket.AF_INET, *([socket.AF_INET6] if socket.has_ipv6 else [])]
    return [socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for family in families]
