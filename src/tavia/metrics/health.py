"""The health manager: heartbeats, what it makes of their absence, and how far the storm guard lets it act."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECEIVED = Counter("tavia_heartbeats_received", "Datagrams that came.")
ACCEPTED = Counter("tavia_heartbeats_accepted", "Heartbeats that are newer than the last of their amphora.")
DROPPED = Counter(
    "tavia_heartbeats_dropped",
    "Datagrams dropped: malformed, signature (wrong), replayed, start (of a disk that its agent has not confirmed), "
    "unrecordable (the database refuses it), unknown (no such amphora).",
    ["reason"],
)
for _reason in ("malformed", "signature", "replayed", "start", "unrecordable", "unknown"):
    DROPPED.labels(_reason)

UNFORESEEN = Counter(
    "tavia_health_unforeseen",
    "Exceptions that nobody foresaw, by loop; each went on with what it did not concern.",
    ["where"],
)
for _where in ("receive", "record", "confirm", "watch", "repair"):
    UNFORESEEN.labels(_where)

FLUSHES = Histogram(
    "tavia_heartbeat_flush_seconds",
    "Recording what came since the last time, in the database.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
ROWS = Counter("tavia_heartbeat_flush_rows", "Amphorae whose heartbeats were recorded.")

AMPHORAE = Gauge("tavia_amphorae", "Amphorae that should send heartbeats, by the database.")
SILENT = Gauge("tavia_amphorae_silent", "Those of them whose heartbeats stopped.")
SUSPECTED = Gauge("tavia_amphorae_suspected", "Amphorae in trouble for long enough to be judged.")
VERDICTS = Counter(
    "tavia_verdicts", "Verdicts that were new for their amphora, by seam, name and what they ask for.",
    ["seam", "verdict", "action"],
)  # fmt: skip
REPLACEMENTS = Counter("tavia_replacements", "Automatic failovers begun, one an amphora.")
BUDGET = Gauge("tavia_failover_budget_left", "Replacements that may begin now ([health_manager] failover_threads).")

REGIMES = ("grace", "normal", "slow", "halted")
_GUARD = Gauge(
    "tavia_failover_guard",
    "1 for what holds now. grace: nobody is judged after a start or an outage of the database; slow: replacements "
    "wait for their turn; halted: too many are silent, none begins.",
    ["regime"],
)


def guard(regime: str) -> None:
    """Show the regime, one of :data:`REGIMES`."""
    for each in REGIMES:
        _GUARD.labels(each).set(each == regime)
