"""The table that turns evidence into a verdict. Health asks it for every amphora in trouble, triage for its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tavia.diagnosis.evidence import Action, Evidence, Refusal, Verdict
from tavia.model.seams import Seam

SILENT = Verdict(
    Seam.BOOT,
    "silent",
    Action.REPLACE,
    "it sends no heartbeats, its agent does not answer, and compute's word does not explain it",
)
SILENT_TO_US = Verdict(
    Seam.MGMT_NET,
    "silent",
    Action.REPLACE,
    "it sends no heartbeats and its agent does not answer, yet the other half of its pair still hears its VRRP adverts",
)
SERVER_GONE = Verdict(
    Seam.BOOT,
    "server-gone",
    Action.REPLACE,
    "compute has no such server any more, while it shows us other servers of ours",
)
SERVER_OFF = Verdict(Seam.BOOT, "server-off", Action.START, "its server is switched off: it is started once")
SERVER_OFF_AGAIN = Verdict(
    Seam.BOOT, "server-off-again", Action.REPLACE, "its server is switched off although it was started"
)
SERVER_STARTING = Verdict(Seam.BOOT, "server-starting", Action.HOLD, "its server was started and may still boot")
SERVER_BUSY = Verdict(
    Seam.BOOT, "server-busy", Action.HOLD, "compute is doing something with its server: wait until that has ended"
)
HEARTBEATS_LOST = Verdict(
    Seam.MGMT_NET,
    "heartbeats-lost",
    Action.ALARM,
    "its agent answers but no heartbeats arrive: it is told the controllers' addresses and its key again; check "
    "controller_ip_port_list, heartbeat_key and UDP 5555 towards the controllers",
)
START_UNCONFIRMED = Verdict(
    Seam.AGENT,
    "start-unconfirmed",
    Action.ALARM,
    "its heartbeats name another disk than the last one that was believed, as after a rebuild or an evacuation: its "
    "start is being confirmed with its agent; where that lasts, its agent names yet another disk, and somebody repeats "
    "old heartbeats",
)
HEARTBEATS_REPLAYED = Verdict(
    Seam.AGENT,
    "heartbeats-replayed",
    Action.ALARM,
    "its agent answers and its heartbeats arrive, but they are not newer than the last one that was believed: its disk "
    "is an older one (a snapshot, or a rebuild with an agent that has no start id), replace it with openstack "
    "loadbalancer amphora failover; or somebody repeats old heartbeats",
)
HEARTBEATS_UNREADABLE = Verdict(
    Seam.AGENT,
    "heartbeats-unreadable",
    Action.ALARM,
    "its agent answers and its heartbeats arrive with a right signature, but what they say cannot be: its agent is of "
    "a release that this one does not know, or it was broken into; the log of tavia-health-manager has an example",
)
AGENT_UNREACHABLE = Verdict(
    Seam.MGMT_NET,
    "agent-unreachable",
    Action.ALARM,
    "its heartbeats arrive but its agent does not answer: check TCP 9443 from the controllers; changes wait meanwhile",
)
TLS_CONTROLLER = Verdict(
    Seam.CONTROL,
    "tls-controller",
    Action.ALARM,
    "TLS fails with several amphorae from this controller: check its client_cert and server_ca",
)
TLS_AMPHORA = Verdict(
    Seam.AGENT, "tls-amphora", Action.ALARM, "its agent refuses TLS, or its certificate is refused, but it is alive"
)
TLS_UNCLEAR = Verdict(
    Seam.CONTROL,
    "tls-unclear",
    Action.HOLD,
    "it is silent and TLS fails, and whether that is this controller's fault is not known",
)
CERTIFICATE_WRONG = Verdict(
    Seam.AGENT,
    "certificate-wrong",
    Action.REPLACE,
    "it is silent, and its certificate has expired or is not its own: nobody can command it any more",
)
NOT_SERVING = Verdict(
    Seam.AGENT, "not-serving", Action.REPAIR, "its agent runs but its HAProxy does not: its bundle is pushed again"
)
REPAIRING = Verdict(
    Seam.AGENT, "repairing", Action.HOLD, "its HAProxy does not run; its bundle was pushed again, which may still help"
)
STILL_NOT_SERVING = Verdict(
    Seam.AGENT,
    "still-not-serving",
    Action.REPLACE,
    "its agent runs but its HAProxy does not, although its bundle was pushed again",
)
NO_CARRIER = Verdict(
    Seam.AGENT,
    "no-carrier",
    Action.ALARM,
    "it runs, but nothing of its tenant's gets to it or from it by an interface without carrier: check that its port "
    "there is bound, and its tap or veth on the host up and in its bridge; it is not replaced for that. Interfaces: ",
)
BEHIND = Verdict(
    Seam.CONTROL, "behind", Action.CONVERGE, "it serves an older generation than it should: it is pushed again"
)
EVIDENCE_MISSING = Verdict(
    Seam.CONTROL,
    "evidence-missing",
    Action.HOLD,
    "it is silent, but compute or its agent could not be asked: check this controller's way to both",
)

_REFUSED: Mapping[Refusal | None, Verdict] = {
    Refusal.START: START_UNCONFIRMED,
    Refusal.REPLAYED: HEARTBEATS_REPLAYED,
    Refusal.MALFORMED: HEARTBEATS_UNREADABLE,
    Refusal.UNRECORDABLE: HEARTBEATS_UNREADABLE,
}
"""Of one whose agent answers and that counts as silent, by why its heartbeats are not taken."""

UNEXPLAINED = frozenset({SILENT.code, EVIDENCE_MISSING.code, TLS_UNCLEAR.code})
"""Codes of silences that no evidence explains. Many of them at once point at the network or at the observer."""


def verdict(evidence: Evidence) -> Verdict | None:
    """What is wrong and what to do, by this table; None where nothing is wrong.

    ============================================================= =====================================================
    evidence                                                      verdict
    ============================================================= =====================================================
    compute gone, another known server of ours is visible         boot, server-gone: replace
    compute off                                                   boot, server-off: start once, then replace
    compute busy with it                                          boot, server-busy: hold
    agent answers, heartbeats do not arrive                       mgmt-net, heartbeats-lost: alarm, never replace
    agent answers, heartbeats arrive and are not taken            agent, start-unconfirmed, heartbeats-replayed or
                                                                  heartbeats-unreadable: alarm, never replace
    heartbeats arrive and tell of an interface without carrier    agent, no-carrier: alarm, never replace
    heartbeats arrive, agent does not answer                      mgmt-net, agent-unreachable: alarm, never replace
    TLS fails for several amphorae                                control, tls-controller: alarm
    TLS fails for one, heartbeats arrive                          agent, tls-amphora: alarm
    TLS fails for one, certificate wrong, no heartbeats           agent, certificate-wrong: replace
    agent answers or heartbeats arrive, HAProxy keeps failing     agent, not-serving: repair, then replace
    silent, its agent does not answer, compute was asked          boot or mgmt-net, silent: replace
    silent, and what would explain it is unknown                  control, evidence-missing: hold
    applied generation behind                                     control, behind: converge
    ============================================================= =====================================================

    "Silent together with many of its domain" needs more than one amphora's evidence: the guard holds those.
    """
    return _of_one_heard(evidence) if evidence.heartbeats else _of_one_silent(evidence)


def _of_one_heard(e: Evidence) -> Verdict | None:
    rows = (
        (e.tls_fails and e.tls_fails_elsewhere, TLS_CONTROLLER),
        (e.tls_fails, TLS_AMPHORA),
        (e.agent_answers is False, AGENT_UNREACHABLE),
        (e.serves is False, _not_serving(e)),
        (e.no_carrier, replace(NO_CARRIER, sentence=NO_CARRIER.sentence + e.no_carrier)),
        (e.behind, BEHIND),
    )
    return next((found for applies, found in rows if applies), None)


def _of_one_silent(e: Evidence) -> Verdict:
    asked = e.heartbeats is False and e.agent_answers is False and e.server_exists is not None
    its_own_fault = e.certificate_wrong and e.tls_fails_elsewhere is False
    rows = (
        (e.server_exists is False and e.another_server_visible, SERVER_GONE),
        (e.server_busy, SERVER_BUSY),
        (e.starting and not e.agent_answers, SERVER_STARTING),
        (e.server_runs is False, SERVER_OFF_AGAIN if e.started else SERVER_OFF),
        (e.agent_answers and e.serves is False, _not_serving(e)),
        (e.agent_answers, _REFUSED.get(e.refused, HEARTBEATS_LOST)),
        (e.tls_fails and e.tls_fails_elsewhere, TLS_CONTROLLER),
        (e.tls_fails, CERTIFICATE_WRONG if its_own_fault else TLS_UNCLEAR),
        (not asked, EVIDENCE_MISSING),
        (e.peer_sees_it, SILENT_TO_US),
    )
    return next((found for applies, found in rows if applies), SILENT)


def _not_serving(e: Evidence) -> Verdict:
    if e.repairing:
        return REPAIRING
    return STILL_NOT_SERVING if e.repaired else NOT_SERVING
