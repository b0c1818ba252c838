"""The agent's API (:mod:`tavia.amphora.protocol`). Who gets this far has shown a controller's certificate."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from falcon.asgi import App, Request, Response

from tavia.agent import disk
from tavia.agent.amphora import Amphora
from tavia.agent.program import part_of
from tavia.amphora.agent_config import AgentConfig, AgentConfigError, parse_agent_config
from tavia.amphora.protocol import API_VERSION, AgentFailed, AgentStatus, BundleRefused, refusal
from tavia.model.seams import SeamError

LOG = logging.getLogger(__name__)

MAX_BODY = 32 << 20
"""Bytes of a request; 10,000 members take less than 1 MiB."""


class Root:
    """``/``: what this is."""

    async def on_get(self, request: Request, response: Response) -> None:
        """The version of the API."""
        _answer(response, {"api_version": API_VERSION})


class Status:
    """``/status``."""

    def __init__(self, amphora: Amphora, version: str) -> None:
        self._amphora = amphora
        self._version = version

    async def on_get(self, request: Request, response: Response) -> None:
        """What is held and runs."""
        amphora, bundle = self._amphora, self._amphora.bundle
        status = AgentStatus(
            amphora_id=amphora.amphora_id,
            boot_count=amphora.boot_count,
            fence=bundle.fence if bundle else None,
            generation=bundle.generation if bundle else 0,
            hash=bundle.hash if bundle else None,
            agent_version=self._version,
            fault=amphora.fault,
            **part_of(AgentStatus, await amphora.observe()),
        )
        _answer(response, asdict(status))


class Bundles:
    """``/bundle``."""

    def __init__(self, amphora: Amphora) -> None:
        self._amphora = amphora

    async def on_put(self, request: Request, response: Response) -> None:
        """Apply one."""
        _answer(response, asdict(await self._amphora.apply(await _body(request))))


class Certificate:
    """``/certificate``: the agent's own, at ``file``; ``context`` is the one that the server uses."""

    def __init__(self, file: Path, context: ssl.SSLContext) -> None:
        self._file = file
        self._context = context

    async def on_put(self, request: Request, response: Response) -> None:
        """Replace it, for connections made from now on."""
        pem = await _body(request)
        trial = self._file.with_name(self._file.name + ".trial")
        disk.write(trial, pem)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(trial, password="")
        except ssl.SSLError as error:
            raise BundleRefused(self._file.name, f"not a certificate with its key: {error}") from error
        finally:
            trial.unlink()
        disk.write(self._file, pem, durable=True)
        self._context.load_cert_chain(self._file, password="")
        LOG.info("a new certificate is in force")
        _answer(response, {})


class Configuration:
    """``/config``: the agent's own, at ``file``; ``taken`` is told of a new one."""

    def __init__(self, file: Path, amphora_id: str, taken: Callable[[AgentConfig], None]) -> None:
        self._file = file
        self._amphora_id = amphora_id
        self._taken = taken

    async def on_put(self, request: Request, response: Response) -> None:
        """Replace it. Controllers, heartbeat key and interval change now, all else at the agent's next start."""
        text = await _body(request)
        try:
            config = parse_agent_config(text.decode())
        except (AgentConfigError, UnicodeDecodeError) as error:
            raise BundleRefused(self._file.name, str(error)) from error
        if config.amphora_id != self._amphora_id:
            raise AgentFailed("wrong-amphora", f"this is amphora {self._amphora_id}, not {config.amphora_id}")
        disk.write(self._file, text, durable=True)
        self._taken(config)
        LOG.info("a new configuration is in force")
        _answer(response, {})


def make_app(amphora: Amphora, version: str, certificate: Certificate, config: Configuration) -> App[Any, Any]:
    """The ASGI application."""
    app = App()
    app.add_error_handler(SeamError, _refuse)
    app.add_route("/", Root())
    app.add_route("/status", Status(amphora, version))
    app.add_route("/bundle", Bundles(amphora))
    app.add_route("/certificate", certificate)
    app.add_route("/config", config)
    return app


async def _body(request: Request) -> bytes:
    """The whole body, which must have a length."""
    if request.content_length is None or request.content_length > MAX_BODY:
        raise AgentFailed("too-large", f"a body of {request.content_length} bytes; at most {MAX_BODY} are taken")
    return bytes(await request.stream.read())


async def _refuse(request: Request, response: Response, error: SeamError, params: dict[str, Any]) -> None:
    LOG.warning("%s %s refused: %s", request.method, request.path, error)
    status, body = refusal(error)
    _answer(response, body)
    response.status = status


def _answer(response: Response, body: dict[str, Any]) -> None:
    response.content_type = "application/json"
    response.data = json.dumps(body).encode()
