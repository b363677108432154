# SPDX-License-Identifier: Apache-2.0
"""Moves each job from hire to payment: one table of steps, each idempotent, so that a killed worker goes on.

A step looks at the row, the chain's view and the clock of the chain, does at most one thing, and names the
next state. What the chain says wins over what this machine remembers; the absence of an answer changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gpubond.chain.clock import HeadClock
from gpubond.chain.contracts import Contracts
from gpubond.chain.index import JobRecord, MarketIndex
from gpubond.chain.market import Status, Tier
from gpubond.chain.sender import Sender
from gpubond.errors import BadInput, GpuBondError
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider.cancellations import CANCELLABLE, Cancellations, can_decline, decline_margin
from gpubond.provider.exact_jobs import ExactJobs
from gpubond.provider.exact_steps import ExactSteps
from gpubond.provider.executors.attempt import Executor
from gpubond.provider.giving_back import GivingBack
from gpubond.provider.inputs import JobInputs
from gpubond.provider.payment import Payment
from gpubond.provider.policy import refusal_of_spec, refusal_of_terms
from gpubond.provider.runs import Finished, Runs, failed_result
from gpubond.provider.sending import Sending
from gpubond.provider.sparing import Sparing
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import FINAL_STATES, Work, WorkLog, WorkState
from gpubond.settings import GatewaySettings, ProviderSettings
from gpubond.store.boundaries import boundary

logger = logging.getLogger(__name__)

# Attempts at a job whose run failed by the fault of this machine or the network.
MAX_ATTEMPTS = 3
# Starts of one job, with those that ended with the worker: a job that kills the worker must not do so for ever.
MAX_STARTS = 6
# Steps that a job takes at once at most; from hire to run it takes three.
MAX_STEPS = 5
# Blocks after which a hire that a reorg removed is given up; should it come back, so does the job.
ABSENT_BLOCKS = 64

# What the chain says in the end -> how the job ended here.
_ENDS = {
    Status.SETTLED: WorkState.SETTLED,
    Status.DECLINED: WorkState.DECLINED,
    Status.EXPIRED: WorkState.EXPIRED,
    Status.CONVICTED: WorkState.CONVICTED,
}

# Before these the worker has not noted a commitment: if the chain has one all the same, the chain is right.
_UNCOMMITTED = frozenset(
    {
        WorkState.HIRED,
        WorkState.AWAITING_INPUTS,
        WorkState.READY,
        WorkState.RUNNING,
        WorkState.CANCELLING,
        WorkState.EXECUTED,
        WorkState.DECLINING,
    }
)

_HIRE_REORGED = "hire_reorged"
# What a job of tier EXACT that is not delivered yet may still be given back from.
_PROMISED = frozenset({WorkState.AWAITING_INPUTS, WorkState.READY, WorkState.RUNNING})
# Nothing is left to run, and the chain does not know of it yet.
_OWED = frozenset({WorkState.CANCELLING, WorkState.EXECUTED, WorkState.COMMITTING, WorkState.DECLINING})

Step = Callable[[Work, JobRecord], None]


class Dispatcher:
    """Runs this provider's jobs.

    Args:
        provider_address: whose jobs.
        slots: jobs at once.
        cancellations: buyers' wishes to end a job.
        position: the block up to which the index knows the chain.
        exact: judges jobs of tier EXACT.
        on_run_ended: called from a run's own thread when its outcome can be taken.
    """

    def __init__(
        self,
        *,
        provider_address: str,
        contracts: Contracts,
        index: MarketIndex,
        sender: Sender,
        work: WorkLog,
        stores: BuyerStores,
        inputs: JobInputs,
        executor: Executor,
        provider: ProviderSettings,
        gateway: GatewaySettings,
        slots: int,
        cancellations: Cancellations,
        position: Callable[[], int],
        exact: ExactJobs,
        on_run_ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._provider_address = provider_address
        self._contracts = contracts
        self._index = index
        self._sender = sender
        self._work = work
        self._stores = stores
        self._inputs = inputs
        self._executor = executor
        self._provider = provider
        self._gateway = gateway
        self._runs = Runs(executor, slots, on_run_ended)
        self._cancellations = cancellations
        self._absent_since: dict[str, int] = {}
        self._draining = False
        self._clock = HeadClock(contracts.node)
        self._sparing = Sparing(logger)
        self._sending = Sending(contracts, self._clock, index, sender, work, self._sparing, position)
        self._giving_back = GivingBack(self._clock, sender, work, stores, self._sending)
        self._exact = ExactSteps(exact, self._clock, inputs, stores, self._runs, self._giving_back)
        self._payment = Payment(self._clock, work, self._sending, provider.settle_wait_seconds)
        self._steps: dict[WorkState, Step] = {
            WorkState.HIRED: self._check_hire,
            WorkState.AWAITING_INPUTS: self._await_inputs,
            WorkState.READY: self._start,
            WorkState.RUNNING: lambda work, record: self._take_outcome(work),
            WorkState.CANCELLING: self._cancel,
            WorkState.EXECUTED: self._decide,
            WorkState.COMMITTING: self._follow_commit,
            WorkState.COMMITTED: self._payment.await_due,
            WorkState.SETTLING: self._payment.follow,
            WorkState.DECLINING: self._giving_back.follow,
        }

    @property
    def busy(self) -> int:
        """Runs in progress."""
        return len(self._runs.jobs)

    @property
    def owed(self) -> int:
        """Ended runs and declines whose transaction is not confirmed yet."""
        ended = self._runs.ended
        return sum(
            work.state in _OWED or (work.state == WorkState.RUNNING and work.job in ended)
            for work in self._work.unfinished()
        )

    def recover(self) -> None:
        """After a start: runs of the former process died with it; they are taken up again from the beginning."""
        left = self._executor.end_leftovers()
        if left:
            logger.info("ended %d processes and containers that a former worker left", left)
        for work in self._work.unfinished():
            if work.state != WorkState.RUNNING:
                continue
            if work.attempts >= MAX_STARTS:
                logger.error("job %s: the worker died in %d of its runs; it is given up", work.job, work.attempts)
                detail = f"the worker died {work.attempts} times while the job ran"
                self._work.move(work.job, WorkState.EXECUTED, reason=Reason.INTERNAL, detail=detail)
                continue
            logger.info("job %s was running when the worker stopped; it runs again", work.job)
            self._work.move(work.job, WorkState.READY, reason="worker_restarted")

    def reconcile(self) -> None:
        """Both ways: adopts jobs on chain that are not known here, opens again what ended here and, after a reorg,
        lives on chain, and ends work that the chain has ended."""
        for record in self._index.jobs(provider=self._provider_address, live_only=True):
            # Also what was committed already: after a loss of the store somebody must ask for the payment.
            if self._work.adopt(record.job):
                logger.info("job %s: hired by %s", record.job, record.terms.buyer)
                continue
            work = self._work.get(record.job)
            if work is not None and work.state in FINAL_STATES:
                self._reopen(work, record)
        for work in [*self._work.unfinished(), *self._work.in_state(WorkState.ABANDONED)]:
            known = self._index.job(work.job)
            if known is not None and known.status in _ENDS:
                self._end(work, _ENDS[known.status], known)

    def tick(self) -> None:
        """Takes every unfinished job as far as it goes without waiting; one whose step fails does not hold up the
        others."""
        self._clock.renew()
        self._sending.begin()
        for work in self._work.unfinished():
            try:
                self._advance(work)
            except GpuBondError as error:
                key = (work.job, work.state, error.code, error.field)
                self._sparing.warn(key, "job %s in %s: %s", work.job, work.state, error)
            except Exception:
                logger.exception("job %s in %s: the step failed and is tried again", work.job, work.state)
        self._payment.settle_due()
        self._sending.flush()

    def _advance(self, work: Work) -> None:
        for _ in range(MAX_STEPS):
            moves = self._work.moves
            self._step(work)
            # Most jobs wait at most looks, and reading each of them again would double the cost of a look.
            now = self._work.get(work.job) if self._work.moves != moves else None
            if now is None or now.state == work.state or now.state in FINAL_STATES:
                return
            work = now

    def _step(self, work: Work) -> None:
        record = self._index.job(work.job)
        if record is None:
            self._miss(work)
            return
        self._absent_since.pop(work.job, None)
        if record.status in _ENDS:
            self._end(work, _ENDS[record.status], record)
        elif record.status in (Status.COMMITTED, Status.DISPUTED) and work.state in _UNCOMMITTED:
            self._take_over(work)
        elif work.state in _PROMISED and self._exact.doubts(work, record):
            pass
        elif work.state in CANCELLABLE and self._cancellations.ends(record, self._clock.now):
            logger.info("job %s: cancelled by its buyer", work.job)
            self._work.move(work.job, WorkState.CANCELLING, reason=Reason.CANCELLED_BY_BUYER)
        else:
            self._steps[work.state](work, record)

    def _miss(self, work: Work) -> None:
        """A job whose hire a reorg removed. It may come back, but its id depends on its block's time; the static call
        before a transaction keeps us from committing to nothing."""
        head = self._clock.block_number()
        since = self._absent_since.setdefault(work.job, head)
        if head - since >= ABSENT_BLOCKS:
            self._runs.cancel(work.job)
            self._work.move(work.job, WorkState.ABANDONED, reason=_HIRE_REORGED)
            self._absent_since.pop(work.job)
            logger.warning("job %s: a reorg removed its hire", work.job)

    def _reopen(self, work: Work, record: JobRecord) -> None:
        if record.status != Status.ACTIVE:
            state = WorkState.COMMITTED
        elif work.state == WorkState.ABANDONED and work.reason != _HIRE_REORGED:
            return
        elif work.state == WorkState.DECLINED and self._sender.entry(f"decline:{work.job}") is not None:
            state = WorkState.DECLINING
        else:
            state = WorkState.HIRED if work.result is None else WorkState.EXECUTED
        logger.warning("job %s: %s here, but the chain has it %s again", work.job, work.state, record.status.name)
        self._work.move(work.job, state)

    def drain(self) -> None:
        """Starts nothing new from now on."""
        self._draining = True

    def stop(self) -> None:
        """Ends runs in progress; they are taken up again at the next start."""
        self._runs.stop()
        for work in self._work.in_state(WorkState.RUNNING):
            self._take_outcome(work)

    def _take_over(self, work: Work) -> None:
        """A store that was restored from a backup knows less than the chain: the payment is seen to all the same."""
        self._runs.cancel(work.job)
        logger.info("job %s: %s here, and committed on chain already", work.job, work.state)
        # A worker that died just after its commitment comes here as well; how the run ended stays on record.
        reason = None if work.result is not None else "committed_before"
        self._work.move(work.job, WorkState.COMMITTED, reason=reason)

    def _check_hire(self, work: Work, record: JobRecord) -> None:
        offered = self._index.offer("0x" + record.terms.offer.hex())
        refusal = refusal_of_terms(
            record.terms,
            offered_class=None if offered is None else offered.offer.class_name,
            provider=self._provider,
            token=self._contracts.token_info,
        )
        if refusal is not None:
            self._giving_back.decline(work, record, "policy", refusal)
            return
        self._work.move(work.job, WorkState.AWAITING_INPUTS)

    def _await_inputs(self, work: Work, record: JobRecord) -> None:
        terms = record.terms
        try:
            spec = self._inputs.spec(terms)
        except BadInput as error:
            self._giving_back.decline(work, record, "spec_invalid", str(error))
            return
        if spec is not None:
            refusal = refusal_of_spec(terms, spec, self._provider, self._gateway)
            if refusal is not None:
                self._giving_back.decline(work, record, "policy", refusal)
                return
        missing = self._inputs.missing(terms)
        if spec is not None and spec.tier is not None and not self._exact.accepts(work, record, spec, bool(missing)):
            return
        if not missing:
            boundary("inputs:complete")
            self._work.move(work.job, WorkState.READY)
            boundary("inputs:noted")
            logger.info("job %s: all inputs are here", work.job)
            return
        self._inputs.fetch(terms)
        now = self._clock.now()
        if now > terms.deliver_by:
            self._work.move(work.job, WorkState.ABANDONED, reason="deadline_passed")
        elif terms.acknowledge_by - decline_margin(terms) <= now <= terms.acknowledge_by:
            self._giving_back.decline(
                work,
                record,
                "inputs_missing",
                f"{len(missing)} blobs had not arrived: {', '.join(missing[:4])}",
            )

    def _start(self, work: Work, record: JobRecord) -> None:
        if self._draining or work.job in self._runs.jobs:
            return
        if self._runs.full:
            # A run whose hire a reorg removed goes on only while nobody needs its place.
            for job in self._runs.jobs:
                if self._index.job(job) is None:
                    self._runs.cancel(job)
            return
        if self._clock.now() > record.terms.deliver_by:
            self._work.move(work.job, WorkState.ABANDONED, reason="deadline_passed")
            return
        spec = self._inputs.spec(record.terms)
        if spec is None or self._inputs.missing(record.terms):
            self._work.move(work.job, WorkState.AWAITING_INPUTS, reason="inputs_lost")
            return
        if not self._executor.has_room(spec):
            self._wait_for_room(work, record, spec)
            return
        self._work.move(work.job, WorkState.RUNNING, new_attempt=True)
        logger.info("job %s: running %s (%s)", work.job, spec.name, spec.runtime)
        self._runs.start(work.job, spec, self._stores.of(record.terms.buyer), self._runs.claim(work.job))

    def _wait_for_room(self, work: Work, record: JobRecord, spec: JobSpec) -> None:
        """While the disk is full a job waits; it is given back before that costs the collateral."""
        terms, now = record.terms, self._clock.now()
        last_start = terms.deliver_by - spec.limits.seconds
        if terms.acknowledge_by - decline_margin(terms) <= now <= terms.acknowledge_by or now > last_start:
            self._giving_back.decline(work, record, Reason.DISK_FULL, Reason.DISK_FULL.meaning)
            return
        words = "job %s waits: the disk has less room than its limits.disk_mib"
        self._sparing.warn((work.job, "room"), words, work.job)

    def _take_outcome(self, work: Work) -> None:
        outcome, running = self._runs.take(work.job)
        if outcome is None:
            if not running:
                self._work.move(work.job, WorkState.READY, reason="worker_restarted")
            return
        if isinstance(outcome, BaseException):
            logger.error("job %s: the executor failed", work.job, exc_info=outcome)
            self._work.move(
                work.job,
                WorkState.EXECUTED,
                reason=Reason.INTERNAL,
                detail=f"{type(outcome).__name__}: the worker's log says more",
            )
            return
        attempt = outcome.attempt
        if attempt.reason == Reason.CANCELLED:
            # We ended it ourselves, so it is no failed attempt.
            self._work.move(work.job, WorkState.READY, reason=Reason.CANCELLED, undo_attempt=True)
            return
        self._work.move(
            work.job, WorkState.EXECUTED, reason=attempt.reason, detail=attempt.detail, result=outcome.result
        )
        logger.info("job %s: %s after %d s on %s", work.job, attempt.reason, attempt.seconds, attempt.device)

    def _cancel(self, work: Work, record: JobRecord) -> None:
        outcome, running = self._runs.take(work.job)
        if running:
            self._runs.cancel(work.job)
            return
        attempt = outcome.attempt if isinstance(outcome, Finished) else None
        if attempt is not None and isinstance(outcome, Finished) and outcome.result is not None:
            # It ended by itself before it could be stopped.
            self._work.move(work.job, WorkState.EXECUTED, reason=attempt.reason, detail="", result=outcome.result)
        elif can_decline(record.terms, self._clock.now()):
            self._giving_back.decline(work, record, Reason.CANCELLED_BY_BUYER, Reason.CANCELLED_BY_BUYER.meaning)
        else:
            seconds = self._cancellations.owed(record, self._used(record, outcome))
            blobs = self._stores.of(record.terms.buyer)
            result = failed_result(work.job, blobs, Reason.CANCELLED_BY_BUYER, seconds, attempt)
            self._work.move(work.job, WorkState.EXECUTED, reason=Reason.CANCELLED_BY_BUYER, result=result)

    def _used(self, record: JobRecord, outcome: Finished | BaseException | None) -> int:
        """Seconds of a run that its buyer stopped; those of one that failed by this machine's fault are not paid."""
        if outcome is None:  # the run died with the former worker, or never began
            used = self._cancellations.used(record.job, self._work.history(record.job))
            return min(used, record.terms.longest_run)
        if isinstance(outcome, Finished) and outcome.attempt.reason == Reason.CANCELLED:
            return outcome.attempt.seconds
        return 0

    def _decide(self, work: Work, record: JobRecord) -> None:
        if work.result is not None:
            result = work.result
            call = self._contracts.commit(
                record.terms,
                bytes.fromhex(result["root"].removeprefix("0x")),
                chunks=result["chunk_count"],
                exit_status=result["exit_code"],
                seconds_used=result["seconds"],
                tasks_done=record.terms.tasks if result["exit_code"] == 0 else 0,
            )
            self._sending.submit(work, "commit", call, WorkState.COMMITTING)
            return
        # Its own fault would come again; a job of tier EXACT has no failed run that could be committed.
        workload = record.terms.tier == Tier.EXACT and any(
            item == work.reason and not item.is_no_result for item in Reason
        )
        if work.attempts < MAX_ATTEMPTS and not workload:
            self._work.move(work.job, WorkState.READY, reason="retry")
            return
        self._giving_back.after_runs(work, record, work.reason or Reason.INTERNAL, work.detail or "this machine failed")

    def _follow_commit(self, work: Work, record: JobRecord) -> None:
        if record.status in (Status.COMMITTED, Status.DISPUTED):
            self._work.move(work.job, WorkState.COMMITTED)
            logger.info("job %s: committed", work.job)
            return
        self._sending.again_if_lost(work, "commit", WorkState.EXECUTED)

    def _end(self, work: Work, state: WorkState, record: JobRecord) -> None:
        self._runs.cancel(work.job)
        self._exact.forget(work.job)
        self._work.move(work.job, state)
        logger.info("job %s: %s (%s)", work.job, state, record.final_tx)
