"""The agent's configuration file, made by the controller (at boot and by ``PUT /config``) and read by the agent.

Groups and options are those of Octavia's agent (agent-surface, "Agent configuration file"); ``heartbeat_key`` differs:
it is the amphora's own derived key, hexadecimal.
"""

from __future__ import annotations

import configparser
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tavia.amphora import paths


class AgentConfigError(ValueError):
    """A configuration that the agent cannot take; the message names the option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """What the agent needs to know. ``controllers`` are (address, UDP port); the interval is in seconds."""

    amphora_id: str
    heartbeat_key: bytes
    controllers: tuple[tuple[str, int], ...]
    heartbeat_interval: float = 10.0
    bind_host: str = "::"
    bind_port: int = 9443
    server_cert: Path = Path(paths.AGENT_CERT)
    client_ca: Path = Path(paths.AGENT_CLIENT_CA)
    haproxy_cmd: str = "/usr/sbin/haproxy"
    base_path: Path = Path(paths.STATE_DIR)


def render_agent_config(
    *,
    amphora_id: str,
    controllers: Sequence[str],
    heartbeat_interval: float,
    heartbeat_key_hex: str,
    bind_port: int,
    bind_host: str = "::",
) -> str:
    """The text of an amphora's agent configuration. ``controllers`` are "address:port", IPv6 in brackets."""
    config = configparser.ConfigParser(interpolation=None)
    config["amphora_agent"] = {"amphora_id": amphora_id}
    config["haproxy_amphora"] = {"bind_host": bind_host, "bind_port": str(bind_port)}
    config["health_manager"] = {
        "controller_ip_port_list": ", ".join(controllers),
        "heartbeat_interval": str(heartbeat_interval),
        "heartbeat_key": heartbeat_key_hex,
    }
    text = io.StringIO()
    config.write(text)
    return text.getvalue()


def parse_agent_config(text: str) -> AgentConfig:
    """Read the file; unknown options are left alone (Octavia's file has more). Raises AgentConfigError."""
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read_string(text)
        agent, amphora, health = (_group(config, n) for n in ("amphora_agent", "haproxy_amphora", "health_manager"))
        parsed = AgentConfig(
            amphora_id=agent["amphora_id"],
            heartbeat_key=bytes.fromhex(health["heartbeat_key"]),
            controllers=tuple(_address(item) for item in health["controller_ip_port_list"].split(",") if item.strip()),
            heartbeat_interval=float(health.get("heartbeat_interval", "10")),
            bind_host=amphora.get("bind_host", "::"),
            bind_port=int(amphora.get("bind_port", "9443")),
            server_cert=Path(agent.get("agent_server_cert", paths.AGENT_CERT)),
            client_ca=Path(agent.get("agent_server_ca", paths.AGENT_CLIENT_CA)),
            haproxy_cmd=amphora.get("haproxy_cmd", "/usr/sbin/haproxy"),
            base_path=Path(amphora.get("base_path", paths.STATE_DIR)),
        )
    except KeyError as error:
        raise AgentConfigError(f"option {error} is missing") from error
    except (configparser.Error, ValueError) as error:
        raise AgentConfigError(str(error)) from error
    if not 0 < parsed.heartbeat_interval < math.inf:
        raise AgentConfigError(f"heartbeat_interval must be above 0 seconds, not {parsed.heartbeat_interval}")
    return parsed


def _group(config: configparser.ConfigParser, name: str) -> dict[str, str]:
    return dict(config[name]) if config.has_section(name) else {}


def _address(item: str) -> tuple[str, int]:
    address, colon, port = item.strip().rpartition(":")
    if not colon or not address:
        raise AgentConfigError(f"controller_ip_port_list: {item.strip()!r} is not address:port")
    return address.strip("[]"), int(port)
