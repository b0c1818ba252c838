"""Load balancers keep what their amphorae boot with. Of those that exist it is not known: it stays empty."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Bring the tables to this revision."""
    with op.batch_alter_table("load_balancer", schema=None) as batch_op:
        for name in ("compute_flavor", "compute_zone", "image_tag"):
            batch_op.add_column(sa.Column(name, sa.String(length=255), nullable=True))
