"""What a step leaves behind: at once in the tree that the next plan reads, and in the next fenced transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection

from tavia.model.resources import Amphora, LoadBalancer
from tavia.model.statuses import AmphoraStatus
from tavia.model.tree import Tree
from tavia.store import amphorae, commits

Moment = Literal["boot_started_at", "active_at"]


@dataclass(frozen=True, slots=True)
class Added:
    """A new amphora's row, before anything is made for it."""

    amphora: Amphora


@dataclass(frozen=True, slots=True)
class Changed:
    """New values of an amphora, as it was before; ``now`` is the column that says when, for what begins at this."""

    amphora: Amphora
    values: Mapping[str, Any]
    now: Moment | None = None


@dataclass(frozen=True, slots=True)
class VipChanged:
    """New values of a load balancer: what its VIP's port is, and how it is guarded."""

    loadbalancer: LoadBalancer
    values: Mapping[str, Any]


Record = Added | Changed | VipChanged | None
"""None where a step leaves nothing."""


def applied(tree: Tree, record: Record) -> Tree:
    """The tree as it will be read once ``record`` is written."""
    match record:
        case None:
            return tree
        case Added(amphora):
            return dataclasses.replace(tree, amphorae=(*tree.amphorae, amphora))
        case VipChanged(_, values):
            loadbalancer = dataclasses.replace(tree.loadbalancer, **values)
            named = tuple(dataclasses.replace(a, ha_port_id=loadbalancer.vip_port_id) for a in tree.amphorae)
            return dataclasses.replace(tree, loadbalancer=loadbalancer, amphorae=named)
        case Changed(before, values):
            changed = (dataclasses.replace(a, **values) if a.id == before.id else a for a in tree.amphorae)
            standing = tuple(a for a in changed if a.status is not AmphoraStatus.DELETED)
            return dataclasses.replace(tree, amphorae=standing)


def write(conn: Connection, record: Record) -> None:
    """Put it into the database."""
    match record:
        case Added(amphora):
            amphorae.add(conn, amphora)
        case VipChanged(before, values):
            commits.change_vip(conn, before, values)
        case Changed(before, values, moment):
            amphorae.change(conn, before, values, moment)
