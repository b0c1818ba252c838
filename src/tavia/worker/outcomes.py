"""How a step may end, and what that means: what is left to be recorded, and failures that no seam has named yet."""

from __future__ import annotations

import dataclasses
import logging
from typing import TypeGuard

from tavia.amphora.bundle import ProgramFile
from tavia.amphora.client import TlsRefused, Unreachable
from tavia.amphora.protocol import AgentFailed, BundleRefused, FenceRefused
from tavia.cloud.protocols import PORT_GONE, NotFound
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus
from tavia.model.tree import Tree
from tavia.worker.boots import BootFailed
from tavia.worker.faults import fault_of
from tavia.worker.plan import SEAM_OF, Kind, Step
from tavia.worker.ports import amphora_of
from tavia.worker.records import Changed, Record

LOG = logging.getLogger(__name__)

MOST_DETAIL = 4000
"""Characters of an error that nobody foresaw: it may hold a whole statement with its values."""
NOT_TAKEN = (Unreachable, TlsRefused, AgentFailed, BundleRefused)
"""Why one amphora does not run a bundle, which the other half may. What HAProxy refuses is dealt with before: it is for
tenants to mend. What keepalived refuses is the load balancer's own: no listener, pool or member is in its file."""


def is_haproxys(outcome: Record | SeamError) -> TypeGuard[BundleRefused]:
    """Whether HAProxy refused its file."""
    return isinstance(outcome, BundleRefused) and outcome.file == ProgramFile.HAPROXY


def left_by(tree: Tree, step: Step, outcome: Record | SeamError) -> Record:
    """What a step leaves to be recorded. A server that will not serve any more is marked, so that a retry is a new row.

    One that compute did not take on gives its turn to boot to others; its row and its ports are the retry's, but for
    ports that are gone: all are looked for again.
    """
    if isinstance(outcome, BootFailed):
        fault = dataclasses.asdict(fault_of(outcome))
        return Changed(outcome.amphora, {"status": AmphoraStatus.ERROR, "fault": fault})
    if isinstance(outcome, SeamError) and step.kind is Kind.BOOT_SERVER:
        ports_are_gone = isinstance(outcome, NotFound) or outcome.code == PORT_GONE
        forgotten = {"vrrp_port_id": None} if ports_are_gone else {}
        return Changed(amphora_of(tree, step), {"boot_started_at": None, **forgotten})
    return None if isinstance(outcome, SeamError) else outcome


def incredible(amphora_id: str, refused: FenceRefused) -> AgentFailed:
    """An agent that says it holds a fence which no controller made."""
    message = (
        f"amphora {amphora_id} takes no bundle, because it held one of a later controller, it says: "
        f"{refused.message}. No controller gave it that: a failover of the amphora replaces it"
    )
    return AgentFailed("fence-incredible", message)


def too_slow(step: Step, error: TimeoutError) -> SeamError:
    """A step that its deadline ended."""
    message = f"the step {step.kind} did not end within [tavia] step_deadline; it is tried again"
    return SeamError(SEAM_OF[step.kind], "step-timeout", message, detail=str(error))


def unforeseen(loadbalancer_id: str, error: Exception) -> SeamError:
    """A fault of ours: the log has its traceback, the journal its words, its tenant neither."""
    LOG.error("load balancer %s", loadbalancer_id, exc_info=error)
    message = "Tavia met an error of its own and tries again; its journal and the worker's log tell the operator more"
    return SeamError(Seam.CONTROL, "internal-error", message, detail=f"{type(error).__name__}: {error}"[:MOST_DETAIL])
