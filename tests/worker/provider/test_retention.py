# SPDX-License-Identifier: Apache-2.0
"""What is deleted, and what never is: the data of jobs that are not over, or not for long."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpubond.chain.events import Event
from gpubond.chain.index import MarketIndex
from gpubond.chain.market import Commitment, JobTerms
from gpubond.jobs.spec import JobSpec
from gpubond.provider import retention
from gpubond.provider.inputs import JobInputs
from gpubond.provider.retention import Retention
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import WorkLog, WorkState
from gpubond.store.database import Database

PROVIDER, BUYER, OTHER, NOBODY = ("0x" + digit * 40 for digit in "1230")
KEEP = 7 * 86_400
LATER = KEEP + 86_400


@dataclass
class Machine:
    """A worker's store, index and folders, and its sweep."""

    database: Database
    index: MarketIndex
    work: WorkLog
    stores: BuyerStores
    sweeper: Retention
    folders: Path
    time_on_chain: list[int]

    def event(self, name: str, **args: object) -> None:
        with self.database.transaction() as tx:
            self.index.apply(tx, [Event(1, "0x00", 0, "0x00", NOBODY, name, dict(args))])

    def job(self, number: int, buyer: str = BUYER, inputs: tuple[bytes, ...] = (), deliver_by: int = 1 << 40) -> str:
        """A hired job whose inputs are here."""
        store = self.stores.of(buyer)
        names = [hashlib.sha256(data).hexdigest() for data in inputs]
        for name, data in zip(names, inputs, strict=True):
            store.put([data], name, len(data))
        spec = JobSpec.model_validate(
            {
                "version": 1,
                "name": f"job {number}",
                "runtime": "python",
                "inputs": [
                    {"path": f"{index}.py", "sha256": name, "size": len(data)}
                    for index, (name, data) in enumerate(zip(names, inputs, strict=True))
                ],
                "outputs": ["out"],
                "python": {"script": "0.py"},
            }
        )
        store.put([spec.canonical()], spec.hash().hex(), 1 << 20)
        job = "0x" + f"{number:064x}"
        zeros = dict.fromkeys(JobTerms.__dataclass_fields__, 0)
        blanks = {"offer": "00" * 32, "exact_terms": "00" * 32, "audit_seal": "00" * 32, "group": "00" * 32}
        terms = zeros | blanks | {"salt": "00" * 32, "arbiter": NOBODY, "buyer": buyer, "provider": PROVIDER, "tier": 1}
        self.event("JobMatched", job=job, terms=terms | {"spec_hash": spec.hash().hex(), "deliver_by": deliver_by})
        self.work.adopt(job)
        (self.folders / job).mkdir(parents=True)
        (self.folders / job / "log.txt").write_text("log")
        return job

    def deliver(self, job: str, output: bytes, buyer: str = BUYER) -> tuple[str, str]:
        """A result: manifest and output."""
        store = self.stores.of(buyer)
        manifest = json.dumps({"job": job}).encode()
        names = []
        for data in (manifest, output):
            name = hashlib.sha256(data).hexdigest()
            store.put([data], name, len(data))
            names.append(name)
        self.work.move(job, WorkState.COMMITTED, result={"manifest": names[0], "blobs": [names[1]]})
        commitment = Commitment(bytes(32), 1, 1, 1).to_json()
        self.event("JobCommitted", job=job, commitment=commitment, exit_status=0, seconds_used=1, tasks_done=1)
        return names[0], names[1]

    def settle(self, job: str) -> None:
        self.event("JobSettled", job=job)
        self.work.move(job, WorkState.SETTLED)

    def blobs(self, buyer: str = BUYER) -> int:
        return len(self.stores.of(buyer).names())


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Database(tmp_path / "store.sqlite") as database:
        index, work = MarketIndex(database), WorkLog(database)
        time_on_chain: list[int] = []  # empty: it must not be asked for
        stores = BuyerStores(tmp_path / "blobs", 1 << 30)
        folders = tmp_path / "work"
        sweeper = Retention(
            provider_address=PROVIDER,
            index=index,
            work=work,
            stores=stores,
            inputs=JobInputs(stores, 1 << 30),
            work_root=folders,
            wipe=lambda job: shutil.rmtree(folders / job),
            keep_seconds=KEEP,
            chain_now=lambda: time_on_chain[0],
        )
        yield Machine(database, index, work, stores, sweeper, folders, time_on_chain)


def test_a_finished_job_is_kept_for_a_while_and_then_goes_whole(machine: Machine) -> None:
    job = machine.job(1, inputs=(b"print()",))
    machine.deliver(job, b"output")
    machine.settle(job)
    assert machine.sweeper.sweep(time.time() + KEEP - 60).blobs == 0
    assert machine.blobs() == 4
    used = machine.stores.used_bytes
    swept = machine.sweeper.sweep(time.time() + LATER)
    assert (swept.blobs, swept.bytes, swept.folders) == (4, used, 1)
    assert (machine.blobs(), machine.stores.used_bytes) == (0, 0)
    assert list(machine.folders.iterdir()) == []


