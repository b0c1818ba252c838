"""What went wrong, in the shapes that the API's clients know (api-surface, "Answers and errors").

Handlers and rules raise :class:`ApiError`; :func:`register` teaches the Falcon app to answer it, Falcon's own errors,
and failures inside; :func:`in_form` is the layer that has what stands around the app answer so too. Malformed input
never becomes a 500.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import falcon
import webob  # type: ignore[import-untyped]

from tavia.model.seams import SeamError

LOG = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1

Wsgi = Callable[..., Any]

_ANSWERED = "tavia.answered"
"""Where the WSGI environment says that the answer is the app's own."""
_UNEXPECTED = "The service met an error of its own; its log tells more under this request's id."


class ApiError(Exception):
    """An error with an HTTP status and the fault string that the client reads."""

    def __init__(self, status: int, fault: str) -> None:
        super().__init__(fault)
        self.status = status
        self.fault = fault


def validation_failure(detail: str) -> ApiError:
    """A rule of the service was broken."""
    return ApiError(400, f"Validation failure: {detail}")


def invalid_input(attribute: str, value: object, reason: str) -> ApiError:
    """A value that the attribute cannot have. The value is shown shortened."""
    shown = str(value)
    if len(shown) > 255:  # noqa: PLR2004
        shown = f"{shown[:255]}..."
    return ApiError(400, f"Invalid input for field/attribute {attribute}. Value: '{shown}'. {reason}")


def not_supported(option: str, provider: str = "amphora") -> ApiError:
    """An attribute of the API that this release has no effect for."""
    return ApiError(501, f"Provider '{provider}' does not support a requested option: {option} has no effect yet.")


def not_found(title: str, object_id: str) -> ApiError:
    """No such object, or not any more. ``title`` is the resource's name for people ("Load Balancer")."""
    return ApiError(404, f"{title} {object_id} not found.")


def immutable(title: str, object_id: str) -> ApiError:
    """An object whose status does not allow the change."""
    return ApiError(409, f"{title} {object_id} is immutable and cannot be updated.")


def too_large(limit: int) -> ApiError:
    """A body of more bytes than ``limit``."""
    return ApiError(413, f"The request's body is larger than {limit} bytes.")


def parent_not_found(title: str, object_id: str) -> falcon.HTTPError:
    """The object named in the middle of the path is not there: the router's shape, with the title "Bad Request"."""
    return falcon.HTTPNotFound(title="Bad Request", description=f"{title} {object_id} not found.")


def register(app: falcon.App[Any, Any]) -> None:
    """Answer every exception in its shape."""
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(SeamError, _inside)
    app.add_error_handler(ApiError, _fault)
    app.add_error_handler(falcon.HTTPError, _routing)


def form(status: int, fault: str) -> dict[str, Any]:
    """The body of an answer that is an error."""
    code = "Server" if status >= 500 else "Client"  # noqa: PLR2004
    return {"faultcode": code, "faultstring": fault, "debuginfo": None}


class Answered:
    """Falcon middleware: notes that the app has answered, well or not."""

    def process_response(
        self, req: falcon.Request, _resp: falcon.Response, _resource: object, _req_succeeded: bool
    ) -> None:
        """Called for every answer."""
        req.env[_ANSWERED] = True


def in_form(app: Wsgi) -> Wsgi:
    """A layer: errors of the layers inside of it are in the API's form. What they say in JSON of their own stays beside
    that: clients know the ``error`` of who refuses a token (api-surface, "Answers and errors").
    """

    def layer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        request = webob.Request(environ)
        try:
            answer = request.get_response(app)
        except Exception as error:
            LOG.error("%s %s failed", request.method, environ.get("PATH_INFO"), exc_info=error)
            answer = webob.Response(status=500, json=form(500, _UNEXPECTED))
        if answer.status_code >= 400 and _ANSWERED not in environ:  # noqa: PLR2004
            said = answer.json if answer.content_type == "application/json" else {}
            fault = said.get("error", {}).get("message") or HTTPStatus(answer.status_code).phrase
            answer.content_type, answer.json = "application/json", form(answer.status_code, fault) | said
        return answer(environ, start_response)

    return layer


def _answer(resp: falcon.Response, status: int, fault: str) -> None:
    resp.status = falcon.code_to_http_status(status)
    resp.media = form(status, fault)


def _fault(_req: falcon.Request, resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> None:
    assert isinstance(error, ApiError)
    _answer(resp, error.status, error.fault)


def _inside(req: falcon.Request, resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> None:
    """The database or the cloud did not do its part: the client may try again, the operator reads why."""
    assert isinstance(error, SeamError)
    LOG.warning("%s %s: %s", req.method, req.path, error)
    _answer(resp, 503, f"{error.seam}/{error.code}: {error.message}")
    resp.retry_after = RETRY_AFTER_SECONDS


def _routing(_req: falcon.Request, resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> None:
    assert isinstance(error, falcon.HTTPError)
    resp.status = error.status
    if error.headers:
        resp.set_headers(error.headers)
    resp.media = {
        "code": error.status_code,
        "title": error.title.removeprefix(f"{error.status_code} "),
        "description": error.description or HTTPStatus(error.status_code).description,
    }


def _unexpected(req: falcon.Request, resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> None:
    LOG.error("%s %s failed", req.method, req.path, exc_info=error)
    _answer(resp, 500, _UNEXPECTED)
