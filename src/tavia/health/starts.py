"""Asks agents which disk they have, where heartbeats name another than the last one that was believed.

A server that is rebuilt or evacuated begins its boot_count anew, so its heartbeats look older than what was recorded.
On its new disk its agent has made a new start id; but a heartbeat that names another start id may as well be an old one
that somebody repeats. Only the agent can say which disk it has now, and says it over TLS: older ones are refused for
good, since it never names them again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tavia.amphora.heartbeat import ID, MAX_COUNT
from tavia.amphora.protocol import AgentStatus
from tavia.health.inbox import Inbox
from tavia.health.unforeseen import unforeseen
from tavia.health.witnesses import AskAgent
from tavia.model.mark import Mark
from tavia.model.seams import SeamError
from tavia.store import liveness
from tavia.store.database import Database

LOG = logging.getLogger(__name__)

THREADS = 4
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
"""Seconds until an agent is asked again, doubled each time: who repeats old heartbeats must not keep us asking."""
MEMORY = 600.0
"""Seconds after which it is forgotten how often one was asked."""


@dataclass(slots=True)
class _Asked:
    tries: int
    again: float


class Starts:
    """``ask_agent`` as for Witnesses."""

    def __init__(
        self, database: Database, inbox: Inbox, ask_agent: AskAgent, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._ask_agent = ask_agent
        self._clock = clock
        self._asked: dict[str, _Asked] = {}
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="start")

    def close(self) -> None:
        """Ask no more; answers under way are not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """Have those asked whose time has come; the answers come later. Raises the database's errors."""
        now = self._clock()
        self._asked = {i: a for i, a in self._asked.items() if now - a.again < MEMORY}
        due = [i for i in self._inbox.of_other_disks() if i not in self._asked or self._asked[i].again <= now]
        if not due:
            return
        with self._database.read() as conn:
            addresses = liveness.addresses(conn, due)
        for amphora_id in due:
            tries = self._asked[amphora_id].tries + 1 if amphora_id in self._asked else 0
            self._asked[amphora_id] = _Asked(tries, now + min(FIRST_PAUSE * 2.0 ** min(tries, 10), LONGEST_PAUSE))
            if amphora_id in addresses:
                self._executor.submit(self._ask, amphora_id, addresses[amphora_id])
            else:
                self._inbox.forget(amphora_id)

    def _ask(self, amphora_id: str, address: str) -> None:
        try:
            mark = _mark(self._ask_agent(amphora_id, address))
        except SeamError as error:
            LOG.info(
                "Amphora %s sends heartbeats of another disk than before, and cannot be asked: %s", amphora_id, error
            )
        except Exception as error:
            unforeseen("confirm", error, f"amphora {amphora_id}")
        else:
            if mark and self._inbox.confirm(amphora_id, mark):
                message = (
                    "Amphora %s has a new disk, its agent says so: its heartbeats are counted from start %d on %s on"
                )
                LOG.warning(message, amphora_id, mark.order[0], mark.start_id)


def _mark(status: AgentStatus) -> Mark | None:
    """Where the heartbeats of a running agent begin; None for an answer that cannot be."""
    start, boot = status.start_id, status.boot_count
    is_named = start is None or (type(start) is str and ID.fullmatch(start))
    return Mark(start, (boot, 0)) if is_named and type(boot) is int and 0 <= boot <= MAX_COUNT else None
