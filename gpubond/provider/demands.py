# SPDX-License-Identifier: Apache-2.0
"""Answers demands for the data of committed results, each once, from this machine's stores.

There is no table of steps: what is due follows from the index (which demands wait) and the outbox (which answers
were sent), so a killed worker goes on where it was, and a reorg that takes a demand or an answer away is no case
of its own. Who answers too late loses the job's collateral; a demand leaves a day.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple
from itertools import groupby

from gpubond.chain.demand_index import Demand
from gpubond.chain.demands import ANSWER_WINDOW, DataDemands, data_demands
from gpubond.chain.index import JobRecord
from gpubond.chain.outbox import OutboxState
from gpubond.chain.sender import Sender
from gpubond.chain.session import Session
from gpubond.errors import BadInput, GpuBondError, JobFailed, Refused
from gpubond.jobs.manifest import ChunkProof, Manifest, prove_chunks, verify_chunk
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import WorkLog
from gpubond.settings import ProviderSettings

logger = logging.getLogger(__name__)

# An answer may wait for cheaper gas for half its time. Then it is sent at any price: what is at stake is the job's
# collateral, and token and gas have no price in common here by which the two could be compared.
PATIENCE = ANSWER_WINDOW // 2
# Transactions for one demand. More than one is needed only if a reorg let the first meet another demand.
MAX_TRIES = 8
# Seconds before something that failed is tried again.
RETRY_SECONDS = 15.0
# The last answer releases the job, which an estimate made while others are open does not see.
RELEASE_GAS = 40_000
GWEI = 10**9


class DemandAnswers:
    """Shows the chunks that buyers demand of this provider's results. One thread calls it, the dispatcher's.

    Args:
        session: chain and index.
        sender: the operator's.
        work: the results of jobs.
        stores: their outputs and manifests, which stay there until a job is final.
        provider: the policy: from which gas price on an answer waits, and from which amount fees are collected.
    """

    def __init__(
        self, session: Session, sender: Sender, work: WorkLog, stores: BuyerStores, provider: ProviderSettings
    ) -> None:
        self._session = session
        self._demands = data_demands(session.contracts)
        self._sender = sender
        self._work = work
        self._stores = stores
        self._provider = provider
        # Reading a large bundle takes seconds, and other jobs' deadlines do not wait for it.
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="proofs")
        self._reading: dict[str, Future[dict[int, ChunkProof]]] = {}
        self._proofs: dict[tuple[str, int], ChunkProof] = {}
        self._later: dict[str, float] = {}
        self._said: dict[object, str] = {}
        self._collected_after = -1

    def tick(self) -> None:
        """Answers what waits; a demand whose answer fails does not hold up the others."""
        if self._demands is None:
            return
        # Before the demands are read: an answer in a later block may have met one of them already.
        seen = self._session.watcher.position().number
        waiting = self._session.index.demands.waiting_for(self._provider.address)
        self._forget({demand.job for demand in waiting})
        for job, group in groupby(sorted(waiting, key=lambda demand: demand.job), lambda demand: demand.job):
            try:
                self._serve(self._demands, job, list(group), seen)
            except GpuBondError as error:
                self._say(job, logging.WARNING, f"job {job}: a demand for its result waits: {error}")
                self._later[job] = time.monotonic() + RETRY_SECONDS
            except Exception:
                logger.exception("job %s: answering a demand failed and is tried again", job)
                self._later[job] = time.monotonic() + RETRY_SECONDS

    def reconcile(self) -> None:
        """Moves the fees that answers earned into the provider's balance, once they are worth the gas."""
        if self._demands is None:
            return
        provider = self._provider.address
        answered = self._session.index.demands.answered_by(provider)
        if answered == self._collected_after:
            return
        token = self._session.contracts.token_info
        try:
            due = self._demands.claimable(provider)
            if due > 0 and due >= token.units(self._provider.collect_fees_from, "provider.collect_fees_from"):
                call = self._demands.collect(provider)
                self._sender.submit(f"collect:answers:{answered}", call.to, call.data)
                logger.info("collecting %s that answers to demands earned", token.text(due))
            self._collected_after = answered
        except GpuBondError as error:
            # They do not run away, and jobs must not wait for them.
            self._say("collect", logging.WARNING, f"the fees of answers are not collected yet: {error}")

    def stop(self) -> None:
        """Begins nothing new."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _serve(self, contract: DataDemands, job: str, waiting: list[Demand], seen: int) -> None:
        record = self._session.index.job(job)
        if record is None or record.commitment is None or time.monotonic() < self._later.get(job, 0):
            return
        due = [(demand, purpose) for demand in waiting if (purpose := self._unsent(demand, seen)) is not None]
        if not due or self._too_late(due[0][0]) or self._waits_for_gas(due[0][0], record):
            return
        proofs = self._prove(record, sorted({demand.chunk for demand, _ in due}))
        if proofs is None:
            return
        problem: GpuBondError | None = None
        for demand, purpose in due:
            try:
                proof = astuple(proofs[demand.chunk])[1:]
                call = contract.answer(record.terms, record.commitment, demand.lane, proof)
                entry = self._sender.submit(purpose, call.to, call.data, spare_gas=RELEASE_GAS)
                logger.info("job %s: chunk %d was demanded; answer sent in %s", job, demand.chunk, entry.tx_hash)
            except GpuBondError as error:
                problem = error
        if problem is not None:
            raise problem

    def _unsent(self, demand: Demand, seen: int) -> str | None:
        """The purpose under which a demand is to be answered now; None while an answer is on its way.

        Lane and number tell demands apart, not the second of the demand: a lane can be used again within one.
        """
        for attempt in range(1, MAX_TRIES + 1):
            purpose = f"answer:{demand.job}:{demand.lane}:{demand.number}" + (f":{attempt}" if attempt > 1 else "")
            entry = self._sender.entry(purpose)
            if entry is None or entry.state is OutboxState.DISPLACED:
                return purpose
            if not entry.final or entry.block_number is None or entry.block_number > seen:
                return None
            # It is on the chain that the index shows, and the demand waits all the same: a reorg has put another
            # demand in the place of the one that it was signed for.
            if entry.state is OutboxState.REVERTED:
                self._say(
                    purpose,
                    logging.ERROR,
                    f"job {demand.job}: the answer for chunk {demand.chunk} in {entry.tx_hash} was mined and refused: "
                    f"{entry.reason}; it is tried again while there is time",
                )
        self._say(
            (demand.job, demand.lane, demand.number),
            logging.ERROR,
            f"job {demand.job}: {MAX_TRIES} answers for chunk {demand.chunk} were mined in vain; its collateral is "
            f"lost unless somebody answers by {demand.answer_by} (Unix seconds)",
        )
        return None

    def _too_late(self, demand: Demand) -> bool:
        if self._session.contracts.now() <= demand.answer_by:
            return False
        self._say(
            (demand.job, demand.lane, demand.number),
            logging.ERROR,
            f"job {demand.job}: chunk {demand.chunk} was demanded and not shown in time; its collateral is lost as "
            "soon as anyone ends the job",
        )
        return True

    def _waits_for_gas(self, demand: Demand, record: JobRecord) -> bool:
        limit = self._provider.answer_gas_gwei
        if self._session.contracts.now() >= demand.answer_by - PATIENCE:
            return False
        price = int(self._session.node.eth.gas_price)
        if price <= limit * GWEI:
            return False
        self._say(
            (demand.job, demand.lane, demand.number),
            logging.INFO,
            f"job {record.job}: chunk {demand.chunk} was demanded; gas costs {price / GWEI:.3g} gwei, above "
            f"provider.answer_gas_gwei = {limit}: the answer waits for cheaper gas, "
            f"{PATIENCE // 3600} hours before its deadline at the latest it is sent at any price",
        )
        self._later[demand.job] = time.monotonic() + self._session.settings.chain.poll_seconds * 8
        return True

    def _prove(self, record: JobRecord, chunks: list[int]) -> dict[int, ChunkProof] | None:
        """Proofs of chunks; None while they are being made."""
        job = record.job
        missing = [chunk for chunk in chunks if (job, chunk) not in self._proofs]
        if not missing:
            return {chunk: self._proofs[job, chunk] for chunk in chunks}
        reading = self._reading.get(job)
        if reading is None:
            work = self._work.get(job)
            result = None if work is None else work.result
            if result is None or record.commitment is None:
                raise _lost(job, "the result is not known here")
            store = self._stores.of(record.terms.buyer)
            try:
                data = store.path(result["manifest"]).read_bytes()
                files = {item.path: store.path(item.sha256) for item in Manifest.parse(data).files}
            except (BadInput, JobFailed) as error:
                raise _lost(job, error.message) from error
            self._reading[job] = self._pool.submit(prove_chunks, data, files, missing)
            return None
        if not reading.done():
            return None
        del self._reading[job]
        assert record.commitment is not None  # noqa: S101  # the caller has looked
        try:
            made = reading.result()
        except JobFailed as error:
            raise _lost(job, error.message) from error
        for chunk, proof in made.items():
            if not verify_chunk(record.commitment.result_root, proof):
                raise _lost(job, "its outputs are not those that were committed")
            self._proofs[job, chunk] = proof
        return self._prove(record, chunks)

    def _forget(self, jobs: set[str]) -> None:
        for key in [key for key in self._proofs if key[0] not in jobs]:
            del self._proofs[key]
        for job in [job for job in self._later if job not in jobs]:
            del self._later[job]
        for job in [job for job in self._reading if job not in jobs]:
            self._reading.pop(job).cancel()
        if not jobs:
            self._said.clear()

    def _say(self, about: object, level: int, words: str) -> None:
        """Logs what is new about something, not the same at each tick."""
        if self._said.get(about) != words:
            self._said[about] = words
            logger.log(level, "%s", words)


def _lost(job: str, why: str) -> Refused:
    return Refused(
        f"this machine's store cannot show the result that was committed: {why}",
        field="job",
        value=job,
        remedy="restore the store of the worker that ran the job before the demand's deadline",
    )
