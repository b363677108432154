# SPDX-License-Identifier: Apache-2.0
"""A submission survives any interruption with one hire, and hires the next best if a provider gives up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from gpubond.buyer.client import Buyer
from gpubond.buyer.codes import SubmissionCode
from gpubond.chain.development import advance_time, dev_account
from gpubond.chain.market import Status
from gpubond.store.boundaries import ARM, BUYER_BOUNDARIES, BUYER_SENDS

from .marketplace import PROGRAM, Marketplace, wait_until
from .test_jobs import SQUARES, state_of, submit, write_job

ROOT = Path(__file__).resolve().parents[2]
BUYER = 5
# Owner and operator; the price rises, so that the order in which they are hired is known.
CHEAP, MIDDLE, DEAR = (1, 2), (3, 4), (6, 7)
WINDOWS = (
    "--acknowledge-window",
    "3600",
    "--delivery-margin",
    "20",
    "--challenge-window",
    "600",
    "--backed-jobs",
    "40",
)


@pytest.fixture(scope="module")
def market(market: Marketplace) -> Marketplace:
    for name, accounts, price in (("cheap", CHEAP, "36"), ("middle", MIDDLE, "45"), ("dear", DEAR, "72")):
        market.provider(name, *accounts, *WINDOWS, "--price-per-hour", price)
    market.buyer("buyer", BUYER)
    return market


@pytest.fixture(scope="module")
def workers(market: Marketplace) -> Workers:
    return Workers(market)


class Workers:
    """Keeps workers running from one test to the next, since each needs seconds to start."""

    def __init__(self, market: Marketplace) -> None:
        self._market = market
        self._running: dict[tuple[str, bool], Any] = {}

    def are(self, *names: str, declining: tuple[str, ...] = ()) -> None:
        """Just these run from now on; a declining one has an owner who takes no job of this size."""
        wanted = {(name, False) for name in names} | {(name, True) for name in declining}
        for key, worker in list(self._running.items()):
            if key not in wanted or worker.poll() is not None:
                self.kill(key[0])
        for name, declines in sorted(wanted - set(self._running)):
            with pytest.MonkeyPatch.context() as patch:
                if declines:
                    patch.setenv("GPUBOND_PROVIDER__MAX_MEMORY_MIB", "64")
                self._running[name, declines] = self._market.start_worker(self._market.directory / name)

    def kill(self, name: str) -> None:
        """Ends a worker for good."""
        for key in [key for key in self._running if key[0] == name]:
            worker = self._running.pop(key)
            if worker in self._market.workers:
                self._market.stop_worker(worker, signal.SIGKILL)


@pytest.fixture(scope="module")
def buyer(market: Marketplace) -> Path:
    return market.directory / "buyer"


def address(accounts: tuple[int, int]) -> str:
    return str(dev_account(accounts[0]).address)


def killed_at(moment: str, *arguments: str) -> str:
    """Runs the command line until it dies at a moment; returns what it said."""
    done = subprocess.run(
        [*PROGRAM, *arguments],
        cwd=ROOT,
        env=os.environ | {ARM: moment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, (moment, done)
    return done.stderr


def jobs_of(market: Marketplace, spec_hash: bytes) -> list[str]:
    """Ids of all jobs of a specification, by the chain's own events."""
    events = market.contracts.escrow.events.JobMatched().get_logs(from_block=0)
    return ["0x" + event["args"]["job"].hex() for event in events if event["args"]["terms"]["spec_hash"] == spec_hash]


def unique_job(folder: Path, name: str, sleep: str = "0") -> tuple[Path, bytes]:
    """A job that no other test submits, and the hash of its specification."""
    job_file = write_job(folder, sleep, f"{SQUARES}# {name}\n")
    report = Buyer.validate(job_file)
    assert report.spec is not None
    return job_file, report.spec.hash()


