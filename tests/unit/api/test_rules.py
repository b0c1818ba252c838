"""What is refused of one object, whatever else there is."""

from __future__ import annotations

import pytest

from tavia.api import rules
from tavia.api.errors import ApiError
from tavia.model.resources import Member
from tavia.store.rows import utcnow


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
