# SPDX-License-Identifier: Apache-2.0
"""Giving a job back: by a decline while there is time, later by a failed run of no seconds."""

from __future__ import annotations

import logging

from gpubond.chain.clock import HeadClock
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Tier
from gpubond.chain.outbox import OutboxState
from gpubond.chain.sender import Sender
from gpubond.jobs.reasons import Reason
from gpubond.provider.runs import failed_result
from gpubond.provider.sending import Sending
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import Work, WorkLog, WorkState

logger = logging.getLogger(__name__)


class GivingBack:
    """The steps of a job that this machine does not run."""

    def __init__(self, clock: HeadClock, sender: Sender, work: WorkLog, stores: BuyerStores, sending: Sending) -> None:
        self._clock = clock
        self._sender = sender
        self._work = work
        self._stores = stores
        self._sending = sending

    def decline(self, work: Work, record: JobRecord, reason: str, detail: str) -> None:
        """Declines a job, or gives it up where it is too late for that."""
        if self._clock.now() > record.terms.acknowledge_by:
            self._give_up(work, record, reason, f"it is too late to decline: {detail}")
            return
        logger.info("job %s: declining, %s: %s", work.job, reason, detail)
        self._work.move(work.job, WorkState.DECLINING, reason=reason, detail=detail)
        self._sending.queue("decline", record)

    def after_runs(self, work: Work, record: JobRecord, reason: str, detail: str) -> None:
        """Gives a job back of which no run came to a result: declines it if this machine is why; else that would be on
        its record by no fault of its own, and a failed run is committed that costs nothing."""
        blameless = next((item for item in Reason if item == reason and not item.on_record), None)
        if blameless is None or record.terms.tier == Tier.EXACT:
            self.decline(work, record, reason, detail)
        else:
            self._give_up(work, record, reason, f"no fault of this machine's to decline for: {detail}")

    def follow(self, work: Work, record: JobRecord) -> None:
        """What became of a decline."""
        entry = self._sender.entry(f"decline:{work.job}")
        if entry is not None and entry.state in (OutboxState.SENT, OutboxState.MINED, OutboxState.CONFIRMED):
            self._sending.again_if_lost(work, "decline", WorkState.DECLINING)
        elif self._clock.now() <= record.terms.acknowledge_by:
            # The worker died, or the node failed, between noting the decline and sending it; or it reverted.
            self._sending.queue("decline", record)
        elif work.reason == "inputs_missing":
            # Too late to give it back; the inputs may still come in time.
            self._work.move(work.job, WorkState.AWAITING_INPUTS)
        else:
            self._give_up(work, record, work.reason, "it is too late to decline")

    def _give_up(self, work: Work, record: JobRecord, reason: str | None, why: str) -> None:
        if self._clock.now() > record.terms.deliver_by:
            logger.error("job %s: %s: %s; the collateral is lost", work.job, reason, why)
            self._work.move(work.job, WorkState.ABANDONED, reason=reason)
            return
        if record.terms.tier == Tier.EXACT:
            # It cannot fail on chain, and committing to what was not computed would cost the collateral as well.
            logger.error("job %s: %s: %s; an EXACT job cannot fail, so the collateral is lost", work.job, reason, why)
            self._work.move(work.job, WorkState.ABANDONED, reason=reason)
            return
        # Else whoever can make this machine fail collects its collateral. A failure of no seconds costs its
        # buyer nothing.
        logger.error("job %s: %s: %s; committing a failed run of no seconds", work.job, reason, why)
        # The exit status is all that the chain shows of a reason.
        shown = next((item for item in Reason if item == reason and item.is_no_result), Reason.INTERNAL)
        result = failed_result(work.job, self._stores.of(record.terms.buyer), shown)
        self._work.move(work.job, WorkState.EXECUTED, reason=reason, result=result)
