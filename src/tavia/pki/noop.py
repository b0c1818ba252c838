"""Certificates for amphorae that are none: with ``amphora_noop_driver`` nobody shows or checks one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tavia.pki.authority import IssuedCertificate


class NoopAuthority:
    """What a worker asks of an :class:`~tavia.pki.authority.Authority`, without files and without keys."""

    def issue_amphora(self, amphora_id: str, validity: timedelta) -> IssuedCertificate:
        """An empty one, which expires when a real one would."""
        return IssuedCertificate(b"", datetime.now(UTC).replace(tzinfo=None) + validity)
