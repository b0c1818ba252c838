"""Real MariaDB servers and Galera clusters on loopback, for tests and benchmarks: they die with who started them.

    server = MariaDb.start(directory)            about two seconds
    url = server.migrated_database()             mysql+pymysql://..., with the tables of this release
    cluster = Galera.start(directory, nodes=3)   cluster.nodes[0].url("name"): one database, three ways in

Nothing is synced to the disk, all else is as in production. Times are seconds.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pymysql
from ports import free_port
from pymysql.cursors import Cursor

from tavia.store.migrate import upgrade

USER, PASSWORD = "tavia", "mariadb-of-a-test"
PATIENCE = 60.0
GALERA = Path("/usr/lib/galera/libgalera_smm.so")

STATE_TRANSFER = "wsrep_sst_incremental"
STATE_TRANSFER_SCRIPT = """#!/bin/sh
# A node that joins needs only what happened since its own position, which goes from server to server: Galera asks a
# script all the same. The joiner tells the donor a file by its address, the donor writes there what it was told.
while [ $# -gt 0 ]; do
    case $1 in
        --role) role=$2;; --datadir) data=$2;; --address) address=$2;; --gtid) gtid=$2;; --bypass) bypass=1;;
    esac
    shift
done
if [ "$role" = joiner ]; then
    rm -f "$data/incremental"
    echo "ready $data/incremental"
    until [ -s "$data/incremental" ]; do sleep 0.05; done
    cat "$data/incremental"
else
    [ "$bypass" ] || { echo "the joiner is too far behind for these tests" >&2; exit 1; }
    echo continue
    echo "$gtid" > "$address.new" && mv "$address.new" "$address"
    echo "done $gtid"
fi
"""

OPTIONS = {
    "user": "root",
    "bind-address": "127.0.0.1",
    "skip-name-resolve": "ON",
    "character-set-server": "utf8mb4",
    "collation-server": "utf8mb4_general_ci",
    "innodb-flush-method": "nosync",
    "innodb-log-file-size": "32M",
    "innodb-buffer-pool-size": "64M",
    "innodb-file-per-table": "OFF",
    "innodb-buffer-pool-dump-at-shutdown": "OFF",
    "innodb-fast-shutdown": "2",
    "performance-schema": "OFF",
    "max-connections": "400",
}
"""Debian's defaults but for speed: the collation too, which does not tell ``a`` from ``A``."""

GALERA_OPTIONS = {
    "wsrep-on": "ON",
    "wsrep-provider": str(GALERA),
    "wsrep-cluster-name": "tavia-test",
    "wsrep-node-address": "127.0.0.1",
    "wsrep-sst-method": STATE_TRANSFER.removeprefix("wsrep_sst_"),
    "binlog-format": "ROW",
    "innodb-autoinc-lock-mode": "2",
}


