"""The worker's convergences, their steps, and the leases they run under."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from tavia.metrics import labels
from tavia.model.seams import SeamError

CONVERGENCES = Counter(
    "tavia_convergences",
    "Convergences that ended: create, update, failover or delete; done, waiting, failed, handed-over or lost.",
    ["what", "outcome"],
)
CHANGES = Histogram(
    "tavia_change_seconds",
    "From a change's acceptance to ACTIVE, or to gone: what its tenant waits for. By the database's clock; of several "
    "changes applied together the first counts.",
    ["what"],
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0),
)
STEPS = Histogram(
    "tavia_step_seconds",
    "Steps of convergences, by the seam that they cross; done or failed.",
    ["step", "seam", "outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
STEP_FAILURES = Counter(
    "tavia_step_failures", "Steps that failed, with the seam that broke (not always the step's own).",
    ["step", "seam", "code"],
)  # fmt: skip
FAILURES = Counter(
    "tavia_failures", "Convergences that failed, by the seam that broke and the code that the fault shows.",
    ["seam", "code"],
)  # fmt: skip
TAKEOVERS = Counter(
    "tavia_lease_takeovers", "Leases taken that had run out while somebody owned them: a worker died, hung or lost "
    "the database.",
)  # fmt: skip
LOST = Counter("tavia_leases_lost", "Leases that another worker took while this one converged.")
HELD = Gauge("tavia_leases_held", "Leases that this worker holds now.")
BUSY = Gauge("tavia_worker_threads_busy", "Threads that converge a load balancer now.")
THREADS = Gauge("tavia_worker_threads", "Threads that may converge one ([tavia] max_workers).")


def failed(failure: SeamError) -> None:
    """Count a convergence's failure."""
    FAILURES.labels(failure.seam, labels.code(failure.code)).inc()


def step_ended(step: str, seam: str, seconds: float, failure: SeamError | None) -> None:
    """Count a step; ``failure`` is why it failed."""
    STEPS.labels(step, seam, "failed" if failure else "done").observe(seconds)
    if failure:
        STEP_FAILURES.labels(step, failure.seam, labels.code(failure.code)).inc()
