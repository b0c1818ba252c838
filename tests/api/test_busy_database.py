"""A lock that is not given back, commits that are refused, a database that is gone: 503, and when to come back."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cut import Cut, Refusal, refusals, wire
from mariadb import MariaDb

from tavia.model.resources import LoadBalancer
from tavia.store import database as database_module
from tavia.store import engine, intents


@pytest.fixture(params=["sqlite", "mariadb"])
def its_api(request: pytest.FixtureRequest, make_api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """That waits a second for a lock instead of five."""
    monkeypatch.setattr(engine, "LOCK_WAIT", 1)
    monkeypatch.setitem(engine.SQLITE_PRAGMAS, "busy_timeout", "1000")
    if request.param == "sqlite":
        return make_api()
    server: MariaDb = request.getfixturevalue("mariadb")
    return type(make_api)(tmp_path, server.migrated_database())()


def test_a_lock_that_is_held_is_503_and_says_when_to_come_back(its_api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "PATIENCE", 0.2)
    lb = its_api.loadbalancer()
    with its_api.database.engine.connect().execution_options(writer=True) as conn, conn.begin() as other:
        intents.begin_change(conn, lb["id"])
        result = its_api.request("PUT", f"/loadbalancers/{lb['id']}", {"loadbalancer": {"name": "late"}})
        assert (result.status_code, result.headers["retry-after"]) == (503, "1")
        assert "control/database-busy" in result.json["faultstring"]
        other.rollback()
    row = its_api.row(LoadBalancer, lb["id"])
    assert (row.generation, row.name) == (1, "")


@pytest.mark.parametrize("refusal", [r for r in refusals() if not r.is_done] + [Cut.COMMIT], ids=str)
def test_a_change_whose_commit_is_refused_for_ever_is_503_and_says_when_to_come_back(
    mariadb: MariaDb, make_api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal | Cut
) -> None:
    url = mariadb.migrated_database()
    with wire(mariadb) as way:
        api = type(make_api)(tmp_path, way.through(url))()
        lb = api.loadbalancer()
        with monkeypatch.context() as patched:
            # A second passes each time it looks at its clock: patience for three tries, however long they take.
            clock = SimpleNamespace(monotonic=itertools.count().__next__, sleep=time.sleep)
            patched.setattr(database_module, "time", clock)
            patched.setattr(database_module, "PATIENCE", 2.0)
            way.cuts = [refusal] * 1000
            result = api.request("PUT", f"/loadbalancers/{lb['id']}", {"loadbalancer": {"name": "late"}})
        tried, way.cuts = len(way.done), []
        assert (result.status_code, result.headers["retry-after"]) == (503, "1")
        # With some of these errors MariaDB says that nothing was done; after all others nobody knows.
        said = "database-busy" if isinstance(refusal, Refusal) and refusal.is_sure else "outcome-unknown"
        assert f"control/{said}" in result.json["faultstring"]
        assert tried == 3
        row = api.row(LoadBalancer, lb["id"])
        assert (row.generation, row.name) == (1, "")
        assert api.put("loadbalancer", f"/loadbalancers/{lb['id']}", name="again")["name"] == "again"
        assert api.generation(lb["id"]) == 2
        api.database.dispose()


def test_a_database_that_is_gone_is_503_and_comes_back(
    make_api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database_module, "PATIENCE", 0.2)
    server = MariaDb.start(tmp_path / "server")
    try:
        api = type(make_api)(tmp_path, server.migrated_database())()
        lb = api.loadbalancer()
        server.kill()
        for method, body in (("GET", None), ("PUT", {"loadbalancer": {"name": "late"}})):
            result = api.request(method, f"/loadbalancers/{lb['id']}", body)
            assert (result.status_code, result.headers["retry-after"]) == (503, "1"), method
            assert "control/database-unreachable" in result.json["faultstring"]
            assert not [inner for inner in ("mariadb-of-a-test", "127.0.0.1", "2003") if inner in result.text]
            assert "127.0.0.1" in caplog.text, "the log says which"
        server.run()
        assert api.get(f"/loadbalancers/{lb['id']}")["loadbalancer"]["id"] == lb["id"]
        assert api.put("loadbalancer", f"/loadbalancers/{lb['id']}", name="back")["name"] == "back"
    finally:
        server.kill()
