"""An amphora's counters are found by index."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Bring the table to this revision."""
    op.create_index("ix_listener_statistics_amphora_id", "listener_statistics", ["amphora_id"])
