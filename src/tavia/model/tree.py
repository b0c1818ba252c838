"""A load balancer with all that belongs to it, as read at one generation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from tavia.model.forms import Form, form
from tavia.model.resources import CHILDREN, Amphora, Configured, HealthMonitor, LoadBalancer, Member, Unit, children_of

C = TypeVar("C", bound=Configured)


class Rows:
    """The rows below a load balancer, by resource, each in the order given. What is derived of them is derived once."""

    def __init__(self, rows: Iterable[Configured] = ()) -> None:
        found: dict[type[Configured], list[Configured]] = {}
        for row in rows:
            found.setdefault(type(row), []).append(row)
        self._of = {resource: tuple(found[resource]) for resource in CHILDREN if resource in found}

    def __iter__(self) -> Iterator[Configured]:
        """Referenced rows before the ones that reference them."""
        for rows in self._of.values():
            yield from rows

    def of(self, resource: type[C]) -> tuple[C, ...]:
        """All rows of a resource."""
        return self._of.get(resource, ())  # type: ignore[return-value]  # a type's rows are of that type

    def below(self, resource: type[C], parent_id: str) -> tuple[C, ...]:
        """The rows of a resource whose parent this is."""
        return self._below.get((resource, parent_id), ())  # type: ignore[return-value]

    def unit(self, head: Configured) -> Iterator[Configured]:
        """A unit: its head, then what stands below that, parents first."""
        yield head
        for resource in children_of(type(head)):
            for child in self.below(resource, head.id):
                yield from self.unit(child)

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """The heads of all units."""
        return tuple(row for row in self if isinstance(row, Unit))

    @cached_property
    def forms(self) -> Mapping[str, Form]:
        """The form of each unit, by its head's id."""
        return {head.id: form(self.unit(head)) for head in self.units}

    @cached_property
    def intended(self) -> Rows:
        """Without the rows whose deletion was accepted."""
        return Rows(row for row in self if row.deleted_generation is None)

    @cached_property
    def _below(self) -> Mapping[tuple[type[Configured], str], tuple[Configured, ...]]:
        found: dict[tuple[type[Configured], str], list[Configured]] = {}
        for row in self:
            found.setdefault((type(row), getattr(row, row.parent)), []).append(row)
        return {key: tuple(rows) for key, rows in found.items()}


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A snapshot. ``rows`` holds rows marked deleted too, unless it was made by :meth:`intended`."""

    loadbalancer: LoadBalancer
    rows: Rows = field(default_factory=Rows)
    amphorae: tuple[Amphora, ...] = ()

    @property
    def generation(self) -> int:
        """The load balancer's generation at which this was read."""
        return self.loadbalancer.generation

    def of(self, resource: type[C]) -> tuple[C, ...]:
        """See :meth:`Rows.of`."""
        return self.rows.of(resource)

    def below(self, resource: type[C], parent_id: str) -> tuple[C, ...]:
        """See :meth:`Rows.below`."""
        return self.rows.below(resource, parent_id)

    def intended(self) -> Tree:
        """The same without the rows whose deletion was accepted: what should be."""
        return replace(self, rows=self.rows.intended)

    def member_subnets(self) -> frozenset[str]:
        """The subnets that members are on, but for the VIPs': amphorae have an address there anyway."""
        lb = self.loadbalancer
        vips = {lb.vip_subnet_id, *(vip["subnet_id"] for vip in lb.additional_vips)}
        return frozenset(m.subnet_id for m in self.of(Member) if m.subnet_id and m.subnet_id not in vips)

    def monitor_of(self, pool_id: str) -> HealthMonitor | None:
        """The health monitor of a pool, if it has one."""
        return next(iter(self.below(HealthMonitor, pool_id)), None)
