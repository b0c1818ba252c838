"""Servers: Nova. Found again by their tags, which their boot brings."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from openstack import exceptions

from tavia.cloud.openstack.connection import Service, left
from tavia.cloud.openstack.failures import server_fault
from tavia.cloud.openstack.userdata import user_data
from tavia.cloud.protocols import NotFound, Server, ServerSpec, ServerStatus
from tavia.model.seams import Seam, SeamError

PAGE = 1000
"""Server groups to a request. Nova may give fewer."""
POLL = 0.2
RESERVE = 5.0
"""Seconds of a call in which it looks no more whether what it asked for has happened."""


class NovaCompute:
    """Implements Compute of :mod:`tavia.cloud.protocols`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def boot(self, spec: ServerSpec) -> str:
        """See Compute. Raises NotFound (a port), and what :mod:`tavia.cloud.openstack.failures` names."""
        if spec.flavor is None:
            message = "[controller_worker] amp_flavor_id is not set: openstack flavor list"
            raise SeamError(Seam.BOOT, "flavor-missing", message, permanent=True)
        request = _request(spec)
        with self._service.asked() as nova:
            server = nova.create_server(**request)
        server_id: str = server.id
        return server_id

    def server(self, server_id: str) -> Server | None:
        """See Compute."""
        with self._service.asked() as nova:
            found = _get(nova, server_id)
        return _server(found) if found is not None else None

    def servers(self, tags: frozenset[str]) -> list[Server]:
        """See Compute."""
        with self._service.asked() as nova:
            found = [server for server in nova.servers(tags=",".join(sorted(tags))) if not _is_deleted(server)]
        return sorted(map(_server, found), key=lambda server: server.created_at)

    def power_off(self, server_id: str) -> None:
        """See Compute. Raises SeamError (boot, server-not-off) when it cannot be proven.

        Nova has no hard stop: its own asks the guest and may wait a minute for it. A pause stops the guest at once,
        without asking it, so a server that runs is paused, and started again by a reboot from its disk. The word of a
        host that is silent proves nothing; that of who forced its service down does: only a fenced host may be.
        """
        with self._service.asked() as nova:
            asked = False
            while (found := _get(nova, server_id)) is not None and not _is_off(found):
                if found.host_status == "UNKNOWN":
                    raise _not_off(server_id, _SILENT_HOST)
                if not asked and not found.task_state:
                    asked = _stop(nova, found)
                if left() < RESERVE:
                    raise _not_off(server_id, f"Nova says {found.status}, task {found.task_state or 'none'}")
                time.sleep(POLL)

    def power_on(self, server_id: str) -> None:
        """See Compute. Raises NotFound."""
        with self._service.asked() as nova:
            found = _get(nova, server_id)
            if found is None:
                raise NotFound("server", server_id)
            if found.status == "SHUTOFF":
                nova.start_server(server_id)
            elif found.status != "ACTIVE":
                nova.reboot_server(server_id, "HARD")

    def delete(self, server_id: str) -> None:
        """See Compute."""
        with self._service.asked() as nova:
            nova.delete_server(server_id, ignore_missing=True)

    def attach_port(self, server_id: str, port_id: str) -> None:
        """See Compute. Nova answers when the server has it."""
        with self._service.asked() as nova:
            if port_id not in _plugged(nova, server_id):
                nova.create_server_interface(server_id, port_id=port_id)

    def detach_port(self, server_id: str, port_id: str) -> None:
        """See Compute. Raises SeamError (boot, port-not-detached) while the server still has it."""
        with self._service.asked() as nova:
            try:
                nova.delete_server_interface(port_id, server=server_id, ignore_missing=True)
                if _until(lambda: port_id not in _plugged(nova, server_id)):
                    return
            except exceptions.NotFoundException:
                return
        raise SeamError(
            Seam.BOOT, "port-not-detached", f"server {server_id} still has port {port_id}; it is tried again"
        )

    def ensure_server_group(self, name: str, policy: str) -> str:
        """See Compute. Of several with the name, which only a race can make, always the same one."""
        with self._service.asked() as nova:
            found = _ids(nova, name)
            if not found:
                nova.create_server_group(name=name, policy=policy)
                found = _ids(nova, name)
        return found[0]

    def server_groups(self) -> list[str]:
        """See Compute."""
        with self._service.asked() as nova:
            return [group["name"] for group in _groups(nova)]

    def delete_server_group(self, name: str) -> None:
        """See Compute."""
        with self._service.asked() as nova:
            for group_id in _ids(nova, name):
                nova.delete_server_group(group_id, ignore_missing=True)


