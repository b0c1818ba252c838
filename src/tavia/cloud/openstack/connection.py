"""How the cloud's services are reached: who logs in, where they are, and how long an answer may take.

Compute, networking and images each ask through a :class:`Service`. It is safe for threads; nothing is asked, and
nobody is logged in, before the first call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import requests
from keystoneauth1 import exceptions, loading
from keystoneauth1.access import AccessInfo
from keystoneauth1.identity import BaseIdentityPlugin
from keystoneauth1.plugin import BaseAuthPlugin
from keystoneauth1.session import Session, TCPKeepAliveAdapter
from openstack.connection import Connection
from openstack.proxy import Proxy
from oslo_config import cfg
from requests.exceptions import ConnectionError as ConnectionBroken
from requests.exceptions import ReadTimeout

from tavia import deadline
from tavia.cloud.openstack import failures
from tavia.config import neutron, service_auth
from tavia.deadline.http import POOLS
from tavia.model.seams import Seam, SeamError

LONGEST_CALL = 25.0
"""Seconds for one call of ours, however many requests it takes: less than the step that makes it may last."""
CONNECT = 5.0
"""Seconds for a TCP connection."""

MICROVERSION = "2.67"
"""Of Nova (Stein): tags of servers with their boot, a group's one policy, a volume's type."""

MOST_ANSWER = 128 << 20
"""The most bytes that an answer may have: a list of 100,000 ports, which Neutron does not cut into pages by itself."""
PART = 1 << 16


def left() -> float:
    """Seconds that the call under way may still take; 0 where it is over."""
    try:
        return min(deadline.left(), LONGEST_CALL)
    except TimeoutError:
        return 0.0


class _Adapter(TCPKeepAliveAdapter):
    """Its connections keep the call's deadline, and no more of an answer is read than it may have."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(*args, **kwargs)
        content = bytearray()
        try:
            for part in response.iter_content(PART):
                content += part
                if len(content) > MOST_ANSWER:
                    response.close()
                    raise requests.RequestException(f"an answer of more than {MOST_ANSWER} bytes")
        except (ConnectionBroken, TimeoutError) as error:
            if left() <= 0:
                raise ReadTimeout(f"the answer did not end in time: {error}") from error
            raise
        response._content = bytes(content)
        return response


class _Session(Session):
    """Its requests end with the call that makes them, and what is asked of Nova is not logged: it holds keys."""

    def __init__(self, auth: BaseAuthPlugin, **options: Any) -> None:
        super().__init__(auth, session=_requests(), **options)

    def request(self, url: str, method: str, **kwargs: Any) -> Any:  # type: ignore[override]
        try:
            return self._within_the_call(url, method, kwargs)
        except (exceptions.ConnectFailure, exceptions.ConnectTimeout):
            if left() <= 0 or (method == "POST" and kwargs.get("authenticated", True)):
                raise  # of the second it is not known whether it was done
        # A server may close a connection that it kept, just as it is used again.
        return self._within_the_call(url, method, kwargs)

    def _within_the_call(self, url: str, method: str, kwargs: Mapping[str, Any]) -> Any:
        remaining = left()
        if remaining <= 0:
            raise exceptions.ConnectTimeout(f"no time was left for {method} {url}")
        longest = min(kwargs.get("timeout") or self.timeout or LONGEST_CALL, remaining)
        of_nova = (kwargs.get("endpoint_filter") or {}).get("service_type") == "compute"
        settings = {"timeout": (min(CONNECT, longest), longest), "log": kwargs.get("log", True) and not of_nova}
        with deadline.within(longest):
            return super().request(url, method, **{**kwargs, **settings})


