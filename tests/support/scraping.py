"""Services whose metrics are served, and what they show."""

from __future__ import annotations

from collections.abc import Mapping

import urllib3
from controllers import ADDRESS
from ports import free_port
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

SERVICES = ("tavia-api", "tavia-worker", "tavia-health-manager", "tavia-housekeeping")

Ports = Mapping[str, int]
"""By service."""


def metrics_ports() -> Ports:
    """A free port each."""
    return {service: free_port() for service in SERVICES}


def options(ports: Ports) -> dict[str, str]:
    """For the group [tavia]."""
    return {f"{name.removeprefix('tavia-').replace('-', '_')}_metrics_port": str(port) for name, port in ports.items()}


def scrape(port: int) -> dict[str, Metric]:
    """Families by name; a counter's is without _total."""
    answer = urllib3.request("GET", f"http://{ADDRESS}:{port}/metrics", retries=False, timeout=5.0)
    assert answer.status == 200
    return {family.name: family for family in text_string_to_metric_families(answer.data.decode())}


def total(family: Metric, name: str, **labels: str) -> float:
    """The sum of a family's samples of this name with these labels."""
    return sum(s.value for s in family.samples if s.name == name and labels.items() <= s.labels.items())
