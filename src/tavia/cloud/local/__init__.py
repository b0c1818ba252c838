"""The cloud on this machine: servers are sandboxes of namespaces, networks are bridges.

One daemon (``tavia-local-cloud``, :mod:`~tavia.cloud.local.service`) owns them, :mod:`~tavia.cloud.local.client` asks
it. How each thing was found to work is in the reference document "namespaces".
"""

from tavia.cloud.local.removal import teardown

__all__ = ["teardown"]
