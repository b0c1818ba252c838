"""From the configuration that HAProxy has loaded to the one it shall have: the cheapest way that drops nobody. Pure.

What HAProxy takes at run time was tried on 2.6 (namespaces 3c; management guide 9.3): servers may be added, removed,
weighed, put in and out of maintenance, and a frontend's ``maxconn`` may be set. Everything else is a reload. The file
is written first in any case, so a reload is always right: where in doubt, this module says reload.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tavia.amphora.protocol import Action

DYNAMIC_ALGORITHMS = {"roundrobin", "leastconn", "first", "random"}
"""Algorithms whose backends take servers at run time; the others do with ``hash-type consistent``."""

PLAIN = re.compile(r"[\w .:/\[\]-]+")
"""Commands that need no thought about quoting."""

SETTABLE = ("weight", "addr", "port")
"""Words of a server line, each with a value, that HAProxy changes at run time."""

KEEP_IDLE = "pool-max-conn -1 pool-purge-delay 5s"
"""The defaults of a server in the file. One added at run time is made without: it would connect for every request."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do. ``commands`` are for the stats socket; ``leaving`` names removed servers, ``backend/server``."""

    action: Action
    commands: tuple[str, ...] = ()
    leaving: frozenset[str] = frozenset()


@dataclass(slots=True)
class Section:
    """A section of haproxy.cfg: its lines, server lines apart: name -> words behind the name."""

    settings: list[str] = field(default_factory=list)
    servers: dict[str, tuple[str, ...]] = field(default_factory=dict)


class NeedsReload(Exception):
    """A difference that no runtime command makes."""


def decide(loaded: str | None, wanted: str) -> Decision:
    """How to get from ``loaded`` (None: HAProxy does not run) to ``wanted``."""
    if loaded is None:
        return Decision("start")
    if loaded == wanted:
        return Decision("none")
    try:
        return _at_run_time(_sections(loaded), _sections(wanted))
    except NeedsReload:
        return Decision("reload")


def states_to_keep(states: str, loaded: str, wanted: str) -> str:
    """Of ``show servers state``, what HAProxy is to start from at a reload: who is DOWN stays DOWN until checked.

    Only for servers whose backend and line stay as they are: HAProxy would leave one DOWN for ever whose check is gone,
    and in maintenance one that the file enables.
    """
    old, new = _sections(loaded), _sections(wanted)
    version, _, rest = states.strip().partition("\n")
    kept = [line for line in rest.splitlines() if line.startswith("#") or _stays_down(line.split(" "), old, new)]
    return "\n".join([version, *kept]) + "\n"


def _stays_down(words: list[str], old: Mapping[str, Section], new: Mapping[str, Section]) -> bool:
    _, backend, _, server, _, operational, administrative, *_ = words
    before, after = old.get(f"backend {backend}"), new.get(f"backend {backend}")
    if not before or not after or before.settings != after.settings:
        return False
    unchanged = server in after.servers and before.servers.get(server) == after.servers[server]
    return unchanged and operational == "0" and administrative == "0"


def _sections(config: str) -> dict[str, Section]:
    """Sections by their first line, which is the one that is not indented."""
    sections: dict[str, Section] = {}
    current = Section()
    for line in config.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not line[0].isspace():
            current = sections.setdefault(" ".join(words), Section())
        elif words[0] == "server":
            current.servers[words[1]] = tuple(words[2:])
        else:
            current.settings.append(" ".join(words))
    return sections


def _at_run_time(old: dict[str, Section], new: dict[str, Section]) -> Decision:
    if list(old) != list(new):
        raise NeedsReload
    commands: list[str] = []
    leaving: set[str] = set()
    defaults = [line for header, section in new.items() if header.startswith("defaults") for line in section.settings]
    for header, after in new.items():
        before = old[header]
        if before == after:
            continue
        kind, _, name = header.partition(" ")
        if kind == "frontend":
            commands += _frontend(name, before, after)
        elif kind == "backend" and before.settings == after.settings:
            commands += _backend(name, before, after, defaults)
            leaving |= {f"{name}/{server}" for server in before.servers.keys() - after.servers.keys()}
        else:
            raise NeedsReload
    if not all(PLAIN.fullmatch(command) for command in commands):
        raise NeedsReload
    return Decision("runtime", tuple(commands), frozenset(leaving))


def _frontend(name: str, before: Section, after: Section) -> Iterator[str]:
    limits = [line.split()[1] for line in after.settings if line.startswith("maxconn ")]
    if _without_limit(before) != _without_limit(after) or len(limits) != 1:
        raise NeedsReload
    yield f"set maxconn frontend {name} {limits[0]}"


def _without_limit(section: Section) -> list[str]:
    return ["maxconn" if line.startswith("maxconn ") else line for line in section.settings]


def _backend(name: str, before: Section, after: Section, defaults: list[str]) -> Iterator[str]:
    """Additions first, so that a backend whose servers are all replaced is never without one."""
    added = after.servers.keys() - before.servers.keys()
    if added and not _takes_servers(after.settings, defaults):
        raise NeedsReload
    for server, words in after.servers.items():
        if server in added:
            yield from _added(f"{name}/{server}", words)
        elif words != before.servers[server]:
            yield from _changed(f"{name}/{server}", before.servers[server], words)
    if added and any(line.startswith("cookie ") for line in after.settings):
        yield f"enable dynamic-cookie backend {name}"  # computes the new servers' cookies
    yield from (f"set server {name}/{server} state maint" for server in before.servers if server not in after.servers)


def _takes_servers(settings: list[str], defaults: list[str]) -> bool:
    balance = next((line.split()[1] for line in settings + defaults if line.startswith("balance ")), "roundrobin")
    dynamic = balance.partition("(")[0] in DYNAMIC_ALGORITHMS or "hash-type consistent" in settings
    cookies = [line.split() for line in settings if line.startswith("cookie ")]
    own_defaults = any(line.startswith("default-server") for line in settings + defaults)
    return dynamic and not own_defaults and all("dynamic" in words for words in cookies)


def _added(server: str, words: tuple[str, ...]) -> Iterator[str]:
    """A server comes up in maintenance and unchecked, whatever its line says."""
    if "cookie" in words:
        raise NeedsReload
    yield " ".join([f"add server {server}", *(word for word in words if word != "disabled"), KEEP_IDLE])
    if "check" in words:
        yield f"enable health {server}"
    if "disabled" not in words:
        yield f"enable server {server}"


def _changed(server: str, before: tuple[str, ...], after: tuple[str, ...]) -> Iterator[str]:
    old, old_rest = _settable(before)
    new, new_rest = _settable(after)
    if old_rest != new_rest or old.keys() != new.keys():
        raise NeedsReload
    if new.get("weight") != old.get("weight"):
        yield f"set server {server} weight {new['weight']}"
    if new.get("addr") != old.get("addr"):
        port = f" port {new['port']}" if "port" in new else ""
        yield f"set server {server} check-addr {new['addr']}{port}"
    elif new.get("port") != old.get("port"):
        yield f"set server {server} check-port {new['port']}"
    if ("disabled" in before) != ("disabled" in after):
        yield f"set server {server} state {'maint' if 'disabled' in after else 'ready'}"


def _settable(words: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """What can be set at run time by name, and the rest of the line; ``disabled`` is in neither."""
    values: dict[str, str] = {}
    rest: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if word in SETTABLE:
            values[word] = next(remaining, "")
        elif word != "disabled":
            rest.append(word)
    return values, rest
