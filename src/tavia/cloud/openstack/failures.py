"""What a cloud's refusals mean: seam, stable code, what it said, and what can be done about it. Pure.

The codes are listed in the operator's guide. Permanent is what stays until an operator (or the tenant) does something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from keystoneauth1 import exceptions as login
from openstack import exceptions as sdk
from requests import JSONDecodeError

from tavia.cloud.protocols import PORT_GONE, AddressRefused, NotFound
from tavia.model.seams import Seam, SeamError

UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_SLOW, TOO_MANY, FIRST_OF_SERVERS = 401, 403, 404, 408, 429, 500

SERVICE_MISSING = "cloud-service-missing"

LONGEST = 300
"""Characters of what a service said that are passed on."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer that is an error. ``kind`` is Neutron's type of it, empty with the other services."""

    service: str
    status: int
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one refusal means: where ``pattern`` is found in its kind or message, case-insensitively."""

    code: str
    pattern: str
    advice: str
    permanent: bool = False
    service: str = ""


ADDRESS = (
    Meaning("address-in-use", "IpAddressAlreadyAllocated|IpAddressInUse", ""),
    Meaning("address-outside-subnet", "InvalidIpForSubnet|InvalidIpForNetwork|included invalid subnet", ""),
    Meaning("subnet-full", "IpAddressGenerationFailure|No more IP addresses available", ""),
)

MEANINGS = (
    Meaning(
        "port-security-off",
        "AddressPairAndPortSecurityRequired|PortSecurityAndIPRequiredForSecurityGroups",
        "openstack network set --enable-port-security, and openstack port set for each port that is there",
        True,
        "neutron",
    ),
    Meaning(
        "address-pairs-exhausted",
        "AllowedAddressPairExhausted",
        "raise max_allowed_address_pair of Neutron; each VIP of a load balancer takes one",
        True,
        "neutron",
    ),
    Meaning(
        "qos-policy-unsupported",
        "QosRuleNotSupported",
        "give the load balancer a QoS policy whose rules Neutron's mechanism driver has",
        True,
        "neutron",
    ),
    Meaning("port-quota", r"OverQuota.*\bport\b", "raise the quota of ports: openstack quota set --ports", True),
    Meaning(
        "security-group-quota",
        r"OverQuota.*\bsecurity_group\b",
        "raise the quota of security groups: openstack quota set --secgroups",
        True,
    ),
    Meaning(
        "security-group-rule-quota",
        r"OverQuota.*\bsecurity_group_rule\b",
        "raise the quota of security group rules: openstack quota set --secgroup-rules",
        True,
    ),
    Meaning("network-quota", "OverQuota", "raise that quota of the project that owns it", True),
    Meaning(
        "server-group-quota",
        r"too many server groups|Quota exceeded for .*\bserver_groups\b",
        "raise the quota of the project that amphorae are in, a group for each ACTIVE_STANDBY load balancer: "
        "openstack quota set --server-groups",
        True,
        "nova",
    ),
    Meaning(
        "compute-quota",
        r"Quota exceeded|Maximum number of \w+ exceeded|quota.*exceed",
        "raise the quota of the project that amphorae are in: openstack quota set --instances --cores --ram",
        True,
        "nova",
    ),
    Meaning(
        "flavor-missing",
        r"Flavor .* could not be found|Invalid flavorRef",
        "set [controller_worker] amp_flavor_id to the id of a flavor (openstack flavor list), then "
        "tavia loadbalancer release",
        True,
    ),
    Meaning(
        "flavor-too-small",
        r"Flavor's (memory|disk) is too small|FlavorDiskSmallerThan|FlavorMemoryTooSmall",
        "take a larger flavor for [controller_worker] amp_flavor_id and tavia loadbalancer release, or a smaller image",
        True,
    ),
    Meaning(
        "image-missing",
        r"Can not find requested image|Image .* could not be found|Image .* is not active",
        "the image was removed after it was found; it is looked for again",
    ),
    Meaning(
        "key-pair-missing",
        "Invalid key_name|Keypair .* not found",
        "the user of [service_auth] must own the key pair of [controller_worker] amp_ssh_key_name: "
        "openstack keypair create --public-key",
        True,
    ),
    Meaning(
        "zone-missing",
        "requested availability zone is not available",
        "name one of openstack availability zone list --compute in [nova] availability_zone, then "
        "tavia loadbalancer release",
        True,
    ),
    Meaning("server-group-missing", "Instance group .* could not be found", "it is made again"),
    Meaning(PORT_GONE, r"Port id .* could not be found|PortNotFound|Port .* not found", "it is made again"),
    Meaning("port-in-use", r"Port .* is still in use|PortInUse|PortBound", "another server has it"),
    Meaning(
        "port-binding-failed",
        r"Binding failed for port|PortBindingFailed|PortBindingError|binding_failed",
        "the host's network agent does not serve that network: openstack network agent list",
    ),
    Meaning(
        "no-valid-host",
        "No valid host|Exceeded maximum number of retries|NoValidHost",
        "no compute host has room: openstack hypervisor list, and the flavor's and the zone's requirements",
    ),
    Meaning(
        "network-failed",
        r"Failed to allocate the network|VirtualInterfaceCreate|Virtual Interface creation failed",
        "Nova waited in vain for Neutron to plug the ports: openstack network agent list",
    ),
    Meaning("security-group-in-use", "SecurityGroupInUse", "a port still has it; it is tried again"),
    Meaning(
        "volume-failed",
        "volumev3|Volume|Block Device Mapping is Invalid|InvalidBDM",
        "see Cinder, or set [controller_worker] volume_driver = volume_noop_driver",
    ),
    Meaning("server-locked", "is locked", "unlock it: openstack server unlock"),
    Meaning("server-busy", "Cannot '.*' instance .* while it is in", "it is tried again"),
)


def told_failure(refusal: Refusal, *, users: bool = False) -> SeamError:
    """What a service's refusal means. ``users``: it was asked with a user's token, not with ours."""
    said = shortened(refusal.message)
    if refusal.status == UNAUTHORIZED or (users and refusal.service == "keystone" and refusal.status == NOT_FOUND):
        return credentials_refused(said, users=users)
    if refusal.status >= FIRST_OF_SERVERS or refusal.status in (TOO_SLOW, TOO_MANY):
        return down(refusal.service, f"{refusal.status} {said}")
    if refusal.status == NOT_FOUND:
        return _missing(refusal)
    return _known(refusal, said) or _unknown(refusal, said)


def server_fault(words: str) -> str:
    """The code of what Nova says of a server in ERROR; server-error when it is none that we know."""
    known = (meaning for meaning in MEANINGS if re.search(meaning.pattern, words, re.IGNORECASE))
    return next((meaning.code for meaning in known), "server-error")


def credentials_refused(said: str, *, users: bool) -> SeamError:
    """401, from Keystone or from a service."""
    if users:
        message = f"the cloud does not accept the token of the request: {said}"
        return SeamError(Seam.CONTROL, "user-token-refused", message, permanent=True)
    message = (
        f"Keystone refuses the user of [service_auth] (of [neutron], where that logs in): {said}. Check username, "
        "password, project_name and the domains with openstack token issue"
    )
    return SeamError(Seam.CONTROL, "cloud-credentials-refused", message, permanent=True)


def down(service: str, said: str) -> SeamError:
    """A service that does not answer, or answers that it cannot: what it ``said`` names hosts and URLs."""
    message = f"{_NAMES[service]} does not do its work. It is tried again"
    return SeamError(Seam.BOOT, f"{service}-down", message, detail=said)


def shortened(said: str) -> str:
    """What a service said, without the value that it refused: that may be a server's user data, with keys in it."""
    line = " ".join(_VALUE.split(said, maxsplit=1)[0].split())
    line = _NO_CONNECTION.sub(r"\1: \2", line)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


