"""The operator's guide says of every status what it means and what to do."""

from __future__ import annotations

from enum import StrEnum

import pytest
from guide import GUIDE

from tavia.doctor.checks import CHECKS
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


def test_every_check_of_the_doctor_is_listed_under_its_seam() -> None:
    table = GUIDE.read_text().split("| seam | check |")[1].split("\n\n")[0]
    rows = [row.strip("|").split("|") for row in table.splitlines() if row.startswith("|") and "---" not in row]
    listed = {(seam.strip(), check.strip()) for seam, checks in rows for check in checks.split(",")}
    assert listed == {(str(check.seam), check.code) for check in CHECKS}
