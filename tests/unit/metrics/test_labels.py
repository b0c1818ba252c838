"""No label grows without bound, whatever an amphora or a client sends."""

from __future__ import annotations

import pytest

from tavia.metrics import labels


def test_a_code_of_ours_is_a_label() -> None:
    assert labels.code("agent-timeout") == "agent-timeout"


@pytest.mark.parametrize("value", ["", "Agent Timeout", "a\nb", "x" * 65, "-", "größe"])
def test_what_is_no_code_is_other(value: str) -> None:
    assert labels.code(value) == "other"


def test_made_up_codes_are_counted_as_other_from_some_number_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "_seen", set())
    counted = {labels.code(f"made-up-{number}") for number in range(10 * labels.MOST_CODES)}
    assert len(counted) == labels.MOST_CODES + 1
    assert labels.code("made-up-0") == "made-up-0"


def test_a_made_up_method_is_other() -> None:
    assert [labels.method(value) for value in ("GET", "BREW")] == ["GET", "other"]