# The one boundary that is passed only where somebody else is hired has its own test.
MOMENTS = [*BUYER_SENDS, *(moment for moment in BUYER_BOUNDARIES if moment != "buy:next_stored")]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment_hires_once_and_loses_nothing(
    market: Marketplace, workers: Workers, buyer: Path, tmp_path: Path, moment: str
) -> None:
    if moment == "send:stored:deposit":
        # A deposit is needed only where the balance does not do.
        with Buyer.open(buyer) as client:
            balance = client.session.contracts.escrow_balance(client.session.address)
            token = client.session.contracts.token_info
        if balance:
            market.ok("account", "withdraw", token.text(balance).split()[0].replace(",", ""), "--home", str(buyer))
    workers.are("cheap")
    job_file, spec_hash = unique_job(tmp_path, moment)
    killed_at(moment, *submit(buyer, job_file, "--max-price", "1"))

    # Submitting it again is not what to do, and says what is.
    refused = market.run(*submit(buyer, job_file, "--max-price", "1"))
    assert (refused.code, refused.error["field"]) == (6, "submission")
    submission = refused.error["value"]
    assert f"gpubond job resume {submission}" in refused.error["remedy"]

    view = market.ok("job", "resume", submission, "--home", str(buyer), "--fetch-to", str(tmp_path / "o"), "--release")
    assert (view["code"], view["submission"]) == ("paid", submission)
    assert jobs_of(market, spec_hash) == [view["job"]]
    assert (len(market.events("JobCommitted", view["job"])), len(market.events("JobSettled", view["job"]))) == (1, 1)
    # Again changes nothing.
    assert market.ok("job", "resume", submission, "--home", str(buyer))["job"] == view["job"]
    assert jobs_of(market, spec_hash) == [view["job"]]


def test_after_a_decline_the_next_best_is_hired_and_never_the_same_again(
    market: Marketplace, workers: Workers, buyer: Path, tmp_path: Path
) -> None:
    workers.are("dear", declining=("cheap", "middle"))
    job_file, spec_hash = unique_job(tmp_path, "two decline")
    ran = market.run(*submit(buyer, job_file, "--max-price", "2", "--retry", "5"))
    assert ran.code == 0, ran
    assert ran.document["terms"]["provider"] == address(DEAR)
    assert len(jobs_of(market, spec_hash)) == 3
    assert "hiring the next best, 1 of at most 5 times" in ran.stderr
    assert "hiring the next best, 2 of at most 5 times" in ran.stderr
    assert_never_more_at_stake_than(market, spec_hash, 2_000_000)


def assert_never_more_at_stake_than(market: Marketplace, spec_hash: bytes, limit: int) -> None:
    """Reads from the chain what a specification's jobs held at each block."""
    held: dict[str, int] = {}
    escrow = market.contracts.escrow.events
    logs = [
        log
        for name in ("JobMatched", "JobDeclined", "JobExpired", "JobSettled")
        for log in escrow[name]().get_logs(from_block=0)
    ]
    wanted = set(jobs_of(market, spec_hash))
    for log in sorted(logs, key=lambda log: (log["blockNumber"], log["logIndex"])):
        job = "0x" + log["args"]["job"].hex()
        if job in wanted:
            terms = log["args"].get("terms")
            held[job] = 0 if terms is None else terms["price_per_second"] * terms["longest_run"]
        assert sum(held.values()) <= limit


def test_nobody_is_hired_above_the_highest_price_or_more_often_than_allowed(
    market: Marketplace, workers: Workers, buyer: Path, tmp_path: Path
) -> None:
    workers.are("dear", declining=("cheap", "middle"))
    # 60 s cost 0.60, 0.75 and 1.20: the third is above the price, then beyond the number of tries.
    for price, retry, code in (("1", "5", SubmissionCode.NO_OFFER_LEFT), ("2", "1", SubmissionCode.TRIES_USED_UP)):
        folder = tmp_path / code
        folder.mkdir()
        job_file, spec_hash = unique_job(folder, code)
        ran = market.run(*submit(buyer, job_file, "--max-price", price, "--retry", retry))
        assert (ran.code, ran.error["code"], ran.document["code"]) == (7, "job_failed", "declined"), ran
        assert len(jobs_of(market, spec_hash)) == 2
        with Buyer.open(buyer) as client:
            found = client._desk.orders.submission(ran.document["submission"])
            assert found is not None and found.code == code


