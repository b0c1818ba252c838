"""One load balancer, from the taken lease until it is given back: read, plan, act, record, commit.

All that is written here is fenced: the first statement of each transaction touches the lease, and one that finds it
taken over writes nothing (:class:`~tavia.store.leases.LeaseLost` ends the convergence without a trace).
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from tavia.amphora.bundle import Bundle, Fence
from tavia.amphora.client import TlsRefused, Unreachable
from tavia.amphora.protocol import AgentFailed, BundleRefused, FenceRefused
from tavia.cloud.protocols import Networking
from tavia.metrics import worker as metrics
from tavia.model.resources import Amphora
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import AmphoraStatus, ProvisioningStatus, Role
from tavia.model.tree import Tree
from tavia.render import RenderSettings, VipNetwork, render_bundle
from tavia.store import convergence as store
from tavia.store import journal, leases
from tavia.store.database import Database
from tavia.store.leases import Lease, LeaseLost
from tavia.worker.faults import fault_of
from tavia.worker.hold_back import changed_units, forms, held_back, refused_rows
from tavia.worker.lease_keeper import LeaseKeeper
from tavia.worker.plan import (
    BOOTING,
    SEAM_OF,
    Commit,
    Converged,
    Do,
    Facts,
    Failed,
    Kind,
    Removed,
    Step,
    Wait,
    plan,
    serving,
)
from tavia.worker.refusals import Refusals
from tavia.worker.retries import retry
from tavia.worker.steps import BootFailed, Record, Steps

LOG = logging.getLogger(__name__)
T = TypeVar("T")

ROUNDS = 5
"""Generations that one convergence applies before another load balancer gets the thread."""
BOOT_POLL = 1.0
UNREACHED_AGAIN = 5.0
"""Seconds until a booting amphora, or one that could not be reached, is looked at again."""

UNRECORDED_AGAIN = 1.0
"""Seconds for which a load balancer is left alone whose failure the database did not take."""


class Stopping(Exception):
    """The worker was asked to stop; the load balancer is handed over between two steps."""


@dataclass(frozen=True, kw_only=True)
class Controller:
    """What all convergences of a worker share. Times are seconds."""

    database: Database
    networking: Networking
    steps: Steps
    keeper: LeaseKeeper
    executor: Executor
    settings: RenderSettings
    host: str
    heartbeat_timeout: float
    coalesce_interval: float
    retry_pending_seconds: float
    retry_interval_max: float
    stopping: threading.Event


def converge(controller: Controller, lease: Lease) -> None:
    """Converge the load balancer of a lease just taken, and give the lease back. Raises nothing."""
    run = Convergence(controller, lease)
    try:
        run.run()
    except LeaseLost as lost:
        LOG.warning("%s", lost)
        run.outcome = "lost"
        metrics.LOST.inc()
        return
    except Exception:
        LOG.exception("load balancer %s: the convergence could not even record its failure", lease.loadbalancer_id)
        controller.stopping.wait(UNRECORDED_AGAIN)
    finally:
        metrics.CONVERGENCES.labels(run.what, run.outcome).inc()
        controller.keeper.drop(run.lease)
    _release(controller, run.lease)


def _release(controller: Controller, lease: Lease) -> None:
    try:
        controller.database.write(lambda conn: leases.release(conn, lease))
    except Exception:
        LOG.exception("load balancer %s: its lease runs out by itself", lease.loadbalancer_id)


class Convergence:
    """The state of one convergence."""

    def __init__(self, controller: Controller, lease: Lease) -> None:
        self.controller = controller
        self.lease = lease
        self.facts = Facts()
        self.refusals = Refusals()
        self.what, self.outcome = "none", "failed"
        self._serial = 0
        self._operation = ""
        self._tree: Tree
        self._vip_network: VipNetwork | None = None

    def run(self) -> None:
        """Until nothing is left to do now. Raises LeaseLost; other failures are committed."""
        self._tree = self._read()
        self.what = _what(self._tree)
        self._operation = self._write(self._open_operation)
        try:
            state = self._work()
        except LeaseLost:
            raise
        except Stopping:
            self._close("handed-over")
        except SeamError as failure:
            self._fail(failure)
        except Exception as error:
            self._fail(_unforeseen(self.lease, error))
        else:
            self._close(state)

    def _close(self, state: str) -> None:
        self._write(lambda conn: journal.close_operation(conn, self._operation, state))
        self.outcome = state

    def _work(self) -> str:
        rounds = 0
        while True:
            if self.controller.stopping.is_set():
                raise Stopping
            self._tree = self._look()
            bundles = self._bundles()
            answer = plan(self._tree, self.facts, {key: bundle.hash for key, bundle in bundles.items()})
            match answer:
                case Do(steps):
                    self._take(steps, bundles)
                case Commit():
                    self._commit_applied()
                case Converged(missed):
                    self._commit_converged(missed)
                    rounds += 1
                    if rounds == ROUNDS or not self._changed_meanwhile():
                        return "done"
                case Failed(failure):
                    raise failure
                case Wait():
                    return self._wait()
                case Removed():
                    return self._end()

    def _wait(self) -> str:
        tree = self._tree
        self._write(lambda conn: store.commit_wait(conn, tree.loadbalancer.id, tree.generation, BOOT_POLL))
        return "waiting"

    def _end(self) -> str:
        gone = self._tree.loadbalancer
        self._commit(lambda conn: store.commit_deleted(conn, gone.id, gone.due_at))
        return "done"

    # reading and rendering

    def _look(self) -> Tree:
        """What to plan from. What is accepted once this generation was pushed is for the next round.

        Otherwise every push of a burst would be outdated when it is done, and nothing be committed before its end.
        """
        fresh = self._read()
        if any(amphora.applied_generation >= self._tree.generation for amphora in fresh.amphorae):
            loadbalancer = dataclasses.replace(self._tree.loadbalancer, due_at=fresh.loadbalancer.due_at)
            return dataclasses.replace(self._tree, loadbalancer=loadbalancer, amphorae=fresh.amphorae)
        return fresh

    def _read(self) -> Tree:
        loadbalancer_id = self.lease.loadbalancer_id
        with self.controller.database.read() as conn:
            tree = store.read_tree(conn, loadbalancer_id)
            heard = store.last_heard(conn, loadbalancer_id)
        timeout = self.controller.heartbeat_timeout
        self.facts.silent = frozenset(key for key, said in heard.items() if said.ago > timeout)
        masters = [key for key, said in heard.items() if said.vrrp_state == "MASTER" and key not in self.facts.silent]
        self.facts.vrrp_master = masters[0] if len(masters) == 1 else None
        return tree

    def _bundles(self) -> dict[str, Bundle]:
        tree = self._tree
        if tree.loadbalancer.deleted_generation is not None:
            return {}
        wanted = held_back(tree.wanted(), self.refusals.faults(tree.wanted()))
        carrying = serving(tree, self.facts)
        return {amphora.id: self._render(wanted, amphora, carrying) for amphora in carrying}

    def _render(self, wanted: Tree, amphora: Amphora, carrying: Sequence[Amphora]) -> Bundle:
        others = (*carrying, *(a for a in self._tree.amphorae if _will_carry(a)))
        peers = [a for a in others if a.role is not amphora.role]
        return render_bundle(
            wanted,
            amphora,
            peers[0] if peers else None,
            self._network(),
            self.controller.settings,
            Fence(self.lease.epoch, self._serial, self.lease.owner),
        )

    def _network(self) -> VipNetwork:
        if self._vip_network is None:
            loadbalancer = self._tree.loadbalancer
            subnet = self.controller.networking.subnet(loadbalancer.vip_subnet_id or "")
            network = self.controller.networking.network(subnet.network_id)
            self._vip_network = VipNetwork(
                cidr=subnet.cidr, gateway_ip=subnet.gateway_ip, host_routes=subnet.host_routes, mtu=network.mtu
            )
        return self._vip_network

    # acting

    def _take(self, steps: Sequence[Step], bundles: Mapping[str, Bundle]) -> None:
        records = [
            journal.StepRecord(id=str(uuid.uuid4()), what=s.kind, seam=SEAM_OF[s.kind], subject=s.subject)
            for s in steps
        ]
        self._write(lambda conn: journal.open_steps(conn, self._operation, records))
        self.controller.keeper.begin_step(self.lease)
        outcomes = self._side_by_side([self._effect(step, bundles) for step in steps])
        self.controller.keeper.end_step(self.lease)
        done = [outcome for outcome in outcomes if not isinstance(outcome, SeamError)]
        failed = {r.id: o for r, o in zip(records, outcomes, strict=True) if isinstance(o, SeamError)}
        self._write(lambda conn: self._record(conn, records, done, failed))
        self._consider(steps, outcomes, bundles)

    def _effect(self, step: Step, bundles: Mapping[str, Bundle]) -> Callable[[], Record | SeamError]:
        if step.kind is Kind.PUSH_BUNDLE:
            amphora = next(a for a in self._tree.amphorae if a.id == step.subject)
            self._serial += 1
            fence = Fence(self.lease.epoch, self._serial, self.lease.owner)
            effect = partial(self.controller.steps.push, amphora, bundles[amphora.id], fence)
        else:
            effect = partial(self.controller.steps.take, step, self._tree, self.facts)

        def outcome() -> Record | SeamError:
            began = time.monotonic()
            result = tried()
            failure = result if isinstance(result, SeamError) else None
            metrics.step_ended(step.kind, SEAM_OF[step.kind], time.monotonic() - began, failure)
            return result

        def tried() -> Record | SeamError:
            try:
                return effect()
            except SeamError as failure:
                return failure
            except Exception as error:
                return _unforeseen(self.lease, error)

        return outcome

    def _side_by_side(self, effects: Sequence[Callable[[], T]]) -> list[T]:
        others = [self.controller.executor.submit(effect) for effect in effects[1:]]
        return [effects[0](), *(other.result() for other in others)]

    def _record(
        self,
        conn: Connection,
        records: Sequence[journal.StepRecord],
        done: Sequence[Record],
        failed: dict[str, SeamError],
    ) -> None:
        for record in done:
            record(conn)
        for failure in failed.values():
            if isinstance(failure, BootFailed):
                store.change_amphora(
                    conn,
                    failure.amphora.id,
                    status=AmphoraStatus.ERROR,
                    fault=dataclasses.asdict(fault_of(failure)),
                )
        journal.close_steps(conn, records, failed)

    def _consider(
        self, steps: Sequence[Step], outcomes: Sequence[Record | SeamError], bundles: Mapping[str, Bundle]
    ) -> None:
        """What failed steps mean; raises a failure with which this convergence cannot go on."""
        refusals = []
        for step, outcome in zip(steps, outcomes, strict=True):
            if isinstance(outcome, FenceRefused | BundleRefused):
                refusals.append((step, outcome))
            elif isinstance(outcome, Unreachable | TlsRefused | AgentFailed) and step.kind is Kind.PUSH_BUNDLE:
                self.facts.unreachable[step.subject] = outcome
            elif isinstance(outcome, BootFailed) or (isinstance(outcome, SeamError) and step.kind in BOOTING):
                self.facts.failed[_role(self._tree, step.subject)] = outcome
            elif isinstance(outcome, SeamError):
                raise outcome
        for step, refusal in refusals[:1]:
            if isinstance(refusal, FenceRefused):
                self._go_past(refusal)
            else:
                self.refusals.add(self._tree.wanted(), refusal, bundles[step.subject].files["haproxy.cfg"])

    def _go_past(self, refused: FenceRefused) -> None:
        """An agent holds a later bundle: either we were overtaken, or the database is older than the agent."""
        old = self.lease
        held = max(refused.held.epoch, old.epoch)
        raised = self.controller.database.write(lambda conn: leases.raise_epoch(conn, old, held))
        LOG.warning(
            "load balancer %s: database-went-back, epoch %s -> %s", old.loadbalancer_id, old.epoch, raised.epoch
        )
        self.controller.keeper.drop(old)
        self.controller.keeper.hold(raised, time.monotonic())
        self.lease, self._serial = raised, 0
        self._write(
            lambda conn: journal.event(
                conn,
                loadbalancer_id=raised.loadbalancer_id,
                what="database-went-back",
                failure=refused,
                host=self.controller.host,
            )
        )

    # committing

    def _commit_applied(self) -> None:
        if self.refusals.pardon():
            return
        tree = self._tree
        form_of, held = forms(tree.wanted()), self.refusals.faults(tree.wanted())
        applied = {unit: form_of[unit] for unit in changed_units(tree.wanted()) if unit not in held}
        refused = {row: fault for unit, fault in held.items() for row in refused_rows(tree, unit)}
        self._write(lambda conn: store.commit_children(conn, tree.loadbalancer.id, tree.generation, refused, applied))
        self.facts.committed_generation = tree.generation

    def _commit_converged(self, missed: Sequence[str]) -> None:
        loadbalancer, generation = self._tree.loadbalancer, self._tree.generation
        if self.facts.committed_generation < generation:
            raise self.facts.unreachable[missed[0]]
        fault = fault_of(self.facts.unreachable[missed[0]], loadbalancer.fault) if missed else None
        again_in = UNREACHED_AGAIN if missed else None
        self._commit(
            lambda conn: store.commit_converged(conn, loadbalancer.id, generation, fault, again_in, loadbalancer.due_at)
        )

    def _commit(self, work: Callable[[Connection], None]) -> None:
        """The last transaction of a generation; where it ends a change, how long that took is counted."""
        loadbalancer = self._tree.loadbalancer
        if loadbalancer.observed_generation == self._tree.generation:
            return self._write(work)

        def commit(conn: Connection) -> float | None:
            work(conn)
            return store.waited(conn, loadbalancer.id)

        seconds = self._write(commit)
        if seconds is not None:
            metrics.CHANGES.labels(self.what).observe(seconds)
        return None

    def _changed_meanwhile(self) -> bool:
        """Whether more was accepted; then what comes in a burst is given a moment, to be applied together."""
        if self._read().generation == self._tree.generation:
            return False
        self.refusals = Refusals()
        self.facts.unreachable.clear()
        self.controller.stopping.wait(self.controller.coalesce_interval)
        self._tree = self._read()
        return True

    def _fail(self, failure: SeamError) -> None:
        tree, controller = self._tree, self.controller
        LOG.error("load balancer %s: %s", tree.loadbalancer.id, failure)
        metrics.failed(failure)
        is_served = self.facts.committed_generation == tree.generation

        def record(conn: Connection) -> None:
            failing_for = store.failing_for(conn, tree.loadbalancer.id)
            decision = retry(failure, failing_for, controller.retry_pending_seconds, controller.retry_interval_max)
            shown = ProvisioningStatus.ACTIVE if is_served else ProvisioningStatus.ERROR
            store.commit_failure(
                conn,
                tree.loadbalancer.id,
                tree.generation,
                fault_of(failure, tree.loadbalancer.fault),
                shown=shown if decision.show else None,
                retry_in=decision.after,
            )
            journal.close_operation(conn, self._operation, "failed", failure)

        self._write(record)

    def _open_operation(self, conn: Connection) -> str:
        return journal.open_operation(
            conn,
            loadbalancer_id=self.lease.loadbalancer_id,
            what=self.what,
            generation=self._tree.generation,
            epoch=self.lease.epoch,
            host=self.controller.host,
        )

    def _write(self, work: Callable[[Connection], T]) -> T:
        at = time.monotonic()

        def fenced(conn: Connection) -> T:
            leases.touch(conn, self.lease, self.controller.keeper.ttl)
            return work(conn)

        result = self.controller.database.write(fenced)
        self.controller.keeper.renewed(self.lease, at)
        return result


def _will_carry(amphora: Amphora) -> bool:
    return (
        amphora.vrrp_ip is not None
        and amphora.replace_generation is None
        and amphora.status in (AmphoraStatus.BOOTING, AmphoraStatus.ALLOCATED)
    )


def _what(tree: Tree) -> str:
    if tree.loadbalancer.deleted_generation is not None:
        return "delete"
    if tree.loadbalancer.observed_generation == 0:
        return "create"
    return "failover" if any(a.replace_generation is not None for a in tree.amphorae) else "update"


def _role(tree: Tree, amphora_id: str) -> Role | None:
    return next(a.role for a in tree.amphorae if a.id == amphora_id)


def _unforeseen(lease: Lease, error: Exception) -> SeamError:
    LOG.error("load balancer %s", lease.loadbalancer_id, exc_info=error)
    return SeamError(Seam.CONTROL, "internal-error", f"{type(error).__name__}: {error}")
