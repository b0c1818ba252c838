"""What a cloud's refusals mean; the bodies are those of Keystone, Nova, Neutron and Glance of Zed."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest
import requests
from keystoneauth1 import exceptions as login
from openstack import exceptions as sdk

from tavia.cloud.openstack.failures import LONGEST, meaning_of, server_fault, shortened, told
from tavia.cloud.protocols import AddressRefused, NotFound
from tavia.model.seams import Seam, SeamError

ID = "11111111-2222-3333-4444-555555555555"


def neutron(kind: str, message: str) -> dict[str, Any]:
    return {"NeutronError": {"type": kind, "message": message, "detail": ""}}


def nova(kind: str, code: int, message: str) -> dict[str, Any]:
    return {kind: {"code": code, "message": message}}


def raised(status: int, body: dict[str, Any] | str) -> sdk.HttpException:
    """As openstacksdk raises it."""
    answer = requests.Response()
    answer.status_code = status
    answer._content = (body if isinstance(body, str) else json.dumps(body)).encode()
    answer.headers["Content-Type"] = "text/html" if isinstance(body, str) else "application/json"
    answer.request = requests.Request("GET", "http://cloud").prepare()
    with pytest.raises(sdk.HttpException) as error:
        sdk.raise_from_response(answer)
    return error.value


def refused(service: str, status: int, body: dict[str, Any] | str) -> SeamError:
    return meaning_of(raised(status, body), service)


@pytest.mark.parametrize(
    ("service", "status", "body", "code", "permanent"),
    [
        ("nova", 400, nova("badRequest", 400, "Flavor nonesuch could not be found."), "flavor-missing", True),
        (
            "nova",
            400,
            nova("badRequest", 400, "Flavor's memory is too small for requested image."),
            "flavor-too-small",
            True,
        ),
        (
            "nova",
            400,
            nova(
                "badRequest",
                400,
                "Flavor's disk is too small for requested image. Flavor disk is 1073741824 bytes, image is "
                "2147483648 bytes.",
            ),
            "flavor-too-small",
            True,
        ),
        ("nova", 400, nova("badRequest", 400, "Can not find requested image"), "image-missing", False),
        ("nova", 400, nova("badRequest", 400, "Invalid key_name provided."), "key-pair-missing", True),
        (
            "nova",
            400,
            nova("badRequest", 400, "The requested availability zone is not available"),
            "zone-missing",
            True,
        ),
        ("nova", 400, nova("badRequest", 400, f"Port id {ID} could not be found."), "port-gone", False),
        ("nova", 400, nova("badRequest", 400, f"Port {ID} is still in use."), "port-in-use", False),
        (
            "nova",
            400,
            nova("badRequest", 400, f"Instance group {ID} could not be found."),
            "server-group-missing",
            False,
        ),
        (
            "nova",
            403,
            nova(
                "forbidden",
                403,
                "Quota exceeded for cores, ram: Requested 64, 16777216, but already used 0, 0 of 20, 51200 cores, ram",
            ),
            "compute-quota",
            True,
        ),
        (
            "nova",
            403,
            nova("forbidden", 403, "Policy doesn't allow os_compute_api:os-pause-server:pause to be performed."),
            "cloud-forbidden",
            True,
        ),
        (
            "nova",
            409,
            nova("conflictingRequest", 409, f"Cannot 'pause' instance {ID} while it is in vm_state building"),
            "server-busy",
            False,
        ),
        ("neutron", 409, neutron("OverQuota", "Quota exceeded for resources: ['port']."), "port-quota", True),
        (
            "neutron",
            409,
            neutron("OverQuota", "Quota exceeded for resources: ['security_group']."),
            "security-group-quota",
            True,
        ),
        (
            "neutron",
            409,
            neutron("OverQuota", "Quota exceeded for resources: ['security_group_rule']."),
            "security-group-rule-quota",
            True,
        ),
        (
            "neutron",
            409,
            neutron("SecurityGroupInUse", f"Security Group {ID} in use."),
            "security-group-in-use",
            False,
        ),
        (
            "neutron",
            409,
            neutron(
                "AddressPairAndPortSecurityRequired",
                "Port Security must be enabled in order to have allowed address pairs on a port.",
            ),
            "port-security-off",
            True,
        ),
        (
            "neutron",
            400,
            neutron(
                "PortSecurityAndIPRequiredForSecurityGroups",
                "Port security must be enabled and port must have an IP address in order to use security groups.",
            ),
            "port-security-off",
            True,
        ),
        (
            "neutron",
            400,
            neutron("AllowedAddressPairExhausted", "The number of allowed address pair exceeds the maximum 1."),
            "address-pairs-exhausted",
            True,
        ),
        (
            "neutron",
            409,
            neutron("QosRuleNotSupported", f"Rule minimum_bandwidth is not supported by port {ID}"),
            "qos-policy-unsupported",
            True,
        ),
        (
            "neutron",
            400,
            neutron("HTTPBadRequest", "'10.61.0.300' is not a valid IP address"),
            "neutron-refused",
            False,
        ),
        ("neutron", 503, "<html><h1>503 Service Unavailable</h1></html>", "neutron-down", False),
        ("glance", 500, "<html><h1>Internal Server Error</h1></html>", "glance-down", False),
        ("nova", 504, "", "nova-down", False),
        ("nova", 429, "", "nova-down", False),
    ],
)
def test_a_refusal_has_a_code(service: str, status: int, body: Any, code: str, permanent: bool) -> None:
    failure = refused(service, status, body)
    assert (failure.code, failure.permanent) == (code, permanent)
    assert failure.seam is (Seam.CONTROL if code == "cloud-forbidden" else Seam.BOOT)
    assert len(failure.message) < LONGEST + 250


@pytest.mark.parametrize(
    ("status", "kind", "message", "code"),
    [
        (409, "IpAddressAlreadyAllocated", f"IP address 10.61.0.78 already allocated in subnet {ID}", "address-in-use"),
        (
            400,
            "InvalidIpForSubnet",
            "IP address 10.99.0.78 is not a valid IP for the specified subnet.",
            "address-outside-subnet",
        ),
        (
            400,
            "InvalidInput",
            f"Invalid input for operation: Failed to create port on network {ID}, because fixed_ips included invalid "
            f"subnet {ID}.",
            "address-outside-subnet",
        ),
        (409, "IpAddressGenerationFailure", f"No more IP addresses available on network {ID}.", "subnet-full"),
    ],
)
def test_an_address_that_cannot_be_given_is_told_apart(status: int, kind: str, message: str, code: str) -> None:
    failure = refused("neutron", status, neutron(kind, message))
    assert isinstance(failure, AddressRefused)
    assert (failure.code, failure.message) == (code, message)


@pytest.mark.parametrize(
    ("service", "body", "what"),
    [
        ("neutron", neutron("PortNotFound", f"Port {ID} could not be found."), "port"),
        ("neutron", neutron("SecurityGroupNotFound", f"Security group {ID} does not exist"), "security group"),
        ("neutron", neutron("QosPolicyNotFound", f"QoS policy {ID} could not be found."), "qos policy"),
        ("nova", nova("itemNotFound", 404, f"Instance {ID} could not be found."), "server"),
        ("nova", nova("itemNotFound", 404, f"Port id {ID} could not be found."), "port"),
    ],
)
def test_what_is_not_there_is_named(service: str, body: dict[str, Any], what: str) -> None:
    failure = refused(service, 404, body)
    assert isinstance(failure, NotFound)
    assert (failure.what, failure.object_id) == (what, ID)


@pytest.mark.parametrize(
    ("error", "service", "users", "code", "seam", "permanent"),
    [
        (login.Unauthorized("nobody"), "keystone", False, "cloud-credentials-refused", Seam.CONTROL, True),
        (login.Unauthorized("nobody"), "neutron", True, "user-token-refused", Seam.CONTROL, True),
        (login.ConnectFailure("refused"), "keystone", False, "keystone-down", Seam.BOOT, False),
        (login.ConnectTimeout("slow"), "nova", False, "nova-down", Seam.BOOT, False),
        (login.SSLError("self-signed"), "glance", False, "cloud-certificate-refused", Seam.CONTROL, True),
        (login.EndpointNotFound("none"), "neutron", False, "cloud-service-missing", Seam.CONTROL, True),
        (login.DiscoveryFailure("none"), "keystone", False, "keystone-down", Seam.BOOT, False),
        (sdk.SDKException("anything"), "nova", False, "nova-down", Seam.BOOT, False),
    ],
)
def test_who_cannot_be_asked_is_named(
    error: Exception, service: str, users: bool, code: str, seam: Seam, permanent: bool
) -> None:
    if isinstance(error, login.HttpError):
        error.response = requests.Response()
        error.response.status_code = error.http_status
    failure = meaning_of(error, service, users=users)
    assert (failure.code, failure.seam, failure.permanent) == (code, seam, permanent)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("No valid host was found. There are not enough hosts available.", "no-valid-host"),
        (
            f"Exceeded maximum number of retries. Exhausted all hosts available for retrying build failures for {ID}.",
            "no-valid-host",
        ),
        (f"Build of instance {ID} aborted: Failed to allocate the network(s), not rescheduling.", "network-failed"),
        (f"Binding failed for port {ID}, please check neutron logs for more information.", "port-binding-failed"),
        (
            f"Build of instance {ID} aborted: publicURL endpoint for volumev3 service not found",
            "volume-failed",
        ),
        ("Something that nobody has heard of", "server-error"),
        ("", "server-error"),
    ],
)
def test_what_nova_says_of_a_server_in_error_has_a_code(words: str, code: str) -> None:
    assert server_fault(words) == code


def test_user_data_that_nova_refuses_is_not_repeated_not_even_in_a_traceback() -> None:
    secret = "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t"
    message = f"Invalid input for field/attribute user_data. Value: {secret}. '{secret}' is too long"
    with pytest.raises(SeamError, match="user_data") as failure, told("nova"):
        raise raised(400, nova("badRequest", 400, message))
    assert secret not in "".join(traceback.format_exception(failure.value))


def test_a_page_of_text_becomes_a_line() -> None:
    assert shortened("one\n  two\n") == "one two"
    assert len(shortened("x" * 5000)) == LONGEST + 3


@pytest.mark.parametrize("service", ["nova", "neutron"])
def test_a_page_where_an_answer_should_be_is_a_service_that_is_down(service: str) -> None:
    """The health manager would end with anything else."""
    answer = requests.Response()
    answer.status_code, answer._content = 200, b"<html>maintenance</html>"
    with pytest.raises(SeamError, match="no JSON") as failure, told(service):
        answer.json()
    assert (failure.value.code, failure.value.permanent) == (f"{service}-down", False)
