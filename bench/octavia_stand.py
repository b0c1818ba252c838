"""Both systems beside each other on one MariaDB and one RabbitMQ, and what is counted of them, all from outside.

Processor time comes from /proc, statements from MariaDB, which counts them by user (``userstat``): every command a
client sends but connecting, COMMIT and ROLLBACK too. Whether something is ACTIVE is looked up in the tables every
5 ms by another user: that costs neither system anything, and both the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil
from bench.octavia_real import octavia
from bench.octavia_sides import PATIENCE, Json, Side, cpu_seconds
from controllers import controllers, tree
from mariadb import USER, MariaDb
from ports import free_port
from pymysql.cursors import Cursor
from rabbitmq import RabbitMQ

INTERVAL = 0.005
"""Seconds between two looks for ACTIVE."""
QUIET, QUIET_CPU = 0.5, 0.06
"""Work is over when a system takes less than so many seconds of processor time in so many seconds."""
LONGEST_SETTLING = 30.0
COUNTED = (
    "SELECT user, select_commands + update_commands + other_commands, cpu_time FROM information_schema.user_statistics"
)
PASSWORD = "of-the-bench"
PROJECT = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Seconds of processor time: of the system's own processes, of MariaDB and of RabbitMQ; statements; seconds."""

    cpu: float
    mariadb: float
    rabbitmq: float
    statements: float
    seconds: float


