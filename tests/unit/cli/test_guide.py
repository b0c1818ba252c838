"""The operator's guide says of every status what it means and what to do."""

from __future__ import annotations

from enum import StrEnum

import pytest
from guide import GUIDE

from tavia.model.statuses import AmphoraStatus, OperatingStatus, ProvisioningStatus


@pytest.mark.parametrize(
    ("heading", "statuses"),
    [
        ("provisioning status", ProvisioningStatus),
        ("operating status", OperatingStatus),
        ("amphora status", AmphoraStatus),
    ],
)
def test_every_status_is_explained(heading: str, statuses: type[StrEnum]) -> None:
    table = GUIDE.read_text().split(f"| {heading} |")[1].split("\n\n")[0]
    firsts = (row.split("|")[1] for row in table.splitlines() if row.startswith("|"))
    explained = {status.strip() for first in firsts for status in first.split(",")}
    assert {str(status) for status in statuses} <= explained
