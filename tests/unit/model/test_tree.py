"""Resources declare their place below a load balancer, and what is done with whole trees derives from that."""

from __future__ import annotations

from dataclasses import replace

import pytest
from trees import listener, member, monitor, pool, tree

from tavia.model.attributes import References, attributes
from tavia.model.resources import CHILDREN, Configured, HealthMonitor, Listener, LoadBalancer, Member, Pool, children_of


@pytest.mark.parametrize("resource", CHILDREN)
def test_what_a_resource_references_comes_before_it(resource: type[Configured]) -> None:
    before = {"load_balancer", *(each.table for each in CHILDREN[: CHILDREN.index(resource)])}
    markers = [marker for a in attributes(resource) for marker in a.markers if isinstance(marker, References)]
    assert {marker.table for marker in markers} <= before


def test_a_resource_stands_below_the_one_that_its_parent_attribute_references() -> None:
    assert set(children_of(LoadBalancer)) == {Listener, Pool}
    assert set(children_of(Pool)) == {Member, HealthMonitor}
    assert children_of(Member) == ()


def test_a_unit_is_its_head_and_all_that_stands_below_it() -> None:
    rows = tree(listener(), pool(), member("m1"), member("m2"), monitor(), pool("other"), member("m3", pool_id="other"))
    units = {head.id: [row.id for row in rows.rows.unit(head)] for head in rows.rows.units}
    assert units == {"web": ["web"], "app": ["app", "check", "m1", "m2"], "other": ["other", "m3"]}


def test_rows_whose_deletion_was_accepted_are_not_intended() -> None:
    rows = tree(pool(), member("m1"), replace(member("m2"), deleted_generation=7))
    assert [m.id for m in rows.of(Member)] == ["m1", "m2"]
    assert [m.id for m in rows.intended().of(Member)] == ["m1"]
    assert [m.id for m in rows.intended().below(Member, "app")] == ["m1"]


def test_what_is_derived_of_rows_is_derived_once() -> None:
    rows = tree(pool(), member())
    assert rows.intended().rows is rows.intended().rows
    assert rows.rows.forms is rows.rows.forms
