"""A region of the test's own in a real Keystone's catalog: what other regions say stays as it is.

It leads to the cloud's services and to a Tavia. On the interface ``internal``, which Tavia is told to use, compute,
network and image are behind a :class:`~door.Door`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from door import Door

BEHIND_DOORS = ("compute", "network", "image")
SERVICE_TYPE = "load-balancer"


class Region:
    """Make it with :func:`region`."""

    def __init__(self, name: str, admin: Any) -> None:
        self.name = name
        self.doors: dict[str, Door] = {}
        """By the service's type."""
        self._identity = admin.identity
        self._service: Any = None

    def fill(self, like: str) -> None:
        """Copy another region's endpoints."""
        self._identity.create_region(id=self.name, description="of a test of Tavia")
        types = {service.id: service.type for service in self._identity.services()}
        for endpoint in list(self._identity.endpoints(region_id=like)):
            service = types[endpoint.service_id]
            if service == SERVICE_TYPE:
                continue
            url = endpoint.url
            if service in BEHIND_DOORS and endpoint.interface == "internal":
                self.doors[service] = Door(service, url)
                url = self.doors[service].url
            self._endpoint(endpoint.service_id, endpoint.interface, url)

    def register(self, url: str) -> None:
        """Have the catalog lead to Tavia's API."""
        service = next(iter(self._identity.services(type=SERVICE_TYPE)), None)
        if service is None:
            service = self._service = self._identity.create_service(type=SERVICE_TYPE, name="octavia")
        for interface in ("public", "internal", "admin"):
            self._endpoint(service.id, interface, url)

    def _endpoint(self, service_id: str, interface: str, url: str) -> None:
        self._identity.create_endpoint(service_id=service_id, interface=interface, url=url, region_id=self.name)

    def remove(self) -> None:
        """Leave the catalog as it was."""
        for door in self.doors.values():
            door.shut()
        for endpoint in list(self._identity.endpoints(region_id=self.name)):
            self._identity.delete_endpoint(endpoint)
        if self._service is not None and not list(self._identity.endpoints(service_id=self._service.id)):
            self._identity.delete_service(self._service)
        self._identity.delete_region(self.name, ignore_missing=True)


@contextmanager
def region(name: str, admin: Any, like: str) -> Iterator[Region]:
    """One that is gone after the block."""
    made = Region(name, admin)
    try:
        made.fill(like)
        yield made
    finally:
        made.remove()
