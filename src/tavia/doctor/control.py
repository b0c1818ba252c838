"""Rules about what stands before an amphora: database, RabbitMQ, Keystone, the catalog, clocks. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tavia.doctor.facts import Facts, Login
from tavia.doctor.findings import Said, Unknown, good, known, warning, wrong

MOST_SECONDS_APART = 5.0
MOST_SECONDS_FROM_DATABASE = 1.0

SERVICE_TYPE = "load-balancer"


def database(facts: Facts) -> Iterator[Said]:
    """It answers, and has this release's tables."""
    url = facts.conf.database.connection
    if not url:
        advice = "set [database] connection = mysql+pymysql://octavia:PASSWORD@HOST/octavia?charset=utf8mb4"
        yield wrong("[database] connection is not set", advice)
        return
    if isinstance(facts.database, Unknown):
        yield wrong(f"the database cannot be used: {facts.database}", "see [database] connection, and its server's log")
        return
    if facts.database.revision != facts.database.needed:
        has = f"is at revision {facts.database.revision}" if facts.database.revision else "has no tables"
        files = " ".join(f"--config-file {name}" for name in facts.conf.config_file)
        yield wrong(f"the database {has}, this release needs {facts.database.needed}", f"tavia db upgrade {files}")
    elif url.startswith("sqlite"):
        advice = "set [database] connection = mysql+pymysql://octavia:PASSWORD@HOST/octavia?charset=utf8mb4"
        yield warning("the database is a file of this host: no other controller can work with it", advice)
    else:
        yield good(f"the database answers, its tables are those of this release, {facts.database.needed}")


def database_clock(facts: Facts) -> Iterator[Said]:
    """Leases are compared by it, and people compare logs."""
    apart = known(facts.database).clock
    if abs(apart) > MOST_SECONDS_FROM_DATABASE:
        yield warning(
            f"the database's clock is {apart:+.1f} s from this host's: what times in the journal and in logs mean "
            "differs, and between nodes of a Galera cluster leases end early or late",
            "apt-get install chrony, on both",
        )
    else:
        yield good("the database's clock is this host's")


def rabbitmq(facts: Facts) -> Iterator[Said]:
    """Only where it is configured."""
    servers = known(facts.rabbit)
    for address, problem in servers.items():
        if problem:
            advice = "see [DEFAULT] transport_url; rabbitmqctl list_users, list_vhosts, list_permissions -p VHOST"
            message = f"RabbitMQ at {address} cannot be used: {problem}. Changes wait for the next poll meanwhile"
            yield (warning if any(said is None for said in servers.values()) else wrong)(message, advice)
    if servers and not any(servers.values()):
        yield good(f"RabbitMQ takes our login at {', '.join(servers)}")


def keystone(facts: Facts) -> Iterator[Said]:
    """The user that acts on the cloud."""
    if isinstance(facts.login, Unknown):
        yield wrong(f"Keystone gives no token for [service_auth]: {facts.login}", _login_advice(facts, "service_auth"))
        return
    login = facts.login
    if "admin" in login.roles:
        yield good(f"{login.user} is an administrator in project {login.project}")
        return
    yield wrong(
        f"{login.user} has the roles {', '.join(login.roles) or 'none'} in project {login.project}: it may not make "
        "ports for tenants' VIPs, nor see which host a server is on",
        f"openstack role add --user {login.user} --project {login.project} admin",
    )


def token_checks(facts: Facts) -> Iterator[Said]:
    """The user that has the API's tokens checked."""
    if facts.conf.api_settings.auth_strategy != "keystone":
        return
    if isinstance(facts.token_checks, Unknown):
        yield wrong(
            f"the API cannot check tokens, every request gets 503: {facts.token_checks}",
            _login_advice(facts, "keystone_authtoken"),
        )
        return
    login = facts.token_checks
    if "service" not in login.roles:
        yield wrong(
            f"{login.user}, as whom the API checks tokens, lacks the role service: Neutron refuses (401) what it asks "
            "on behalf of a tenant, where it has service_token_roles_required, as it should",
            f"openstack role add --user {login.user} --project {login.project} service",
        )
    else:
        yield good(f"the API checks tokens as {login.user}, which others believe to be a service")


def _login_advice(facts: Facts, group: str) -> str:
    named = facts.conf[group]
    said = {name: getattr(named, name, None) for name in ("auth_url", "username", "project_name")}
    words = " ".join(f"--os-{name.replace('_', '-')} {value or name.upper()}" for name, value in said.items())
    return (
        f"try it: openstack {words} --os-user-domain-name Default --os-project-domain-name Default token issue; "
        f"then mend [{group}]"
    )


def services(facts: Facts) -> Iterator[Said]:
    """Nova, Neutron and Glance are in the catalog and answer."""
    answers = known(facts.services)
    for name, problem in answers.items():
        if problem:
            advice = f"openstack catalog list; openstack endpoint list; [{name}] region_name and endpoint_type"
            yield wrong(problem, advice)
    if not any(answers.values()):
        yield good(f"{', '.join(name.capitalize() for name in answers)} answer")


def endpoint(facts: Facts) -> Iterator[Said]:
    """What `openstack loadbalancer` looks for."""
    login: Login = known(facts.login)
    region = facts.conf.nova.region_name or "RegionOne"
    if "public" in login.endpoints:
        yield good(f"the catalog has the API at {login.endpoints['public']}")
        return
    settings = facts.conf.api_settings
    yield wrong(
        f"the catalog has no public endpoint of type {SERVICE_TYPE} in {region}: openstack loadbalancer finds no API",
        f"openstack service create --name octavia {SERVICE_TYPE}; openstack endpoint create --region {region} "
        f"octavia public http://{settings.bind_host}:{settings.bind_port}",
    )


def clock(facts: Facts) -> Iterator[Said]:
    """Tokens and certificates hold from one time to another."""
    apart = known(facts.clock)
    if abs(apart) > MOST_SECONDS_APART:
        yield warning(
            f"Keystone's clock is {apart:+.0f} s from this host's: tokens and certificates seem not to hold yet, or no "
            "longer",
            "apt-get install chrony; timedatectl",
        )
    else:
        yield good("Keystone's clock is this host's")
