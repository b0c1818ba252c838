"""What a program in the amphora is to the agent: HAProxy, keepalived, and whatever else serves a load balancer there.

:class:`~tavia.agent.amphora.Amphora` holds a tuple of them, made by :data:`tavia.agent.programs.PROGRAMS`, and nobody
else knows one by its name. Each picks its files out of a bundle's; one that finds none is not to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, Protocol

from tavia.agent.accounts import Account
from tavia.amphora.agent_config import AgentConfig
from tavia.amphora.protocol import Action

Files = Mapping[str, str]
"""A bundle's files, by name."""

Facts = Mapping[str, Any]
"""What a program knows of itself, by the names that the wire has for it: fields of
:class:`~tavia.amphora.heartbeat.Heartbeat` and :class:`~tavia.amphora.protocol.AgentStatus`. Either takes its own."""


class Make(Protocol):
    """A program's class. It is made with the agent's configuration, and with what to call when a heartbeat has news."""

    @property
    def account(self) -> Account:
        """Whom it runs as. Image and sandbox make the user."""

    def __call__(self, config: AgentConfig, changed: Callable[[], None], /) -> Program:
        """One."""


class Program(Protocol):
    """The verbs that all have. Every one but ``observe`` may raise AgentFailed."""

    needs_interfaces: bool
    """Whether its check looks at the amphora's interfaces, which have to be there before it then."""

    async def adopt(self) -> None:
        """Take over what an agent before this one left running; once, before anything else is asked."""

    async def check(self, files: Files) -> None:
        """Change nothing. Raises BundleRefused, with the program's own words, when it would not take these files."""

    async def converge(self, files: Files) -> Action:
        """Make it run these files, the cheapest way that drops nobody, or not run where there are none of its own.

        Raises BundleRefused when it cannot after all; then it runs as before.
        """

    async def observe(self, files: Files) -> Facts:
        """How it is, where it is to run ``files``. Asked with each heartbeat, so it bounds its log here too."""

    async def watch(self) -> None:
        """Kill what runs and hangs: it is started again, as after any death.

        Asked all the time, but never while a bundle is put in force.
        """


def merged(facts: Iterable[Facts]) -> dict[str, Any]:
    """What several programs know together: what is a mapping for more than one of them (listeners, pools) is one."""
    together: dict[str, Any] = {}
    for name, value in (item for each in facts for item in each.items()):
        known = together.get(name)
        together[name] = {**known, **value} if isinstance(known, Mapping) else value
    return together


def part_of(kind: type[Any], facts: Facts) -> dict[str, Any]:
    """Those of the facts that are fields of a dataclass of the wire."""
    return {each.name: facts[each.name] for each in fields(kind) if each.name in facts}
