"""``tavia loadbalancer ...``: why one is not ACTIVE, and the operator's way out."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cliff.show import ShowOne

from tavia.cli.base import DatabaseCommand, who
from tavia.cli.columns import When, duration, moment
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import ProvisioningStatus

if TYPE_CHECKING:
    from oslo_config import cfg

    from tavia.store.release import Holder, Situation


class ShowLoadBalancer(DatabaseCommand, ShowOne):
    """Show why a load balancer is not ACTIVE: who works on it, what failed last, when it is tried again.

    What a tenant sees of it is with `openstack loadbalancer show`. Times are UTC.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        return _with_loadbalancer(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """See cliff."""
        from tavia.model.resources import OUR_PROVIDERS  # noqa: PLC0415
        from tavia.store import history, release  # noqa: PLC0415  slow to import, not needed for help

        with self.database(parsed_args).read() as conn:
            found = release.situation(conn, history.loadbalancer_id(conn, parsed_args.loadbalancer))
        fields = shown(found, found.loadbalancer.provider in OUR_PROVIDERS)
        return tuple(fields), tuple(fields.values())


class ReleaseLoadBalancer(DatabaseCommand):
    """Hand a load balancer to the workers again, at once: one in ERROR, or that stays PENDING.

    Whatever a dead worker left is taken over, and pauses between tries begin anew. What its next amphorae boot with
    (flavor, zone, image tag) is taken from octavia.conf as it is now; nothing that its tenant asked for changes. It may
    be repeated. While a worker works on it, it is refused, and you are told which.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """See cliff."""
        return _with_loadbalancer(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """See cliff."""
        from tavia.bus import waker  # noqa: PLC0415  slow to import, not needed for help
        from tavia.config.controller_worker import boots_with  # noqa: PLC0415
        from tavia.model.resources import OUR_PROVIDERS  # noqa: PLC0415
        from tavia.store import history, release  # noqa: PLC0415

        conf, database = self.conf(parsed_args), self.database(parsed_args)
        with database.read() as conn:
            found = release.situation(conn, history.loadbalancer_id(conn, parsed_args.loadbalancer))
        loadbalancer = found.loadbalancer
        host = socket.gethostname()
        holder = database.write(
            lambda conn: release.release(
                conn,
                loadbalancer.id,
                providers=OUR_PROVIDERS,
                boots_with=boots_with(conf),
                asked_by=f"{who()} on {host}",
                host=host,
            )
        )
        if holder:
            raise SeamError(Seam.CONTROL, "lease-held", refusal(holder, found, conf))
        waker(conf)()
        self.console.print(
            f"{loadbalancer.name or 'load balancer'} ({loadbalancer.id}), {loadbalancer.provisioning_status}, "
            "is handed to the workers again.\n"
            f"See what they do:  tavia operation list {loadbalancer.id}\n"
            f"and what comes of it:  tavia loadbalancer show {loadbalancer.id}",
            soft_wrap=True,
        )


def shown(found: Situation, is_ours: bool) -> Mapping[str, Any]:
    """The fields of ``tavia loadbalancer show``."""
    loadbalancer, fault = found.loadbalancer, found.loadbalancer.fault
    return {
        "name": loadbalancer.name,
        "id": loadbalancer.id,
        "project_id": loadbalancer.project_id,
        "provider": loadbalancer.provider,
        "provisioning_status": str(loadbalancer.provisioning_status),
        "operating_status": str(loadbalancer.operating_status),
        "why": why(found, is_ours),
        "generation": loadbalancer.generation,
        "observed_generation": loadbalancer.observed_generation,
        "fault": f"{fault['seam']}/{fault['code']} since {fault['since']}: {fault['message']}" if fault else None,
        "failing_since": When(loadbalancer.failing_since),
        "next_try": When(loadbalancer.due_at),
        "last_operation": found.last.id if found.last else None,
        "last_failure": found.last_failure.id if found.last_failure else None,
        "last_failure_reason": found.last_failure.reason if found.last_failure else None,
        "amphorae": "\n".join(
            f"{amphora.id}  {amphora.role or ''} {amphora.status} {amphora.lb_network_ip or ''}"
            + (f"  {amphora.fault['seam']}/{amphora.fault['code']}" if amphora.fault else "")
            for amphora in found.amphorae
        ),
    }


def why(found: Situation, is_ours: bool) -> str:
    """In one sentence why it stands as it does, and what comes next."""
    loadbalancer, fault = found.loadbalancer, found.loadbalancer.fault
    trouble = f"; what failed last: {fault['seam']}/{fault['code']}" if fault else ""
    if loadbalancer.provisioning_status is ProvisioningStatus.DELETED:
        return "it is deleted; its row goes when load_balancer_expiry_age is over"
    if not is_ours:
        return f"provider {loadbalancer.provider} works on it, Tavia's workers do not"
    if found.holder:
        return f"{_worker(found.holder)}{trouble}"
    return f"{_next(found)}{trouble}"


NEXT_LOOK = 10.0
"""Seconds: workers look each [tavia] poll_interval, by default 1 s, and a busy one takes a while."""


def _next(found: Situation) -> str:
    """What comes for one of ours on which nobody works."""
    loadbalancer, last = found.loadbalancer, found.last
    is_new = loadbalancer.generation > loadbalancer.attempted_generation
    due_since = loadbalancer.pending_since if is_new else loadbalancer.due_at
    if is_new or (due_since is not None and due_since <= found.now):
        if last and last.state == "lost":
            return f"it is due, but no worker has taken it since the one on {last.host} died or was overtaken"
        looked_at = max(due_since or 0.0, (last.ended or last.started) if last else 0.0)
        if found.now - looked_at < NEXT_LOOK:
            return "it is due: a worker takes it at its next look"
        since = f" for {duration(found.now - looked_at)}" if looked_at else ""
        return f"it has been due{since}, but no worker has taken it: does one run? tavia service list"
    if loadbalancer.due_at is not None:
        verb = "looked at again (an amphora boots)"
        if loadbalancer.fault or loadbalancer.failing_since:
            verb = "tried again" if loadbalancer.fault else "tried again with what HAProxy refused"
        return f"it is {verb} in {duration(loadbalancer.due_at - found.now)}"
    if loadbalancer.provisioning_status is ProvisioningStatus.ACTIVE:
        return "all that was asked for is applied"
    return f"nothing is planned for it: tavia loadbalancer release {loadbalancer.id}"


def refusal(holder: Holder, found: Situation, conf: cfg.ConfigOpts) -> str:
    """Who works on it, and until when at the latest."""
    latest = holder.latest(conf.tavia.step_deadline, conf.tavia.lease_ttl)
    operation = holder.operation
    look = f"; look at it with tavia operation show {operation.id}" if operation else ""
    return (
        f"nothing to release: {_worker(holder)}. Its lease ends at {moment(holder.until)} unless it is renewed, "
        f"by {moment(latest)} at the latest if the worker hangs; another one takes over then{look}"
    )


def _worker(holder: Holder) -> str:
    operation = holder.operation
    if operation is None:
        return f"a worker took it a moment ago (lease {holder.owner})"
    return f"a worker on {operation.host} works on it ({operation.what}) since {moment(operation.started)}"


def _with_loadbalancer(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("loadbalancer", metavar="LB", help="its id or name")
    return parser