@contextmanager
def told(service: str, *, users: bool = False) -> Iterator[None]:
    """Raise what the libraries raise as SeamError; ``service`` is keystone, nova, neutron or glance."""
    try:
        yield
    except JSONDecodeError as error:  # openstacksdk lets it through
        raise down(service, f"it answers with what is no JSON, as a proxy before it might: {error}") from error
    except (login.ClientException, sdk.SDKException) as error:
        meaning = meaning_of(error, service, users=users)
        raise meaning from (None if _VALUE.search(str(error)) else error)  # a traceback must not tell it either


def meaning_of(error: Exception, service: str, *, users: bool = False) -> SeamError:
    """What an exception of keystoneauth or openstacksdk means, raised while ``service`` was asked."""
    if isinstance(error, sdk.HttpException | login.HttpError) and error.response is not None:
        return told_failure(_refusal(service, error.response), users=users)
    said, name = shortened(str(error)), _NAMES[service]
    match error:
        case login.SSLError():
            code, message = (
                "cloud-certificate-refused",
                f"{name}'s certificate is not trusted: {said}. Name its authority in [service_auth] cafile, [nova] and "
                "[glance] ca_certificates_file, [neutron] cafile",
            )
        case login.CatalogException() | sdk.EndpointNotFound() | sdk.ServiceDiscoveryException() | sdk.NotSupported():
            code, message = (
                SERVICE_MISSING,
                f"{name} is not in Keystone's catalog as configured: {said}. Check region_name, endpoint_type "
                f"(valid_interfaces) and service_name of [{service}] with openstack catalog list",
            )
        case login.AuthorizationFailure() | login.MissingRequiredOptions() | login.MissingAuthPlugin():
            return credentials_refused(said, users=users)
        case _:
            return down(service, said)
    return SeamError(Seam.CONTROL, code, message, permanent=True)


