"""One load balancer at one generation, from the lease that is taken until it is given back: plan, act, record, commit.

There is one transaction before each effect and one at the end, and the tree is read when the lease is taken. What a
step leaves behind is written with what comes next: a worker that dies in between has died between effect and row.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from tavia.amphora.bundle import Bundle, Fence, ProgramFile
from tavia.amphora.protocol import FenceRefused
from tavia.bus import Announce
from tavia.bus.events import Event
from tavia.deadline import within
from tavia.metrics import worker as metrics
from tavia.model.seams import Seam, SeamError
from tavia.model.statuses import ProvisioningStatus
from tavia.model.tree import Tree
from tavia.render import RenderSettings
from tavia.store import amphorae, commits, journal
from tavia.store.clock import utcnow
from tavia.store.database import Database
from tavia.store.leases import Lease, LeaseLost
from tavia.store.trees import Observed
from tavia.worker.boots import BootFailed
from tavia.worker.faults import fault_of
from tavia.worker.fenced_writes import FencedWrites, nothing
from tavia.worker.hold_back import changed_units, refused_rows
from tavia.worker.lease_keeper import LeaseKeeper
from tavia.worker.observing import observed
from tavia.worker.outcomes import NOT_TAKEN, incredible, is_haproxys, left_by, too_slow, unforeseen
from tavia.worker.plan import (
    LOOKS,
    OF_A_ROLE,
    OPTIONAL,
    SEAM_OF,
    Commit,
    Converged,
    Desired,
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
from tavia.worker.ports import amphora_of, plug_again
from tavia.worker.records import Record, applied, write
from tavia.worker.refusals import Refusals
from tavia.worker.rendering import Rendering, VipNetworks
from tavia.worker.retries import failed_again, retry
from tavia.worker.steps import Steps

LOG = logging.getLogger(__name__)
T = TypeVar("T")

FRESH = 2.0
"""Seconds for which a tree that was read is planned from; what others write meanwhile is for the next round."""
BOOT_POLL = 0.5
LOOK_AGAIN = 5.0
"""Seconds until an amphora that boots, or one that waits for others to boot or leave, may be looked at again. A worker
looks each poll_interval, by default 1 s: were a boot's time as long, it would be just missed, and two seconds pass."""
FURTHEST_AHEAD = 2**32
"""Leases by which a restored database may be behind an agent: ten in each second of thirteen years."""


class Stopping(Exception):
    """The worker was asked to stop; the load balancer is handed over between two steps."""


@dataclass(frozen=True, kw_only=True)
class Controller:
    """What all convergences of a worker share. Times are seconds."""

    database: Database
    vip_networks: VipNetworks
    steps: Steps
    keeper: LeaseKeeper
    executor: Executor
    settings: RenderSettings
    host: str
    heartbeat_timeout: float
    cert_expiry_buffer: float
    coalesce_interval: float
    retry_pending_seconds: float
    retry_interval_max: float
    stopping: threading.Event
    announce: Announce


