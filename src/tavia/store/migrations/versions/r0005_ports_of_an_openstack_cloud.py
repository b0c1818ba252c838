"""What an amphora is plugged into beside the VIP's subnet, since when its server runs, and the VIP's security group."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Bring the tables to this revision."""
    with op.batch_alter_table("amphora", schema=None) as batch_op:
        batch_op.add_column(sa.Column("active_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("member_ports", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("additional_ips", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("qos_policy_id", sa.String(length=36), nullable=True))
    with op.batch_alter_table("load_balancer", schema=None) as batch_op:
        batch_op.add_column(sa.Column("security_group_id", sa.String(length=255), nullable=True))
        batch_op.add_column(sa.Column("security_hash", sa.String(length=64), nullable=True))