def _requests() -> requests.Session:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service is: in the catalog, or at ``endpoint``. ``verify``: a file of authorities, or whether at all."""

    region: str | None
    interface: str
    service_name: str | None
    endpoint: str | None
    verify: str | bool
    cert: str | tuple[str, str] | None
    timeout: float | None


class Service:
    """One service, ``nova``, ``neutron`` or ``glance``. ``users``: its proxy for somebody who is not ourselves."""

    def __init__(
        self, name: str, place: Place, session: Session, auth: BaseAuthPlugin, users: Proxy | None = None
    ) -> None:
        self._name = name
        self._place = place
        self._session = session
        self._auth = auth
        self._users = users is not None
        self._proven = users

    @contextmanager
    def asked(self) -> Iterator[Any]:
        """Its proxy of openstacksdk, for one call of ours; what fails in it is raised as SeamError."""
        try:
            with deadline.within(LONGEST_CALL):
                with failures.told("keystone", users=self._users):
                    self._session.get_token(self._auth)
                with failures.told(self._name, users=self._users):
                    proxy = self._proven or getattr(self._connected(), _PROXIES[self._name])
                    yield proxy
                self._proven = proxy
        except SeamError as error:
            if error.code == failures.SERVICE_MISSING and self._is_in_catalog():
                raise failures.down(self._name, f"it does not tell its versions: {error.__cause__}") from error
            raise

    def _is_in_catalog(self) -> bool:
        """A service that is down when it is first asked for its versions looks to openstacksdk as if it were not."""
        if self._place.endpoint:
            return True
        place, kind = self._place, _PROXIES[self._name]
        where = {"interface": place.interface, "region_name": place.region, "service_name": place.service_name}
        try:
            return bool(
                self._auth.get_endpoint_data(self._session, service_type=kind, discover_versions=False, **where)
            )
        except exceptions.ClientException:
            return False

    def as_user(self, auth: BaseAuthPlugin) -> Service:
        """The same service, over the same connections, for a user's token, which need not bring a catalog."""
        with self.asked() as ours:
            endpoint = ours.get_endpoint()
        proxy = type(ours)(self._session, auth=auth, service_type=_PROXIES[self._name], endpoint_override=endpoint)
        proxy._connection = ours._connection  # what it lists belongs to one; nothing is asked through it
        return Service(self._name, self._place, self._session, auth, users=proxy)

    @cached_property
    def own_project(self) -> str:
        """Id of the project that we log in to. Call it while asking."""
        return str(self._session.get_project_id(self._auth))

    def _connected(self) -> Connection:
        """A new one. What openstacksdk learns of a service that is down just then would stay wrong for ever."""
        key, place = _PROXIES[self._name], self._place
        found = {"interface": place.interface, "endpoint_override": place.endpoint, "service_name": place.service_name}
        options: dict[str, Any] = {f"{key}_{name}": value for name, value in found.items() if value}
        return Connection(
            session=self._session,
            region_name=place.region,
            compute_default_microversion=MICROVERSION,
            strict_proxies=True,  # else what was not found once is never looked for again
            app_name="tavia",
            **options,
        )


_PROXIES = {"nova": "compute", "neutron": "network", "glance": "image"}


def service(conf: cfg.ConfigOpts, name: str) -> Service:
    """``nova``, ``neutron`` or ``glance`` as its group says. Raises SeamError (control, cloud-not-configured)."""
    group = neutron.GROUP if name == "neutron" and neutron.logs_in_itself(conf) else service_auth.GROUP
    auth = _auth(conf, group)
    place = _neutron(conf) if name == "neutron" else _in_catalog(conf, name)
    session = _Session(auth, verify=place.verify, cert=place.cert, timeout=place.timeout)
    return Service(name, place, session, auth)


def log_in(conf: cfg.ConfigOpts, group: str) -> AccessInfo:
    """A new token of the user in ``group``, with its roles and its catalog. Raises SeamError."""
    auth, options = _auth(conf, group), conf[group]
    verify = not options.insecure and (options.cafile or True)
    session = _Session(auth, verify=verify, cert=_certificate(options), timeout=CONNECT)
    with failures.told("keystone"):
        access: AccessInfo = auth.get_access(session)
    return access


def _auth(conf: cfg.ConfigOpts, group: str) -> BaseIdentityPlugin:
    try:
        auth: Any = loading.load_auth_from_conf_options(conf, group)
    except exceptions.ClientException as error:
        raise _not_configured(f"[{group}]: {error}") from error
    if auth is None:
        raise _not_configured(f"[{group}] auth_type is not set; usually it is password")
    return cast(BaseIdentityPlugin, auth)


def _not_configured(why: str) -> SeamError:
    message = f"{why}. The cloud needs auth_type, auth_url, username, password, project_name and the two domain names"
    return SeamError(Seam.CONTROL, "cloud-not-configured", message, permanent=True)


def _in_catalog(conf: cfg.ConfigOpts, name: str) -> Place:
    group, login = conf[name], conf.service_auth
    return Place(
        region=group.region_name,
        interface=_interface(group.endpoint_type),
        service_name=group.service_name,
        endpoint=group.endpoint,
        verify=not (group.insecure or login.insecure) and (group.ca_certificates_file or login.cafile or True),
        cert=_certificate(login),
        timeout=login.timeout,
    )


def _neutron(conf: cfg.ConfigOpts) -> Place:
    group, login = conf.neutron, conf.service_auth
    interfaces = group.valid_interfaces or [_interface(group.endpoint_type or "public")]
    trusted = group.cafile or group.ca_certificates_file or login.cafile or True
    return Place(
        region=group.region_name,
        interface=interfaces[0],
        service_name=group.service_name,
        endpoint=group.endpoint_override or group.endpoint,
        verify=not (group.insecure or login.insecure) and trusted,
        cert=_certificate(group) or _certificate(login),
        timeout=group.timeout or login.timeout,
    )


def _interface(endpoint_type: str) -> str:
    return endpoint_type.removesuffix("URL")


def _certificate(group: Any) -> str | tuple[str, str] | None:
    if group.certfile and group.keyfile:
        return group.certfile, group.keyfile
    certificate: str | None = group.certfile
    return certificate
