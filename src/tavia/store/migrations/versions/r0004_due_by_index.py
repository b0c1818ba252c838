"""What is due is found by index, however many load balancers there are."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Bring the table to this revision."""
    unattempted = sa.Computed("generation > attempted_generation", persisted=False)
    op.add_column("load_balancer", sa.Column("unattempted", sa.Boolean(), unattempted))
    op.create_index("ix_load_balancer_unattempted", "load_balancer", ["unattempted"])
    op.create_index("ix_load_balancer_due_at", "load_balancer", ["due_at"])
