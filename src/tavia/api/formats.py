"""The forms that a value may have to have, by the names that the model's :class:`Format` markers use.

``bodies`` turns each marker into the check that stands here. A check returns the value in its normal form and raises
ValueError with a reason in the words that api-surface lists ("Answers and errors").
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable
from typing import Any

# The characters of RFC 3986's path, query and fragment; "%" only as part of an escape.
_URL_PATH = re.compile(r"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?#]|%[0-9A-Fa-f]{2})*")
_EXPECTED_CODES = re.compile(r"[0-9]{3}(?:\s*,\s*[0-9]{3})*|[0-9]{3}-[0-9]{3}")
_DNS_NAME = re.compile(r"(?=.{1,253}\.?\Z)(?:(?!-|[^.]+_)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.|\Z))+")
_COOKIE_NAME = re.compile(r"[^\s,;\\\x00-\x1f\x7f]+")


def _uuid(value: str) -> str:
    try:
        uuid.UUID(value)
    except ValueError:
        raise ValueError("Value should be UUID format") from None
    return value


def ip_address(value: str) -> str:
    """An address in its shortest form. A zone id ("%eth0") is no part of an address here."""
    try:
        if "%" in value:
            raise ValueError
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("Value should be IPv4 or IPv6 format") from None


def _cidr(value: str) -> str:
    try:
        if "%" in value:
            raise ValueError
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError("Value should be IPv4 or IPv6 CIDR format") from None


def _http_version(value: float) -> float:
    if value not in (1.0, 1.1):
        raise ValueError("Value should be one of: 1.0, 1.1")
    return value


def _matching(pattern: re.Pattern[str], reason: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(reason)
        return value

    return check


def _expected_codes(value: str) -> str:
    first, _, last = value.partition("-")
    if not _EXPECTED_CODES.fullmatch(value) or (last and first > last):
        raise ValueError("Value should be codes such as 200, 200,202 or 200-204, a range from its lower end")
    return value


FORMATS: dict[str, Callable[[Any], Any]] = {
    "uuid": _uuid,
    "ip": ip_address,
    "cidr": _cidr,
    "url_path": _matching(_URL_PATH, "Value should be a URL path that begins with a slash"),
    "dns_name": _matching(_DNS_NAME, "Value should be a DNS name"),
    "expected_codes": _expected_codes,
    "cookie_name": _matching(
        _COOKIE_NAME, "Value should be a cookie name: no space, control character, or one of , ; \\"
    ),
    "http_version": _http_version,
}
