"""The forms that values must have."""

from __future__ import annotations

from typing import Any

import pytest

from tavia.api.formats import FORMATS


@pytest.mark.parametrize(
    ("name", "value", "normal"),
    [
        ("uuid", "b2ffb9a1-7e0b-4dd1-a8b5-0b84cb3b3c33", "b2ffb9a1-7e0b-4dd1-a8b5-0b84cb3b3c33"),
        ("ip", "10.0.0.1", "10.0.0.1"),
        ("ip", "2001:DB8:0:0::1", "2001:db8::1"),
        ("cidr", "10.1.2.3/8", "10.0.0.0/8"),
        ("cidr", "2001:db8::1/32", "2001:db8::/32"),
        ("cidr", "10.0.0.1", "10.0.0.1/32"),
        ("url_path", "/", "/"),
        ("url_path", "/a/b?x=1&y=%20#z", "/a/b?x=1&y=%20#z"),
        ("dns_name", "www.example.org", "www.example.org"),
        ("dns_name", "_sip.example.org.", "_sip.example.org."),
        ("expected_codes", "200", "200"),
        ("expected_codes", "200, 201 ,202", "200, 201 ,202"),
        ("expected_codes", "200-204", "200-204"),
        ("cookie_name", "JSESSIONID", "JSESSIONID"),
        ("http_version", 1.1, 1.1),
    ],
)
def test_a_value_of_the_form_comes_back_in_its_normal_form(name: str, value: Any, normal: Any) -> None:
    assert FORMATS[name](value) == normal


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("uuid", ["", "x", "b2ffb9a1-7e0b-4dd1-a8b5", "b2ffb9a1-7e0b-4dd1-a8b5-0b84cb3b3c33\n"]),
        ("ip", ["", "10.0.0", "010.0.0.1", "10.0.0.1/8", "fe80::1%eth0", "::1%\n", "10.0.0.1\n"]),
        ("cidr", ["", "10.0.0.0/33", "10.0.0.0/-1", "fe80::%1/64", "10.0.0.0/8\n"]),
        ("url_path", ["", "a", "/a b", "/a\n", '/"', "/%", "/%2", "/%zz", "/é", "/a\\"]),
        ("dns_name", ["", ".", "a..b", "-a.b", "a_b", "a b", "a\n", "é.org", "x" * 64, "a." * 127 + "a"]),
        ("expected_codes", ["", "20", "2000", "200-", "200-204-205", "204-200", "200,", "200\n", "٢٠٠"]),
        ("cookie_name", ["", "a b", "a,b", "a;b", "a\\b", "a\n", "a\0", "a\x7f"]),
        ("http_version", [1.0000001, 2.0, 0.0, float("nan"), float("inf")]),
    ],
)
def test_anything_else_is_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match="Value should be"):
            FORMATS[name](value)