@pytest.mark.parametrize("committed", [False, True])
def test_a_job_that_is_not_over_on_chain_keeps_everything(machine: Machine, committed: bool) -> None:
    """Its challenge window may be long, and this machine may think that it is over."""
    job = machine.job(1, inputs=(b"print()",))
    if committed:
        machine.deliver(job, b"output")
    machine.work.move(job, WorkState.ABANDONED)
    before = machine.blobs()
    swept = machine.sweeper.sweep(time.time() + 100 * LATER)
    assert (swept.blobs, swept.folders) == (0, 0)
    assert machine.blobs() == before
    assert (machine.folders / job / "log.txt").is_file()


def test_a_job_that_was_given_up_and_that_nobody_expires_does_not_keep_its_data_for_ever(machine: Machine) -> None:
    deadline = int(time.time()) + 3600
    over = deadline + KEEP + retention.STRAY_SECONDS
    job = machine.job(1, inputs=(b"print()",), deliver_by=deadline)
    # While this machine has not given it up, it is kept, however late.
    assert machine.sweeper.sweep(over + LATER).blobs == 0
    machine.work.move(job, WorkState.ABANDONED)
    assert machine.sweeper.sweep(over - 1).blobs == 0  # and the node is not asked
    # A clock that is ahead of the chain's deletes nothing.
    machine.time_on_chain[:] = [over - 1]
    assert machine.sweeper.sweep(over + LATER).blobs == 0
    machine.time_on_chain[:] = [over + 1]
    swept = machine.sweeper.sweep(over + LATER)
    assert (swept.blobs, swept.folders, machine.blobs()) == (2, 1, 0)


def test_what_was_committed_is_kept_however_late(machine: Machine) -> None:
    """As long as it is not settled its chunks may be demanded."""
    job = machine.job(1, inputs=(b"print()",), deliver_by=1)
    machine.deliver(job, b"output")
    machine.work.move(job, WorkState.ABANDONED)
    assert machine.sweeper.sweep(time.time() + 100 * LATER).blobs == 0


def test_a_disputed_job_keeps_everything(machine: Machine) -> None:
    job = machine.job(1, inputs=(b"print()",))
    machine.deliver(job, b"output")
    machine.event("JobDisputed", job=job)
    assert machine.sweeper.sweep(time.time() + 100 * LATER).blobs == 0


def test_what_two_jobs_share_stays_until_both_are_over(machine: Machine) -> None:
    first, second = machine.job(1, inputs=(b"shared", b"own")), machine.job(2, inputs=(b"shared",))
    machine.settle(first)
    swept = machine.sweeper.sweep(time.time() + LATER)
    assert (swept.blobs, swept.folders) == (2, 1)  # its specification and its own input
    assert machine.stores.of(BUYER).has(hashlib.sha256(b"shared").hexdigest())
    machine.settle(second)
    machine.sweeper.sweep(time.time() + LATER)
    assert machine.blobs() == 0


def test_another_buyers_job_keeps_nothing_of_this_ones(machine: Machine) -> None:
    machine.settle(machine.job(1, BUYER, (b"same",)))
    machine.job(2, OTHER, (b"same",))
    machine.sweeper.sweep(time.time() + LATER)
    assert (machine.blobs(BUYER), machine.blobs(OTHER)) == (0, 2)


def test_a_job_that_a_reorganisation_removed_holds_deletions_up_for_a_while_only(machine: Machine) -> None:
    machine.settle(machine.job(1, inputs=(b"old",)))
    machine.job(2, inputs=(b"new",))
    with machine.database.transaction() as tx:
        tx.execute("DELETE FROM market_jobs WHERE job LIKE '%2'")
    assert machine.sweeper.sweep(time.time()).blobs == 0
    assert machine.sweeper.sweep(time.time() + LATER).blobs == 4


def test_young_blobs_of_no_job_stay(machine: Machine) -> None:
    store = machine.stores.of(BUYER)
    name = hashlib.sha256(b"early").hexdigest()
    path = store.put([b"early"], name, 5)
    assert machine.sweeper.sweep(time.time() + retention.STRAY_SECONDS - 60).blobs == 0
    os.utime(path, (0, 0))
    assert machine.sweeper.sweep(time.time()).blobs == 1


def test_folders_that_are_no_jobs_stay(machine: Machine) -> None:
    for name in ("check-1-2", "0x12", "notes"):
        (machine.folders / name).mkdir(parents=True)
    assert machine.sweeper.sweep(time.time() + LATER).folders == 0


def test_many_blobs_go_in_several_looks(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MOST_AT_ONCE", 3)
    machine.settle(machine.job(1, inputs=tuple(bytes([number]) for number in range(6))))
    counts = [machine.sweeper.sweep(time.time() + LATER).blobs for _ in range(4)]
    assert counts == [3, 3, 1, 0]
