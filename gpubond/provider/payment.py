# SPDX-License-Identifier: Apache-2.0
"""Fetching the payment of what was committed, once the challenge window is over."""

from __future__ import annotations

from gpubond.chain.clock import HeadClock
from gpubond.chain.contracts import MAX_BATCH
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Status
from gpubond.provider.sending import Sending
from gpubond.provider.work import Work, WorkLog, WorkState


class Payment:
    """The steps of a job from its commitment to its settlement.

    Args:
        wait_seconds: a payment that is due waits so long for others that are about to be.
    """

    def __init__(self, clock: HeadClock, work: WorkLog, sending: Sending, wait_seconds: int) -> None:
        self._clock = clock
        self._work = work
        self._sending = sending
        self._wait_seconds = wait_seconds
        # Of this look: when each unsettled job is due (Unix seconds), by the chain's clock.
        self._due: list[tuple[int, JobRecord]] = []

    def await_due(self, work: Work, record: JobRecord) -> None:
        """Notes when a committed job can be settled."""
        if record.status == Status.ACTIVE:  # the commitment was reorganised away
            self._work.move(work.job, WorkState.COMMITTING, reason="reorg")
            return
        if record.commitment is None:
            return
        due = record.commitment.committed_at + record.terms.challenge_window
        if record.status == Status.DISPUTED:
            # An arbiter that does not decide in time has lost its say.
            due += record.terms.dispute_timeout
        self._due.append((due, record))

    def settle_due(self) -> None:
        """Settles what is due at the end of a look: at once, unless others are due soon enough to share the gas."""
        waiting, self._due = self._due, []
        if not waiting:
            return
        now = self._clock.now()
        due = [record for at, record in waiting if at <= now]
        if not due or self._waits([at for at, _ in waiting], now):
            return
        for record in due:
            self._sending.queue("settle", record)

    def follow(self, work: Work, record: JobRecord) -> None:
        """What became of a settlement."""
        if record.status == Status.ACTIVE:  # settlement and commitment were reorganised away
            self._work.move(work.job, WorkState.COMMITTING, reason="reorg")
            return
        self._sending.again_if_lost(work, "settle", WorkState.COMMITTED)

    def _waits(self, times: list[int], now: int) -> bool:
        until = min(times) + self._wait_seconds
        others_soon = any(now < at <= until for at in times)
        return now < until and others_soon and sum(at <= now for at in times) < MAX_BATCH
