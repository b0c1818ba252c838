"""All checks, with their stable codes and seams, in the order in which a load balancer meets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tavia.doctor import boot, certificates, configuration, control, management
from tavia.doctor.facts import Facts
from tavia.doctor.findings import Finding, Said, Status, Unknown
from tavia.model.seams import Seam


@dataclass(frozen=True, slots=True)
class Check:
    """A rule says something for each thing that it looks at; nothing where the configuration has no such thing."""

    code: str
    seam: Seam
    rule: Callable[[Facts], Iterator[Said]]
    on_openstack: bool = False


CHECKS = (
    Check("configuration-files", Seam.CONTROL, configuration.files),
    Check("options", Seam.CONTROL, configuration.options),
    Check("heartbeat-key", Seam.CONTROL, configuration.heartbeat_key),
    Check("secrets", Seam.CONTROL, configuration.secrets),
    Check("debug", Seam.CONTROL, configuration.debug),
    Check("authentication", Seam.CONTROL, configuration.authentication),
    Check("encryption", Seam.CONTROL, configuration.encryption, on_openstack=True),
    Check("database", Seam.CONTROL, control.database),
    Check("database-clock", Seam.CONTROL, control.database_clock),
    Check("rabbitmq", Seam.CONTROL, control.rabbitmq),
    Check("token-checks", Seam.CONTROL, control.token_checks),
    Check("keystone", Seam.CONTROL, control.keystone, on_openstack=True),
    Check("keystone-clock", Seam.CONTROL, control.clock, on_openstack=True),
    Check("cloud-services", Seam.CONTROL, control.services, on_openstack=True),
    Check("api-endpoint", Seam.CONTROL, control.endpoint, on_openstack=True),
    Check("image", Seam.BOOT, boot.image, on_openstack=True),
    Check("flavor", Seam.BOOT, boot.flavor, on_openstack=True),
    Check("key-pair", Seam.BOOT, boot.key_pair, on_openstack=True),
    Check("compute-hosts", Seam.BOOT, boot.hosts, on_openstack=True),
    Check("quotas", Seam.BOOT, boot.quotas, on_openstack=True),
    Check("boot-networks", Seam.MGMT_NET, management.networks, on_openstack=True),
    Check("amphora-security-groups", Seam.MGMT_NET, management.amphora_groups, on_openstack=True),
    Check("controller-leg", Seam.MGMT_NET, management.leg, on_openstack=True),
    Check("heartbeat-addresses", Seam.MGMT_NET, management.heartbeat_addresses, on_openstack=True),
    Check("heartbeat-security-group", Seam.MGMT_NET, management.heartbeat_group, on_openstack=True),
    Check("certificate-files", Seam.AGENT, certificates.certificate_files),
    Check("private-key-modes", Seam.AGENT, certificates.key_modes),
    Check("amphora-authority", Seam.AGENT, certificates.server_authority),
    Check("controller-certificate", Seam.AGENT, certificates.controller_certificate),
    Check("two-authorities", Seam.AGENT, certificates.two_authorities),
    Check("certificate-dates", Seam.AGENT, certificates.certificate_dates),
)


def examine(facts: Facts, *, on_openstack: bool) -> Iterator[Finding]:
    """What all checks say of the facts."""
    for check in CHECKS:
        if on_openstack or not check.on_openstack:
            for said in _said(check, facts):
                yield Finding(check.seam, check.code, said.status, said.message, said.advice)


def _said(check: Check, facts: Facts) -> Iterator[Said]:
    try:
        yield from check.rule(facts)
    except Unknown as unknown:
        yield Said(Status.UNKNOWN, f"not known: {unknown}")
