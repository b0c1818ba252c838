"""Whatever the API accepts HAProxy and keepalived accept: bodies are drawn from the declarations.

An attribute that is declared later is drawn too, in all the values that its type and limits allow.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Interval, MaxLen
from hypothesis import HealthCheck, event, given, reject, settings
from hypothesis import strategies as st
from trees import NETWORK, OWN, PAIRED, pair

from tavia import config
from tavia.amphora.bundle import Fence
from tavia.api import schemas
from tavia.api.bodies import LARGEST_INT, Body
from tavia.api.errors import ApiError
from tavia.api.graph import Graph
from tavia.api.rules import HTTP_MONITOR_DEFAULTS, INSERTABLE_HEADERS
from tavia.model.attributes import Format, References, attributes
from tavia.model.protocols import LISTENER_PROTOCOLS, POOL_PROTOCOLS
from tavia.model.resources import HealthMonitor, Listener, LoadBalancer, Member, Pool
from tavia.model.tree import Rows, Tree
from tavia.render import RenderSettings, render_bundle
from tavia.store.schema import without_none

Strategy = st.SearchStrategy[Any]
Json = dict[str, Any]

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VERSIONS: tuple[Literal[4, 6], ...] = (4, 6)
CODE = st.integers(0, 999).map("{:03}".format)
LABEL = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20)
FORMATS: dict[str, Strategy] = {
    "uuid": st.uuids().map(str),
    "ip": st.ip_addresses().map(str),
    "url_path": st.text(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@/?#").map("/{}%2f%00".format),
    "dns_name": st.lists(LABEL, min_size=1, max_size=4).map(lambda labels: "_" + ".".join(labels)),
    "expected_codes": st.lists(CODE, min_size=1, max_size=9).map(" ,\n".join)
    | st.tuples(CODE, CODE).map(lambda codes: "-".join(sorted(codes))),
    "http_version": st.sampled_from([1.0, 1.1]),
}
COOKIES = TEXT.filter(re.compile(r"[^\s,;\\]+").fullmatch)


def values(annotation: Any, markers: tuple[Any, ...]) -> Strategy:
    """All that a declared type holds."""
    longest = next((marker.max_length for marker in markers if isinstance(marker, MaxLen)), LARGEST_INT)
    if form := next((marker for marker in markers if isinstance(marker, Format)), None):
        return FORMATS[form.name].filter(lambda value: len(str(value)) <= longest)
    if get_origin(annotation) is Annotated:
        return values(annotation.__origin__, annotation.__metadata__)
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if get_origin(annotation) is list:
        return st.lists(values(get_args(annotation)[0], ()), max_size=3)
    if annotation is int:
        limits = next((marker for marker in markers if isinstance(marker, Interval | Ge)), Ge(0))
        least, most = int(limits.ge), int(getattr(limits, "le", LARGEST_INT))  # type: ignore[call-overload]
        return st.sampled_from([least, most]) | st.integers(least, most)
    return {bool: st.booleans(), str: TEXT.filter(lambda text: len(text) <= longest)}[annotation]


def bodies(resource: type[Any], **own: Strategy) -> Strategy:
    """What may stand for it in a larger POST; ``own`` are attributes of which the declaration does not tell all."""
    declared = [a for a in attributes(resource) if a.places.has("N") and not a.marker(References)]
    drawn = {a.name: values(without_none(a.type), a.markers) for a in declared if a.name not in own} | own
    needed = {a.name for a in declared if a.places.needs("N")} | own.keys()
    return st.fixed_dictionaries(
        {name: each for name, each in drawn.items() if name in needed},
        optional={name: each for name, each in drawn.items() if name not in needed},
    )


def allowed(monitor: Json) -> Json:
    """Without what is for other types of monitors."""
    unfit = set() if monitor["type"] == "HTTP" else set(HTTP_MONITOR_DEFAULTS)
    unfit |= set() if monitor.get("http_version") == 1.1 else {"domain_name"}
    return {name: value for name, value in monitor.items() if name not in unfit}


@st.composite
def pools(draw: st.DrawFn, protocol: Any) -> Json:
    takes = POOL_PROTOCOLS[protocol]
    kind = draw(st.sampled_from([None, *sorted(takes.persistence)]))
    cookie = {"cookie_name": draw(COOKIES)} if kind == "APP_COOKIE" else {}
    monitors = bodies(HealthMonitor, type=st.sampled_from(sorted(takes.monitors))).map(allowed)
    pool: Json = draw(
        bodies(
            Pool,
            name=FORMATS["uuid"],
            protocol=st.just(protocol),
            lb_algorithm=values(*next((a.type, ()) for a in attributes(Pool) if a.name == "lb_algorithm")),
            session_persistence=st.just({"type": kind} | cookie if kind else None),
            healthmonitor=monitors | monitors | st.none(),
            members=st.lists(
                bodies(Member),
                min_size=1,
                max_size=2,
                unique_by=lambda member: (member["address"], member["protocol_port"]),
            ),
        )
    )
    return pool


@st.composite
def listeners(draw: st.DrawFn, version: Literal[4, 6]) -> Json:
    protocol = draw(st.sampled_from(sorted(LISTENER_PROTOCOLS)))
    takes = LISTENER_PROTOCOLS[protocol]
    headers = st.dictionaries(st.sampled_from(sorted(INSERTABLE_HEADERS)), st.sampled_from(["true", "false", "TRUE"]))
    cidrs = st.tuples(st.ip_addresses(v=version), st.integers(0, 32)).map("{0[0]}/{0[1]}".format)
    listener: Json = draw(
        bodies(
            Listener,
            protocol=st.just(protocol),
            insert_headers=headers if takes.mode == "http" else st.just({}),
            allowed_cidrs=st.lists(cidrs, max_size=2),
            default_pool=st.sampled_from(sorted(takes.pools)).flatmap(pools),
        )
    )
    return listener


@st.composite
def loadbalancers(draw: st.DrawFn) -> Json:
    """Listeners without a pool, pools without members: seldom, so that a few examples meet every attribute."""
    version = draw(st.sampled_from(VERSIONS))
    vip = st.fixed_dictionaries({"subnet_id": FORMATS["uuid"], "ip_address": FORMATS["ip"]})
    return {
        "vip_address": str(draw(st.ip_addresses(v=version))),
        "admin_state_up": True,
        "additional_vips": draw(st.lists(vip, max_size=1)),
        "listeners": draw(
            st.lists(listeners(version), min_size=2, max_size=5, unique_by=lambda listener: listener["protocol_port"])
        ),
    }


@pytest.fixture
def accepted_tree(tmp_path: Path) -> Callable[[Json], Tree]:
    """What the API makes of a body, by its own validation; another example is drawn where it refuses."""
    path = tmp_path / "octavia.conf"
    path.write_text("[health_manager]\nheartbeat_key = not-used\n")
    conf = config.load(["--config-file", str(path)], "tavia-api", [])
    post: Body = schemas.loadbalancer_post(schemas.timeouts(conf))

    def make(body: Json) -> Tree:
        try:
            given = post.parse({"loadbalancer": body}, "load_balancer", "loadbalancer")
            own = {name: value for name, value in given.items() if name not in ("listeners", "pools")}
            row = LoadBalancer(**(OWN | own), id="lb", topology=PAIRED)
            graph = Graph(row.id, row.project_id, conf, row.vips)
            graph.add_tree(given["listeners"], [])
        except ApiError as error:
            event(error.fault)
            reject()
        return Tree(loadbalancer=row, rows=Rows(graph.rows))

    return make


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(body=loadbalancers(), is_logged=st.booleans())
def test_what_the_api_accepts_is_accepted_by_what_it_is_rendered_for(
    accepted_tree: Callable[[Json], Tree],
    accepted: Callable[[str], str],
    keepalived_accepts: Callable[[str], str],
    body: Json,
    is_logged: bool,
) -> None:
    tree = accepted_tree(body)
    ours = ("2001:db8::5", "2001:db8::6") if ":" in tree.loadbalancer.vips[0] else ("10.20.0.5", "10.20.0.6")
    own, peer = pair(*ours)
    bundle = render_bundle(
        tree, own, peer, NETWORK, RenderSettings(connection_logging=is_logged), Fence(1, 1, "worker")
    )
    accepted(bundle.files["haproxy.cfg"])
    keepalived_accepts(bundle.files["keepalived.conf"])
