"""Migrations that failed half-way can be run again: what is there already is not made again.

MariaDB commits each table, column and index by itself, so a run that failed leaves some of them behind. Imported by
Alembic's environment, this has Alembic's operations look first. A name decides: two tables of one name never differ.
"""

from __future__ import annotations

from typing import Any

from alembic.operations import Operations, ops, toimpl
from sqlalchemy import inspect


def before_each() -> None:
    """Tests interrupt here."""


def _inspect(operations: Operations) -> Any:
    before_each()
    return inspect(operations.get_bind())


@Operations.implementation_for(ops.CreateTableOp, replace=True)
def _create_table(operations: Operations, operation: ops.CreateTableOp) -> Any:
    if not _inspect(operations).has_table(operation.table_name):
        return toimpl.create_table(operations, operation)
    return operation.to_table(operations.migration_context)


@Operations.implementation_for(ops.AddColumnOp, replace=True)
def _add_column(operations: Operations, operation: ops.AddColumnOp) -> None:
    columns = _inspect(operations).get_columns(operation.table_name)
    if operation.column.name not in {column["name"] for column in columns}:
        toimpl.add_column(operations, operation)


@Operations.implementation_for(ops.CreateIndexOp, replace=True)
def _create_index(operations: Operations, operation: ops.CreateIndexOp) -> None:
    indexes = _inspect(operations).get_indexes(operation.table_name)
    if operation.index_name not in {index["name"] for index in indexes}:
        toimpl.create_index(operations, operation)
