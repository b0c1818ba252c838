"""The amphora as the agent has it in hand: takes bundles one at a time, and puts its last one in force at its start.

``bundle.json`` on the disk is the truth. Everything else, interfaces and programs, is made to agree with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from tavia.agent import disk, interfaces
from tavia.agent.program import Files, merged
from tavia.agent.programs import PROGRAMS
from tavia.amphora import paths
from tavia.amphora.agent_config import AgentConfig
from tavia.amphora.bundle import Bundle, BundleError, Interface
from tavia.amphora.protocol import Action, AgentFailed, Applied, BundleRefused, FenceRefused
from tavia.model.seams import SeamError

LOG = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""Between two tries to put the bundle on the disk in force: an interface may be plugged in after the agent's start."""
WATCH_SECONDS = 3.0
"""Between two looks for a program that hangs. One look is over at once, or after 6 s with one that does."""
FORMER_SUFFIXES = {".pid", ".log", ".loaded", ".state"}


class Amphora:
    """The amphora of ``config``. ``changed`` is called when a heartbeat has news."""

    def __init__(self, config: AgentConfig, changed: Callable[[], None]) -> None:
        base = config.base_path
        for directory in (base, disk.own_run_dir()):
            directory.mkdir(parents=True, exist_ok=True)
        base.chmod(0o711)  # a program finds its own file there, and no other's name
        disk.own_run_dir().chmod(0o700)
        _move_in()
        self.amphora_id = config.amphora_id
        self._bundle_file = base / "bundle.json"
        self._changed = changed
        self._lock = asyncio.Lock()
        self._announcements: set[asyncio.Task[None]] = set()
        self.programs = tuple(make(config, changed) for make in PROGRAMS)
        self.bundle: Bundle | None = None
        self.fault: str | None = None
        self.start_id = _start_id(base / "start_id")
        self.boot_count = _next_boot(base / "boot_count")

    async def take_over(self) -> None:
        """Find what an agent before us left: its bundle and programs. Before anything else is asked of us."""
        self.bundle = self._stored()
        for program in self.programs:
            try:
                await program.adopt()
            except AgentFailed as error:
                LOG.exception("a program is not in hand")
                self.fault = str(error)

    async def observe(self) -> dict[str, Any]:
        """What its programs know of themselves (:data:`tavia.agent.program.Facts`), and what it sees of its network."""
        facts = merged([await program.observe(_files(self.bundle)) for program in self.programs])
        return facts | {"no_carrier": tuple(interfaces.without_carrier(_interfaces(self.bundle)))}

    async def watch(self) -> None:
        """For ever: alive is not well. None is asked while a bundle is put in force: loading, it may have no answer."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            async with self._lock:
                for program in self.programs:
                    try:
                        await program.watch()
                    except (AgentFailed, OSError):
                        LOG.exception("whether a program hangs cannot be told")

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

    async def apply(self, raw: bytes) -> Applied:
        """Take a bundle in its wire form, wholly or not at all.

        Raises AgentFailed (bundle-malformed, wrong-amphora, interface-missing, ...), FenceRefused, BundleRefused.
        """
        try:
            bundle = Bundle.from_json(raw)
        except BundleError as error:
            raise AgentFailed("bundle-malformed", str(error)) from error
        if bundle.amphora_id != self.amphora_id:
            raise AgentFailed("wrong-amphora", f"this is amphora {self.amphora_id}, not {bundle.amphora_id}")
        async with self._lock:
            old = self.bundle
            if old and old.fence.refuses(bundle.fence):
                raise FenceRefused(old.fence)
            await self._check_and_plug(old, bundle)
            old_raw = disk.read(self._bundle_file)
            # As it came: an agent after us may know keys in it that we don't, and tells the same hash.
            self._store(raw)
            try:
                action = await self._put_in_force(bundle)
            except BundleRefused:
                self._store(old_raw)
                await self._go_back(bundle, old)
                raise
            if any(each not in bundle.interfaces for each in _interfaces(old)):
                await self._plug(_interfaces(old), bundle.interfaces)
            self.bundle, self.fault = bundle, None
        self._changed()
        LOG.info("generation %d is in force: %s", bundle.generation, action)
        return Applied(action=action, hash=bundle.hash)

    async def _check_and_plug(self, old: Bundle | None, new: Bundle) -> None:
        await self._check(new.files, plugged=False)
        # What nobody needs any more goes when no program uses it.
        await self._plug((), new.interfaces)
        try:
            await self._check(new.files, plugged=True)
        except BundleRefused:
            await self._plug(new.interfaces, _interfaces(old))
            raise

    async def _check(self, files: Files, *, plugged: bool) -> None:
        for program in self.programs:
            if program.needs_interfaces is plugged:
                await program.check(files)

    async def _put_in_force(self, bundle: Bundle | None) -> Action:
        """The programs; the interfaces are plugged already. Returns what it took of the one that took the most."""
        actions = [await program.converge(_files(bundle)) for program in self.programs]
        return max(actions, key=get_args(Action).index)

    async def _go_back(self, refused: Bundle, old: Bundle | None) -> None:
        await self._plug(refused.interfaces, _interfaces(old))
        await self._put_in_force(old)

    async def _plug(self, old: tuple[Interface, ...], new: tuple[Interface, ...]) -> None:
        added = await interfaces.converge(old, new)
        if added:
            task = asyncio.create_task(interfaces.announce(added))
            self._announcements.add(task)
            task.add_done_callback(self._announcements.discard)

    def _store(self, raw: bytes | None) -> None:
        if raw is None:
            self._bundle_file.unlink()
        else:
            disk.write(self._bundle_file, raw, durable=True)

    def _stored(self) -> Bundle | None:
        content = disk.read(self._bundle_file)
        try:
            return Bundle.from_json(content) if content else None
        except BundleError as error:
            LOG.exception("the bundle on the disk cannot be read")
            self.fault = f"bundle.json cannot be read: {error}"
            return None


def _move_in() -> None:
    """Take what an agent kept among what it shared with programs, before those had users of their own."""
    for path in Path(paths.RUN_DIR).iterdir():
        found = path.lstat()
        if path.suffix in FORMER_SUFFIXES and stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            path.rename(disk.own_run_dir() / path.name)


def _files(bundle: Bundle | None) -> Files:
    return bundle.files if bundle else {}


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
