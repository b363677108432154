# SPDX-License-Identifier: Apache-2.0
"""Jobs from hire to payment, by the commands that a person types, with real processes and a real chain."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpubond.buyer.client import Buyer
from gpubond.chain.development import advance_time, dev_account
from gpubond.chain.market import Order, Status
from gpubond.jobs.merkle import CHUNK_BYTES

from .marketplace import Marketplace, wait_until

ROOT = Path(__file__).resolve().parents[2]
OWNER, OPERATOR, BUYER = 1, 2, 5
COMPENSATION_SHARE = 5  # a fifth of the price

SQUARES = """
import sys, time
import numpy as np
print("squaring", flush=True)
time.sleep(float(sys.argv[1]))
np.save("squares.npy", np.arange(10) ** 2)
"""


@pytest.fixture(scope="module")
def provider(market: Marketplace) -> Path:
    return market.provider(
        *("provider", OWNER, OPERATOR),
        *("--acknowledge-window", "200", "--delivery-margin", "20", "--challenge-window", "600"),
        *("--backed-jobs", "20"),
    )


@pytest.fixture(autouse=True)
def no_worker_is_left(market: Marketplace) -> Iterator[None]:
    yield
    for worker in list(market.workers):
        market.stop_worker(worker, signal.SIGKILL)


@pytest.fixture
def worker(market: Marketplace, provider: Path) -> Iterator[Any]:
    worker = market.start_worker(provider)
    yield worker
    if worker in market.workers:
        assert market.stop_worker(worker) == 0


@pytest.fixture(scope="module")
def buyer(market: Marketplace, provider: Path) -> Path:
    return market.buyer("buyer", BUYER)


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    return write_job(tmp_path, "0")


def write_job(folder: Path, sleep: str, source: str = SQUARES) -> Path:
    (folder / "square.py").write_text(source)
    path = folder / "job.json"
    path.write_text(
        json.dumps(
            {
                "version": 1,
                "name": "squares",
                "runtime": "python",
                "inputs": [{"path": "square.py"}],
                "outputs": ["squares.npy"],
                "limits": {"seconds": 60},
                "python": {"script": "square.py", "args": [sleep]},
            }
        )
    )
    return path


def submit(home: Path, job_file: Path, *options: str) -> tuple[str, ...]:
    return ("job", "submit", str(job_file), "--home", str(home), "--yes", *options)


def test_a_job_is_run_fetched_verified_and_paid(market: Marketplace, worker: Any, buyer: Path, tmp_path: Path) -> None:
    before = market.wealth(BUYER), market.wealth(OWNER)
    job_file = write_job(tmp_path, "2.5")  # else hire and commitment can share a second, in which nothing is earned
    view = market.ok(*submit(buyer, job_file, "--fetch-to", str(tmp_path / "out"), "--release"))
    assert view["status"] == "settled"
    assert np.load(tmp_path / "out" / "squares.npy").tolist() == [n * n for n in range(10)]
    paid = view["outcome"]["to_provider"]
    elapsed = view["commitment"]["committed_at"] - view["terms"]["matched_at"]
    assert paid == min(view["report"]["seconds_used"], elapsed) * view["terms"]["price_per_second"] > 0
    assert (market.wealth(BUYER), market.wealth(OWNER)) == (before[0] - paid, before[1] + paid)
    assert market.contracts.provider(str(dev_account(OWNER).address)).locked == 0


def test_a_failing_run_exits_with_an_error_and_pays_the_failure_cap_at_most(
    market: Marketplace, worker: Any, buyer: Path, tmp_path: Path
) -> None:
    ran = market.run(*submit(buyer, write_job(tmp_path, "0", "raise SystemExit('no such luck')")))
    assert ran.code == 7
    assert ran.error["code"] == "job_failed"
    view = ran.document
    assert view["report"]["exit_status"] == 1
    assert view["report"]["tasks_done"] == 0
    assert view["commitment"]["pay"] <= view["terms"]["price_per_second"] * view["terms"]["longest_run"] // 10
    log = market.ok("job", "logs", view["job"], "--home", str(buyer))["log"]
    assert "no such luck" in log


def test_a_bag_that_is_done_earns_its_seconds(
    market: Marketplace, worker: Any, buyer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpubond.buyer.hiring.Order", lambda **fields: Order(**{**fields, "tasks": 7}))
    before = market.wealth(BUYER), market.wealth(OWNER)
    with Buyer.open(buyer) as client:
        job = client.submit(write_job(tmp_path, "2.5"))
        record = client.wait(job).record
        manifest = client.fetch(job, tmp_path / "out")
        client.release(job)
    assert record.report is not None and record.commitment is not None
    assert (record.terms.tasks, record.report["exit_status"], record.report["tasks_done"]) == (7, 0, 7)
    assert record.commitment.chunks == -(-manifest.bundle_size // CHUNK_BYTES) > 0
    elapsed = record.commitment.committed_at - record.terms.matched_at
    paid = min(record.report["seconds_used"], elapsed) * record.terms.price_per_second
    assert record.commitment.pay == paid > 0
    assert (market.wealth(BUYER), market.wealth(OWNER)) == (before[0] - paid, before[1] + paid)


def test_quotes_show_runs_deadline_and_a_collateral_that_is_low(
    market: Marketplace, provider: Path, buyer: Path, job_file: Path
) -> None:
    address = str(dev_account(OWNER).address)

    def quote(seconds: int) -> Any:
        found = market.ok("job", "quote", "--seconds", str(seconds), "--home", str(buyer))
        return next(item for item in found if item["provider"] == address)

    # 36 tokens an hour and 5 of collateral: a fifth of 25 tokens, which 2,500 seconds cost.
    enough, low = quote(2500), quote(2501)
    assert (enough["collateral_is_low"], low["collateral_is_low"]) == (False, True)
    assert (low["shortest_run_s"], low["longest_run_s"]) == (60, 3600)
    assert low["due_seconds_after_hire"] == 200 + 2501 + 20
    shown = market.text("job", "quote", "--seconds", "2501", "--home", str(buyer))
    for words in ("60 to 3600 s", "2721 s", "yes, low collateral"):
        assert words in shown, shown
    assert "low collateral" not in market.text("job", "quote", "--seconds", "2500", "--home", str(buyer))

    refused = market.run("job", "quote", "--seconds", "59", "--home", str(buyer))
    assert refused.code == 2
    assert refused.error["field"] == "seconds"
    assert refused.error["remedy"] == "ask for 60 to 3600 seconds"


def test_the_price_of_a_job_is_shown_with_its_risks_before_the_hire(
    market: Marketplace, worker: Any, buyer: Path, job_file: Path
) -> None:
    shown = " ".join(market.text(*submit(buyer, job_file, "--dry-run", "--seconds", "3600")).split())
    assert "due 3820 s after the hire at latest" in shown, shown
    assert "note: its collateral, 5.00 tUSD, is less than a fifth of the price" in shown, shown
    shown = " ".join(market.text(*submit(buyer, job_file, "--dry-run")).split())
    assert "due 280 s after the hire at latest" in shown, shown
    assert "is less than a fifth" not in shown, shown


def test_cuda_source_that_does_not_compile_is_refused_before_any_money_moves(
    market: Marketplace, worker: Any, buyer: Path, tmp_path: Path
) -> None:
    nonce = market.node.eth.get_transaction_count(dev_account(BUYER).address)
    ran = market.run(*submit(buyer, write_cuda(tmp_path)))
    assert ran.code == 2
    assert "nonsense" in ran.error["message"]
    assert market.node.eth.get_transaction_count(dev_account(BUYER).address) == nonce


def write_cuda(folder: Path) -> Path:
    (folder / "bad.cu").write_text("__global__ void fill(float *out) { out[0] = nonsense; }\n")
    path = folder / "cuda.json"
    path.write_text(
        json.dumps(
            {
                "version": 1,
                "name": "bad kernel",
                "runtime": "cuda",
                "inputs": [{"path": "bad.cu"}],
                "outputs": ["out.npy"],
                "limits": {"seconds": 60},
                "cuda": {
                    "source": "bad.cu",
                    "buffers": {"out": {"dtype": "float32", "shape": [4], "to": "out.npy"}},
                    "launches": [
                        {"kernel": "fill", "grid": [1, 1, 1], "block": [1, 1, 1], "args": [{"buffer": "out"}]}
                    ],
                },
            }
        )
    )
    return path


def test_the_providers_compiler_message_reaches_a_buyer_who_did_not_check(
    market: Marketplace, worker: Any, buyer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpubond.buyer.client.precheck_job", lambda spec, files: True)
    with Buyer.open(buyer) as client:
        job = client.submit(write_cuda(tmp_path))
        view = client.wait(job)
        assert view.provider_status is not None
        assert view.provider_status["reason"] == "compile_error"
        assert b"nonsense" in b"".join(client.logs(job))


def test_a_worker_killed_in_the_middle_of_a_run_goes_on_after_its_restart(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    worker = market.start_worker(provider)
    job = market.ok(*submit(buyer, write_job(tmp_path, "3"), "--detach"))["job"]
    wait_until(lambda: state_of(market, buyer, job) == "running")
    market.stop_worker(worker, signal.SIGKILL)
    worker = market.start_worker(provider)
    with Buyer.open(buyer) as client:
        view = client.wait(job)
        assert view.record.status == Status.COMMITTED
        assert view.record.report == {
            "exit_status": 0,
            "seconds_used": view.record.report["seconds_used"],
            "tasks_done": 1,
        }
        client.fetch(job, tmp_path / "out")
        client.release(job)
    assert len(market.events("JobCommitted", job)) == 1
    assert len(market.events("JobSettled", job)) == 1
    assert market.stop_worker(worker) == 0


def state_of(market: Marketplace, buyer: Path, job: str) -> str | None:
    provider = market.ok("job", "status", job, "--home", str(buyer))["provider"]
    return None if provider is None else provider["state"]


def test_a_provider_paid_by_itself_when_the_window_ends(
    market: Marketplace, worker: Any, buyer: Path, job_file: Path
) -> None:
    view = market.ok(*submit(buyer, job_file))
    assert view["status"] == "committed"
    advance_time(market.node, view["terms"]["challenge_window"])
    with Buyer.open(buyer) as client:
        wait_until(lambda: client.record(view["job"]).status == Status.SETTLED)


def test_withheld_inputs_are_declined_and_the_buyer_is_refunded(
    market: Marketplace, worker: Any, provider: Path, buyer: Path, job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = market.wealth(BUYER), market.wealth(OWNER)
    # Not what an earlier job brought: the worker still has that.
    job_file = write_job(job_file.parent, "0", SQUARES + "# withheld")
    monkeypatch.setattr(Buyer, "upload", lambda self, job: None)
    with Buyer.open(buyer) as client:
        job = client.submit(job_file)
        advance_time(market.node, 160)
        wait_until(lambda: client.record(job).status == Status.DECLINED)
    assert (market.wealth(BUYER), market.wealth(OWNER)) == before
    # The offer stays open: else anyone could close it for the gas of a hire.
    market.stop_worker(worker)
    assert market.ok("provider", "join", "--home", str(provider), "--yes")["calls"] == []


def test_a_vanished_provider_pays_the_buyer_and_the_rest_burns(
    market: Marketplace, buyer: Path, tmp_path: Path
) -> None:
    home = market.provider(
        *("vanishing", 3, 4),
        *("--acknowledge-window", "60", "--delivery-margin", "20", "--challenge-window", "60"),
    )
    worker = market.start_worker(home)
    before, burned = market.wealth(BUYER), market.contracts.burned()
    address = str(dev_account(3).address)
    job = market.ok(*submit(buyer, write_job(tmp_path, "30"), "--detach", "--provider", address))["job"]
    wait_until(lambda: state_of(market, buyer, job) == "running")
    market.stop_worker(worker, signal.SIGKILL)

    early = market.run("job", "expire", job, "--home", str(buyer))
    assert early.code == 6
    with Buyer.open(buyer) as client:
        terms = client.record(job).terms
    advance_time(market.node, terms.deliver_by - market.contracts.now() + 1)
    # By anyone: a stranger gets nothing for it.
    stranger = market.buyer("stranger", 8, tokens=None)
    view = market.ok("job", "expire", job, "--home", str(stranger))
    assert (view["status"], market.wealth(8)) == ("expired", 0)
    compensation = terms.escrowed // COMPENSATION_SHARE
    assert view["outcome"] == {"refund": terms.escrowed, "compensation": compensation}
    assert market.wealth(BUYER) == before + compensation
    assert market.wealth(3) == 3 * terms.collateral  # of the four jobs that its stake covered
    after = market.contracts.burned()
    assert after - burned == terms.collateral - compensation
    # Twice changes nothing.
    assert market.ok("job", "expire", job, "--home", str(buyer))["status"] == "expired"

    # The expired job keeps its place, so nobody can hire until the provider joins again.
    def refusals() -> list[str | None]:
        found = market.ok("job", "quote", "--seconds", "60", "--home", str(buyer))
        return [quote["refusal"] for quote in found if quote["provider"] == address]

    assert refusals() == ["offer fully used"]
    assert market.ok("provider", "status", "--home", str(home))["lost_places"] == 1
    market.ok("provider", "join", "--home", str(home), "--faucet", "--yes")
    assert refusals() == [None]
    assert market.ok("provider", "status", "--home", str(home))["lost_places"] == 0
    assert market.ok("provider", "join", "--home", str(home), "--yes")["calls"] == []
    market.ok("account", "withdraw", "0.5", "--home", str(buyer))


def test_a_machine_that_cannot_run_a_job_in_time_to_decline_keeps_its_collateral(
    market: Marketplace, provider: Path, buyer: Path, job_file: Path
) -> None:
    job = ""
    before = market.wealth(OWNER)
    worker = market.start_worker(provider)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Buyer, "upload", lambda self, job: None)
        with Buyer.open(buyer) as client:
            job = client.submit(write_job(job_file.parent, "0", SQUARES + "# too long for this machine"))
            market.stop_worker(worker, signal.SIGKILL)
            terms = client.record(job).terms
    advance_time(market.node, terms.acknowledge_by - market.contracts.now() + 1)
    with pytest.MonkeyPatch.context() as patch:
        # By now its owner takes smaller jobs only.
        patch.setenv("GPUBOND_PROVIDER__MAX_MEMORY_MIB", "64")
        market.start_worker(provider)
    with Buyer.open(buyer) as client:
        client.upload(job)
        view = client.wait(job, expire=False)
        assert view.record.report == {"exit_status": 126, "seconds_used": 0, "tasks_done": 0}
        client.release(job)
    assert market.wealth(OWNER) == before


def test_several_buyers_at_once_do_not_disturb_each_other(
    market: Marketplace, worker: Any, buyer: Path, tmp_path: Path
) -> None:
    # One slot: the second hire is refused by the chain or waits its turn, and neither is lost.
    other = market.buyer("other", 6)
    views: dict[str, Any] = {}

    def order(name: str, home: Path) -> None:
        folder = tmp_path / name
        folder.mkdir()
        views[name] = market.run_process(
            *submit(home, write_job(folder, "1"), "--fetch-to", str(folder / "out"), "--release")
        )

    threads = [threading.Thread(target=order, args=pair) for pair in (("one", buyer), ("two", other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refusals = ("offer fully used", "no gateway of the providers")
    assert [view.code for view in views.values()].count(0) >= 1, views
    for name, view in views.items():
        if view.code == 0:
            assert (tmp_path / name / "out" / "squares.npy").is_file()
        else:
            assert any(words in view.error["message"] for words in refusals), view


def test_a_provider_whose_gateway_is_dead_is_not_hired(
    market: Marketplace, provider: Path, buyer: Path, job_file: Path
) -> None:
    nonce = market.node.eth.get_transaction_count(dev_account(BUYER).address)
    ran = market.run(*submit(buyer, job_file))
    assert ran.code == 4
    assert ran.error["field"] == "gateway"
    assert market.node.eth.get_transaction_count(dev_account(BUYER).address) == nonce
