"""Heartbeats tell the disk on which an amphora counts its boots."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Bring the tables to this revision."""
    with op.batch_alter_table("amphora_health", schema=None) as batch_op:
        batch_op.add_column(sa.Column("start_id", sa.String(length=36), nullable=True))
