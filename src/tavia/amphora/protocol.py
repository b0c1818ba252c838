"""The agent's API as both sides know it: what it answers and how it refuses.

The agent raises these errors and :func:`refusal` puts them on the wire; the client turns the answer back into the same
error with :func:`refused`.

=====================  ======================================================================================
``GET /``              ``{"api_version": "1.0"}``
``GET /status``        :class:`AgentStatus`
``PUT /bundle``        the JSON of a :class:`~tavia.amphora.bundle.Bundle`; answers :class:`Applied`
``PUT /certificate``   PEM of the agent's own certificate, key and chain
``PUT /config``        the agent's configuration; controllers, key and interval take effect at once
=====================  ======================================================================================
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from tavia.amphora.bundle import Fence
from tavia.model.seams import Seam, SeamError

API_VERSION = "1.0"

Action = Literal["none", "runtime", "stop", "reload", "start"]
"""What a bundle took of a program: nothing, runtime commands, its end, a seamless reload or a start. Least first."""

CONFLICT, UNPROCESSABLE = 409, 422
STATUS_OF = {"bundle-malformed": 400, "wrong-amphora": 400, "too-large": 413, "interface-missing": 503}
"""HTTP statuses of :class:`AgentFailed` by code; every other code is a 500."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A bundle was taken: the most that was done to a program, and the hash of what runs now."""

    action: Action
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """What an agent holds and runs. ``fault`` is what it could not do by itself since its last start, or None.

    ``agent_version`` is empty and ``start_id`` (see :class:`~tavia.amphora.heartbeat.Heartbeat`) None for an agent that
    does not tell them yet.
    """

    amphora_id: str
    boot_count: int
    fence: Fence | None
    generation: int
    hash: str | None
    haproxy_version: str
    keepalived_version: str
    agent_version: str = ""
    haproxy_up: bool
    haproxy_restarts: int
    keepalived_up: bool
    vrrp_state: str | None
    fault: str | None = None
    start_id: str | None = None


class FenceRefused(SeamError):
    """A later bundle is in place, or another owner's of the same epoch. ``held`` is its fence."""

    def __init__(self, held: Fence) -> None:
        super().__init__(
            Seam.CONTROL,
            "fence-refused",
            f"the amphora holds a bundle of epoch {held.epoch}, serial {held.serial}, owner {held.owner}",
        )
        self.held = held


class BundleRefused(SeamError):
    """HAProxy or keepalived refuses its ``file``; nothing was changed.

    ``message`` is the program's own words; ``line`` the first line of the file that they name, counted from 1.
    """

    def __init__(self, file: str, message: str, line: int | None = None) -> None:
        super().__init__(Seam.AGENT, f"{file.partition('.')[0]}-refused", message, permanent=True)
        self.file = file
        self.line = line


class AgentFailed(SeamError):
    """The agent could not do it; its ``code`` and ``message`` say what."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(Seam.AGENT, code, message)


def refusal(error: SeamError) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON body of a refusal."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if isinstance(error, FenceRefused):
        return CONFLICT, body | {"held": asdict(error.held)}
    if isinstance(error, BundleRefused):
        return UNPROCESSABLE, body | {"file": error.file, "line": error.line}
    return STATUS_OF.get(error.code, 500), body


def refused(status: int, body: dict[str, Any]) -> SeamError:
    """The error behind an answer other than 200; :func:`refusal` the other way round."""
    message = str(body.get("message", f"HTTP status {status}"))
    try:
        if status == CONFLICT:
            return FenceRefused(Fence.of(body["held"]))
        if status == UNPROCESSABLE:
            return BundleRefused(body["file"], message, body["line"])
    except (KeyError, TypeError, ValueError):
        return AgentFailed("agent-answer-malformed", f"HTTP status {status} without its details")
    return AgentFailed(str(body.get("code", "agent-failed")), message)


def applied(body: dict[str, Any]) -> Applied:
    """Read the answer to a bundle. Raises AgentFailed."""
    if body.get("action") not in get_args(Action) or not isinstance(body.get("hash"), str):
        raise AgentFailed("agent-answer-malformed", "not an answer to a bundle")
    return Applied(action=body["action"], hash=body["hash"])


def agent_status(body: dict[str, Any]) -> AgentStatus:
    """Read the answer to ``GET /status``. Raises AgentFailed."""
    try:
        fence = body["fence"]
        # A newer agent says more than we know.
        known = {each.name: body[each.name] for each in fields(AgentStatus) if each.name in body}
        return AgentStatus(**known | {"fence": fence and Fence.of(fence)})
    except (KeyError, TypeError, ValueError) as error:
        raise AgentFailed("agent-answer-malformed", f"not an agent's status: {error}") from error
