"""The form in which a unit was applied last is read by every later release."""

from __future__ import annotations

import json
from typing import Any

from trees import NOW, listener, member, monitor, pool, tree

from tavia.model.forms import VERSION, current, form, rows_of
from tavia.model.resources import Pool


def stored(*unit: Any) -> dict[str, Any]:
    """As the database gives it back."""
    read: dict[str, Any] = json.loads(json.dumps(form(unit)))
    return read


def test_a_form_gives_back_the_rows_of_its_unit() -> None:
    unit = (pool(), monitor(), member("m1"), member("m2", weight=5))
    assert list(rows_of(stored(*unit), NOW)) == list(unit)


def test_a_stored_form_is_the_same_as_the_units_own_while_nothing_has_changed() -> None:
    rows = tree(pool(), member(), monitor(), listener()).rows
    for head in rows.units:
        assert current(stored(*rows.unit(head))) == rows.forms[head.id]


def test_a_column_that_went_is_left_out() -> None:
    old = stored(pool())
    old["rows"]["pool"][0]["fashion"] = "of 2026"
    assert current(old) == form([pool()])
    assert [row.id for row in rows_of(old, NOW)] == ["app"]


def test_a_column_that_came_since_has_its_default() -> None:
    old = stored(member(weight=3))
    del old["rows"]["member"][0]["backup"]
    assert list(rows_of(old, NOW)) == [member(weight=3)]


def test_a_form_without_what_has_no_default_counts_as_never_applied() -> None:
    old = stored(pool())
    del old["rows"]["pool"][0]["lb_algorithm"]
    assert current(old) is None
    assert list(rows_of(old, NOW)) == []


def test_a_form_of_a_table_that_went_is_read_without_it() -> None:
    old = stored(pool())
    old["rows"]["carrier_pigeon"] = [{"id": "x"}]
    assert [type(row) for row in rows_of(old, NOW)] == [Pool]


def test_forms_of_the_first_release_which_had_no_version_are_read() -> None:
    rows = form([pool(), member("m1"), member("m2"), monitor()])["rows"]
    first = {"pool": rows["pool"][0], "members": rows["member"], "healthmonitors": rows["health_monitor"]}
    assert current(json.loads(json.dumps(first))) == form([pool(), monitor(), member("m1"), member("m2")])
    alone = {"listener": form([listener()])["rows"]["listener"][0]}
    assert current(alone) == form([listener()]) and form([listener()])["version"] == VERSION
