"""[certificates]: the authority that signs the certificates of amphorae."""

from __future__ import annotations

from oslo_config import cfg

GROUP = "certificates"
OPTIONS = [
    cfg.StrOpt(
        "ca_certificate",
        default="/etc/ssl/certs/ssl-cert-snakeoil.pem",
        help="File with the certificate (PEM) of the authority that signs amphora certificates.",
    ),
    cfg.StrOpt(
        "ca_private_key",
        default="/etc/ssl/private/ssl-cert-snakeoil.key",
        help="File with that authority's private key (PEM), readable by the services alone.",
    ),
    cfg.StrOpt("ca_private_key_passphrase", secret=True, help="Passphrase of that key; unset when it has none."),
    cfg.IntOpt(
        "cert_validity_time",
        default=30 * 24 * 3600,
        min=1,
        help="Seconds for which an amphora certificate is valid. It is renewed long before.",
    ),
]
