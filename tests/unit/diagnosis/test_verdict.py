"""DESIGN section 6's table, row by row; and that unknown never proves anything."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tavia.diagnosis.evidence import Action, Evidence
from tavia.diagnosis.verdict import verdict
from tavia.model.seams import Seam

SILENT = Evidence(heartbeats=False, agent_answers=False, server_exists=True, server_runs=True)

TABLE = {
    "compute gone, while it shows another server of ours": (
        Evidence(heartbeats=False, server_exists=False, another_server_visible=True),
        (Seam.BOOT, "server-gone", "replace"),
    ),
    "compute gone, but no other server of ours is visible: not proven, so what else is known decides": (
        Evidence(heartbeats=False, server_exists=False, another_server_visible=False),
        (Seam.CONTROL, "evidence-missing", "hold"),
    ),
    "compute off": (
        Evidence(heartbeats=False, server_exists=True, server_runs=False, agent_answers=False),
        (Seam.BOOT, "server-off", "start"),
    ),
    "compute off, started a moment ago": (
        Evidence(heartbeats=False, server_exists=True, server_runs=False, started=True, starting=True),
        (Seam.BOOT, "server-starting", "hold"),
    ),
    "compute off again after it was started": (
        Evidence(heartbeats=False, server_exists=True, server_runs=False, started=True),
        (Seam.BOOT, "server-off-again", "replace"),
    ),
    "started, runs, and is still silent after a while": (
        Evidence(heartbeats=False, server_exists=True, server_runs=True, agent_answers=False, started=True),
        (Seam.BOOT, "silent", "replace"),
    ),
    "a task in progress, or its host disabled": (
        Evidence(heartbeats=False, server_exists=True, server_busy=True, agent_answers=False),
        (Seam.BOOT, "server-busy", "hold"),
    ),
    "agent answers, heartbeats do not arrive": (
        Evidence(heartbeats=False, agent_answers=True, server_exists=True, server_runs=True, serves=True),
        (Seam.MGMT_NET, "heartbeats-lost", "alarm"),
    ),
    "heartbeats arrive, agent does not answer": (
        Evidence(heartbeats=True, agent_answers=False, tls_fails=False),
        (Seam.MGMT_NET, "agent-unreachable", "alarm"),
    ),
    "TLS fails for several amphorae": (
        Evidence(
            heartbeats=False, agent_answers=False, tls_fails=True, tls_fails_elsewhere=True, certificate_wrong=True
        ),
        (Seam.CONTROL, "tls-controller", "alarm"),
    ),
    "TLS fails for several amphorae, heartbeats arrive": (
        Evidence(heartbeats=True, agent_answers=False, tls_fails=True, tls_fails_elsewhere=True),
        (Seam.CONTROL, "tls-controller", "alarm"),
    ),
    "TLS fails for one, heartbeats arrive": (
        Evidence(heartbeats=True, agent_answers=False, tls_fails=True, tls_fails_elsewhere=False),
        (Seam.AGENT, "tls-amphora", "alarm"),
    ),
    "TLS fails for one, its certificate wrong, no heartbeats": (
        Evidence(
            heartbeats=False, agent_answers=False, tls_fails=True, tls_fails_elsewhere=False, certificate_wrong=True
        ),
        (Seam.AGENT, "certificate-wrong", "replace"),
    ),
    "TLS fails for one, because it refuses our certificate": (
        Evidence(
            heartbeats=False, agent_answers=False, tls_fails=True, tls_fails_elsewhere=False, certificate_wrong=False
        ),
        (Seam.CONTROL, "tls-unclear", "hold"),
    ),
    "heartbeats arrive, HAProxy keeps failing": (
        Evidence(heartbeats=True, agent_answers=True, serves=False),
        (Seam.AGENT, "not-serving", "repair"),
    ),
    "heartbeats arrive, HAProxy keeps failing after the repair": (
        Evidence(heartbeats=True, agent_answers=True, serves=False, repaired=True),
        (Seam.AGENT, "still-not-serving", "replace"),
    ),
    "heartbeats arrive, HAProxy was repaired a moment ago": (
        Evidence(heartbeats=True, agent_answers=True, serves=False, repaired=True, repairing=True),
        (Seam.AGENT, "repairing", "hold"),
    ),
    "heartbeats tell of an interface without carrier": (
        Evidence(heartbeats=True, agent_answers=True, serves=True, no_carrier="eth1"),
        (Seam.AGENT, "no-carrier", "alarm"),
    ),
    "only the agent answers, HAProxy keeps failing": (
        Evidence(heartbeats=False, agent_answers=True, serves=False, server_exists=True),
        (Seam.AGENT, "not-serving", "repair"),
    ),
    "silent, its server runs, nothing explains it": (SILENT, (Seam.BOOT, "silent", "replace")),
    "silent to us, heard by its peer": (
        Evidence(heartbeats=False, agent_answers=False, server_exists=True, peer_sees_it=True),
        (Seam.MGMT_NET, "silent", "replace"),
    ),
    "silent, and compute could not be asked": (
        Evidence(heartbeats=False, agent_answers=False),
        (Seam.CONTROL, "evidence-missing", "hold"),
    ),
    "silent, and its agent could not be asked": (
        Evidence(heartbeats=False, server_exists=True, server_runs=True),
        (Seam.CONTROL, "evidence-missing", "hold"),
    ),
    "applied generation behind": (
        Evidence(heartbeats=True, agent_answers=True, serves=True, behind=True),
        (Seam.CONTROL, "behind", "converge"),
    ),
}


@pytest.mark.parametrize("row", TABLE)
def test_each_row_of_the_table_gives_its_verdict(row: str) -> None:
    evidence, expected = TABLE[row]
    found = verdict(evidence)
    assert found is not None
    assert (found.seam, found.code, found.action) == expected
    assert found.sentence


def test_an_amphora_that_is_heard_answers_and_serves_has_no_verdict() -> None:
    assert verdict(Evidence(heartbeats=True, agent_answers=True, serves=True, behind=False)) is None


FACTS = st.sampled_from([True, False, None])
OTHERS: dict[object, st.SearchStrategy[Any]] = {"bool": st.booleans(), "str": st.sampled_from(["", "eth1"])}
ANY_EVIDENCE = st.builds(Evidence, **{f.name: OTHERS.get(f.type, FACTS) for f in fields(Evidence)})


@given(ANY_EVIDENCE)
def test_whoever_is_heard_is_never_replaced_unless_its_haproxy_stays_down(evidence: Evidence) -> None:
    found = verdict(evidence)
    if evidence.heartbeats and found and found.action is Action.REPLACE:
        assert evidence.serves is False and evidence.repaired


@given(ANY_EVIDENCE)
def test_a_replacement_always_rests_on_a_known_failure_never_on_unknowns(evidence: Evidence) -> None:
    found = verdict(evidence)
    if found and found.action is Action.REPLACE:
        proofs = (
            evidence.server_exists is False and evidence.another_server_visible is True,
            evidence.server_runs is False and evidence.started,
            evidence.serves is False and evidence.repaired,
            evidence.tls_fails is True and evidence.certificate_wrong is True and evidence.tls_fails_elsewhere is False,
            evidence.heartbeats is False and evidence.agent_answers is False and evidence.server_exists is not None,
        )
        assert any(proofs)
