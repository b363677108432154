# SPDX-License-Identifier: Apache-2.0
"""A job's transactions: each sent once for its purpose, and tried again where it cannot have its effect any more.

Declines and settlements that are due at the same look go together, which costs a third of the gas. Each keeps a purpose
of its own in the outbox, so nothing is different for a job that shares a transaction: not its record, not what a
restart finds. What was once mined in vain goes alone, as does what would have no effect now.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpubond.chain.clock import HeadClock
from gpubond.chain.contracts import MAX_BATCH, Call, Contracts
from gpubond.chain.index import JobRecord, MarketIndex
from gpubond.chain.market import Commitment, JobTerms
from gpubond.chain.outbox import OutboxState
from gpubond.chain.sender import Sender
from gpubond.errors import GpuBondError, NotEnough, Refused
from gpubond.provider.sparing import Sparing
from gpubond.provider.work import Work, WorkLog, WorkState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Kind:
    """A transaction that several jobs can share: the state that follows it, and its two forms."""

    following: WorkState
    alone: Callable[[JobRecord], Call]
    together: Callable[[Sequence[JobRecord]], Call]


class Sending:
    """Sends for jobs and moves their rows accordingly.

    Args:
        position: the block up to which the index knows the chain.
    """

    def __init__(
        self,
        contracts: Contracts,
        clock: HeadClock,
        index: MarketIndex,
        sender: Sender,
        work: WorkLog,
        sparing: Sparing,
        position: Callable[[], int],
    ) -> None:
        self._contracts = contracts
        self._clock = clock
        self._index = index
        self._sender = sender
        self._work = work
        self._sparing = sparing
        self._position = position
        self._seen = -1
        self._kinds = {
            "decline": _Kind(
                WorkState.DECLINING,
                lambda record: contracts.decline(record.terms),
                lambda records: contracts.decline_many([record.terms for record in records]),
            ),
            "settle": _Kind(
                WorkState.SETTLING,
                lambda record: contracts.settle(*_settlement(record)),
                lambda records: contracts.settle_many([_settlement(record) for record in records]),
            ),
        }
        self._queued: dict[str, dict[str, JobRecord]] = {action: {} for action in self._kinds}

    def begin(self) -> None:
        """A look begins: what the index says from now on is at least as new as this block."""
        self._seen = self._position()
        for queued in self._queued.values():
            queued.clear()  # of a look that failed; who still asks for it does so again

    def queue(self, action: str, record: JobRecord) -> None:
        """Sends a job's decline or settlement at the end of this look. Nothing else remembers it: the step that asks
        for it does so at each look until it is sent."""
        self._queued[action][record.job] = record

    def flush(self) -> None:
        """Sends what was queued. What fails is warned about, and queued again by the next look."""
        for action, kind in self._kinds.items():
            queued, self._queued[action] = self._queued[action], {}
            new = {job: record for job, record in queued.items() if self._sender.is_new(f"{action}:{job}")}
            alone = [[record] for job, record in queued.items() if job not in new]
            for records in (*alone, *_batches(list(new.values()))):
                try:
                    self._send(action, kind, records)
                except GpuBondError as error:
                    key = (action, error.code, error.field)
                    self._sparing.warn(key, "%d jobs wait for their %s: %s", len(records), action, error)
                except Exception:
                    logger.exception("%s of %d jobs failed and is tried again", action, len(records))

    def submit(self, work: Work, action: str, call: Call, following: WorkState) -> None:
        """Sends a job's transaction, and moves the job on; a refusal leaves it where it is, to be tried again."""
        try:
            entry = self._sender.submit(f"{action}:{work.job}", call.to, call.data, retry_reverted=True)
        except Refused as error:
            # The contract's state may be newer than the index; if it stays so, the deadline ends the job.
            self._sparing.warn((work.job, action), "job %s: %s is refused: %s", work.job, action, error.message)
            record = self._index.job(work.job)
            if action == "commit" and record is not None and self._clock.now() > record.terms.deliver_by:
                self._work.move(work.job, WorkState.ABANDONED, reason="deadline_passed", detail=error.message)
            return
        if entry.state == OutboxState.REVERTED:
            logger.error("job %s: %s was mined and refused again and again: %s", work.job, action, entry.reason)
            self._work.move(work.job, WorkState.ABANDONED, reason=f"{action}_reverted", detail=entry.reason or "")
            return
        logger.info("job %s: %s sent in %s", work.job, action, entry.tx_hash)
        if work.state != following:
            self._work.move(work.job, following)

    def again_if_lost(self, work: Work, action: str, back: WorkState) -> None:
        """Goes back where a transaction cannot have its effect any more; else the sender looks after it."""
        purpose = f"{action}:{work.job}"
        entry = self._sender.entry(purpose)
        if entry is None or entry.state == OutboxState.DISPLACED:
            self._work.move(work.job, back)
        elif entry.state == OutboxState.REVERTED:
            # The state that it met may be gone, so it is tried again: a static call shows whether that helps.
            logger.warning("job %s: %s was mined and refused: %s", work.job, action, entry.reason)
            self._work.move(work.job, back)
        elif entry.state == OutboxState.CONFIRMED:
            # The index shows no effect: it lags a moment, or a reorg deeper than the sender watches took it away.
            self._sender.recheck(purpose)
            block = entry.block_number
            shared = entry.purpose != purpose and entry == self._sender.entry(purpose)
            if shared and block is not None and block <= self._seen:
                # Or neither, and the contract passed over this one of several.
                self._sender.pass_over(purpose)

    def _send(self, action: str, kind: _Kind, records: Sequence[JobRecord]) -> None:
        if len(records) == 1:
            work = self._work.get(records[0].job)
            if work is not None:
                self.submit(work, action, kind.alone(records[0]), kind.following)
        elif not self._send_together(action, kind, records):
            # Halves find those that cannot go, or cannot be paid for, and send the others.
            middle = len(records) // 2
            self._send(action, kind, records[:middle])
            self._send(action, kind, records[middle:])

    def _send_together(self, action: str, kind: _Kind, records: Sequence[JobRecord]) -> bool:
        """Sends one transaction for several jobs, if it has its effect for each of them."""
        call = kind.together(records)
        purposes = [f"{action}:{record.job}" for record in records]
        try:
            if self._contracts.effect_of(call, self._sender.address) != len(records):
                return False
            name = f"{action}:many:{secrets.token_hex(8)}"
            entry = self._sender.submit_together(name, purposes, call.to, call.data)
        except (Refused, NotEnough):
            return False
        logger.info("%s of %d jobs sent in %s", action, len(records), entry.tx_hash)
        for record in records:
            work = self._work.get(record.job)
            if work is not None and work.state != kind.following:
                self._work.move(record.job, kind.following)
        return True


def _batches(records: list[JobRecord]) -> list[list[JobRecord]]:
    return [records[start : start + MAX_BATCH] for start in range(0, len(records), MAX_BATCH)]


def _settlement(record: JobRecord) -> tuple[JobTerms, Commitment]:
    assert record.commitment is not None  # noqa: S101  # only what is committed is queued to be settled
    return record.terms, record.commitment
