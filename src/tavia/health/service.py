"""``tavia-health-manager``: hears the amphorae, tells how they do, replaces those that are lost. Any number may run."""

from __future__ import annotations

import logging
import math
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from oslo_config import cfg
from oslo_db.exception import DBError
from sqlalchemy.exc import SQLAlchemyError

from tavia import cloud as clouds
from tavia.amphora.client import AgentClient
from tavia.amphora.protocol import AgentStatus
from tavia.bus import waker
from tavia.config.controller_worker import AMPHORA_NOOP
from tavia.diagnosis.guard import Limits
from tavia.health.grace import Grace
from tavia.health.inbox import Inbox, receive
from tavia.health.recording import Recorder
from tavia.health.repairs import Repairs
from tavia.health.starts import Starts
from tavia.health.unforeseen import unforeseen
from tavia.health.watching import Watch
from tavia.health.witnesses import AskAgent, Witnesses
from tavia.model.seams import Seam, SeamError
from tavia.process.lifetime import serve
from tavia.store import liveness
from tavia.store.database import Database, OutcomeUnknown, StoreBusy, StoreUnreachable
from tavia.store.opening import open_database

LOG = logging.getLogger(__name__)

PROBE_TIMEOUT = 2.0
"""Most seconds that a probe waits for an agent to connect, and to answer."""

LONGEST_FLUSH_INTERVAL = 2.0

DATABASE_ERRORS = (DBError, SQLAlchemyError, StoreBusy, StoreUnreachable, OutcomeUnknown)


def main(argv: Sequence[str] | None = None) -> None:
    """The process: runs until SIGTERM, or until one of its threads fails, which ends it with an error."""
    serve("tavia-health-manager", argv, build)


@dataclass
class HealthManager:
    """The loops and what ends them."""

    sock: socket.socket
    inbox: Inbox
    recorder: Recorder
    starts: Starts
    watch: Watch
    witnesses: Witnesses
    grace: Grace
    flush_interval: Callable[[], float]
    check_interval: float
    stopping: threading.Event

    def stop(self) -> None:
        """See tavia.process.lifetime.Service."""
        self.stopping.set()

    def unfinished(self) -> list[str]:
        """See tavia.process.lifetime.Service: nothing waits for the loops, their next look is another's."""
        return []

    def run(self) -> None:
        """Run until told to stop. Raises SeamError loop-failed."""
        self.sock.settimeout(0.5)
        failed = threading.Event()
        loops: dict[str, Callable[[], None]] = {
            "receive": partial(receive, self.sock, self.inbox, self.stopping.is_set),
            "record": partial(self._every, "record", self.flush_interval, self._record),
            "confirm": partial(self._every, "confirm", self.flush_interval, self.starts.look),
            "watch": partial(self._every, "watch", lambda: self.check_interval, self.watch.cycle),
        }

        def guarded(loop: Callable[[], None]) -> None:
            try:
                loop()
            except Exception:
                if not self.stopping.is_set():
                    LOG.exception("This loop must not fail")
                    failed.set()
                    self.stopping.set()

        for name, loop in loops.items():
            threading.Thread(target=guarded, args=(loop,), name=name, daemon=True).start()
        LOG.info("Listening for heartbeats on %s port %s", *self.sock.getsockname()[:2])
        self.stopping.wait()
        self.witnesses.close()
        self.starts.close()
        self.sock.close()
        if failed.is_set():
            raise SeamError(Seam.CONTROL, "loop-failed", "a loop of the health manager failed, see above")

    def _record(self) -> None:
        self.recorder.flush()
        self.grace.recorded()

    def _every(self, name: str, interval: Callable[[], float], action: Callable[[], None]) -> None:
        """An outage of the database is no failure of ours: it is said once, and grace begins anew when it ends.

        What nobody foresaw ends no loop either. While nothing can be recorded nobody fails over, see Grace.
        """
        is_away = False
        while not self.stopping.wait(interval()):
            try:
                action()
            except DATABASE_ERRORS as error:
                self.grace.disturbed()
                if not is_away:
                    LOG.error("The database cannot be used, no amphora fails over meanwhile: %s", error)
                is_away = True
            except Exception as error:
                unforeseen(name, error)
            else:
                if is_away:
                    LOG.warning("The database can be used again")
                is_away = False


