"""What a step leaves behind: at once in the tree that the next plan reads, and in the next fenced transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from tavia.model.resources import Amphora
from tavia.model.statuses import AmphoraStatus
from tavia.model.tree import Tree
from tavia.store import convergence as store


@dataclass(frozen=True, slots=True)
class Added:
    """A new amphora's row, before anything is made for it."""

    amphora: Amphora


@dataclass(frozen=True, slots=True)
class Changed:
    """New values of an amphora, as it was before; ``boots`` says that its boot began."""

    amphora: Amphora
    values: Mapping[str, Any]
    boots: bool = False


Record = Added | Changed | None
"""None where a step leaves nothing."""


def applied(tree: Tree, record: Record) -> Tree:
    """The tree as it will be read once ``record`` is written."""
    match record:
        case None:
            return tree
        case Added(amphora):
            return dataclasses.replace(tree, amphorae=(*tree.amphorae, amphora))
        case Changed(before, values):
            amphorae = (dataclasses.replace(a, **values) if a.id == before.id else a for a in tree.amphorae)
            standing = tuple(a for a in amphorae if a.status is not AmphoraStatus.DELETED)
            return dataclasses.replace(tree, amphorae=standing)


def write(conn: Connection, record: Record) -> None:
    """Put it into the database."""
    match record:
        case Added(amphora):
            store.add_amphora(conn, amphora)
        case Changed(before, values, boots):
            store.change_amphora(conn, before, values, boots=boots)
