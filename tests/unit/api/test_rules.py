"""What is refused of one object, whatever else there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tavia.api import rules
from tavia.api.errors import ApiError
from tavia.model.protocols import POOL_PROTOCOLS, MonitorType
from tavia.model.resources import HealthMonitor, Member, Pool
from tavia.store.clock import utcnow


@pytest.mark.parametrize(
    ("reserved", "address"),
    [
        ("169.254.169.254", "169.254.169.254"),
        ("169.254.169.254", "::ffff:a9fe:a9fe"),
        ("FD00:0EC2:0000:0000:0000:0000:0000:0254", "fd00:ec2::254"),
    ],
)
def test_a_reserved_address_is_no_members_however_it_is_written(reserved: str, address: str) -> None:
    row = Member(
        id="m", created_at=utcnow(), loadbalancer_id="l", pool_id="x", project_id="p", address=address, protocol_port=80
    )
    with pytest.raises(ApiError, match="not a valid option for member address"):
        rules.member(row, [reserved])


def test_a_pool_takes_the_monitors_that_the_table_of_protocols_says(monkeypatch: pytest.MonkeyPatch) -> None:
    only_tcp = replace(POOL_PROTOCOLS["HTTPS"], monitors=frozenset({"TCP"}))
    monkeypatch.setitem(POOL_PROTOCOLS, "HTTPS", only_tcp)
    now = utcnow()
    its_pool = Pool(
        id="x", loadbalancer_id="l", project_id="p", created_at=now, protocol="HTTPS", lb_algorithm="ROUND_ROBIN"
    )

    def monitor(its_type: MonitorType) -> HealthMonitor:
        return HealthMonitor(
            id="m",
            loadbalancer_id="l",
            pool_id="x",
            project_id="p",
            created_at=now,
            type=its_type,
            delay=1,
            timeout=1,
            max_retries=1,
        )

    rules.monitored(its_pool, monitor("TCP"))
    with pytest.raises(ApiError, match="type 'HTTP' is invalid while the pool protocol is 'HTTPS'"):
        rules.monitored(its_pool, monitor("HTTP"))
