"""The guide's commands save and restore a deployment under work; after that it goes on by itself."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import guide
import pytest
from controllers import Controllers, controllers
from mariadb import PASSWORD, USER, MariaDb
from sqlalchemy import func, select

from tavia.cli.api_client import Json
from tavia.store import leases, schema
from tavia.store.opening import open_database

COMMANDS = guide.commands("Backup and restore")
UMASK, SAVE_FILES, DUMP, COPY, LOAD_FILES, *_ = COMMANDS
OF_MARIADB, OF_SQLITE = COMMANDS[5:8], COMMANDS[8:]
Run = Callable[[str], None]


def test_the_guide_has_the_commands_that_are_tried_here() -> None:
    assert (UMASK, SAVE_FILES.split()[0], LOAD_FILES.split()[0]) == ("umask 077", "tar", "tar")
    assert [command.split()[0] for command in (DUMP, COPY)] == ["mariadb-dump", "sqlite3"]
    assert [command.split()[0] for command in OF_MARIADB] == ["mariadb", "mariadb", "tavia"]
    assert [command.split()[0] for command in OF_SQLITE] == ["rm", "cp", "tavia"]


@pytest.mark.parametrize("kind", ["mariadb", "sqlite"])
def test_a_restored_deployment_goes_on_by_itself(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    directory, etc = tmp_path / "state", tmp_path / "etc/octavia"
    directory.mkdir()
    etc.mkdir(parents=True)
    if kind == "mariadb":
        server: MariaDb = request.getfixturevalue("mariadb")
        server.sql("CREATE DATABASE octavia CHARACTER SET utf8mb4")
        request.addfinalizer(lambda: server.sql("DROP DATABASE IF EXISTS octavia"))
        connection, backup, restore = server.url("octavia"), DUMP, OF_MARIADB
        _write_credentials(tmp_path, connection)
    else:
        connection, backup, restore = f"sqlite:///{directory / 'tavia.sqlite'}", COPY, OF_SQLITE
    places = {".tavia/state": str(directory), "-C /etc": f"-C {tmp_path / 'etc'}", "/etc/octavia/": f"{etc}/"}
    run = partial(guide.run, cwd=tmp_path, places=places, home=tmp_path)

    with controllers(directory, connection, workers=2) as stand:
        for place in (etc, directory):
            shutil.copy(stand.services[0].config_file, place / "octavia.conf")
        kept, deleted, held = (stand.create_tree(name) for name in ("kept", "deleted", "held"))
        for made in (kept, deleted, held):
            stand.await_active(made["id"])
        _hold(connection, held["id"], 3.0)
        _rename(stand, held, "as it was at the backup")
        with _under_work(stand, kept):
            run(f"{UMASK}; {SAVE_FILES}")
            run(f"{UMASK}; {backup}")
        after = _change_afterwards(stand, kept, deleted)
        for service in stand.services:
            service.stop()
        shutil.rmtree(etc)
        _restore(run, [LOAD_FILES, *restore])
        for service in stand.services:
            service.start()

        assert stand.await_active(held["id"])["name"] == "as it was at the backup"
        assert stand.await_active(kept["id"])["name"].startswith("change ")
        assert {lb["id"] for lb in stand.api.call("GET", "/lbaas/loadbalancers")["loadbalancers"]} == {
            made["id"] for made in (kept, deleted, held)
        }, f"but not {after}"
        stand.api.call("DELETE", f"/lbaas/loadbalancers/{deleted['id']}?cascade=true")
        stand.await_gone(deleted["id"])
        stand.await_active(stand.create_tree("new")["id"])
    assert _lost_children(connection) == 0


def _write_credentials(home: Path, connection: str) -> None:
    host, port = urlsplit(connection).hostname, urlsplit(connection).port
    (home / ".my.cnf").write_text(f"[client]\nhost={host}\nport={port}\nuser={USER}\npassword={PASSWORD}\n")


def _hold(connection: str, loadbalancer_id: str, seconds: float) -> None:
    """A worker holds it while the backup is made, and is no more when that is restored."""
    database = open_database(connection)
    assert database.write(
        lambda conn: leases.take(conn, leases.seen(conn, loadbalancer_id), "a worker of that time", seconds)
    )
    database.engine.dispose()


def _rename(stand: Controllers, made: Json, name: str) -> None:
    stand.api.call("PUT", f"/lbaas/loadbalancers/{made['id']}", {"loadbalancer": {"name": name}})


@contextmanager
def _under_work(stand: Controllers, made: Json) -> Iterator[None]:
    """Changes are accepted and applied one after the other meanwhile."""
    stopping, begun = threading.Event(), threading.Event()

    def work() -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            _rename(stand, made, f"change {number}")
            if number > 3:
                begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert begun.wait(30)
        yield
    finally:
        stopping.set()
        thread.join()


def _change_afterwards(stand: Controllers, kept: Json, deleted: Json) -> str:
    stand.api.call("DELETE", f"/lbaas/loadbalancers/{deleted['id']}?cascade=true")
    stand.await_gone(deleted["id"])
    _rename(stand, kept, "changed after the backup")
    later: str = stand.create_tree("created after the backup")["id"]
    stand.await_active(later)
    stand.await_active(kept["id"])
    return later


def _restore(run: Run, commands: list[str]) -> None:
    for command in commands:
        run(command)


def _lost_children(connection: str) -> int:
    """Rows below load balancers that are not there: a dump of two moments would have some."""
    database = open_database(connection)
    ids = select(schema.load_balancer.c.id)
    try:
        with database.read() as conn:
            counts = (
                conn.execute(select(func.count()).select_from(t).where(t.c.loadbalancer_id.not_in(ids))).scalar_one()
                for t in (schema.listener, schema.pool, schema.member, schema.health_monitor, schema.amphora)
            )
            return sum(counts)
    finally:
        database.engine.dispose()
