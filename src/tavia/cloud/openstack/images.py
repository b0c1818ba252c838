"""Images: Glance, asked for the newest with a tag."""

from __future__ import annotations

import logging

from tavia.cloud.openstack.connection import Service
from tavia.model.seams import Seam, SeamError

LOG = logging.getLogger(__name__)


class GlanceImages:
    """Implements Images of :mod:`tavia.cloud.protocols`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._several: set[str] = set()

    def image_id(self, tag: str | None, owner_id: str | None) -> str | None:
        """The newest ACTIVE image with the tag, of that owner. Raises SeamError (boot, no-image), see Service too."""
        if not tag:
            raise _no_image("[controller_worker] amp_image_tag is not set", "amphora")
        wanted = {"owner": owner_id} if owner_id else {}
        with self._service.asked() as glance:
            found = list(glance.images(tag=tag, status="active", sort="created_at:desc", **wanted))
        if not found:
            of_whom = f" of project {owner_id} ([controller_worker] amp_image_owner_id)" if owner_id else ""
            raise _no_image(f"no active image{of_whom} has the tag {tag} ([controller_worker] amp_image_tag)", tag)
        newest: str = found[0].id
        if len(found) > 1 and newest not in self._several:
            self._several.add(newest)
            LOG.warning("%d images have the tag %s; the newest, %s, is taken", len(found), tag, newest)
        return newest


def _no_image(what: str, tag: str) -> SeamError:
    message = f"{what}; give it to the amphora image: openstack image set --tag {tag} IMAGE"
    return SeamError(Seam.BOOT, "no-image", message, permanent=True)