def test_a_kill_before_the_next_hire_hires_it_once(
    market: Marketplace, workers: Workers, buyer: Path, tmp_path: Path
) -> None:
    workers.are("middle", declining=("cheap",))
    job_file, spec_hash = unique_job(tmp_path, "killed before the next")
    killed_at("buy:next_stored", *submit(buyer, job_file, "--max-price", "2", "--retry", "1"))
    assert len(jobs_of(market, spec_hash)) == 1
    view = market.ok("job", "resume", "--home", str(buyer))
    assert (view["code"], view["terms"]["provider"]) == ("result_ready", address(MIDDLE))
    assert len(jobs_of(market, spec_hash)) == 2


def test_after_an_expiry_the_refund_is_claimed_and_the_next_best_hired(
    market: Marketplace, workers: Workers, buyer: Path, tmp_path: Path
) -> None:
    workers.are("cheap", "middle")
    job_file, spec_hash = unique_job(tmp_path, "vanishing", sleep="20")
    views: list[Any] = []

    def order() -> None:
        views.append(market.run_process(*submit(buyer, job_file, "--max-price", "2", "--retry", "1")))

    thread = threading.Thread(target=order)
    thread.start()
    wait_until(lambda: len(jobs_of(market, spec_hash)) == 1)
    first = jobs_of(market, spec_hash)[0]
    workers.kill("cheap")
    with Buyer.open(buyer) as client:
        terms = client.record(first).terms
    advance_time(market.node, terms.deliver_by - market.contracts.now() + 1)
    thread.join()
    ran = views[0]
    assert (ran.code, ran.document["terms"]["provider"]) == (0, address(MIDDLE)), ran
    with Buyer.open(buyer) as client:
        assert client.record(first).status == Status.EXPIRED
    assert_never_more_at_stake_than(market, spec_hash, 2_000_000)
    # Its expired job keeps the place of the offer: it joins anew.
    market.ok("provider", "join", "--home", str(market.directory / "cheap"), "--faucet", "--yes")


def test_a_run_that_failed_by_the_machines_fault_is_settled_for_nothing_and_the_next_best_hired(
    market: Marketplace, workers: Workers, buyer: Path, tmp_path: Path
) -> None:
    workers.are("cheap", "middle")
    job_file, spec_hash = unique_job(tmp_path, "machine's fault")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Buyer, "upload", lambda self, job: None)
        job = market.ok(*submit(buyer, job_file, "--max-price", "0.80", "--retry", "2", "--detach"))["job"]
    # Its owner takes it no more when it is too late to decline: a failed run of no seconds.
    workers.kill("cheap")
    with Buyer.open(buyer) as client:
        terms = client.record(job).terms
    assert terms.provider == address(CHEAP)
    advance_time(market.node, terms.acknowledge_by - market.contracts.now() + 1)
    workers.are("middle", declining=("cheap",))
    # Killed before the money is taken back, then after it: the next is hired once all the same.
    for moment, status in (("buy:end_seen", Status.COMMITTED), ("buy:next_stored", Status.SETTLED)):
        killed_at(moment, "job", "resume", job, "--home", str(buyer))
        with Buyer.open(buyer) as client:
            record = client.record(job)
            assert (record.status, record.report) == (status, {"exit_status": 126, "seconds_used": 0, "tasks_done": 0})
            assert [item.spec_hash for item in client.list().submissions] == [spec_hash.hex()]
        assert jobs_of(market, spec_hash) == [job]
    view = market.ok("job", "resume", "--home", str(buyer))
    assert (view["code"], view["terms"]["provider"]) == ("result_ready", address(MIDDLE))
    assert len(jobs_of(market, spec_hash)) == 2
    assert record.outcome == {"to_provider": 0, "fee": 0, "refund": terms.escrowed}
    assert_never_more_at_stake_than(market, spec_hash, 800_000)


