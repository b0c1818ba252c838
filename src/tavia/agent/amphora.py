"""The amphora as the agent has it in hand: takes bundles one at a time, and puts its last one in force at its start.

``bundle.json`` on the disk is the truth. Everything else (interfaces, HAProxy, keepalived) is made to agree with it.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from pathlib import Path

from tavia.agent import disk, interfaces
from tavia.agent.haproxy import Haproxy
from tavia.agent.keepalived import Keepalived
from tavia.amphora import paths
from tavia.amphora.bundle import Bundle, BundleError, Interface
from tavia.amphora.protocol import Action, AgentFailed, Applied, BundleRefused, FenceRefused
from tavia.model.seams import SeamError

LOG = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""Between two tries to put the bundle on the disk in force: an interface may be plugged in after the agent's start."""


class Amphora:
    """Amphora ``amphora_id`` with its state in ``base``. ``changed`` is called when a heartbeat has news."""

    def __init__(self, amphora_id: str, base: Path, haproxy_cmd: str, changed: Callable[[], None]) -> None:
        for directory in (base, Path(paths.RUN_DIR)):
            directory.mkdir(parents=True, exist_ok=True)
        self.amphora_id = amphora_id
        self._bundle_file = base / "bundle.json"
        self._changed = changed
        self._lock = asyncio.Lock()
        self._announcements: set[asyncio.Task[None]] = set()
        self.haproxy = Haproxy(haproxy_cmd, base, changed)
        self.keepalived = Keepalived(base, changed)
        self.bundle: Bundle | None = None
        self.fault: str | None = None
        self.start_id = _start_id(base / "start_id")
        self.boot_count = _next_boot(base / "boot_count")

    def take_over(self) -> None:
        """Find what an agent before us left: its bundle, HAProxy, keepalived. Before anything else is asked of us."""
        self.haproxy.adopt()
        self.keepalived.adopt()
        self.bundle = self._stored()

    async def resume(self) -> None:
        """Put the bundle from the disk in force, trying until it is or another one comes."""
        resumed = self.bundle
        while resumed is not None:
            async with self._lock:
                if self.bundle is not resumed:
                    return
                try:
                    await self._plug((), resumed.interfaces)
                    await self._put_in_force(resumed)
                except SeamError as error:
                    LOG.warning("the bundle on the disk is not in force yet: %s", error)
                    self.fault = str(error)
                else:
                    self.fault = None
                    return
            await asyncio.sleep(RETRY_SECONDS)

    async def apply(self, bundle: Bundle) -> Applied:
        """Take a bundle, wholly or not at all.

        Raises AgentFailed (wrong-amphora, interface-missing, ...), FenceRefused, BundleRefused.
        """
        if bundle.amphora_id != self.amphora_id:
            raise AgentFailed("wrong-amphora", f"this is amphora {self.amphora_id}, not {bundle.amphora_id}")
        async with self._lock:
            old = self.bundle
            if old and old.fence.refuses(bundle.fence):
                raise FenceRefused(old.fence)
            await self._check_and_plug(old, bundle)
            self._store(bundle)
            try:
                action = await self._put_in_force(bundle)
            except BundleRefused:
                await self._go_back(bundle, old)
                raise
            if any(each not in bundle.interfaces for each in _interfaces(old)):
                await self._plug(_interfaces(old), bundle.interfaces)
            self.bundle, self.fault = bundle, None
        self._changed()
        LOG.info("generation %d is in force, HAProxy: %s", bundle.generation, action)
        return Applied(action=action, hash=bundle.hash)

    async def _check_and_plug(self, old: Bundle | None, new: Bundle) -> None:
        if "haproxy.cfg" in new.files:
            await self.haproxy.check(new.files["haproxy.cfg"])
        # keepalived refuses interfaces that don't exist yet, so they come before its check. What nobody needs any more
        # goes when HAProxy no longer uses it.
        await self._plug((), new.interfaces)
        if "keepalived.conf" in new.files:
            try:
                await self.keepalived.check(new.files["keepalived.conf"])
            except BundleRefused:
                await self._plug(new.interfaces, _interfaces(old))
                raise

    async def _put_in_force(self, bundle: Bundle) -> Action:
        """The programs; the interfaces are plugged already."""
        action = await self.haproxy.converge(bundle.files.get("haproxy.cfg"))
        await self.keepalived.converge(bundle.files.get("keepalived.conf"))
        return action

    async def _go_back(self, refused: Bundle, old: Bundle | None) -> None:
        self._store(old)
        await self._plug(refused.interfaces, _interfaces(old))
        if old is not None:
            await self._put_in_force(old)
        else:
            await self.haproxy.converge(None)

    async def _plug(self, old: tuple[Interface, ...], new: tuple[Interface, ...]) -> None:
        added = await interfaces.converge(old, new)
        if added:
            task = asyncio.create_task(interfaces.announce(added))
            self._announcements.add(task)
            task.add_done_callback(self._announcements.discard)

    def _store(self, bundle: Bundle | None) -> None:
        if bundle is None:
            self._bundle_file.unlink()
        else:
            disk.write(self._bundle_file, bundle.to_json(), durable=True)

    def _stored(self) -> Bundle | None:
        content = disk.read(self._bundle_file)
        try:
            return Bundle.from_json(content) if content else None
        except BundleError as error:
            LOG.exception("the bundle on the disk cannot be read")
            self.fault = f"bundle.json cannot be read: {error}"
            return None


def _interfaces(bundle: Bundle | None) -> tuple[Interface, ...]:
    return bundle.interfaces if bundle else ()


def _start_id(file: Path) -> str:
    """Names this disk: made when there is none, so that who hears us knows a rebuilt amphora from a replay."""
    if not disk.read(file):
        disk.write(file, str(uuid.uuid4()).encode(), durable=True)
    return file.read_text()


def _next_boot(file: Path) -> int:
    count = int(disk.read(file) or 0) + 1
    disk.write(file, str(count).encode(), durable=True)
    return count
