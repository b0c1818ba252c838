"""Tokens: keystonemiddleware in front of the application, configured by [keystone_authtoken]."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from keystoneauth1.exceptions import ClientException
from keystonemiddleware.auth_token import AuthProtocol
from oslo_config import cfg
from oslo_context.context import RequestContext
from webob.exc import HTTPServiceUnavailable  # type: ignore[import-untyped]

from tavia.api.errors import RETRY_AFTER_SECONDS, form
from tavia.model.seams import Seam, SeamError

LOG = logging.getLogger(__name__)

Wsgi = Callable[..., Any]

CHECKED = "keystone.token_auth"
"""What the middleware leaves in the environment of a request whose token it checked. No client can set it."""

PUBLIC = frozenset({"", "/healthcheck", "/openapi.json", "/network"})
"""Paths that need no token: what clients ask to find out whom to ask, and load balancers to find out whether."""


def authenticated(app: Wsgi, conf: cfg.ConfigOpts) -> Wsgi:
    """The application, for callers whom Keystone knows. Raises SeamError for options that do not fit together."""
    # Nothing is left to decide for the application, so a delay_auth_decision in the file is not followed.
    options = {"oslo_config_config": conf, "delay_auth_decision": False}
    try:
        checked = _TokenCheck(app, options)  # type: ignore[no-untyped-call]
    except ClientException as error:
        raise SeamError(Seam.CONTROL, "keystone-misconfigured", f"[keystone_authtoken]: {error}") from error

    def layer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        anonymous(environ)  # or the middleware would log in the name of the request before
        is_public = environ.get("PATH_INFO", "").rstrip("/") in PUBLIC
        return (app if is_public else checked)(environ, start_response)

    return layer


def anonymous(environ: Mapping[str, Any], **more: Any) -> RequestContext:
    """The context of a request that nobody vouches for: its ids, for the log, and nothing that its headers say."""
    return RequestContext(
        request_id=environ.get("openstack.request_id"),
        global_request_id=environ.get("openstack.global_request_id"),
        **more,
    )


class _TokenCheck(AuthProtocol):
    """Answers that Keystone is away in the API's shape, and never with a 500."""

    def fetch_token(self, token: str, allow_expired: bool = False, **more: Any) -> Any:
        """What Keystone or the cache know of a token."""
        try:
            return super().fetch_token(token, allow_expired, **more)  # type: ignore[no-untyped-call]
        except HTTPServiceUnavailable as error:
            cause: BaseException = error.__context__ or error
        except ClientException as error:
            cause = error
        raise _unavailable(cause)


def _unavailable(cause: BaseException) -> HTTPServiceUnavailable:
    error = SeamError(
        Seam.CONTROL,
        "keystone-unavailable",
        "Tokens cannot be checked: Keystone does not answer, or refuses the user of [keystone_authtoken]",
    )
    LOG.error("%s: %s", error, cause)
    return HTTPServiceUnavailable(json=form(503, str(error)), headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
