# SPDX-License-Identifier: Apache-2.0
"""Moves each job from hire to payment: one table of steps, each idempotent, so that a killed worker goes on.

A step looks at the row, the chain's view and the clock of the chain, does at most one thing, and names the
next state. What the chain says wins over what this machine remembers; the absence of an answer changes nothing.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpubond.chain.contracts import Call, Contracts
from gpubond.chain.index import JobRecord, MarketIndex
from gpubond.chain.market import Status
from gpubond.chain.outbox import OutboxState
from gpubond.chain.sender import Sender
from gpubond.errors import BadInput, GpuBondError, Refused
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.manifest import commit_outputs
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider.cancellations import CANCELLABLE, Cancellations, can_decline
from gpubond.provider.executors.attempt import Attempt
from gpubond.provider.executors.process import ProcessExecutor
from gpubond.provider.inputs import JobInputs
from gpubond.provider.policy import refusal_of_spec, refusal_of_terms
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import Work, WorkLog, WorkState
from gpubond.settings import GatewaySettings, ProviderSettings

logger = logging.getLogger(__name__)

# Seconds before the acknowledgement deadline at which a job without inputs is given back: time for the
# transaction, at most a quarter of the window.
DECLINE_MARGIN = 60
# Attempts at a job whose run failed by this machine's fault.
MAX_ATTEMPTS = 3

# What the chain says in the end -> how the job ended here.
_ENDS = {
    Status.SETTLED: WorkState.SETTLED,
    Status.DECLINED: WorkState.DECLINED,
    Status.EXPIRED: WorkState.EXPIRED,
    Status.CONVICTED: WorkState.CONVICTED,
}

Step = Callable[[Work, JobRecord], None]


@dataclass(frozen=True)
class _Finished:
    """A run that ended, and what was kept of it; no result if this machine failed."""

    attempt: Attempt
    result: dict[str, Any] | None


class Dispatcher:
    """Runs this provider's jobs.

    Args:
        provider_address: whose jobs.
        slots: jobs at once.
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
        executor: ProcessExecutor,
        provider: ProviderSettings,
        gateway: GatewaySettings,
        slots: int,
        cancellations: Cancellations,
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
        self._slots = slots
        self._cancellations = cancellations
        self._pool = ThreadPoolExecutor(max_workers=slots, thread_name_prefix="run")
        self._running: dict[str, threading.Event] = {}
        self._finished: dict[str, _Finished | BaseException] = {}
        self._lock = threading.Lock()
        self._draining = False
        self._steps: dict[WorkState, Step] = {
            WorkState.HIRED: self._check_hire,
            WorkState.AWAITING_INPUTS: self._await_inputs,
            WorkState.READY: self._start,
            WorkState.RUNNING: self._collect,
            WorkState.CANCELLING: self._cancel,
            WorkState.EXECUTED: self._decide,
            WorkState.COMMITTING: self._follow_commit,
            WorkState.COMMITTED: self._await_settlement,
            WorkState.SETTLING: self._follow_settlement,
            WorkState.DECLINING: self._follow_decline,
        }

    @property
    def busy(self) -> int:
        """Runs in progress."""
        return len(self._running)

    def recover(self) -> None:
        """After a start: runs of the former process died with it; they are taken up again from the beginning."""
        for work in self._work.unfinished():
            if work.state == WorkState.RUNNING:
                logger.info("job %s was running when the worker stopped; it runs again", work.job)
                self._work.move(work.job, WorkState.READY, reason="worker_restarted")

    def reconcile(self) -> None:
        """Both ways: adopts jobs on chain that are not known here, and ends work that the chain has ended."""
        for record in self._index.jobs(provider=self._provider_address, live_only=True):
            if record.status == Status.ACTIVE and self._work.adopt(record.job):
                logger.info("job %s: hired by %s", record.job, record.terms.buyer)
        for work in self._work.unfinished():
            known = self._index.job(work.job)
            if known is not None and known.status in _ENDS:
                self._end(work, _ENDS[known.status], known)

    def tick(self) -> None:
        """One step of every unfinished job; a job whose step fails does not hold up the others."""
        for work in self._work.unfinished():
            record = self._index.job(work.job)
            if record is None:
                # Reorganised away, or the node lags. Its id depends on its block's time, so it may never return;
                # the static call before a transaction keeps us from committing to nothing.
                continue
            if record.status in _ENDS:
                self._end(work, _ENDS[record.status], record)
                continue
            try:
                self._step_of(work)(work, record)
            except GpuBondError as error:
                logger.warning("job %s in %s: %s", work.job, work.state, error)
            except Exception:
                logger.exception("job %s in %s: the step failed and is tried again", work.job, work.state)

    def _step_of(self, work: Work) -> Step:
        if work.state in CANCELLABLE and self._cancellations.heard(work.job) is not None:
            return self._begin_cancel
        return self._steps[work.state]

    def drain(self) -> None:
        """Starts nothing new from now on."""
        self._draining = True

    def stop(self) -> None:
        """Ends runs in progress; they are taken up again at the next start."""
        with self._lock:
            for cancel in self._running.values():
                cancel.set()
        self._pool.shutdown(wait=True)

    def _check_hire(self, work: Work, record: JobRecord) -> None:
        refusal = refusal_of_terms(record.terms)
        if refusal is not None:
            self._decline(work, record, "policy", refusal)
            return
        self._work.move(work.job, WorkState.AWAITING_INPUTS)

    def _await_inputs(self, work: Work, record: JobRecord) -> None:
        terms = record.terms
        try:
            spec = self._inputs.spec(terms)
        except BadInput as error:
            self._decline(work, record, "spec_invalid", str(error))
            return
        if spec is not None:
            refusal = refusal_of_spec(terms, spec, self._provider, self._gateway)
            if refusal is not None:
                self._decline(work, record, "policy", refusal)
                return
        missing = self._inputs.missing(terms)
        if not missing:
            self._work.move(work.job, WorkState.READY)
            logger.info("job %s: all inputs are here", work.job)
            return
        margin = min(DECLINE_MARGIN, (terms.acknowledge_by - terms.matched_at) // 4)
        now = self._contracts.now()
        if now > terms.deliver_by:
            self._work.move(work.job, WorkState.ABANDONED, reason="deadline_passed")
        elif terms.acknowledge_by - margin <= now <= terms.acknowledge_by:
            self._decline(
                work,
                record,
                "inputs_missing",
                f"{len(missing)} blobs had not arrived: {', '.join(missing[:4])}",
            )

    def _start(self, work: Work, record: JobRecord) -> None:
        if self._draining or len(self._running) >= self._slots or work.job in self._running:
            return
        if self._contracts.now() > record.terms.deliver_by:
            self._work.move(work.job, WorkState.ABANDONED, reason="deadline_passed")
            return
        spec = self._inputs.spec(record.terms)
        if spec is None or self._inputs.missing(record.terms):
            self._work.move(work.job, WorkState.AWAITING_INPUTS, reason="inputs_lost")
            return
        cancel = threading.Event()
        with self._lock:
            self._running[work.job] = cancel
        self._work.move(work.job, WorkState.RUNNING, new_attempt=True)
        logger.info("job %s: running %s (%s)", work.job, spec.name, spec.runtime)
        self._pool.submit(self._run, work.job, spec, self._stores.of(record.terms.buyer), cancel)

    def _run(self, job: str, spec: JobSpec, blobs: BlobStore, cancel: threading.Event) -> None:
        outcome: _Finished | BaseException
        try:
            attempt = self._executor.run(job, spec, blobs, cancel=cancel)
            usable = attempt.reason.fault != "machine" and attempt.reason != Reason.CANCELLED
            outcome = _Finished(attempt, _keep(job, attempt, blobs) if usable else None)
        except BaseException as error:  # the step that collects it decides what follows
            outcome = error
        with self._lock:
            self._finished[job] = outcome
            self._running.pop(job, None)

    def _begin_cancel(self, work: Work, record: JobRecord) -> None:
        logger.info("job %s: cancelled by its buyer", work.job)
        self._work.move(work.job, WorkState.CANCELLING, reason=Reason.CANCELLED_BY_BUYER)

    def _cancel(self, work: Work, record: JobRecord) -> None:
        now, heard = self._contracts.now(), self._cancellations.heard(work.job)
        with self._lock:
            running = self._running.get(work.job)
            if running is not None:
                running.set()
                return
            outcome = self._finished.pop(work.job, None)
        attempt = outcome.attempt if isinstance(outcome, _Finished) else None
        if isinstance(outcome, _Finished) and outcome.result is not None:
            # It ended by itself before it could be stopped.
            self._work.move(
                work.job, WorkState.EXECUTED, reason=outcome.attempt.reason, detail="", result=outcome.result
            )
        elif can_decline(record.terms, now):
            self._decline(work, record, Reason.CANCELLED_BY_BUYER, Reason.CANCELLED_BY_BUYER.meaning)
        else:
            # What is heard within the window costs its buyer nothing, however late the run stops.
            in_time = heard is not None and heard <= record.terms.acknowledge_by
            seconds = 0 if attempt is None or in_time else attempt.seconds
            result = _failed(work.job, self._stores.of(record.terms.buyer), Reason.CANCELLED_BY_BUYER, seconds, attempt)
            self._work.move(work.job, WorkState.EXECUTED, reason=Reason.CANCELLED_BY_BUYER, result=result)

    def _collect(self, work: Work, record: JobRecord) -> None:
        with self._lock:
            outcome = self._finished.pop(work.job, None)
            running = work.job in self._running
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
            self._work.move(work.job, WorkState.READY, reason=Reason.CANCELLED)
            return
        self._work.move(
            work.job, WorkState.EXECUTED, reason=attempt.reason, detail=attempt.detail, result=outcome.result
        )
        logger.info("job %s: %s after %d s on %s", work.job, attempt.reason, attempt.seconds, attempt.device)

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
            self._submit(work, "commit", call, WorkState.COMMITTING)
            return
        if work.attempts < MAX_ATTEMPTS:
            self._work.move(work.job, WorkState.READY, reason="retry")
            return
        self._decline(work, record, work.reason or Reason.INTERNAL, work.detail or "this machine failed")

    def _follow_commit(self, work: Work, record: JobRecord) -> None:
        if record.status in (Status.COMMITTED, Status.DISPUTED):
            self._work.move(work.job, WorkState.COMMITTED)
            logger.info("job %s: committed", work.job)
            return
        self._again_if_dropped(work, "commit", WorkState.EXECUTED)

    def _await_settlement(self, work: Work, record: JobRecord) -> None:
        if record.status == Status.ACTIVE:  # the commitment was reorganised away
            self._work.move(work.job, WorkState.COMMITTING, reason="reorg")
            return
        commitment = record.commitment
        if record.status != Status.COMMITTED or commitment is None:
            return
        if self._contracts.now() >= commitment.committed_at + record.terms.challenge_window:
            self._submit(work, "settle", self._contracts.settle(record.terms, commitment), WorkState.SETTLING)

    def _follow_settlement(self, work: Work, record: JobRecord) -> None:
        entry = self._sender.entry(f"settle:{work.job}")
        if entry is not None and entry.state == OutboxState.REVERTED:
            return  # somebody was quicker, and the index shows it as soon as it has followed
        self._again_if_dropped(work, "settle", WorkState.COMMITTED)

    def _follow_decline(self, work: Work, record: JobRecord) -> None:
        if self._sender.entry(f"decline:{work.job}") is not None:
            self._again_if_dropped(work, "decline", WorkState.ABANDONED)
        elif self._contracts.now() <= record.terms.acknowledge_by:
            # The worker died, or the node failed, between noting the decline and sending it.
            self._submit(work, "decline", self._contracts.decline(record.terms), WorkState.DECLINING)
        elif work.reason == "inputs_missing":
            # Too late to give it back; the inputs may still come in time.
            self._work.move(work.job, WorkState.AWAITING_INPUTS)
        else:
            self._give_up(work, record, work.reason, "it is too late to decline")

    def _give_up(self, work: Work, record: JobRecord, reason: str | None, why: str) -> None:
        if self._contracts.now() > record.terms.deliver_by:
            logger.error("job %s: %s: %s; the collateral is lost", work.job, reason, why)
            self._work.move(work.job, WorkState.ABANDONED, reason=reason)
            return
        # Else whoever can make this machine fail collects its collateral. A failure of no seconds costs its
        # buyer nothing.
        logger.error("job %s: %s: %s; committing a failed run of no seconds", work.job, reason, why)
        result = _failed(work.job, self._stores.of(record.terms.buyer))
        self._work.move(work.job, WorkState.EXECUTED, reason=reason, result=result)

    def _decline(self, work: Work, record: JobRecord, reason: str, detail: str) -> None:
        if self._contracts.now() > record.terms.acknowledge_by:
            self._give_up(work, record, reason, f"it is too late to decline: {detail}")
            return
        logger.info("job %s: declining, %s: %s", work.job, reason, detail)
        self._work.move(work.job, WorkState.DECLINING, reason=reason, detail=detail)
        self._submit(work, "decline", self._contracts.decline(record.terms), WorkState.DECLINING)

    def _submit(self, work: Work, action: str, call: Call, following: WorkState) -> None:
        try:
            entry = self._sender.submit(f"{action}:{work.job}", call.to, call.data)
        except Refused as error:
            # The contract's state may be newer than the index; if it stays so, the deadline ends the job.
            logger.warning("job %s: %s is refused: %s", work.job, action, error.message)
            return
        logger.info("job %s: %s sent in %s", work.job, action, entry.tx_hash)
        self._work.move(work.job, following)

    def _again_if_dropped(self, work: Work, action: str, back: WorkState) -> None:
        entry = self._sender.entry(f"{action}:{work.job}")
        if entry is None or entry.state == OutboxState.DISPLACED:
            self._work.move(work.job, back)
        elif entry.state == OutboxState.REVERTED:
            logger.error("job %s: %s was mined and refused: %s", work.job, action, entry.reason)
            self._work.move(work.job, WorkState.ABANDONED, reason=f"{action}_reverted", detail=entry.reason or "")

    def _end(self, work: Work, state: WorkState, record: JobRecord) -> None:
        with self._lock:
            cancel = self._running.get(work.job)
        if cancel is not None:
            cancel.set()
        self._work.move(work.job, state)
        logger.info("job %s: %s (%s)", work.job, state, record.final_tx)


def _failed(
    job: str,
    blobs: BlobStore,
    reason: Reason = Reason.INTERNAL,
    seconds: int = 0,
    stopped: Attempt | None = None,
) -> dict[str, Any]:
    """The result of a job that was not run to its end here: no outputs, and as a rule no seconds."""
    device = "none" if stopped is None else stopped.device
    attempt = Attempt(reason.exit_code, reason, seconds, reason.meaning, Path(), False, {}, device)
    return _keep(job, attempt, blobs)


def _keep(job: str, attempt: Attempt, blobs: BlobStore) -> dict[str, Any]:
    """Commits to the outputs and moves them into the buyer's store; what the gateway and `commit` need of it."""
    commitment = commit_outputs(
        job=job,
        exit_code=attempt.exit_code,
        reason=attempt.reason,
        seconds=attempt.seconds,
        device=attempt.device,
        files=attempt.outputs,
    )
    # Outputs are bounded by limits.disk_mib, so they too may go beyond what the inputs have filled.
    names = [blobs.put_file(path, beyond_quota=True) for path in attempt.outputs.values()]
    manifest = hashlib.sha256(commitment.manifest).hexdigest()
    # Less than a MiB, and beyond the quota: a buyer who fills it must not keep us from committing.
    blobs.put([commitment.manifest], manifest, len(commitment.manifest), beyond_quota=True)
    return {
        "root": "0x" + commitment.root.hex(),
        "manifest": manifest,
        "blobs": names,
        "exit_code": attempt.exit_code,
        "seconds": attempt.seconds,
        "device": attempt.device,
        "bundle_size": commitment.bundle_size,
        "chunk_count": commitment.chunk_count,
    }
