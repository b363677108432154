# SPDX-License-Identifier: Apache-2.0
"""How many EXACT jobs a worker takes: all that it stands by must be answered for, with a crowd of games on each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpubond.chain.contracts import ZERO_ADDRESS
from gpubond.chain.events import Event
from gpubond.chain.index import MarketIndex
from gpubond.chain.market import Commitment, JobTerms, Tier
from gpubond.disputes.ordered import terms_of
from gpubond.exact.program import Program
from gpubond.jobs.answer_time import answer_seconds
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.spec import JobSpec, load_job_file
from gpubond.jobs.template import write_job
from gpubond.jobs.worker_codes import WorkerCode
from gpubond.provider.crowding import Promises
from gpubond.provider.exact_jobs import ExactJobs, Objection
from gpubond.provider.inputs import JobInputs
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import FINAL_STATES, WorkLog, WorkState
from gpubond.store.database import Database

PROVIDER, BUYER = ("0x" + digit * 40 for digit in "12")
MATCHED, WINDOW = 1_000_000, 900  # when all jobs were hired, and for how long they can be given back


def spec_of(folder: Path, answer: int | None) -> tuple[JobSpec, dict[str, Path]]:
    """A job that fits a line to points, with these answer seconds."""
    path = write_job(folder, "exact")
    job = json.loads(path.read_text()) | {"tier": "exact"}
    if answer is not None:
        job["exact"]["answer_seconds"] = answer
    path.write_text(json.dumps(job))
    return load_job_file(path)


def terms_json(spec: JobSpec, tier: Tier = Tier.EXACT, exact_terms: bytes = bytes(32)) -> dict[str, Any]:
    hashes = dict.fromkeys(("offer", "audit_seal", "group", "salt"), "00" * 32)
    named = {"arbiter": ZERO_ADDRESS, "buyer": BUYER, "provider": PROVIDER, "tier": tier}
    times = {"matched_at": MATCHED, "acknowledge_by": MATCHED + WINDOW, "spec_hash": spec.hash().hex()}
    zeros: dict[str, Any] = dict.fromkeys(JobTerms.__dataclass_fields__, 0)
    return zeros | hashes | named | times | {"exact_terms": exact_terms.hex()}


@dataclass
class Machine:
    """A worker's store and index, and what it has promised."""

    folder: Path
    database: Database
    index: MarketIndex
    work: WorkLog
    stores: BuyerStores
    now: int = MATCHED

    def promises(self) -> Promises:
        inputs = JobInputs(self.stores, 1 << 30)
        return Promises(self.index, self.work, inputs, PROVIDER, lambda: self.now)

    def event(self, name: str, **args: object) -> None:
        with self.database.transaction() as tx:
            self.index.apply(tx, [Event(1, "0x00", 0, "0x00", ZERO_ADDRESS, name, dict(args))])

    def job(self, answer: int, state: WorkState | None = None, tier: Tier = Tier.EXACT, here: bool = True) -> str:
        """A hired job that the worker has brought to a state. here: whether its specification is."""
        number = len(self.index.jobs()) + 1
        spec, _ = spec_of(self.folder / f"job{number}", answer)
        if here:
            self.stores.of(BUYER).put([spec.canonical()], spec.hash().hex(), 1 << 20)
        job = "0x" + f"{number:064x}"
        self.event("JobMatched", job=job, terms=terms_json(spec, tier))
        self.work.adopt(job)
        if state is not None:
            self.work.move(job, state)
        return job

    def commit(self, job: str) -> None:
        commitment = Commitment(bytes(32), 1, 1, 1).to_json()
        self.event("JobCommitted", job=job, commitment=commitment, exit_status=0, seconds_used=1, tasks_done=1)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Database(tmp_path / "store.sqlite") as database:
        stores = BuyerStores(tmp_path / "blobs", 1 << 30)
        yield Machine(tmp_path, database, MarketIndex(database), WorkLog(database), stores)


@pytest.mark.parametrize("state", list(WorkState))
def test_what_was_taken_counts_until_it_is_final(machine: Machine, state: WorkState) -> None:
    job = machine.job(70, state)
    open_still = {WorkState.HIRED, WorkState.AWAITING_INPUTS, WorkState.DECLINING}
    assert machine.promises().held("") == (0 if state in FINAL_STATES | open_still else 70)
    # Whatever this machine thinks: a result that is committed can be challenged.
    machine.commit(job)
    assert machine.promises().held("") == 70
    machine.event("JobSettled", job=job)
    assert machine.promises().held("") == 0


def test_the_sum_is_of_all_others(machine: Machine) -> None:
    promises = machine.promises()
    first, second = machine.job(70, WorkState.RUNNING), machine.job(80, WorkState.COMMITTED)
    machine.job(500, WorkState.RUNNING, tier=Tier.BASIC)
    machine.job(600, WorkState.RUNNING, here=False)
    assert promises.held("") == 150
    assert promises.held(first) == 80
    assert promises.held(second) == 70
    machine.commit(first)
    machine.event("JobSettled", job=first)
    assert promises.held("") == 80


def test_what_is_too_late_to_give_back_counts_before_it_is_taken(machine: Machine) -> None:
    """Else two jobs whose inputs come at the last moment would both be taken."""
    machine.job(70, WorkState.AWAITING_INPUTS)
    assert machine.promises().held("") == 0
    machine.now = MATCHED + WINDOW
    assert machine.promises().held("") == 70


def judged(tmp_path: Path, answer: int | None) -> Objection | None:
    """What a worker says of a job's inputs, with these answer seconds."""
    spec, files = spec_of(tmp_path / "job", answer)
    stated = terms_of(spec, files)
    terms = JobTerms.from_json(terms_json(spec, exact_terms=stated.exact_terms))
    blobs = BlobStore(tmp_path / "blobs")
    for name, path in files.items():
        blobs.put([path.read_bytes()], name, 1 << 20)
    contracts: Any = None  # nothing is asked of the chain
    judge = ExactJobs(contracts, lambda job: tmp_path / "log.txt")
    for _ in range(3_000):
        done, objection = judge.judge_inputs("job", terms, spec, blobs)
        if done:
            judge.stop()
            return objection
        time.sleep(0.01)
    raise AssertionError("it does not end")


def test_answer_seconds_are_what_answers_need(tmp_path: Path) -> None:
    """With fewer it could be late; with many more one small job would take the room of others."""
    spec, files = spec_of(tmp_path / "default", None)
    assert spec.exact is not None
    content = {item.path: item.sha256 for item in spec.inputs}
    program = Program.parse(files[content[spec.exact.program]].read_bytes())
    needed = answer_seconds(program, spec.exact.interval)
    assert spec.exact.answer_seconds == needed
    for answer, words in ((None, ""), (needed - 1, "may need"), (4 * needed, ""), (4 * needed + 1, "leave it out")):
        found = judged(tmp_path / str(answer), answer)
        assert (found is None) == (not words)
        assert found is None or (found.code is WorkerCode.EXACT_TERMS and words in found.words)