def _request(spec: ServerSpec) -> dict[str, Any]:
    """The attributes of a server as openstacksdk calls them."""
    request: dict[str, Any] = {
        "name": spec.name,
        "flavor_id": spec.flavor,
        "networks": [{"port": port_id} for port_id in spec.port_ids],
        "config_drive": True,
        "user_data": user_data(spec.files),
        "tags": sorted(spec.tags),
    }
    if spec.availability_zone:
        request["availability_zone"] = spec.availability_zone
    if spec.key_name:
        request["key_name"] = spec.key_name
    if spec.server_group_id:
        request["scheduler_hints"] = {"group": spec.server_group_id}
    if spec.volume is None:
        return request | {"image_id": spec.image_id}
    disk = {
        "boot_index": 0,
        "uuid": spec.image_id,
        "source_type": "image",
        "destination_type": "volume",
        "volume_size": spec.volume.size,
        "delete_on_termination": True,
    }
    if spec.volume.type:
        disk["volume_type"] = spec.volume.type
    return request | {"block_device_mapping": [disk]}


_STATUSES = {
    "BUILD": ServerStatus.BUILDING,
    "ACTIVE": ServerStatus.ACTIVE,
    "PASSWORD": ServerStatus.ACTIVE,
    "REBOOT": ServerStatus.ACTIVE,
    "HARD_REBOOT": ServerStatus.ACTIVE,
    "SHUTOFF": ServerStatus.OFF,
    "PAUSED": ServerStatus.OFF,
    "SUSPENDED": ServerStatus.OFF,
    "SHELVED": ServerStatus.OFF,
    "SHELVED_OFFLOADED": ServerStatus.OFF,
    "ERROR": ServerStatus.ERROR,
}
"""Nova's to ours; any other proves nothing."""

_SILENT_HOST = (
    "its host does not report, so it may still run; once the host is surely off, say so: "
    "openstack compute service set --down HOST nova-compute"
)


def _server(found: Any) -> Server:
    """Only administrators are told of the host; who is not told takes it for well."""
    fault = (found.fault or {}).get("message")
    host_is_silent = found.host_status in ("UNKNOWN", "DOWN")
    status = ServerStatus.UNKNOWN if host_is_silent else _STATUSES.get(found.status, ServerStatus.UNKNOWN)
    return Server(
        id=found.id,
        name=found.name,
        status=status,
        created_at=datetime.fromisoformat(found.created_at).timestamp(),
        tags=frozenset(found.tags or ()),
        fault=fault,
        fault_code=server_fault(fault or "") if status is ServerStatus.ERROR else None,
        zone=found.availability_zone or None,
        host=found.compute_host or None,
        image_id=(found.image or {}).get("id"),
        busy=not host_is_silent and (bool(found.task_state) or found.host_status == "MAINTENANCE"),
    )


def _is_deleted(found: Any) -> bool:
    return found.status in ("DELETED", "SOFT_DELETED")


def _is_off(found: Any) -> bool:
    """What never started cannot run either, nor what is on a host that was declared down."""
    never_ran = found.status == "ERROR" and not found.launched_at
    return (
        never_ran
        or found.host_status == "DOWN"
        or (_STATUSES.get(found.status) is ServerStatus.OFF and not found.task_state)
    )


def _get(nova: Any, server_id: str) -> Any:
    try:
        found = nova.get_server(server_id)
    except exceptions.NotFoundException:
        return None
    return None if _is_deleted(found) else found


def _stop(nova: Any, found: Any) -> bool:
    """Ask Nova to stop it, the quickest way that it allows now; whether it took that."""
    try:
        if found.status == "ACTIVE":
            nova.pause_server(found.id)
        else:
            nova.stop_server(found.id)
    except exceptions.ConflictException:
        return False  # its state has changed, or allows neither: it is looked at again
    except exceptions.HttpException as error:
        if found.status != "ACTIVE" or error.status_code not in (400, 403, 501):
            raise
        nova.stop_server(found.id)  # a hypervisor, or a policy, without pause
    return True


def _not_off(server_id: str, why: str) -> SeamError:
    return SeamError(Seam.BOOT, "server-not-off", f"server {server_id} is not proven off: {why}")


def _plugged(nova: Any, server_id: str) -> set[str]:
    return {interface.port_id for interface in nova.server_interfaces(server_id)}


def _ids(nova: Any, name: str) -> list[str]:
    """Of the server groups with the name, in a fixed order."""
    return sorted(group["id"] for group in _groups(nova) if group["name"] == name)


def _groups(nova: Any) -> list[dict[str, Any]]:
    """All server groups of our project. openstacksdk would stop after Nova's first page."""
    found: list[dict[str, Any]] = []
    while page := _groups_from(nova, len(found)):
        found += page
    return found


def _groups_from(nova: Any, offset: int) -> list[dict[str, Any]]:
    answer = nova.get("/os-server-groups", params={"limit": PAGE, "offset": offset})
    exceptions.raise_from_response(answer)
    page: list[dict[str, Any]] = answer.json()["server_groups"]
    return page


def _until(happened: Callable[[], bool]) -> bool:
    """Whether it happens while this call may last."""
    while not (done := happened()) and left() > RESERVE:
        time.sleep(POLL)
    return done