_NAMES = {"keystone": "Keystone", "nova": "Nova", "neutron": "Neutron", "glance": "Glance"}

_VALUE = re.compile(r"\bValue: ")
_NO_CONNECTION = re.compile(r"Unable to establish connection to (\S+): .*\[Errno -?\d+\] ([^'\")]+).*")
"""What requests says of it, in six layers."""
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}")


def _known(refusal: Refusal, said: str) -> SeamError | None:
    text = f"{refusal.kind} {refusal.message}"
    for address in ADDRESS:
        if refusal.service == "neutron" and re.search(address.pattern, text, re.IGNORECASE):
            return AddressRefused(address.code, said)
    for meaning in MEANINGS:
        if meaning.service in ("", refusal.service) and re.search(meaning.pattern, text, re.IGNORECASE):
            message = f"{_NAMES[refusal.service]} says: {said.rstrip('.')}; {meaning.advice}"
            return SeamError(Seam.BOOT, meaning.code, message, permanent=meaning.permanent)
    return None


def _unknown(refusal: Refusal, said: str) -> SeamError:
    if refusal.status == FORBIDDEN:
        message = (
            f"{_NAMES[refusal.service]} forbids it: {said}. Give the user of [service_auth] the role that it needs"
        )
        return SeamError(Seam.CONTROL, "cloud-forbidden", message, permanent=True)
    message = f"{_NAMES[refusal.service]} refuses ({refusal.status} {refusal.kind}): {said}"
    return SeamError(Seam.BOOT, f"{refusal.service}-refused", message)


def _missing(refusal: Refusal) -> SeamError:
    if refusal.service == "keystone":
        return down("keystone", f"{refusal.status} {shortened(refusal.message)}; check auth_url")
    kind = re.sub(r"(?<!^)(?=[A-Z])", " ", refusal.kind.removesuffix("NotFound")).lower()
    kind = kind or refusal.message.partition(" ")[0].lower().replace("instance", "server")
    named = _UUID.search(refusal.message)
    return NotFound(kind, named[0] if named else shortened(refusal.message))


def _refusal(service: str, response: Any) -> Refusal:
    """From an answer in the form of any service: {kind: {message, type}}, plain text, HTML."""
    status, reason = response.status_code, response.reason or ""
    try:
        body = response.json()
    except ValueError:
        return Refusal(service, status, "", re.sub(r"<[^>]*>", " ", response.text or reason))
    inner = next((value for value in body.values() if isinstance(value, dict)), {}) if isinstance(body, dict) else {}
    return Refusal(service, status, str(inner.get("type", "")), str(inner.get("message") or reason))