class Stand:
    """Make it with :func:`stand`."""

    def __init__(
        self, tavia: Side, octavia: Side, mariadb: psutil.Process, rabbitmq: psutil.Process, db: Cursor
    ) -> None:
        self.tavia, self.octavia = tavia, octavia
        self._mariadb, self._rabbitmq = mariadb, rabbitmq
        self._db = db
        self._idle: dict[str, Usage] = {}

    @property
    def sides(self) -> tuple[Side, Side]:
        """Tavia first."""
        return self.tavia, self.octavia

    # -- measuring ------------------------------------------------------------------------------------------------

    def turns(self, rounds: int) -> Iterator[Side]:
        """Who works next: each once a round, and who begins alternates. Both are quiet then."""
        for number in range(rounds):
            for side in self.sides if number % 2 == 0 else self.sides[::-1]:
                for each in self.sides:
                    self.settle(each)
                yield side

    def settle(self, side: Side) -> None:
        """Return when it does nothing more, or never stops."""
        deadline = time.monotonic() + LONGEST_SETTLING
        before, now = side.cpu_seconds() - QUIET_CPU, side.cpu_seconds()
        while now - before >= QUIET_CPU and time.monotonic() < deadline:
            time.sleep(QUIET)
            before, now = now, side.cpu_seconds()

    def usage(self, side: Side, work: Callable[[], None]) -> Usage:
        """What ``work`` takes until all is quiet again, less what the same time takes without work.

        The system's own processor time is told as it is: the background is its own too.
        """
        before = self._counted(side)
        work()
        self.settle(side)
        used = _difference(before, self._counted(side))
        idle = self._idle[side.name]
        return Usage(
            cpu=used.cpu,
            mariadb=max(used.mariadb - idle.mariadb * used.seconds, 0.0),
            rabbitmq=max(used.rabbitmq - idle.rabbitmq * used.seconds, 0.0),
            statements=used.statements - idle.statements * used.seconds,
            seconds=used.seconds,
        )

    def idle(self, seconds: float) -> dict[str, Usage]:
        """What each takes a second when nobody asks for anything, by its name; :meth:`usage` needs it."""
        for side in self.sides:
            self.settle(side)
        before = {side.name: self._counted(side) for side in self.sides}
        time.sleep(seconds)
        for side in self.sides:
            used = _difference(before[side.name], self._counted(side))
            self._idle[side.name] = Usage(
                cpu=used.cpu / used.seconds,
                mariadb=used.mariadb / used.seconds,
                rabbitmq=used.rabbitmq / used.seconds,
                statements=used.statements / used.seconds,
                seconds=1.0,
            )
        return self._idle

    def _counted(self, side: Side) -> Usage:
        """Since the processes began. What MariaDB did for the looks for ACTIVE is not in it."""
        by_user = {user: (float(statements), cpu) for user, statements, cpu in self.select(COUNTED)}
        return Usage(
            cpu=side.cpu_seconds(),
            mariadb=cpu_seconds(self._mariadb) - by_user[USER][1],
            rabbitmq=cpu_seconds(self._rabbitmq),
            statements=by_user[side.user][0],
            seconds=time.monotonic(),
        )

    def select(self, statement: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """Rows, as another user than the systems'."""
        self._db.execute(statement, values)
        rows: Sequence[tuple[Any, ...]] = self._db.fetchall()
        return rows

    # -- work -----------------------------------------------------------------------------------------------------

    def create_tree(self, side: Side) -> Json:
        """One POST of a load balancer with listener, pool, two members and health monitor; the API's answer."""
        made: Json = side.call(
            "POST", "/lbaas/loadbalancers", {"loadbalancer": tree("bench") | {"project_id": PROJECT}}
        )
        return dict(made["loadbalancer"])

    def await_active(self, side: Side, loadbalancer_id: str, member_id: str | None = None) -> None:
        """Return when the load balancer is ACTIVE, and the member. Raises RuntimeError when one goes to ERROR."""
        wanted = [("load_balancer", loadbalancer_id), *([("member", member_id)] if member_id else [])]
        statement = " UNION ALL ".join(
            f"SELECT provisioning_status FROM {side.user}.{table} WHERE id = %s" for table, _ in wanted
        )
        self._await(lambda: self.select(statement, *(row_id for _, row_id in wanted)))

    def await_all_active(self, side: Side) -> None:
        """Return when all load balancers are."""
        self._await(lambda: self.select(f"SELECT DISTINCT provisioning_status FROM {side.user}.load_balancer"))

    def copy_members(self, side: Side, pool_id: str, wanted: int) -> None:
        """Give a pool so many members behind the system's back: copies of one, each with another port."""
        rows = self.select(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = 'member'",
            side.user,
        )
        columns = [column for (column,) in rows]
        values = ({"id": "UUID()", "protocol_port": "seq"}.get(column, column) for column in columns)
        one, *others = self.select(f"SELECT id FROM {side.user}.member WHERE pool_id = %s", pool_id)
        copies = wanted - 1 - len(others)
        self.select(
            f"INSERT INTO {side.user}.member ({', '.join(columns)}) SELECT {', '.join(values)} "
            f"FROM {side.user}.member, {side.user}.seq_20000_to_{20000 + copies - 1} WHERE id = %s",
            one[0],
        )

    def _await(self, look: Callable[[], Sequence[tuple[Any, ...]]]) -> None:
        deadline = time.monotonic() + PATIENCE
        while (statuses := {status for (status,) in look()}) != {"ACTIVE"}:
            if "ERROR" in statuses or time.monotonic() > deadline:
                raise RuntimeError(f"not ACTIVE but {statuses}")
            time.sleep(INTERVAL)


def _difference(before: Usage, after: Usage) -> Usage:
    return Usage(**{f.name: getattr(after, f.name) - getattr(before, f.name) for f in fields(Usage)})


@contextmanager
def stand() -> Iterator[Stand]:
    """All of it in a temporary directory, which is gone afterwards, on loopback; what runs dies with this process."""
    with tempfile.TemporaryDirectory(prefix="tavia-bench-") as made, ExitStack() as cleanup:
        directory = Path(made)
        mariadb = MariaDb.start(directory / "mariadb", userstat="ON")
        cleanup.callback(mariadb.kill)
        rabbitmq = RabbitMQ(directory / "rabbitmq")
        cleanup.callback(rabbitmq.close)
        rabbitmq.start()
        theirs, ours = (_side(name, user, mariadb) for name, user in (("Octavia", "octavia"), ("Tavia", "of_tavia")))
        ports = (free_port(), free_port())
        cleanup.enter_context(octavia(directory / "octavia", theirs, _host_of(rabbitmq, "octavia"), ports))
        cleanup.enter_context(_tavia(directory / "tavia", ours, _host_of(rabbitmq, "tavia")))
        db = cleanup.enter_context(mariadb.connect())
        yield Stand(ours, theirs, psutil.Process(mariadb.pid), psutil.Process(rabbitmq.pid), db)


def _host_of(rabbitmq: RabbitMQ, name: str) -> str:
    """The URL of a virtual host for one system."""
    rabbitmq.ctl("add_vhost", name)
    rabbitmq.ctl("set_permissions", "--vhost", name, rabbitmq.user, ".*", ".*", ".*")
    return f"{rabbitmq.url}{name}"


def _side(name: str, user: str, mariadb: MariaDb) -> Side:
    mariadb.sql(f"CREATE DATABASE {user}")
    mariadb.sql(f"GRANT ALL ON {user}.* TO {user}@'%' IDENTIFIED BY '{PASSWORD}'")
    return Side(name, user, mariadb.url(user, user, PASSWORD))


@contextmanager
def _tavia(directory: Path, side: Side, transport_url: str) -> Iterator[None]:
    directory.mkdir()
    with controllers(
        directory, side.connection, health_managers=1, housekeepers=1, transport_url=transport_url
    ) as made:
        side.began(made.url(made.named("tavia-api")[0]), [service.pid for service in made.services])
        yield
