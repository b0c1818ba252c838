"""What nobody foresaw: said once, counted each time, and the loop that met it goes on."""

from __future__ import annotations

import logging

from tavia.metrics import health as metrics

LOG = logging.getLogger(__name__)

_said: set[tuple[str, str, str]] = set()


def unforeseen(where: str, error: Exception, subject: str = "") -> None:
    """An exception that this place knows no answer to; ``where`` from a closed set, ``subject`` what is left out."""
    metrics.UNFORESEEN.labels(where).inc()
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    if (where, type(error).__name__, place) not in _said:
        _said.add((where, type(error).__name__, place))
        message = "Met what nobody foresaw in %s%s; it goes on, and this is said once and counted from then on"
        LOG.error(message, where, subject and f", {subject} is left out", exc_info=error)
