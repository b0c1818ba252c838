"""``tavia-agent``: the one service inside an amphora.

Everything is imported here, at the top: a process that has imported this module can be forked into many agents that
share its memory (``tavia.cloud.local``), each entering :func:`run`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import ssl
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import uvicorn.lifespan.off  # noqa: F401 - uvicorn would import it only when it starts
from falcon.asgi import App
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import Server

from tavia.agent import interfaces, systemd
from tavia.agent.amphora import Amphora
from tavia.agent.app import Certificate, Configuration, make_app
from tavia.agent.heartbeats import Heartbeats
from tavia.amphora import paths
from tavia.amphora.agent_config import AgentConfig, AgentConfigError, parse_agent_config

LOG = logging.getLogger(__name__)

OWN_VERSION = version("tavia")
"""Read now: where this process is forked to, the packages need not be on any disk."""

App()  # the first one looks for optional modules and imports them

IDLE_SECONDS = 75
"""How long a controller's idle connection is kept."""
BACKLOG = 128


def main(argv: list[str] | None = None) -> NoReturn:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tavia-agent", description="The agent inside an amphora.")
    parser.add_argument("--config-file", type=Path, default=Path(paths.AGENT_CONFIG), help="default: %(default)s")
    run(parser.parse_args(argv).config_file)


def run(config_path: Path) -> NoReturn:
    """Be the agent until SIGTERM or SIGINT. Its programs stay; the next agent takes them over."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        config = parse_agent_config(config_path.read_text())
    except (OSError, AgentConfigError) as error:
        sys.exit(f"tavia-agent: {config_path}: {error}")
    asyncio.run(_serve(config, config_path))
    sys.exit(0)


async def _serve(config: AgentConfig, config_path: Path) -> None:
    passed, manager = systemd.passed_sockets(), os.environ.pop("NOTIFY_SOCKET", "")
    interfaces.prepare()
    news = asyncio.Event()
    amphora = Amphora(config, news.set)
    await amphora.take_over()
    by_datagram = [each for each in passed if each.type == socket.SOCK_DGRAM]
    heartbeats = Heartbeats(amphora, config, news, OWN_VERSION, by_datagram)

    def taken(new: AgentConfig) -> None:
        heartbeats.config = new
        news.set()

    context = _context(config)
    app = make_app(
        amphora,
        OWN_VERSION,
        Certificate(config.server_cert, context),
        Configuration(config_path, config.amphora_id, taken),
    )
    server = _server(app, context)
    # What a service manager listens on for us is not the configuration's to choose.
    listening = [each for each in passed if each.type == socket.SOCK_STREAM]
    listening = listening or [_listening(config.bind_host, config.bind_port)]
    async with asyncio.TaskGroup() as tasks:
        resuming = tasks.create_task(amphora.resume())
        watching = tasks.create_task(amphora.watch())
        beating = tasks.create_task(heartbeats.run())
        said = "tavia: agent ready: version %s in amphora %s, start number %d"
        LOG.info(said, OWN_VERSION, config.amphora_id, amphora.boot_count)
        systemd.say_ready(manager)
        await server.serve(sockets=listening)
        resuming.cancel()
        watching.cancel()
        beating.cancel()


def _server(app: Callable[..., Any], context: ssl.SSLContext) -> Server:
    config = Config(
        app,
        loop="asyncio",
        http=H11Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        ssl_context_factory=lambda config, default: context,
    )
    return Server(config)


def _context(config: AgentConfig) -> ssl.SSLContext:
    """Mutual TLS: nobody without a certificate from the controllers' authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(config.client_ca)
        context.load_cert_chain(config.server_cert, password="")
    except OSError as error:
        sys.exit(f"tavia-agent: {config.client_ca} or {config.server_cert}: {error}")
    return context


def _listening(host: str, port: int) -> socket.socket:
    """A listening socket; ``::`` takes IPv4 too.

    A tenant may want the same port on the VIP: with SO_REUSEPORT on both sides HAProxy's more specific socket can be.
    """
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 - the operator's bind_host says any address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    dual = host == "::"
    listening = socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=True, dualstack_ipv6=dual)
    # asyncio sets it only on sockets that were made with IPPROTO_TCP; without it an answer waits 40 ms for an ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