class Convergence:
    """The state of one convergence. ``after_a_loss``: the last holder of the lease did not give it back."""

    def __init__(self, controller: Controller, lease: Lease, seen: Observed, *, after_a_loss: bool) -> None:
        self.controller = controller
        self.facts = Facts()
        self.refusals = Refusals()
        self.what, self.outcome = _what(seen.tree), "failed"
        self._writes = FencedWrites(
            controller.database, controller.keeper, lease, self.what, controller.host, after_a_loss=after_a_loss
        )
        self._serial = 0
        self._gone_past: set[str] = set()
        self._recorded_generation = 0
        self._tree = seen.tree
        peers_only = controller.steps.options.peers_only
        self._rendering = Rendering(controller.vip_networks, controller.settings, peers_only=peers_only)
        self._take_in(seen)

    @property
    def lease(self) -> Lease:
        """What it runs under, with the epoch that it has now."""
        return self._writes.lease

    def run(self) -> bool:
        """Until nothing is left to do now; whether more was accepted meanwhile.

        Raises LeaseLost; other failures are committed.
        """
        try:
            return self._work()
        except LeaseLost:
            raise
        except Stopping:
            self._end("handed-over")
        except SeamError as failure:
            self._fail(failure)
        except Exception as error:
            self._fail(unforeseen(self.lease.loadbalancer_id, error))
        return False

    def _work(self) -> bool:
        while True:
            if self.controller.stopping.is_set():
                raise Stopping
            if time.monotonic() - self._read_at > FRESH:
                self._read_again()
            desired, bundles = self._desired()
            match plan(self._tree, self.facts, desired):
                case Do(steps):
                    self._take(steps, desired, bundles)
                case Commit():
                    self._commit_applied()
                case Converged(missed):
                    return self._commit_converged(missed)
                case Failed(failure):
                    raise failure
                case Wait(reason, code):
                    self._commit_wait(SeamError(Seam.BOOT, code, reason))
                    return False
                case Removed():
                    self._commit_removed()
                    return False

    # reading and rendering

    def _read_again(self) -> None:
        """What to plan from. What is accepted once this generation was pushed is for the next round.

        Otherwise every push of a burst would be outdated when it is done, and nothing be committed before its end.
        """
        if self._writes.are_due:
            self._write(nothing)
        seen = observed(self.controller.database, self.lease, self._writes.written)
        fresh = seen.tree
        if any(amphora.applied_generation >= self._tree.generation for amphora in fresh.amphorae):
            loadbalancer = dataclasses.replace(self._tree.loadbalancer, due_at=fresh.loadbalancer.due_at)
            fresh = dataclasses.replace(self._tree, loadbalancer=loadbalancer, amphorae=fresh.amphorae)
        self._tree = fresh
        self._take_in(seen)

    def _take_in(self, seen: Observed) -> None:
        self._writes.generation = self._tree.generation
        timeout, heard = self.controller.heartbeat_timeout, seen.heard
        # A certificate that is good for less than twice the buffer would be near its end at once.
        buffer = min(self.controller.cert_expiry_buffer, self.controller.steps.options.cert_validity / 2)
        self.facts.rotate_before = utcnow() + timedelta(seconds=buffer)
        self._read_at, self._pending_for = time.monotonic(), seen.pending_for
        self.facts.silent = frozenset(key for key, said in heard.items() if said.ago > timeout)
        masters = [key for key, said in heard.items() if said.vrrp_state == "MASTER" and key not in self.facts.silent]
        self.facts.vrrp_master = masters[0] if len(masters) == 1 else None

    def _desired(self) -> tuple[Desired, dict[str, Bundle]]:
        tree, fence = self._tree, Fence(self.lease.epoch, self._serial, self.lease.owner)
        with within(self.controller.keeper.longest_step):  # it may ask the cloud
            return self._rendering.of(tree, serving(tree, self.facts), self.refusals.faults(tree.intended()), fence)

    # acting

    def _take(self, steps: Sequence[Step], desired: Desired, bundles: Mapping[str, Bundle]) -> None:
        records = {
            step: journal.StepRecord(
                id=str(uuid.uuid4()), what=step.kind, seam=SEAM_OF[step.kind], subject=step.subject
            )
            for step in steps
        }
        self._intend(steps, desired)

        def begin(conn: Connection) -> list[Step]:
            begun = self._admitted(conn, steps)
            if begun:
                journal.open_steps(conn, self._writes.operation, [records[step] for step in begun])
            return begun

        begun = self._write(begin)
        self.facts.queued |= {step.subject for step in steps if step not in begun}
        if begun:
            self.controller.keeper.begin_step(self.lease)
            until = time.monotonic() + self.controller.keeper.longest_step
            outcomes = self._side_by_side([self._effect(step, bundles, until) for step in begun])
            self.controller.keeper.end_step(self.lease)
            self._note({step: records[step] for step in begun}, outcomes)
            self._consider(begun, outcomes, bundles)

    def _intend(self, steps: Sequence[Step], desired: Desired) -> None:
        """Have the rows name what the steps are about to make, in the transaction that begins them."""
        for step in steps:
            self._leave(self.controller.steps.intent(step, self._tree, desired.subnet_ids))

    def _leave(self, record: Record) -> None:
        self._tree = applied(self._tree, record)
        self._writes.later(partial(write, record=record))

    def _admitted(self, conn: Connection, steps: Sequence[Step]) -> list[Step]:
        """These steps without boots for which others have to end first."""
        limit = self.controller.steps.options.build_rate_limit
        booting = [step.subject for step in steps if step.kind is Kind.BOOT_SERVER]
        if limit is None or not booting:
            return list(steps)
        let = amphorae.admit_boots(conn, booting, limit)
        return [step for step in steps if step.kind is not Kind.BOOT_SERVER or step.subject in let]

    def _effect(self, step: Step, bundles: Mapping[str, Bundle], until: float) -> Callable[[], Record | SeamError]:
        """What does the step, until that time of the monotonic clock at most, and returns what failed."""
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
                with within(until - time.monotonic()):
                    return effect()
            except SeamError as failure:
                return failure
            except TimeoutError as error:
                return too_slow(step, error)
            except Exception as error:
                return unforeseen(self.lease.loadbalancer_id, error)

        return outcome

    def _side_by_side(self, effects: Sequence[Callable[[], T]]) -> list[T]:
        others = [self.controller.executor.submit(effect) for effect in effects[1:]]
        return [effects[0](), *(other.result() for other in others)]

    def _note(self, steps: Mapping[Step, journal.StepRecord], outcomes: Sequence[Record | SeamError]) -> None:
        """Plan on from what the steps left behind; it is written with what comes next."""
        left = [left_by(self._tree, step, o) for step, o in zip(steps, outcomes, strict=True)]
        failed = {record.id: o for record, o in zip(steps.values(), outcomes, strict=True) if isinstance(o, SeamError)}
        self._writes.only_looked &= all(s.kind in LOOKS for s in steps) and not (any(left) or failed)
        self._writes.steps_done(record.id for record in steps.values() if record.id not in failed)
        for record in left:
            self._tree = applied(self._tree, record)

        def late(conn: Connection) -> None:
            for record in left:
                write(conn, record)
            for step_id, failure in failed.items():
                journal.step_failed(conn, step_id, failure)

        self._writes.later(late)

    def _consider(
        self, steps: Sequence[Step], outcomes: Sequence[Record | SeamError], bundles: Mapping[str, Bundle]
    ) -> None:
        """What failed steps mean; raises a failure with which this convergence cannot go on."""
        refusals = []
        for step, outcome in zip(steps, self._credible(steps, outcomes), strict=True):
            if isinstance(outcome, FenceRefused) or is_haproxys(outcome):
                refusals.append((step, outcome))
            elif isinstance(outcome, NOT_TAKEN) and step.kind is Kind.PUSH_BUNDLE:
                if forgets := plug_again(amphora_of(self._tree, step), outcome, self.facts):
                    self._leave(forgets)
                else:
                    self.facts.unreachable[step.subject] = outcome
            elif isinstance(outcome, BootFailed) or (isinstance(outcome, SeamError) and step.kind in OF_A_ROLE):
                self.facts.failed[amphora_of(self._tree, step).role] = outcome
            elif isinstance(outcome, SeamError) and step.kind in OPTIONAL:
                self.facts.undone[step] = outcome
            elif isinstance(outcome, SeamError):
                raise outcome
        for step, refusal in refusals[:1]:
            if isinstance(refusal, FenceRefused):
                self._go_past(step.subject, refusal)
            else:
                self.refusals.add(self._tree.intended(), refusal, bundles[step.subject].files[ProgramFile.HAPROXY])

    def _credible(self, steps: Sequence[Step], outcomes: Sequence[Record | SeamError]) -> Iterator[Record | SeamError]:
        """An epoch that no controller gave is its amphora's own fault: going past that would end the numbers."""
        for step, outcome in zip(steps, outcomes, strict=True):
            if isinstance(outcome, FenceRefused) and not self._is_credible(step.subject, outcome):
                yield incredible(step.subject, outcome)
            else:
                yield outcome

    def _is_credible(self, amphora_id: str, refused: FenceRefused) -> bool:
        ahead = refused.held.epoch - self.lease.epoch
        return ahead <= FURTHEST_AHEAD and amphora_id not in self._gone_past

    def _go_past(self, amphora_id: str, refused: FenceRefused) -> None:
        """An agent holds a later bundle: either we were overtaken, or the database is older than the agent."""
        self._writes.go_past(refused)
        self._gone_past.add(amphora_id)
        self._serial = 0

    # committing

    def _commit_applied(self) -> None:
        if self.refusals.pardon():
            return
        tree = self._tree
        intended = tree.intended()
        held = self.refusals.faults(intended)
        running = {unit: intended.rows.forms[unit] for unit in changed_units(intended) if unit not in held}
        refused = {row: fault for unit, fault in held.items() for row in refused_rows(tree, unit)}
        self._writes.later(lambda conn: commits.commit_children(conn, tree, refused, running))
        self.facts.committed_generation = tree.generation

    def _commit_converged(self, missed: Sequence[str]) -> bool:
        loadbalancer, generation = self._tree.loadbalancer, self._tree.generation
        if self.facts.committed_generation < generation:
            raise self.facts.unreachable[missed[0]]
        fault = fault_of(self.facts.unreachable[missed[0]], loadbalancer.fault) if missed else None

        is_failing = fault is not None or self.refusals.hold_any

        def record(conn: Connection) -> bool:
            again_in = LOOK_AGAIN if self.facts.leaving else None
            if is_failing:
                failing_for = commits.failing_for(conn, loadbalancer.id)
                again_in = failed_again(failing_for, self.controller.retry_interval_max)
            return commits.commit_converged(
                conn, loadbalancer.id, generation, fault, again_in, loadbalancer.due_at, is_failing=is_failing
            )

        more = self._end("done", record)
        if not more:
            self._count_change()
        self._announce_applied()
        return more

    def _commit_wait(self, waiting: SeamError) -> None:
        again_in = BOOT_POLL if self.facts.not_yet or self.facts.leaving else LOOK_AGAIN
        loadbalancer, generation = self._tree.loadbalancer, self._tree.generation
        is_told = loadbalancer.deleted_generation is not None  # its tenant waits until it is gone
        fault = fault_of(waiting, loadbalancer.fault) if is_told else None
        self._end(
            "waiting",
            lambda conn: commits.commit_wait(conn, loadbalancer.id, generation, again_in, fault),
            waiting,
        )

    def _commit_removed(self) -> None:
        gone = self._tree.loadbalancer
        self._end("done", lambda conn: commits.commit_deleted(conn, gone.id, gone.due_at))
        self._count_change()
        self.controller.announce(Event.DELETED, gone)

    def _announce_applied(self) -> None:
        loadbalancer = self._tree.loadbalancer
        if self._tree.generation > loadbalancer.observed_generation:
            self.controller.announce(Event.UPDATED if loadbalancer.observed_generation else Event.CREATED, loadbalancer)

    def _count_change(self) -> None:
        """Where this ended a change: how long its tenant waited."""
        is_new = self._tree.loadbalancer.observed_generation != self._tree.generation
        if is_new and self._pending_for is not None:
            metrics.CHANGES.labels(self.what).observe(self._pending_for + time.monotonic() - self._read_at)

    def _fail(self, failure: SeamError) -> None:
        tree, controller = self._tree, self.controller
        earlier = tree.loadbalancer.fault
        is_known = earlier is not None and earlier["code"] == failure.code  # told once, however often it is tried
        LOG.log(logging.DEBUG if is_known else logging.ERROR, "load balancer %s: %s", tree.loadbalancer.id, failure)
        metrics.failed(failure)
        is_served = self.facts.committed_generation == tree.generation
        is_final = failure.permanent and self.facts.not_yet <= self.facts.answering  # else the other half may serve
        is_shown_early = is_served and any(failure is each for each in self.facts.undone.values())

        def record(conn: Connection) -> bool:
            failing_for = commits.failing_for(conn, tree.loadbalancer.id)
            decision = retry(is_final, failing_for, controller.retry_pending_seconds, controller.retry_interval_max)
            shown = ProvisioningStatus.ACTIVE if is_served else ProvisioningStatus.ERROR
            commits.commit_failure(
                conn,
                tree.loadbalancer.id,
                tree.generation,
                fault_of(failure, tree.loadbalancer.fault),
                shown=shown if decision.show or is_shown_early else None,
                retry_in=min(decision.after, LOOK_AGAIN) if self.facts.not_yet else decision.after,
            )
            return is_served and (decision.show or is_shown_early)

        if self._end("failed", record, failure):
            self._announce_applied()

    # writing

    def _end(self, state: str, work: Callable[[Connection], T] = nothing, failure: SeamError | None = None) -> T:
        """The last transaction: the operation ends and the lease is given back."""
        with self._counting_what_is_recorded():
            result = self._writes.end(state, work, failure)
        self.outcome = state
        return result

    def _write(self, work: Callable[[Connection], T]) -> T:
        with self._counting_what_is_recorded():
            return self._writes.write(work)

    @contextmanager
    def _counting_what_is_recorded(self) -> Iterator[None]:
        """A commit of children that was not written did not happen."""
        try:
            yield
        except Exception:
            self.facts.committed_generation = self._recorded_generation
            raise
        self._recorded_generation = self.facts.committed_generation


def _what(tree: Tree) -> str:
    if tree.loadbalancer.deleted_generation is not None:
        return "delete"
    if tree.loadbalancer.observed_generation == 0:
        return "create"
    return "failover" if any(a.replace_generation is not None for a in tree.amphorae) else "update"
