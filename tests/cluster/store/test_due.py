"""Workers look for what is due every second: on MariaDB that costs the same however many load balancers rest."""

from __future__ import annotations

from typing import Any

from mariadb import MariaDb, name_of
from sqlalchemy import event, insert
from trees import loadbalancer

from tavia.store import due, schema
from tavia.store.database import Database
from tavia.store.rows import to_row

AT_REST = 300


def test_what_is_due_is_found_by_index(mariadb: MariaDb) -> None:
    url = mariadb.migrated_database()
    database = Database.connect(url)
    rows = [
        to_row(loadbalancer(id=f"lb-{number}", generation=2, attempted_generation=2 if number else 1))
        for number in range(AT_REST)
    ]
    leases = [{"loadbalancer_id": row["id"], "owner": "", "epoch": 0, "until": 0.0, "written": ""} for row in rows]
    database.write(
        lambda conn: (conn.execute(insert(schema.load_balancer), rows), conn.execute(insert(schema.lease), leases))
    )
    asked: list[tuple[str, Any]] = []
    event.listen(database.snapshots, "before_cursor_execute", lambda _c, _cursor, *said: asked.append(said[:2]))
    with database.read() as conn:
        assert [each.lease.loadbalancer_id for each in due.due(conn, ["amphora"], 10)] == ["lb-0"]
    statement, values = asked[-1]
    mariadb.sql("ANALYZE TABLE load_balancer, lease", database=name_of(url))
    with mariadb.connect(name_of(url)) as cursor:
        cursor.execute(f"EXPLAIN {statement}", values)
        plan = {row[2]: row for row in cursor.fetchall()}
    assert {table: row[3] for table, row in plan.items()} == {
        "load_balancer": "index_merge",
        "lease": "eq_ref",
        "amphora": "ref",
    }
    assert int(plan["load_balancer"][8]) < AT_REST / 10
