"""The servers that tests start: a database on them takes this release's schema, and they die with who started them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mariadb as servers
import psutil
from mariadb import Galera, MariaDb, name_of, wait_for

from tavia.store.migrate import upgrade
from tavia.store.opening import open_database


def test_a_database_is_upgraded_and_opened(mariadb: MariaDb) -> None:
    url = mariadb.create_database()
    upgrade(url)
    assert open_database(url).deployment_id()


def test_a_copied_database_is_as_if_upgraded(mariadb: MariaDb) -> None:
    copied, upgraded = mariadb.migrated_database(), mariadb.create_database()
    upgrade(upgraded)
    assert open_database(copied).deployment_id()
    for (table,) in mariadb.sql("SHOW TABLES", database=name_of(upgraded)):
        made = [mariadb.sql(f"SHOW CREATE TABLE {table}", database=name_of(url)) for url in (copied, upgraded)]
        assert made[0] == made[1]


def test_a_cluster_shares_its_databases_also_after_a_node_was_killed(galera: Galera) -> None:
    first, _, last = galera.nodes
    last.kill()
    url = first.migrated_database()
    galera.heal()
    assert open_database(last.url(name_of(url))).deployment_id() == open_database(url).deployment_id()


def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(Path(servers.__file__).parent)!r})\n"
        "from pathlib import Path; from mariadb import MariaDb\n"
        "print(MariaDb.start(Path(sys.argv[1])).pid, flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            program,
            str(tmp_path / "server"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert starter.stdout
        pid = int(starter.stdout.readline())
        assert psutil.pid_exists(pid)
    finally:
        starter.kill()
        starter.wait()
    wait_for(lambda: not psutil.pid_exists(pid), "the server died too", patience=10)
