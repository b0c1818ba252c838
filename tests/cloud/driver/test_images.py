"""The image that amphorae boot from: the newest with the tag."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest
from driver_stand import Stand

from tavia.cloud.protocols import Cloud
from tavia.model.seams import SeamError

Upload = Callable[[str], str]


@pytest.fixture
def upload(stand: Stand, cloud: Cloud) -> Upload:
    def make(tag: str) -> str:
        time.sleep(1.1)  # Glance tells images apart by the second
        image = stand.admin.create_image(
            f"driver-{tag}",
            data=b"no system",
            disk_format="raw",
            container_format="bare",
            owner=stand.project_id,
            tags=[tag],
            wait=True,
        )
        return str(image.id)

    return make


def test_without_an_image_the_fault_says_what_to_type(cloud: Cloud, stand: Stand) -> None:
    with pytest.raises(SeamError) as missing:
        cloud.images.image_id("tavia-driver-none", stand.project_id)
    assert (missing.value.seam, missing.value.code, missing.value.permanent) == ("boot", "no-image", True)
    for named in ("tavia-driver-none", stand.project_id, "openstack image set --tag tavia-driver-none"):
        assert named in missing.value.message


def test_of_two_images_the_newest_is_taken_and_the_log_says_so_once(
    cloud: Cloud, upload: Upload, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = upload("tavia-driver-two"), upload("tavia-driver-two")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert cloud.images.image_id("tavia-driver-two", None) == newer
    said = [record.getMessage() for record in caplog.records if "2 images" in record.getMessage()]
    assert len(said) == 1
    assert newer in said[0]
    assert older != newer


def test_an_image_of_another_project_does_not_count_where_the_owner_is_given(
    cloud: Cloud, stand: Stand, upload: Upload
) -> None:
    image = upload("tavia-driver-one")
    assert cloud.images.image_id("tavia-driver-one", stand.project_id) == image
    with pytest.raises(SeamError, match="no-image"):
        cloud.images.image_id("tavia-driver-one", stand.admin.current_project_id)


def test_an_image_that_was_deactivated_does_not_count(cloud: Cloud, stand: Stand, upload: Upload) -> None:
    older, newer = upload("tavia-driver-off"), upload("tavia-driver-off")
    stand.admin.image.deactivate_image(newer)
    assert cloud.images.image_id("tavia-driver-off", None) == older
