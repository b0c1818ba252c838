"""An agent that does nothing and agrees with everything, in place of the client of a real one.

``[controller_worker] amphora_driver = amphora_noop_driver`` chooses it, to test and measure the control plane.
"""

from __future__ import annotations

from tavia.amphora.bundle import Bundle
from tavia.amphora.protocol import AgentStatus, Applied


class NoopAgentClient:
    """The methods of :class:`~tavia.amphora.client.AgentClient`. Nothing is kept, so any process may ask for any."""

    def __init__(self, amphora_id: str) -> None:
        self._amphora_id = amphora_id

    def status(self) -> AgentStatus:
        """It runs."""
        return AgentStatus(
            amphora_id=self._amphora_id,
            boot_count=1,
            fence=None,
            generation=0,
            hash=None,
            haproxy_version="",
            keepalived_version="",
            haproxy_up=True,
            haproxy_restarts=0,
            keepalived_up=True,
            vrrp_state=None,
        )

    def put_bundle(self, bundle: Bundle) -> Applied:
        """Taken, whatever it is."""
        return Applied(action="none", hash=bundle.hash)

    def put_certificate(self, pem: bytes) -> None:
        """Taken."""

    def put_config(self, text: str) -> None:
        """Taken."""

    def close(self) -> None:
        """There is nothing to close."""
