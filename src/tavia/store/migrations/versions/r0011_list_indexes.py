"""A page of a list is found by index, however many others there are: a project's, and an operator's of all."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Bring the tables to this revision."""
    for table in ("pool", "listener", "health_monitor", "member"):
        op.create_index(f"ix_{table}_project", table, ["project_id", "created_at"])
    for table in ("load_balancer", "pool", "listener", "health_monitor", "member", "amphora"):
        op.create_index(f"ix_{table}_created_at", table, ["created_at"])
