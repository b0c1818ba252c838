"""The tables of the first release."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

TIMESTAMP = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Bring the tables to this revision."""
    _deployment()
    _listener_statistics()
    _load_balancer()
    _operation()
    _amphora()
    _lease()
    _pool()
    _step()
    _amphora_health()
    _health_monitor()
    _listener()
    _member()


def _deployment() -> None:
    op.create_table(
        "deployment",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("single", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("single"),
    )


def _listener_statistics() -> None:
    op.create_table(
        "listener_statistics",
        sa.Column("listener_id", sa.String(length=36), nullable=False),
        sa.Column("amphora_id", sa.String(length=36), nullable=False),
        sa.Column("loadbalancer_id", sa.String(length=36), nullable=False),
        sa.Column("bytes_in", sa.BigInteger(), nullable=False),
        sa.Column("bytes_out", sa.BigInteger(), nullable=False),
        sa.Column("active_connections", sa.BigInteger(), nullable=False),
        sa.Column("total_connections", sa.BigInteger(), nullable=False),
        sa.Column("request_errors", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("listener_id", "amphora_id"),
    )
    with op.batch_alter_table("listener_statistics", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_listener_statistics_loadbalancer_id"), ["loadbalancer_id"], unique=False)


def _load_balancer() -> None:
    op.create_table(
        "load_balancer",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP,
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            TIMESTAMP,
            nullable=True,
        ),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("provisioning_status", sa.String(length=255), nullable=False),
        sa.Column("operating_status", sa.String(length=255), nullable=False),
        sa.Column("fault", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("changed_generation", sa.BigInteger(), nullable=False),
        sa.Column("deleted_generation", sa.BigInteger(), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("vip_address", sa.String(length=64), nullable=True),
        sa.Column("vip_port_id", sa.String(length=36), nullable=True),
        sa.Column("vip_subnet_id", sa.String(length=36), nullable=True),
        sa.Column("vip_network_id", sa.String(length=36), nullable=True),
        sa.Column("vip_qos_policy_id", sa.String(length=36), nullable=True),
        sa.Column("vip_sg_ids", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("additional_vips", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("flavor_id", sa.String(length=36), nullable=True),
        sa.Column("availability_zone", sa.String(length=255), nullable=True),
        sa.Column("vip_vnic_type", sa.String(length=64), nullable=False),
        sa.Column("topology", sa.String(length=255), nullable=False),
        sa.Column("vip_port_ours", sa.Boolean(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("observed_generation", sa.BigInteger(), nullable=False),
        sa.Column("attempted_generation", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=True),
        sa.Column("failing_since", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("load_balancer", schema=None) as batch_op:
        batch_op.create_index("ix_load_balancer_project", ["project_id", "created_at"], unique=False)


def _operation() -> None:
    op.create_table(
        "operation",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("loadbalancer_id", sa.String(length=36), nullable=False),
        sa.Column("what", sa.String(length=64), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.Column("seam", sa.String(length=16), nullable=True),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("operation", schema=None) as batch_op:
        batch_op.create_index("ix_operation_loadbalancer", ["loadbalancer_id", "started"], unique=False)
        batch_op.create_index("ix_operation_started", ["started"], unique=False)


def _amphora() -> None:
    op.create_table(
        "amphora",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("loadbalancer_id", sa.String(length=36), nullable=True),
        sa.Column("compute_id", sa.String(length=36), nullable=True),
        sa.Column("lb_network_ip", sa.String(length=64), nullable=True),
        sa.Column("vrrp_ip", sa.String(length=64), nullable=True),
        sa.Column("ha_ip", sa.String(length=64), nullable=True),
        sa.Column("vrrp_port_id", sa.String(length=36), nullable=True),
        sa.Column("ha_port_id", sa.String(length=36), nullable=True),
        sa.Column(
            "cert_expiration",
            TIMESTAMP,
            nullable=True,
        ),
        sa.Column("cert_busy", sa.Boolean(), nullable=False),
        sa.Column("role", sa.String(length=255), nullable=True),
        sa.Column("status", sa.String(length=255), nullable=False),
        sa.Column("vrrp_interface", sa.String(length=16), nullable=True),
        sa.Column("vrrp_id", sa.BigInteger(), nullable=True),
        sa.Column("vrrp_priority", sa.BigInteger(), nullable=True),
        sa.Column("cached_zone", sa.String(length=255), nullable=True),
        sa.Column(
            "created_at",
            TIMESTAMP,
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            TIMESTAMP,
            nullable=True,
        ),
        sa.Column("image_id", sa.String(length=36), nullable=True),
        sa.Column("compute_flavor", sa.String(length=255), nullable=True),
        sa.Column("mgmt_port_id", sa.String(length=36), nullable=True),
        sa.Column("mgmt_subnet_id", sa.String(length=36), nullable=True),
        sa.Column("vrrp_mac", sa.String(length=32), nullable=True),
        sa.Column("replace_generation", sa.BigInteger(), nullable=True),
        sa.Column("deleted_generation", sa.BigInteger(), nullable=True),
        sa.Column("applied_generation", sa.BigInteger(), nullable=False),
        sa.Column("applied_hash", sa.String(length=64), nullable=True),
        sa.Column("fenced", sa.Boolean(), nullable=False),
        sa.Column("boot_started_at", sa.Double(), nullable=True),
        sa.Column("fault", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["loadbalancer_id"],
            ["load_balancer.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("amphora", schema=None) as batch_op:
        batch_op.create_index("ix_amphora_loadbalancer", ["loadbalancer_id"], unique=False)
        batch_op.create_index("ix_amphora_status", ["status"], unique=False)


def _lease() -> None:
    op.create_table(
        "lease",
        sa.Column("loadbalancer_id", sa.String(length=36), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["loadbalancer_id"], ["load_balancer.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("loadbalancer_id"),
    )


def _pool() -> None:
    op.create_table(
        "pool",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP,
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            TIMESTAMP,
            nullable=True,
        ),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("provisioning_status", sa.String(length=255), nullable=False),
        sa.Column("operating_status", sa.String(length=255), nullable=False),
        sa.Column("fault", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("changed_generation", sa.BigInteger(), nullable=False),
        sa.Column("deleted_generation", sa.BigInteger(), nullable=True),
        sa.Column("loadbalancer_id", sa.String(length=36), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("protocol", sa.String(length=16), nullable=False),
        sa.Column("lb_algorithm", sa.String(length=32), nullable=False),
        sa.Column("session_persistence", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("applied_form", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["loadbalancer_id"],
            ["load_balancer.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("pool", schema=None) as batch_op:
        batch_op.create_index("ix_pool_loadbalancer", ["loadbalancer_id"], unique=False)


def _step() -> None:
    op.create_table(
        "step",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("operation_id", sa.String(length=36), nullable=False),
        sa.Column("what", sa.String(length=64), nullable=False),
        sa.Column("seam", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["operation_id"], ["operation.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("step", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_step_operation_id"), ["operation_id"], unique=False)


def _amphora_health() -> None:
    op.create_table(
        "amphora_health",
        sa.Column("amphora_id", sa.String(length=36), nullable=False),
        sa.Column("last_update", sa.Double(), nullable=False),
        sa.Column("boot_count", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("bundle_hash", sa.String(length=64), nullable=True),
        sa.Column("vrrp_state", sa.String(length=16), nullable=True),
        sa.Column("peer_seen", sa.Boolean(), nullable=True),
        sa.Column("haproxy_up", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["amphora_id"], ["amphora.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("amphora_id"),
    )
    with op.batch_alter_table("amphora_health", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_amphora_health_last_update"), ["last_update"], unique=False)


def _health_monitor() -> None:
    op.create_table(
        "health_monitor",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP,
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            TIMESTAMP,
            nullable=True,
        ),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("provisioning_status", sa.String(length=255), nullable=False),
        sa.Column("operating_status", sa.String(length=255), nullable=False),
        sa.Column("fault", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("changed_generation", sa.BigInteger(), nullable=False),
        sa.Column("deleted_generation", sa.BigInteger(), nullable=True),
        sa.Column("loadbalancer_id", sa.String(length=36), nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("delay", sa.BigInteger(), nullable=False),
        sa.Column("timeout", sa.BigInteger(), nullable=False),
        sa.Column("max_retries", sa.BigInteger(), nullable=False),
        sa.Column("max_retries_down", sa.BigInteger(), nullable=False),
        sa.Column("http_method", sa.String(length=16), nullable=True),
        sa.Column("url_path", sa.String(length=255), nullable=True),
        sa.Column("expected_codes", sa.String(length=64), nullable=True),
        sa.Column("http_version", sa.Double(), nullable=True),
        sa.Column("domain_name", sa.String(length=255), nullable=True),
        sa.ForeignKeyConstraint(
            ["loadbalancer_id"],
            ["load_balancer.id"],
        ),
        sa.ForeignKeyConstraint(
            ["pool_id"],
            ["pool.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("health_monitor", schema=None) as batch_op:
        batch_op.create_index("ix_health_monitor_loadbalancer", ["loadbalancer_id"], unique=False)
        batch_op.create_index("ix_health_monitor_pool", ["pool_id"], unique=False)


def _listener() -> None:
    op.create_table(
        "listener",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP,
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            TIMESTAMP,
            nullable=True,
        ),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("provisioning_status", sa.String(length=255), nullable=False),
        sa.Column("operating_status", sa.String(length=255), nullable=False),
        sa.Column("fault", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("changed_generation", sa.BigInteger(), nullable=False),
        sa.Column("deleted_generation", sa.BigInteger(), nullable=True),
        sa.Column("loadbalancer_id", sa.String(length=36), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("protocol", sa.String(length=16), nullable=False),
        sa.Column("protocol_port", sa.BigInteger(), nullable=False),
        sa.Column("connection_limit", sa.BigInteger(), nullable=False),
        sa.Column("default_pool_id", sa.String(length=36), nullable=True),
        sa.Column("insert_headers", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("timeout_client_data", sa.BigInteger(), nullable=False),
        sa.Column("timeout_member_connect", sa.BigInteger(), nullable=False),
        sa.Column("timeout_member_data", sa.BigInteger(), nullable=False),
        sa.Column("timeout_tcp_inspect", sa.BigInteger(), nullable=False),
        sa.Column("allowed_cidrs", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("applied_form", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["default_pool_id"],
            ["pool.id"],
        ),
        sa.ForeignKeyConstraint(
            ["loadbalancer_id"],
            ["load_balancer.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("listener", schema=None) as batch_op:
        batch_op.create_index("ix_listener_loadbalancer", ["loadbalancer_id"], unique=False)


def _member() -> None:
    op.create_table(
        "member",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column(
            "created_at",
            TIMESTAMP,
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            TIMESTAMP,
            nullable=True,
        ),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("provisioning_status", sa.String(length=255), nullable=False),
        sa.Column("operating_status", sa.String(length=255), nullable=False),
        sa.Column("fault", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("changed_generation", sa.BigInteger(), nullable=False),
        sa.Column("deleted_generation", sa.BigInteger(), nullable=True),
        sa.Column("loadbalancer_id", sa.String(length=36), nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("protocol_port", sa.BigInteger(), nullable=False),
        sa.Column("weight", sa.BigInteger(), nullable=False),
        sa.Column("backup", sa.Boolean(), nullable=False),
        sa.Column("subnet_id", sa.String(length=36), nullable=True),
        sa.Column("monitor_address", sa.String(length=64), nullable=True),
        sa.Column("monitor_port", sa.BigInteger(), nullable=True),
        sa.Column("vnic_type", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["loadbalancer_id"],
            ["load_balancer.id"],
        ),
        sa.ForeignKeyConstraint(
            ["pool_id"],
            ["pool.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("member", schema=None) as batch_op:
        batch_op.create_index("ix_member_loadbalancer", ["loadbalancer_id"], unique=False)
        batch_op.create_index("ix_member_pool", ["pool_id"], unique=False)
