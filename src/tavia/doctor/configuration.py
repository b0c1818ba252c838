"""Rules about octavia.conf alone: what has no effect, secrets, defaults that are unsafe in production. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from tavia.doctor.facts import Facts
from tavia.doctor.findings import Said, good, warning, wrong

SHORTEST_KEY = 16
"""Characters of a heartbeat key; fewer are guessed from one heartbeat."""

NEW_KEY = "openssl rand -hex 32"

EVERYBODY_KNOWS = frozenset(
    {
        "insecure",
        "insecure-key-do-not-use-this-key",
        "insecure-key-do-not-use",
        "not-secure-passphrase",
        "foobar",
        "password",
        "secret",
    }
)
"""Values in samples and guides."""

SECRETS = (
    ("health_manager", "heartbeat_key"),
    ("certificates", "ca_private_key_passphrase"),
    ("certificates", "server_certs_key_passphrase"),
    ("service_auth", "password"),
    ("keystone_authtoken", "password"),
)


READABLE_BY_ALL = 0o004


def files(facts: Facts) -> Iterator[Said]:
    """The services can read the configuration, and not everybody."""
    trouble = False
    for name in facts.conf.config_file:
        file = facts.files[name]
        if file.hidden_from:
            trouble = True
            advice = f"chown root:{file.hidden_from} {name}; chmod 0640 {name}"
            yield wrong(f"the services run as {file.hidden_from} and cannot read {name}", advice)
        elif file.mode & READABLE_BY_ALL:
            trouble = True
            yield warning(f"everybody on this host may read {name}, which has passwords in it", f"chmod 0640 {name}")
    if not trouble:
        yield good(f"{', '.join(facts.conf.config_file)}: only who should reads it")


def options(facts: Facts) -> Iterator[Said]:
    """What the files set and nothing reads."""
    if facts.unused:
        advice = "remove them where you thought they had one"
        yield warning(f"options without effect: {', '.join(facts.unused)}", advice)
    else:
        yield good("every option that is set has an effect")


def heartbeat_key(facts: Facts) -> Iterator[Said]:
    """Whoever knows it can keep dead amphorae alive, and have living ones replaced."""
    key = facts.conf.health_manager.heartbeat_key
    advice = f"set [health_manager] heartbeat_key on every controller, the same: {NEW_KEY}"
    if not key:
        yield wrong("[health_manager] heartbeat_key is not set: worker and health manager do not start", advice)
    elif key in EVERYBODY_KNOWS or len(set(key)) == 1:
        yield wrong("[health_manager] heartbeat_key is one that everybody knows", advice)
    elif len(key) < SHORTEST_KEY:
        yield warning(f"[health_manager] heartbeat_key has {len(key)} characters, which can be guessed", advice)
    else:
        yield good(f"the heartbeat key has {len(key)} characters")


def secrets(facts: Facts) -> Iterator[Said]:
    """Passwords and passphrases out of a sample."""
    known = [
        f"[{group}] {name}"
        for group, name in SECRETS
        if (group, name) != ("health_manager", "heartbeat_key")
        and facts.assigned.get(group, {}).get(name, [""])[-1] in EVERYBODY_KNOWS
    ]
    for option in known:
        yield wrong(f"{option} has a value out of a sample, that everybody knows", f"choose another: {NEW_KEY}")
    if not known:
        yield good("no password or passphrase is out of a sample")


def debug(facts: Facts) -> Iterator[Said]:
    """Logs grow, and tell much."""
    if facts.conf.debug:
        advice = "set [DEFAULT] debug = false, then systemctl reload 'tavia-*'"
        yield warning("[DEFAULT] debug is on: the logs are large, and name what tenants have", advice)
    else:
        yield good("[DEFAULT] debug is off")


def authentication(facts: Facts) -> Iterator[Said]:
    """Whether anybody is an administrator."""
    settings = facts.conf.api_settings
    if settings.auth_strategy == "keystone":
        yield good("the API asks Keystone who a request is from")
    elif ipaddress.ip_address(settings.bind_host).is_loopback:
        yield warning(
            f"[api_settings] auth_strategy = {settings.auth_strategy}: everybody on this host is an administrator",
            "set [api_settings] auth_strategy = keystone",
        )
    else:
        yield wrong(
            f"[api_settings] auth_strategy = {settings.auth_strategy} on {settings.bind_host}: whoever reaches that "
            "address is an administrator",
            "set [api_settings] auth_strategy = keystone",
        )


def encryption(facts: Facts) -> Iterator[Said]:
    """Whether anybody can play the cloud's APIs."""
    groups = [name for name in ("service_auth", "nova", "neutron", "glance") if facts.conf[name].insecure]
    if groups:
        named = ", ".join(f"[{name}]" for name in groups)
        advice = "set insecure = false, and the authority's file in [service_auth] cafile"
        yield wrong(f"insecure = true in {named}: any certificate is believed, passwords go to whoever has one", advice)
    else:
        yield good("the cloud's certificates are verified")
