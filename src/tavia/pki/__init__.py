"""The two certificate authorities (DESIGN section 5).

The server authority vouches for amphorae, the client authority for controllers, and neither for the other's, so no
amphora can command another. The worker issues, housekeeping names what is near expiry, ``tavia up`` makes the files.
"""

from tavia.pki.authority import Authority, IssuedCertificate
from tavia.pki.files import CLIENT, CLIENT_CA, CLIENT_CA_KEY, SERVER_CA, SERVER_CA_KEY, init

__all__ = [
    "CLIENT",
    "CLIENT_CA",
    "CLIENT_CA_KEY",
    "SERVER_CA",
    "SERVER_CA_KEY",
    "Authority",
    "IssuedCertificate",
    "init",
]