def test_a_failed_run_is_no_reason_to_hire_again(
    market: Marketplace, workers: Workers, buyer: Path, tmp_path: Path
) -> None:
    workers.are("cheap", "middle")
    job_file = write_job(tmp_path, "0", "raise SystemExit('wrong # only once')")
    spec = Buyer.validate(job_file).spec
    assert spec is not None
    ran = market.run(*submit(buyer, job_file, "--max-price", "2", "--retry", "3"))
    assert (ran.code, ran.document["reason"]) == (7, "nonzero_exit")
    assert len(jobs_of(market, spec.hash())) == 1


def test_a_program_that_ends_as_a_broken_machine_would_is_no_reason_either(
    market: Marketplace, workers: Workers, buyer: Path, tmp_path: Path
) -> None:
    workers.are("cheap", "middle")
    # Its seconds are asked for; a machine that fails asks for none.
    job_file = write_job(tmp_path, "0", "import time; time.sleep(2.5); raise SystemExit(126)")
    spec = Buyer.validate(job_file).spec
    assert spec is not None
    ran = market.run(*submit(buyer, job_file, "--max-price", "2", "--retry", "3"))
    assert (ran.code, ran.document["report"]["exit_status"], ran.document["status"]) == (7, 126, "committed")
    assert ran.document["commitment"]["pay"] > 0
    assert len(jobs_of(market, spec.hash())) == 1


def test_ctrl_c_says_how_to_go_on(market: Marketplace, workers: Workers, buyer: Path, tmp_path: Path) -> None:
    workers.are("cheap")
    job_file, spec_hash = unique_job(tmp_path, "interrupted", sleep="20")
    process = subprocess.Popen(
        [*PROGRAM, *submit(buyer, job_file, "--json")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(jobs_of(market, spec_hash)) == 1)
    job = jobs_of(market, spec_hash)[0]
    wait_until(lambda: state_of(market, buyer, job) == "running")
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert json.loads(printed)["error"]["remedy"].startswith("nothing is lost: `gpubond job resume s-")
    # By the job's id as well.
    assert market.ok("job", "resume", job, "--home", str(buyer))["code"] == "result_ready"
    assert jobs_of(market, spec_hash) == [job]


def test_two_commands_do_not_drive_one_submission(
    market: Marketplace, workers: Workers, buyer: Path, tmp_path: Path
) -> None:
    workers.are("cheap")
    job_file, _ = unique_job(tmp_path, "driven twice")
    with Buyer.open(buyer) as client:
        submission = client.begin(client.prepare(job_file)).id
        with client._hiring.driving(submission):
            ran = market.run_process("job", "resume", submission, "--home", str(buyer))
            assert (ran.code, ran.error["field"]) == (6, "submission")
    assert (
        market.ok("job", "cancel", submission, "--home", str(buyer))["effect"] == "nothing was sent and nothing spent"
    )
    assert market.run("job", "resume", submission, "--home", str(buyer)).code == 6


def test_retry_needs_a_highest_price_and_a_free_choice(
    market: Marketplace, workers: Workers, buyer: Path, tmp_path: Path
) -> None:
    workers.are("cheap")
    job_file, _ = unique_job(tmp_path, "unbounded")
    for options in (("--retry", "1"), ("--retry", "1", "--max-price", "2", "--provider", address(CHEAP))):
        ran = market.run(*submit(buyer, job_file, *options))
        assert (ran.code, ran.error["field"]) == (2, "retry")