@dataclass(kw_only=True)
class MariaDb:
    """One server. Its folder holds ``my.cnf``, the data, the log and the socket."""

    directory: Path
    port: int
    options: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _tables: list[str] = field(default_factory=list)
    _filled: list[str] = field(default_factory=list)
    _given_back: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, directory: Path, **options: str) -> MariaDb:
        """A server on a free port with its data below ``directory``; options as in my.cnf, with underscores."""
        server = cls(
            directory=directory, port=free_port(), options={k.replace("_", "-"): v for k, v in options.items()}
        )
        server.install()
        server.run()
        return server

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.directory / "error.log"

    @property
    def pid(self) -> int:
        """Its process. Raises RuntimeError where it does not run."""
        if self._process is None:
            raise RuntimeError(f"MariaDB in {self.directory} does not run")
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def url(self, database: str = "", user: str = USER, password: str = PASSWORD) -> str:
        """What [database] connection is to say."""
        return f"mysql+pymysql://{user}:{password}@127.0.0.1:{self.port}/{database}?charset=utf8mb4"

    def install(self) -> None:
        """Make the data folder, with a user who may do everything."""
        self.directory.mkdir(parents=True, exist_ok=True)
        grants = self.directory / "grants.sql"
        grants.write_text(
            f"FLUSH PRIVILEGES;\nGRANT ALL ON *.* TO '{USER}'@'%' IDENTIFIED BY '{PASSWORD}' WITH GRANT OPTION;\n"
        )
        subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                "--user=root",
                f"--datadir={self.directory / 'data'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
                "--innodb-flush-method=nosync",
                "--innodb-log-file-size=32M",
                f"--extra-file={grants}",
            ],
            check=True,
            capture_output=True,
        )

    def run(self, *arguments: str) -> None:
        """Start the process and wait until it answers."""
        self.begin(*arguments)
        self.wait_until_ready()

    def begin(self, *arguments: str) -> None:
        """Start the process."""
        lines = (f"{name} = {value}" for name, value in {**OPTIONS, **self._own(), **self.options}.items())
        configured = self.directory / "my.cnf"
        configured.write_text("\n".join(("[mysqld]", *lines, "")))
        script = self.directory / STATE_TRANSFER
        script.write_text(STATE_TRANSFER_SCRIPT)
        script.chmod(0o755)
        environment = {**os.environ, "PATH": f"{self.directory}:{os.environ['PATH']}"}
        command = ["setpriv", "--pdeathsig", "KILL", "mariadbd", f"--defaults-file={configured}", *arguments]
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def wait_until_ready(self) -> None:
        """Until it takes statements; in a cluster, until it is synced. Raises RuntimeError with its log."""

        def is_ready() -> bool:
            if not self.runs:
                raise RuntimeError(f"MariaDB ended:\n{self.log.read_text()[-4000:]}")
            try:
                return self.status("wsrep_local_state_comment") == self._state_when_ready
            except pymysql.MySQLError:
                return False

        try:
            wait_for(is_ready, "MariaDB answers")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in an orderly way."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a power cut does, but for the disk."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def connect(self, database: str | None = None) -> Iterator[Cursor]:
        """A connection of the test's own, which commits each statement."""
        connection = pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            database=database,
            autocommit=True,
            connect_timeout=5,
            read_timeout=30,
        )
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def sql(self, statement: str, *values: Any, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement; its rows."""
        with self.connect(database) as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def status(self, name: str) -> str:
        """A status variable."""
        found = self.sql("SHOW GLOBAL STATUS LIKE %s", name)
        return str(found[0][1]) if found else ""

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"tavia_{uuid.uuid4().hex}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def migrated_database(self) -> str:
        """The URL of a new database as ``tavia db upgrade`` leaves it: upgraded once, then copied."""
        if self._given_back:
            return self._given_back.pop()
        if not self._tables:
            first = self.create_database()
            upgrade(first)
            self._tables, self._filled = self._dump(first)
        url = self.create_database()
        self._run(url, ["SET SESSION foreign_key_checks = 0", *self._tables, *self._filled])
        return url

    def give_back(self, url: str) -> None:
        """The next :meth:`migrated_database`, with other rows: tables cost more than a test. They must be as they were
        made, and nobody connected."""
        emptied = [f"DELETE FROM {row[0]}" for row in self.sql("SHOW TABLES", database=name_of(url))]
        self._run(url, ["SET SESSION foreign_key_checks = 0", *emptied, *self._filled])
        self._given_back.append(self.url(name_of(url)))

    def _run(self, url: str, statements: Iterable[str]) -> None:
        with self.connect(name_of(url)) as cursor:
            for statement in statements:
                cursor.execute(statement)

    def drop_database(self, url: str) -> None:
        """Remove what :meth:`create_database` or :meth:`migrated_database` made."""
        self.sql(f"DROP DATABASE {name_of(url)}")

    def _dump(self, url: str) -> tuple[list[str], list[str]]:
        """What makes the tables, and what fills them."""
        name = name_of(url)
        tables = [row[0] for row in self.sql("SHOW TABLES", database=name)]
        made = [self.sql(f"SHOW CREATE TABLE {table}", database=name)[0][1] for table in tables]
        filled = [
            f"INSERT INTO {table} SELECT * FROM {name}.{table}"
            for table in tables
            if self.sql(f"SELECT 1 FROM {table} LIMIT 1", database=name)
        ]
        return made, filled

    @property
    def _state_when_ready(self) -> str:
        return "Synced" if "wsrep-provider" in self.options else ""

    def _own(self) -> dict[str, str]:
        return {
            "datadir": str(self.directory / "data"),
            "socket": str(self.directory / "mysqld.sock"),
            "pid-file": str(self.directory / "mysqld.pid"),
            "log-error": str(self.log),
            "port": str(self.port),
        }

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.runs:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        self._signal(signal.SIGCONT)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@dataclass(kw_only=True)
class Galera:
    """A cluster whose nodes share all databases."""

    nodes: list[MariaDb]

    @classmethod
    def start(cls, directory: Path, nodes: int = 3, **options: str) -> Galera:
        """All nodes begin from one copy of the data, so none needs the whole of another's."""
        ports = [free_port() for _ in range(nodes)]
        cluster = cls(nodes=[])
        for number in range(nodes):
            node = MariaDb(
                directory=directory / f"node{number}",
                port=free_port(),
                options={
                    **GALERA_OPTIONS,
                    "wsrep-node-name": f"node{number}",
                    "wsrep-cluster-address": f"gcomm://{','.join(f'127.0.0.1:{port}' for port in ports)}",
                    "wsrep-provider-options": _provider_options(ports[number]),
                    **{name.replace("_", "-"): value for name, value in options.items()},
                },
            )
            cluster.nodes.append(node)
        try:
            cluster._begin()
        except BaseException:
            cluster.kill()
            raise
        return cluster

    def _begin(self) -> None:
        first, *others = self.nodes
        first.install()
        first.run("--wsrep-new-cluster")
        first.stop()  # now the data holds a position from which the others can go on
        for node in others:
            shutil.copytree(first.directory / "data", node.directory / "data", ignore=shutil.ignore_patterns("gvw*"))
        first.run("--wsrep-new-cluster")
        for node in others:
            node.run()
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Until every node sees all the others and is synced."""
        for node in self.nodes:
            wait_for(partial(self._sees_all, node), "the cluster is whole")

    def _sees_all(self, node: MariaDb) -> bool:
        return self.size_at(node) == len(self.nodes)

    def size_at(self, node: MariaDb) -> int:
        """How many nodes this one sees in its component, 0 where it does not answer or is outside."""
        try:
            ready = node.status("wsrep_ready") == "ON"
            return int(node.status("wsrep_cluster_size")) if ready else 0
        except pymysql.MySQLError:
            return 0

    def rejoin(self, node: MariaDb) -> None:
        """Start a killed or stopped node again; it gets what it missed from the others."""
        recover = subprocess.run(
            ["mariadbd", f"--defaults-file={node.directory / 'my.cnf'}", "--wsrep-recover", f"--log-error={node.log}"],
            capture_output=True,
            check=False,
        )
        said = recover.stderr.decode() + node.log.read_text()
        positions = re.findall(r"Recovered position:?\s+(\S+)", said)
        node.run(f"--wsrep-start-position={positions[-1]}")

    def heal(self) -> None:
        """Bring back what a test has frozen, killed or stopped."""
        for node in self.nodes:
            node.resume()
            if not node.runs:
                self.rejoin(node)
        self.wait_until_whole()

    def kill(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.kill()


def _provider_options(port: int) -> str:
    options = {
        "base_port": port,
        "gmcast.listen_addr": f"tcp://127.0.0.1:{port}",
        "ist.recv_addr": f"127.0.0.1:{free_port()}",
        "gcache.size": "16M",
        "gcache.page_size": "16M",
        # A dead node is noticed after about two seconds instead of five. The others have half of inactive_timeout to
        # agree on that: were this no longer, they would part for good.
        "evs.keepalive_period": "PT0.5S",
        "evs.suspect_timeout": "PT2S",
        "evs.inactive_timeout": "PT10S",
        "evs.inactive_check_period": "PT0.25S",
        "gmcast.peer_timeout": "PT2S",
    }
    return "; ".join(f"{name}={value}" for name, value in options.items())


def conflicts(*servers: MariaDb) -> int:
    """How often these servers aborted a transaction because another was first: in InnoDB, or in the cluster.

    A whole cluster's are those of all its nodes.
    """
    counters = ("Innodb_deadlocks", "wsrep_local_cert_failures", "wsrep_local_bf_aborts")
    return sum(int(server.status(name) or 0) for server in servers for name in counters)


def name_of(url: str) -> str:
    """The database that a URL names."""
    return url.rsplit("/", 1)[1].partition("?")[0]


def wait_for(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Until ``condition`` holds. Raises TimeoutError."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)
