"""``tavia-housekeeping`` as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from fleet import Fleet
from sqlalchemy import select

from tavia.store import schema
from tavia.store.clock import utcnow


def test_it_cleans_up_at_once_and_ends_on_sigterm_without_an_error(tmp_path: Path) -> None:
    fleet = Fleet.at(tmp_path)
    (amphora_id,) = fleet.add()
    lb_id = fleet.row(amphora_id).loadbalancer_id
    fleet.change(amphora_id, status="DELETED", updated_at=utcnow())
    conf = tmp_path / "octavia.conf"
    conf.write_text(
        f"[database]\nconnection = {fleet.database.engine.url}\n"
        "[controller_worker]\ncompute_driver = compute_noop_driver\nnetwork_driver = network_noop_driver\n"
        "image_driver = image_noop_driver\n"
        "[health_manager]\nheartbeat_key = secret\n"
        "[house_keeping]\namphora_expiry_age = 0\n"
    )
    code = "from tavia.housekeeping.service import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, "--config-file", str(conf)], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 20
        while amphora_ids(fleet):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=5)
    finally:
        process.kill()
    assert process.returncode == 0
    assert b"Traceback" not in log
    with fleet.database.read() as conn:
        assert conn.execute(select(schema.load_balancer.c.id)).scalar_one() == lb_id


def amphora_ids(fleet: Fleet) -> list[str]:
    with fleet.database.read() as conn:
        return list(conn.execute(select(schema.amphora.c.id)).scalars())
