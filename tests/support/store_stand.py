"""A load balancer in a real database, changed as the API changes it and committed as a worker does, step by step."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, select, update

from tavia.model.resources import Configured, HealthMonitor, Listener, LoadBalancer, Member, Pool
from tavia.model.seams import Fault, Seam
from tavia.model.statuses import ProvisioningStatus
from tavia.model.tree import Tree
from tavia.store import commits, intents, schema, trees
from tavia.store.clock import utcnow
from tavia.store.database import Database

REFUSAL = Fault(code="refused", seam=Seam.AGENT, message="[ALERT] no", since="2026-01-02T03:04:05Z")


@dataclass
class Stand:
    """A load balancer with a pool of its own to hang rows on."""

    database: Database
    loadbalancer_id: str
    pool_id: str

    @classmethod
    def made(cls, database: Database) -> Stand:
        """A new one, of which all runs that there is."""
        loadbalancer = LoadBalancer(id=str(uuid.uuid4()), project_id="p", created_at=utcnow())
        database.write(lambda conn: intents.create_loadbalancer(conn, loadbalancer))
        stand = cls(database, loadbalancer.id, str(uuid.uuid4()))
        stand.accept(lambda conn, g: intents.add(conn, stand.row(Pool, id=stand.pool_id), g))
        stand.commit(stand.read())
        stand.converged()
        return stand

    def row(self, resource: type[Configured], **values: Any) -> Any:
        given: dict[type[Configured], dict[str, Any]] = {
            Pool: {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"},
            Listener: {"protocol": "HTTP", "protocol_port": 80},
            Member: {"pool_id": self.pool_id, "address": "198.18.0.1", "protocol_port": 80},
            HealthMonitor: {"pool_id": self.pool_id, "type": "TCP", "delay": 5, "timeout": 4, "max_retries": 2},
        }
        of_all: dict[str, Any] = {"project_id": "p", "created_at": utcnow(), "loadbalancer_id": self.loadbalancer_id}
        return resource(**{"id": str(uuid.uuid4())} | of_all | given[resource] | values)

    def applied(self, resource: type[Configured], count: int = 2) -> list[str]:
        """The ids of new rows that run already."""
        rows = [self.row(resource) for _ in range(count)]
        self.accept(lambda conn, g: intents.add_all(conn, rows, g))
        self.commit(self.read())
        return [row.id for row in rows]

    def accept(self, work: Callable[[Connection, int], object]) -> int:
        def transaction(conn: Connection) -> int:
            generation = intents.begin_change(conn, self.loadbalancer_id)
            work(conn, generation)
            return generation

        return self.database.write(transaction)

    def change(self, resource: type[Configured], *ids: str) -> None:
        self.accept(lambda conn, g: intents.change(conn, resource, ids, g))

    def mark_deleted(self, resource: type[Configured], *ids: str) -> None:
        self.accept(lambda conn, g: intents.mark_deleted(conn, resource, ids, g))

    def read(self) -> Tree:
        with self.database.read() as conn:
            return trees.read_tree(conn, self.loadbalancer_id)

    def commit(self, tree: Tree, *refused: str, forms: dict[str, dict[str, Any]] | None = None) -> None:
        faults = dict.fromkeys(refused, REFUSAL)
        self.database.write(lambda conn: commits.commit_children(conn, tree, faults, forms or {}))

    def converged(self, generation: int | None = None, **values: Any) -> bool:
        """All of a generation is done, the newest one where none is given; returns whether there is more to do."""
        done = generation or self.loadbalancer.generation
        work = partial(commits.commit_converged, loadbalancer_id=self.loadbalancer_id, generation=done, **values)
        return self.database.write(work)

    @property
    def loadbalancer(self) -> LoadBalancer:
        return self.read().loadbalancer

    def set(self, **values: Any) -> None:
        """Write into the load balancer's row, whatever it had."""
        row = update(schema.load_balancer).where(schema.load_balancer.c.id == self.loadbalancer_id)
        self.execute(row.values(values))

    def execute(self, statement: Any) -> None:
        self.database.write(lambda conn: conn.execute(statement))

    def shown(self, resource: type[Configured]) -> dict[str, tuple[ProvisioningStatus, str | None]]:
        """The status of each row, and the code of its fault."""
        table = schema.TABLES[resource].c
        with self.database.read() as conn:
            rows = conn.execute(
                select(table.id, table.provisioning_status, table.fault).where(
                    table.loadbalancer_id == self.loadbalancer_id, table.id != self.pool_id
                )
            )
            return {
                row.id: (ProvisioningStatus(row.provisioning_status), row.fault and row.fault["code"]) for row in rows
            }