def build(conf: cfg.ConfigOpts) -> HealthManager:
    """A health manager as configured, its socket bound. Raises SeamError, or OSError for the socket."""
    options = conf.health_manager
    database = open_database(conf.database.connection, conf.database)
    with database.read() as conn:
        inbox = Inbox(lambda: options.heartbeat_key, liveness.last_marks(conn))
    wake = waker(conf)
    cloud = clouds.connect(conf)
    tags = frozenset({f"tavia-deployment={database.deployment_id()}"})
    ask_agent = _ask_agent(conf)
    witnesses = Witnesses(cloud.compute, ask_agent, tags, options.failover_threads)
    repairs = Repairs(database, cloud.compute, wake, conf.host)
    grace = Grace(_grace_seconds(conf), longest_gap=options.heartbeat_timeout / 2)
    return HealthManager(
        sock=_bind(options.bind_ip, options.bind_port, options.sock_rlimit),
        inbox=inbox,
        recorder=Recorder(database, inbox, wake, memory=options.heartbeat_timeout),
        starts=Starts(database, inbox, ask_agent),
        watch=_watch(conf, database, witnesses, repairs, grace, inbox),
        witnesses=witnesses,
        grace=grace,
        flush_interval=lambda: min(options.heartbeat_interval / 2, LONGEST_FLUSH_INTERVAL),
        check_interval=options.health_check_interval,
        stopping=threading.Event(),
    )


def _watch(
    conf: cfg.ConfigOpts, database: Database, witnesses: Witnesses, repairs: Repairs, grace: Grace, inbox: Inbox
) -> Watch:
    options = conf.health_manager
    return Watch(
        database,
        witnesses,
        repairs,
        grace,
        limits=Limits(
            threads=options.failover_threads, share=options.failover_share, threshold=options.failover_threshold
        ),
        timeout=options.heartbeat_timeout,
        patience=_boot_patience(conf),
        refusal=partial(inbox.refusal, seconds=options.heartbeat_timeout),
    )


def _boot_patience(conf: cfg.ConfigOpts) -> float:
    """Seconds after which a worker has given a replacement up that does not come up."""
    worker, agent = conf.controller_worker, conf.haproxy_amphora
    patience = worker.amp_active_retries * worker.amp_active_wait_sec
    return float(patience + agent.connection_max_retries * agent.connection_retry_interval)


def _grace_seconds(conf: cfg.ConfigOpts) -> float:
    """For ever with the driver whose amphorae have no agents: nobody is there to send heartbeats."""
    if conf.controller_worker.amphora_driver == AMPHORA_NOOP:
        return math.inf
    options = conf.health_manager
    return float(options.heartbeat_timeout if options.failover_grace is None else options.failover_grace)


def _bind(address: str, port: int, receive_buffer: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        message = f"[health_manager] bind_ip {address}, bind_port {port}: {error.strerror}"
        raise OSError(message) from error
    return sock


def _ask_agent(conf: cfg.ConfigOpts) -> AskAgent:
    options = conf.haproxy_amphora

    def ask(amphora_id: str, address: str) -> AgentStatus:
        client = AgentClient(
            address,
            options.bind_port,
            amphora_id,
            client_cert=Path(options.client_cert),
            server_ca=Path(options.server_ca),
            connect_timeout=min(options.rest_request_conn_timeout, PROBE_TIMEOUT),
            read_timeout=min(options.rest_request_read_timeout, PROBE_TIMEOUT),
        )
        try:
            return client.status()
        finally:
            client.close()

    return ask
