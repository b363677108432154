# SPDX-License-Identifier: Apache-2.0
"""Cancelling a job: what it brings back by when, whatever dies meanwhile; and a settlement that two send at once."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from web3.types import RPCEndpoint

from gpubond.buyer.client import Buyer
from gpubond.chain.development import advance_time, dev_account
from gpubond.chain.outbox import OutboxState
from gpubond.chain.session import open_session
from gpubond.jobs.requests import sign
from gpubond.provider.cancellations import Cancellations
from gpubond.provider.dispatcher import Dispatcher
from gpubond.provider.exact_jobs import ExactJobs
from gpubond.provider.executors.process import ProcessExecutor
from gpubond.provider.inputs import JobInputs
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import WorkLog, WorkState
from gpubond.store.boundaries import ARM
from gpubond.store.database import Database

from .marketplace import Marketplace, wait_until
from .test_jobs import SQUARES, state_of, submit, write_job

ROOT = Path(__file__).resolve().parents[2]
OWNER, BUYER = 1, 5
CANCELLED_BY_BUYER = 131


@pytest.fixture(scope="module")
def market(market: Marketplace) -> Marketplace:
    windows = ("--acknowledge-window", "3600", "--delivery-margin", "600", "--challenge-window", "600")
    market.provider("provider", OWNER, 2, *windows, "--backed-jobs", "20")
    market.provider("other", 3, 4, *windows, "--price-per-hour", "72")
    market.buyer("buyer", BUYER)
    return market


@pytest.fixture
def provider(market: Marketplace) -> Path:
    return market.directory / "provider"


@pytest.fixture
def worker(market: Marketplace, provider: Path) -> Any:
    # One that runs still serves the next test too: each needs seconds to start.
    running = [worker for worker in market.workers if worker.poll() is None]
    return running[0] if running else market.start_worker(provider)


@pytest.fixture(scope="module")
def buyer(market: Marketplace) -> Path:
    return market.directory / "buyer"


def running_job(market: Marketplace, buyer: Path, folder: Path, sleep: str = "50") -> str:
    job: str = market.ok(*submit(buyer, write_job(folder, sleep), "--detach"))["job"]
    wait_until(lambda: state_of(market, buyer, job) == "running")
    return job


def cancel(market: Marketplace, buyer: Path, job: str) -> Any:
    return market.ok("job", "cancel", job, "--home", str(buyer))


def ended(market: Marketplace, buyer: Path, job: str) -> Any:
    """Its status once it waits for the provider no more, and how the command ended."""
    with Buyer.open(buyer) as client:
        client.wait(job)
    return market.run("job", "status", job, "--home", str(buyer))


def test_within_the_window_the_run_stops_and_all_comes_back(
    market: Marketplace, worker: Any, buyer: Path, tmp_path: Path
) -> None:
    before = market.wealth(BUYER), market.wealth(OWNER)
    job = running_job(market, buyer, tmp_path)
    done = cancel(market, buyer, job)
    assert (done["job"], done["acknowledged"]) == (job, True)
    assert "all comes back" in done["effect"]
    ran = ended(market, buyer, job)
    assert (ran.code, ran.error["code"]) == (7, "job_failed")
    assert (ran.document["code"], ran.document["cancelled"]) == ("declined", True)
    assert "you cancelled it" in ran.document["explanation"]
    assert (market.wealth(BUYER), market.wealth(OWNER)) == before
    # Again is the same, and nothing is run or sent twice.
    assert cancel(market, buyer, job)["acknowledged"] is True
    assert len(market.events("JobDeclined", job)) == 1


def test_after_the_window_the_used_seconds_are_paid_up_to_the_failure_cap(
    market: Marketplace, worker: Any, buyer: Path, tmp_path: Path
) -> None:
    before = market.wealth(BUYER)
    job = running_job(market, buyer, tmp_path)
    with Buyer.open(buyer) as client:
        terms = client.record(job).terms
    advance_time(market.node, terms.acknowledge_by - market.contracts.now() + 1)
    assert "failure cap" in cancel(market, buyer, job)["effect"]
    ran = ended(market, buyer, job)
    assert (ran.code, ran.document["code"], ran.document["reason"]) == (7, "run_failed", "cancelled_by_buyer")
    report, pay = ran.document["report"], ran.document["commitment"]["pay"]
    assert (report["exit_status"], report["tasks_done"]) == (CANCELLED_BY_BUYER, 0)
    cap = terms.escrowed * terms.failure_cap_bps // 10_000
    assert 0 < pay == min(report["seconds_used"] * terms.price_per_second, cap)
    # What was fetched of it says that it failed, in text and by the exit code.
    fetched = market.run("job", "fetch", job, "--to", str(tmp_path / "out"), "--home", str(buyer))
    assert (fetched.code, fetched.document["exit"]["reason"]) == (7, "cancelled_by_buyer")
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert market.ok("job", "release", job, "--home", str(buyer))["failed"] is True
    assert market.wealth(BUYER) == before - pay


@pytest.mark.parametrize("boundary", ["move:before:cancelling", "move:after:cancelling"])
def test_the_seconds_used_outlive_a_worker_that_dies_over_the_wish(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path, boundary: str
) -> None:
    for running in [worker for worker in market.workers if worker.poll() is None]:
        market.stop_worker(running)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ARM, boundary)
        worker = market.start_worker(provider)
    job = running_job(market, buyer, tmp_path)
    with Buyer.open(buyer) as client:
        terms = client.record(job).terms
    advance_time(market.node, terms.acknowledge_by - market.contracts.now() + 1)
    with Database(provider / "store.sqlite") as database:
        begun = next(at for at, state, _ in WorkLog(database).history(job) if state == "running")
    wait_until(lambda: time.time() - begun > 2)
    # It may die before it answers, but not before the wish is stored.
    market.run("job", "cancel", job, "--home", str(buyer))
    assert worker.wait(timeout=60) == -signal.SIGKILL
    market.workers.remove(worker)
    with Database(provider / "store.sqlite") as database:
        wish = database.connection.execute("SELECT at FROM cancellations WHERE job = ?", (job,)).fetchone()
    used = int(wish["at"] - begun)
    assert used >= 2
    market.start_worker(provider)
    document = ended(market, buyer, job).document
    assert (document["reason"], document["report"]["seconds_used"]) == ("cancelled_by_buyer", used)
    cap = terms.escrowed * terms.failure_cap_bps // 10_000
    assert document["commitment"]["pay"] == min(used * terms.price_per_second, cap) > 0


def test_a_wish_outlives_a_worker_that_is_killed(
    market: Marketplace, worker: Any, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    job = running_job(market, buyer, tmp_path)
    assert cancel(market, buyer, job)["acknowledged"] is True
    market.stop_worker(worker, signal.SIGKILL)
    with Database(provider / "store.sqlite") as database:
        assert Cancellations(database).heard(job) is not None
    market.start_worker(provider)
    assert ended(market, buyer, job).document["code"] == "declined"


def test_a_wish_that_was_stored_just_before_the_end_is_taken_up(
    market: Marketplace, worker: Any, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    job = running_job(market, buyer, tmp_path)
    market.stop_worker(worker, signal.SIGKILL)
    # As the gateway does it, in the moment before the kill: noted, and nothing else done.
    with Database(provider / "store.sqlite") as database:
        Cancellations(database).wish(job, market.contracts.now())
    market.start_worker(provider)
    assert ended(market, buyer, job).document["code"] == "declined"
    with Database(provider / "store.sqlite") as database:
        states = [state for _, state, _ in WorkLog(database).history(job)]
    assert states.count(WorkState.RUNNING) == 1


def test_before_the_upload(
    market: Marketplace, worker: Any, buyer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Buyer, "upload", lambda self, job: None)
    with Buyer.open(buyer) as client:
        job = client.submit(write_job(tmp_path, "0", f"{SQUARES}# never uploaded\n"))
        wait_until(lambda: client.status(job).provider_status is not None)
    assert cancel(market, buyer, job)["acknowledged"] is True
    assert ended(market, buyer, job).document["code"] == "declined"


def test_a_gateway_that_is_silent_leaves_words_and_dates(
    market: Marketplace, worker: Any, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    job = running_job(market, buyer, tmp_path)
    market.stop_worker(worker, signal.SIGKILL)
    ran = market.run("job", "cancel", job, "--home", str(buyer))
    assert (ran.code, ran.error["field"]) == (4, "gateway")
    assert "brings everything back" in ran.error["remedy"] and "gpubond job expire" in ran.error["remedy"]
    market.start_worker(provider)
    assert cancel(market, buyer, job)["acknowledged"] is True
    assert ended(market, buyer, job).document["code"] == "declined"


def test_nobody_else_is_hired_for_a_cancelled_job(
    market: Marketplace, worker: Any, buyer: Path, tmp_path: Path
) -> None:
    other = market.start_worker(market.directory / "other")
    job_file = write_job(tmp_path, "50", f"{SQUARES}# cancelled, not retried\n")
    results: list[Any] = []

    def order() -> None:
        results.append(market.run_process(*submit(buyer, job_file, "--max-price", "5", "--retry", "3")))

    thread = threading.Thread(target=order)
    known = {record.job for record, _ in jobs(buyer)}
    thread.start()
    wait_until(lambda: len(jobs(buyer)) > len(known))
    (job,) = {record.job for record, _ in jobs(buyer)} - known
    wait_until(lambda: state_of(market, buyer, job) == "running")
    cancel(market, buyer, job)
    thread.join()
    market.stop_worker(other, signal.SIGKILL)
    assert (results[0].code, results[0].document["job"], results[0].document["code"]) == (7, job, "declined")
    assert {record.job for record, _ in jobs(buyer)} - known == {job}


def jobs(buyer: Path) -> list[Any]:
    with Buyer.open(buyer) as client:
        return list(client.jobs())


def test_too_late_is_said(market: Marketplace, worker: Any, buyer: Path, tmp_path: Path) -> None:
    view = market.ok(*submit(buyer, write_job(tmp_path, "0")))
    ran = market.run("job", "cancel", view["job"], "--home", str(buyer))
    assert (ran.code, ran.error["code"]) == (6, "refused")
    assert "too late" in ran.error["message"] and "release" in ran.error["remedy"]


def test_a_stranger_cannot_cancel(market: Marketplace, worker: Any, buyer: Path, tmp_path: Path) -> None:
    job = running_job(market, buyer, tmp_path, "20")
    with Buyer.open(buyer) as client:
        record = client.record(job)
        announced = client.session.index.provider(record.terms.provider)
        domain = client._desk.domain
    assert announced is not None
    path = f"/v1/jobs/{job}/cancel"
    thief = dev_account(7)
    for headers in (
        {},
        {"Authorization": sign(thief, domain, "POST", path, record.job_id)},
        {"Authorization": sign(dev_account(BUYER), domain, "GET", path, record.job_id)},
    ):
        assert httpx.post(announced.endpoint + path, headers=headers).status_code == 401
    with Buyer.open(buyer) as client:
        assert client.wait(job).code == "result_ready"


def test_a_settlement_that_the_buyer_was_quicker_with_is_settled(
    market: Marketplace, worker: Any, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    # What earlier tests left would be settled together with it.
    advance_time(market.node, 601)
    shown = ("provider", "status", "--home", str(provider))
    wait_until(lambda: {work["state"] for work in market.ok(*shown)["jobs"]} <= {"settled", "declined", "expired"})
    job = market.ok(*submit(buyer, write_job(tmp_path, "0")))["job"]
    assert market.stop_worker(worker) == 0
    with Buyer.open(buyer) as client:
        record = client.record(job)
    assert record.commitment is not None
    advance_time(market.node, record.terms.challenge_window + 1)
    with open_session(provider) as session, session.sender() as sender:
        session.sync()
        work = WorkLog(session.database)
        dispatcher = dispatcher_of(session, sender, work)
        rpc(market, "evm_setAutomine", False)
        rpc(market, "evm_setIntervalMining", 0)
        try:
            # Both are tried against the same state; the buyer pays more, so its transaction comes first.
            dispatcher.tick()
            entry = sender.entry(f"settle:{job}")
            assert entry is not None and entry.state == OutboxState.SENT
            send_first(market, record)
            rpc(market, "anvil_mine", "0x1")
            sender.poll()
            entry = sender.entry(f"settle:{job}")
            assert entry is not None and entry.state == OutboxState.REVERTED
            dispatcher.tick()
            found = work.get(job)
            # Not given up: it is tried again, unless the index shows that it is done.
            assert found is not None and found.state in (WorkState.SETTLING, WorkState.COMMITTED)
            session.sync()
            dispatcher.tick()
            found = work.get(job)
            assert found is not None and found.state == WorkState.SETTLED
        finally:
            rpc(market, "evm_setAutomine", True)
            rpc(market, "evm_setIntervalMining", 1)
    assert len(market.events("JobSettled", job)) == 1


def rpc(market: Marketplace, method: str, *params: Any) -> None:
    answer = market.node.provider.make_request(RPCEndpoint(method), list(params))
    assert "error" not in answer, answer


def send_first(market: Marketplace, record: Any) -> None:
    """The buyer's own settlement, at a price that puts it before the provider's."""
    account = dev_account(BUYER)
    call = market.contracts.settle(record.terms, record.commitment)
    fields = {
        "chainId": 31337,
        "nonce": market.node.eth.get_transaction_count(account.address),
        "to": call.to,
        "data": call.data,
        "value": 0,
        "gas": 300_000,
        "maxFeePerGas": 10**12,
        "maxPriorityFeePerGas": 10**11,
    }
    market.node.eth.send_raw_transaction(account.sign_transaction(fields).raw_transaction)


def dispatcher_of(session: Any, sender: Any, work: WorkLog) -> Dispatcher:
    """A dispatcher over a worker's home folder, as its daemon makes one."""
    settings = session.settings
    stores = BuyerStores(session.home.blobs, 1 << 30)
    return Dispatcher(
        provider_address=settings.provider.address,
        contracts=session.contracts,
        index=session.index,
        sender=sender,
        work=work,
        stores=stores,
        inputs=JobInputs(stores, 1 << 30),
        executor=ProcessExecutor(session.home.work),
        provider=settings.provider,
        gateway=settings.gateway,
        slots=1,
        cancellations=Cancellations(session.database),
        position=lambda: session.watcher.position().number,
        exact=ExactJobs(session.contracts, ProcessExecutor(session.home.work).log_path),
    )
