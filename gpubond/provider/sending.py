# SPDX-License-Identifier: Apache-2.0
"""A job's transactions: each sent once for its purpose, and tried again where it cannot have its effect any more."""

from __future__ import annotations

import logging

from gpubond.chain.contracts import Call, Contracts
from gpubond.chain.index import MarketIndex
from gpubond.chain.outbox import OutboxState
from gpubond.chain.sender import Sender
from gpubond.errors import Refused
from gpubond.provider.sparing import Sparing
from gpubond.provider.work import Work, WorkLog, WorkState

logger = logging.getLogger(__name__)


class Sending:
    """Sends for jobs and moves their rows accordingly."""

    def __init__(
        self, contracts: Contracts, index: MarketIndex, sender: Sender, work: WorkLog, sparing: Sparing
    ) -> None:
        self._contracts = contracts
        self._index = index
        self._sender = sender
        self._work = work
        self._sparing = sparing

    def submit(self, work: Work, action: str, call: Call, following: WorkState) -> None:
        """Sends a job's transaction, and moves the job on; a refusal leaves it where it is, to be tried again."""
        try:
            entry = self._sender.submit(f"{action}:{work.job}", call.to, call.data, retry_reverted=True)
        except Refused as error:
            # The contract's state may be newer than the index; if it stays so, the deadline ends the job.
            self._sparing.warn((work.job, action), "job %s: %s is refused: %s", work.job, action, error.message)
            record = self._index.job(work.job)
            if action == "commit" and record is not None and self._contracts.now() > record.terms.deliver_by:
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
