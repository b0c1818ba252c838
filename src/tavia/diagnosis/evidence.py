"""What can be known of one amphora, and what is concluded. Health gathers the one and acts on the other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tavia.model.seams import Seam

Fact = bool | None
"""Yes, no, or unknown (None). Unknown never proves anything."""


class Refusal(StrEnum):
    """Why heartbeats that arrive are not taken, and their amphora counts as silent.

    What they say cannot be; they are not newer than the last one; they name another disk than the last one, and its
    agent was not heard to say the same; the database does not take them.
    """

    MALFORMED = "malformed"
    REPLAYED = "replayed"
    START = "start"
    UNRECORDABLE = "unrecordable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The facts about one amphora; what nobody looked at stays unknown.

    ``heartbeats``: they arrive. ``refused``: they arrive and are not taken, and why. ``behind``: it
    runs an older generation than it should. ``serves``: its HAProxy runs. ``no_carrier``: its interfaces that carry
    nothing.
    ``repaired``: a repair in place was tried for this trouble; ``repairing``: so lately that it may still help.
    ``agent_answers``: on 9443, with our TLS.
    ``tls_fails``: 9443 is open, the handshake is refused; ``certificate_wrong``: because the amphora's certificate has
    expired or is not its own; ``tls_fails_elsewhere``: for other amphorae too, seen from here.
    ``server_exists``, ``server_runs``, ``server_busy`` (a task is in progress, or its host is disabled): compute's
    word, ``host`` where it is. ``another_server_visible``: compute shows us another server of ours, with the same
    credentials.
    ``started``: we started it for this trouble; ``starting``: so lately that it may still boot. ``peer_sees_it``: the
    other half of its pair receives its VRRP adverts.
    """

    heartbeats: Fact = None
    refused: Refusal | None = None
    behind: Fact = None
    serves: Fact = None
    no_carrier: str = ""
    repaired: bool = False
    repairing: bool = False
    agent_answers: Fact = None
    tls_fails: Fact = None
    certificate_wrong: Fact = None
    tls_fails_elsewhere: Fact = None
    server_exists: Fact = None
    server_runs: Fact = None
    server_busy: Fact = None
    host: str | None = None
    another_server_visible: Fact = None
    started: bool = False
    starting: bool = False
    peer_sees_it: Fact = None


class Action(StrEnum):
    """What a verdict asks for. Only REPLACE spends from the budget (:func:`tavia.diagnosis.guard.guard`)."""

    REPLACE = "replace"
    START = "start"
    REPAIR = "repair"
    CONVERGE = "converge"
    HOLD = "hold"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which seam broke, a stable code for programs, what to do, and a sentence that tells an operator why."""

    seam: Seam
    code: str
    action: Action
    sentence: str
