import pytest

from tavia.worker.retries import Retry, retry

TRANSIENT, FINAL = False, True


@pytest.mark.parametrize(
    ("is_final", "failing_for", "expected"),
    [
        (TRANSIENT, 0.0, Retry(show=False, after=1.0)),
        (TRANSIENT, 8.0, Retry(show=False, after=8.0)),
        (TRANSIENT, 299.0, Retry(show=False, after=60.0)),
        (TRANSIENT, 300.0, Retry(show=True, after=60.0)),
        (TRANSIENT, 86400.0, Retry(show=True, after=60.0)),
        (FINAL, 0.0, Retry(show=True, after=1.0)),
        (FINAL, 500.0, Retry(show=True, after=60.0)),
    ],
)
def test_a_failure_is_shown_after_a_while_and_tried_again_ever_more_rarely(
    is_final: bool, failing_for: float, expected: Retry
) -> None:
    assert retry(is_final, failing_for, pending_seconds=300.0, interval_max=60.0) == expected
