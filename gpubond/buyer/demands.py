# SPDX-License-Identifier: Apache-2.0
"""Demanding the data of a committed result on chain, waiting for it, and claiming what a silent provider owes."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpubond.buyer.chain_outputs import read_chunks, write_chunks, write_outputs
from gpubond.buyer.demand_plan import DemandPlan, DemandView, plan_demand, require_demandable
from gpubond.buyer.fetching import ordered_spec
from gpubond.buyer.way import Way
from gpubond.chain.contracts import Contracts
from gpubond.chain.demand_index import DemandState
from gpubond.chain.demands import LANES, DataDemands
from gpubond.chain.index import JobRecord
from gpubond.chain.outbox import OUTBOX, Outbox, OutboxState
from gpubond.chain.session import Session
from gpubond.errors import GpuBondError, Refused, Unreachable
from gpubond.jobs.manifest import Manifest

if TYPE_CHECKING:
    from gpubond.buyer.desk import Desk

POLL_SECONDS = 0.5
# Seconds in which a node shows the event of a confirmed transaction.
SEEN_TIMEOUT = 120.0
# Seconds in which a gateway shows whether it serves a result, before it is demanded.
GATEWAY_SECONDS = 10.0
# A demand holds the job anew if the last open one is answered before it is mined, which its estimate does not see.
HOLD_GAS = 60_000
SERVES = "it serves the manifest of the result: `gpubond job fetch` may get everything, and costs nothing"


class Demanding:
    """The part of `Buyer` that has to do with demands for data."""

    _session: Session
    _contracts: Contracts
    _desk: Desk

    if TYPE_CHECKING:

        def record(self, job: str) -> JobRecord: ...

    def demands(self, job: str) -> DemandView:
        """What was demanded of a job's result, and what was shown."""
        record = self.record(job)
        return DemandView(record, tuple(self._session.index.demands.of_job(record.job)), self._contracts.now())

    def plan_demand(self, job: str, chunks: Sequence[int] | None = None) -> DemandPlan:
        """What a demand would send and cost, and what follows. Nothing is sent.

        Args:
            job: the job's id.
            chunks: numbers of 4 KiB chunks of the result; None means all that were not shown yet.

        Raises:
            BadInput, Refused, NotEnough: see `gpubond.buyer.demand_plan.plan_demand`.
        """
        view = self.demands(job)
        require_demandable(self._contracts, view.record)
        gateway = self._what_the_gateway_does(view.record)
        return plan_demand(self._contracts, self._session.address, view, chunks, gateway)

    def demand(self, job: str, chunks: Sequence[int] | None = None, *, wait: bool = True) -> DemandView:
        """Demands chunks of a committed result on chain; the job is held until each is shown.

        What was shown or demanded before is not demanded again, so it may be repeated after an interruption.

        Args:
            job: the job's id.
            chunks: see `plan_demand`. More than eight are demanded in rounds, as lanes come free.
            wait: go on until all are shown; if one is not shown in time, end the job and claim refund,
                compensation and fees. Otherwise return as soon as the lanes are taken.

        Raises:
            Refused: the challenge window ended before all were demanded, or the contract refuses.
            BadInput, NotEnough: as `plan_demand`; nothing was sent.
        """
        plan = plan_demand(self._contracts, self._session.address, self.demands(job), chunks, "not asked")
        contract = require_demandable(self._contracts, plan.view.record)
        self._approve_fees(contract, plan.fees)
        last = ""
        while True:
            try:
                view = self.demands(job)
            except Unreachable as error:
                if not last:
                    raise
                # The wait is a day long, and a silent node proves nothing.
                self._session.on_progress(f"{error.message}; trying again")
                time.sleep(10 * POLL_SECONDS)
                continue
            waiting = [demand.chunk for demand in view.open]
            left = [index for index in plan.chunks if index not in waiting and index not in view.shown]
            if view.record.status.final:
                return view
            if left and len(waiting) < LANES and view.now <= plan.demand_until:
                self._send_demand(contract, view, left[: LANES - len(waiting)])
                continue
            if not wait or (not waiting and not left):
                return view
            if not waiting:
                raise Refused(
                    f"the challenge window ended before chunk {left[0]} was demanded",
                    field="job",
                    value=view.record.job,
                    remedy="what was shown so far stays: `gpubond job demand --to` writes it",
                )
            if view.overdue is not None:
                try:
                    self.claim_withheld(job)
                except Refused:
                    if self.demands(job).overdue is not None:
                        raise
                    # Shown in the last moment, or ended by somebody else: the next round looks again.
                continue
            words = f"chunk {', '.join(map(str, waiting))} to be shown by {view.open[0].answer_by} (Unix seconds)"
            if words != last:
                self._session.on_progress(f"waiting for {words}")
                last = words
            time.sleep(POLL_SECONDS)

    def claim_withheld(self, job: str) -> list[str]:
        """Takes what a provider owes that did not show its result: ends the job if a demand is overdue, and moves
        refund, compensation and the fees of unanswered demands into the balance. May be repeated.

        Returns:
            what was done, in words.

        Raises:
            Refused: there is nothing to claim, or not yet.
        """
        view = self.demands(job)
        record = view.record
        contract = require_demandable(self._contracts, record)
        done: list[str] = []
        if view.open:
            overdue = view.overdue
            if overdue is None or record.commitment is None:
                raise Refused(
                    f"the provider still has time: chunk {view.open[0].chunk} is due in "
                    f"{view.open[0].answer_by - view.now} s",
                    field="job",
                    value=record.job,
                    remedy="claim when the deadline has passed and it was not shown",
                )
            call = contract.expire(record.terms, record.commitment, overdue.lane)
            self._session.send(call, self._purpose(f"withheld:{record.job}"))
            done.append(call.words)
            record = self.record(record.job)
        lanes = {demand.lane for demand in view.demands if demand.state is DemandState.OPEN}
        if record.status.final and any(contract.is_open(record.job_id, lane) for lane in sorted(lanes)):
            call = contract.reclaim(record.terms)
            self._session.send(call, self._purpose(f"reclaim:{record.job}"))
            done.append(call.words)
        if contract.claimable(self._session.address) > 0:
            call = contract.collect(self._session.address)
            self._session.send(call, f"collect:{secrets.token_hex(8)}")
            done.append(call.words)
        if not done:
            raise Refused(
                f"there is nothing to claim: the job is {record.status.name.lower()} and no demand is overdue",
                field="job",
                value=record.job,
                remedy="`gpubond job status` says what the job waits for and until when",
            )
        return done

    def fetch_from_chain(self, job: str, directory: Path) -> Manifest | None:
        """Writes what answers on chain have shown, every byte checked against the committed root.

        Args:
            job: the job's id.
            directory: gets the outputs, as `fetch` writes them, if all chunks were shown; else the single chunks.

        Returns:
            the manifest, or None if chunks are missing.

        Raises:
            Refused: nothing was shown, or the node does not show the answers.
            JobFailed: the provider committed to something else than was ordered.
            BadInput: an output would replace a file.
        """
        view = self.demands(job)
        record = view.record
        contract = require_demandable(self._contracts, record)
        chunks = read_chunks(contract, record, view.demands)
        if not chunks:
            raise Refused(
                "no answer on chain shows a chunk of this result"
                if not view.shown
                else "this node does not show the transactions that answered",
                field="job",
                value=record.job,
                remedy="demand chunks first: `gpubond job demand --missing`"
                if not view.shown
                else "use a node that keeps old transactions and knows debug_traceTransaction",
            )
        if record.commitment is not None and len(chunks) == record.commitment.chunks:
            return write_outputs(record, ordered_spec(self._desk, record), chunks, directory)
        for path in write_chunks(record, chunks, directory):
            self._session.on_progress(f"wrote {path}")
        return None

    def _send_demand(self, contract: DataDemands, view: DemandView, chunks: list[int]) -> None:
        record = view.record
        assert record.commitment is not None  # noqa: S101  # the plan has looked
        call = contract.demand(record.terms, record.commitment, chunks)
        # The same until the index shows these demands, so that they are sent, and paid for, once.
        purpose = self._purpose(f"demand:{record.job}:{len(view.demands)}:{chunks[0]}")
        self._session.send(call, purpose, spare_gas=HOLD_GAS)
        deadline = time.monotonic() + SEEN_TIMEOUT
        while len(self.demands(record.job).demands) == len(view.demands):
            if time.monotonic() > deadline:
                raise Unreachable(
                    "the demand was mined, but the node does not show its event",
                    field="job",
                    value=record.job,
                    remedy="nothing is lost, and nothing is demanded twice: call again to go on waiting",
                )
            time.sleep(POLL_SECONDS)

    def _approve_fees(self, contract: DataDemands, fees: int) -> None:
        if self._contracts.token_allowance(self._session.address, contract.address) < fees:
            self._session.send(self._contracts.approve(contract.address, fees), f"approve:{secrets.token_hex(8)}")

    def _purpose(self, base: str) -> str:
        """The purpose, or the next in line after one whose transaction was mined and refused."""
        database = self._session.database
        database.install(OUTBOX)
        outbox = Outbox(self._session.deployment.chain_id, self._session.account.address)
        purpose, number = base, 1
        while (entry := outbox.find(database.connection, purpose)) and entry.state is OutboxState.REVERTED:
            number += 1
            purpose = f"{base}:{number}"
        return purpose

    def _what_the_gateway_does(self, record: JobRecord) -> str:
        # A provider that withholds may well let an answer drip, so that its buyer does not get to demand.
        answers: list[str] = []

        def ask(gateway: Way) -> None:
            try:
                with gateway:
                    gateway.manifest()
                answers.append(SERVES)
            except GpuBondError as error:
                answers.append(error.message)

        try:
            asking = threading.Thread(target=ask, args=(self._desk.gateway(record),), daemon=True)
        except GpuBondError as error:
            return error.message
        asking.start()
        asking.join(GATEWAY_SECONDS)
        return answers[0] if answers else f"it gave no whole answer within {GATEWAY_SECONDS:.0f} s"
