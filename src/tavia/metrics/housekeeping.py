"""Housekeeping's tasks, and what they see: load balancers by status, the workers' queue, orphans, certificates."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

RUNS = Counter("tavia_housekeeping_runs", "Runs of a task: done or failed.", ["task", "outcome"])
LAST_SUCCESS = Gauge("tavia_housekeeping_last_success_timestamp_seconds", "When a task last did its work.", ["task"])
PURGED = Counter("tavia_purged_rows", "Rows removed because of their age.", ["table"])
ORPHANS = Gauge("tavia_orphans", "Cloud resources of ours that no row names.", ["kind"])
REMOVAL_STOPPED = Gauge(
    "tavia_orphan_removal_stopped", "1: orphans are not removed, because it is in doubt whether they are any."
)
CERTIFICATES = Gauge("tavia_certificates_near_expiry", "Amphorae whose certificate expires soon (cert_expiry_buffer).")
FIRST_EXPIRY = Gauge(
    "tavia_certificate_first_expiry_timestamp_seconds", "When the first of the amphorae's certificates expires; "
    "0 where there is none.",
)  # fmt: skip

LOADBALANCERS = Gauge("tavia_loadbalancers", "Load balancers by provisioning status.", ["provisioning_status"])
DUE = Gauge("tavia_queue_due", "Load balancers that a worker should converge now and none does.")
DUE_AGE = Gauge("tavia_queue_oldest_due_seconds", "For how long the first of them has been due.")
PENDING_AGE = Gauge(
    "tavia_loadbalancers_oldest_pending_seconds", "For how long the first of the PENDING ones has been so."
)
