"""Heartbeats tell which interfaces carry nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Bring the tables to this revision."""
    with op.batch_alter_table("amphora_health", schema=None) as batch_op:
        batch_op.add_column(sa.Column("no_carrier", sa.String(length=512), nullable=True))
