# SPDX-License-Identifier: Apache-2.0
"""Demands for the data of committed results: real workers and buyers on a real chain."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from dataclasses import astuple, replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from web3.types import RPCEndpoint

from gpubond.buyer.client import Buyer
from gpubond.buyer.demands import HOLD_GAS
from gpubond.chain.demand_index import Demand, DemandState
from gpubond.chain.demands import DataDemands, data_demands
from gpubond.chain.development import advance_time, dev_account
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Status
from gpubond.chain.preflight import call_params, try_call
from gpubond.chain.session import Session, open_session
from gpubond.devnet import free_port
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.manifest import Manifest, prove_chunk
from gpubond.provider.work import WorkLog
from gpubond.settings import Home

from .marketplace import Marketplace, wait_until

ROOT = Path(__file__).resolve().parents[2]
OWNER, OPERATOR, BUYER, STRANGER, UNLUCKY = 1, 2, 5, 7, 0
DAY = 86_400
FEE = 50_000  # base units: 0.05 of a token, as deployed

# Some 20 chunks, each of which looks different.
NUMBERS = """
import numpy as np
np.save("numbers.npy", np.random.default_rng({seed}).integers(0, 1 << 60, 10_000))
"""


@pytest.fixture(scope="module")
def provider(market: Marketplace) -> Path:
    return market.provider(
        *("provider", OWNER, OPERATOR),
        *("--acknowledge-window", "600", "--delivery-margin", "600", "--challenge-window", str(2 * DAY)),
        *("--backed-jobs", "40"),
    )


@pytest.fixture(scope="module")
def buyer(market: Marketplace, provider: Path) -> Path:
    return market.buyer("buyer", BUYER)


@pytest.fixture(scope="module")
def contract(market: Marketplace) -> DataDemands:
    found = data_demands(market.contracts)
    assert found is not None and found.fee == FEE
    return found


@pytest.fixture(autouse=True)
def no_worker_is_left(market: Marketplace) -> Iterator[None]:
    yield
    for worker in list(market.workers):
        market.stop_worker(worker, signal.SIGKILL)


def write_job(folder: Path, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "numbers.py").write_text(NUMBERS.format(seed=seed))
    path = folder / "job.json"
    path.write_text(
        json.dumps(
            {
                "version": 1,
                "name": "numbers",
                "runtime": "python",
                "inputs": [{"path": "numbers.py"}],
                "outputs": ["numbers.npy"],
                "limits": {"seconds": 60},
                "python": {"script": "numbers.py", "args": []},
            }
        )
    )
    return path


def numbers(seed: int) -> list[int]:
    return list(np.random.default_rng(seed).integers(0, 1 << 60, 10_000))


def committed(market: Marketplace, buyer: Path, folder: Path, seed: int = 1) -> str:
    """Submits a job to the running worker and waits for its commitment."""
    path = write_job(folder / "job", seed)
    address = str(dev_account(OWNER).address)
    return str(market.ok("job", "submit", str(path), "--home", str(buyer), "--yes", "--provider", address)["job"])


def demand(buyer: Path, job: str, *options: str) -> tuple[str, ...]:
    return ("job", "demand", job, "--home", str(buyer), "--yes", *options)


def record_of(buyer: Path, job: str) -> JobRecord:
    with Buyer.open(buyer) as client:
        return client.record(job)


def demands_of(buyer: Path, job: str) -> tuple[Demand, ...]:
    with Buyer.open(buyer) as client:
        return client.demands(job).demands


def answers(market: Marketplace, contract: DataDemands, job: str) -> list[int]:
    """Chunks in the DataAnswered events on the chain as it is now."""
    event = market.contracts.at("DataDemands", contract.address).events.DataAnswered()
    found = event.get_logs(from_block=0, argument_filters={"job": bytes.fromhex(job.removeprefix("0x"))})
    return [int(entry["args"]["index"]) for entry in found]


def log_of(provider: Path) -> str:
    return (provider / "worker.log").read_text()


def rpc(market: Marketplace, method: str, *parameters: Any) -> Any:
    answer = market.node.provider.make_request(RPCEndpoint(method), list(parameters))
    assert "error" not in answer, answer
    return answer.get("result")


@pytest.fixture
def own_blocks(market: Marketplace) -> Iterator[None]:
    """Blocks come with transactions only, so that a test knows which it reorganises."""
    rpc(market, "evm_setIntervalMining", 0)
    rpc(market, "evm_setAutomine", True)
    yield
    rpc(market, "evm_setIntervalMining", 1)


def test_a_demand_is_answered_and_the_job_is_paid(
    market: Marketplace, provider: Path, buyer: Path, contract: DataDemands, tmp_path: Path
) -> None:
    owner = str(dev_account(OWNER).address)
    worker = market.start_worker(provider)
    before = market.wealth(BUYER), market.wealth(OWNER), contract.claimable(owner)
    job = committed(market, buyer, tmp_path)
    plan = market.ok(*demand(buyer, job, "--chunk", "3", "--dry-run"))
    assert (plan["to_demand"], plan["fees"], plan["rounds"]) == ([3], FEE, 1)
    assert plan["gateway"].startswith("it serves the manifest")
    shown = " ".join(market.text(*demand(buyer, job, "--chunk", "3", "--dry-run")).split())
    for words in ("chunk 3; shown so far: none", "0.05 tUSD a chunk", "in 1 transaction", "if withheld 0.60 tUSD"):
        assert words in shown, shown
    shown = " ".join(market.text("job", "demand", job, "--home", str(buyer)).split())
    assert "--missing or --chunk demands, for 0.05 tUSD a chunk" in shown, shown
    assert demands_of(buyer, job) == ()

    view = market.ok(*demand(buyer, job, "--chunk", "3", "--to", str(tmp_path / "shown")))
    assert (view["status"], view["shown"], view["open"]) == ("committed", [3], [])
    assert answers(market, contract, job) == [3]
    assert contract.claimable(owner) == before[2] + FEE
    # What was shown is part of the outputs that the gateway serves.
    (chunk,) = (tmp_path / "shown").iterdir()
    market.ok("job", "fetch", job, "--to", str(tmp_path / "out"), "--home", str(buyer))
    bundle = (tmp_path / "out" / "manifest.json").read_bytes() + (tmp_path / "out" / "numbers.npy").read_bytes()
    assert chunk.read_bytes() == bundle[3 * 4096 : 4 * 4096]

    # Once more sends nothing: it was shown.
    nonce = market.node.eth.get_transaction_count(dev_account(BUYER).address)
    assert market.ok(*demand(buyer, job, "--chunk", "3"))["shown"] == [3]
    assert market.node.eth.get_transaction_count(dev_account(BUYER).address) == nonce

    paid = market.ok("job", "release", job, "--home", str(buyer))["outcome"]["to_provider"]
    assert (market.wealth(BUYER), market.wealth(OWNER)) == (before[0] - paid - FEE, before[1] + paid)
    assert market.stop_worker(worker) == 0


def test_a_result_that_no_gateway_serves_is_put_together_from_the_chain(
    market: Marketplace, provider: Path, buyer: Path, contract: DataDemands, tmp_path: Path
) -> None:
    worker = market.start_worker(provider)
    job = committed(market, buyer, tmp_path, seed=2)
    market.stop_worker(worker)
    with pytest.MonkeyPatch.context() as patch:
        # Its buyers know another port.
        patch.setenv("GPUBOND_GATEWAY__PORT", str(free_port()))
        worker = market.start_worker(provider)
    assert market.run("job", "fetch", job, "--to", str(tmp_path / "out"), "--home", str(buyer)).code == 4

    chunks = record_of(buyer, job).commitment.chunks  # type: ignore[union-attr]
    assert chunks > 16, "more than two rounds of eight"
    view = market.ok(*demand(buyer, job, "--missing", "--to", str(tmp_path / "out")))
    assert view["shown"] == list(range(chunks))
    assert np.load(tmp_path / "out" / "numbers.npy").tolist() == numbers(2)
    assert sorted(answers(market, contract, job)) == list(range(chunks)), "each once"
    assert record_of(buyer, job).status == Status.COMMITTED

    # The index says the same when it is derived anew from the stored events.
    with open_session(buyer, with_key=False) as session:
        session.sync()
        found = session.index.demands.of_job(job)
        assert {entry.state for entry in found} == {DemandState.ANSWERED}
        assert max(entry.number for entry in found) >= 2, "lanes were used again"
        with session.database.transaction() as tx:
            session.index.rebuild(tx, 0)
        assert session.index.demands.of_job(job) == found
    market.ok("job", "release", job, "--home", str(buyer))
    assert market.stop_worker(worker) == 0


def test_a_provider_that_withholds_pays_the_buyer(
    market: Marketplace, provider: Path, buyer: Path, contract: DataDemands, tmp_path: Path
) -> None:
    worker = market.start_worker(provider)
    before, burned, stake = market.wealth(BUYER), market.contracts.burned(), market.wealth(OWNER)
    job = committed(market, buyer, tmp_path, seed=3)
    market.stop_worker(worker, signal.SIGKILL)
    terms = record_of(buyer, job).terms

    view = market.ok(*demand(buyer, job, "--chunk", "4", "--chunk", "0", "--detach"))
    assert [entry["chunk"] for entry in view["open"]] == [0, 4]
    answer_by = view["open"][0]["answer_by"]
    # Asked again, as after an interruption: what waits is not demanded, or paid for, twice.
    assert market.ok(*demand(buyer, job, "--chunk", "4", "--detach"))["open"] == view["open"]
    assert len(demands_of(buyer, job)) == 2
    status = market.ok("job", "status", job, "--home", str(buyer))
    assert status["status"] == "disputed"
    assert status["waits_for"] == "the provider to show chunk 0, 4 on chain"
    assert status["until"] == answer_by
    assert "chunk 0, 4 of 20 of the result was demanded" in status["explanation"]

    shown = " ".join(market.text("job", "demand", job, "--home", str(buyer)).split())
    assert "shown chunk - of 20 chunk 0 due" in shown, shown
    assert "waits for the provider to show chunk 0, 4 on chain, until" in " ".join(
        market.text("job", "status", job, "--home", str(buyer)).split()
    )

    early = market.run(*demand(buyer, job, "--claim"))
    assert early.code == 6
    assert "still has time" in early.error["message"]

    advance_time(market.node, answer_by - market.contracts.now() + 1)
    status = market.ok("job", "status", job, "--home", str(buyer))
    assert "--claim" in status["waits_for"]
    claimed = market.ok(*demand(buyer, job, "--claim"))
    assert claimed["status"] == "expired"
    assert len(claimed["done"]) == 2
    compensation = terms.escrowed // 5
    assert claimed["outcome"] == {"refund": terms.escrowed, "compensation": compensation}
    assert market.wealth(BUYER) == before + compensation, "the fees are back as well"
    assert market.wealth(OWNER) == stake - terms.collateral
    assert market.contracts.burned() - burned == terms.collateral - compensation
    states = {entry.chunk: entry.state for entry in demands_of(buyer, job)}
    assert sorted(states.values()) == [DemandState.RETURNED, DemandState.WITHHELD]

    again = market.run(*demand(buyer, job, "--claim"))
    assert (again.code, again.error["message"][:25]) == (6, "there is nothing to claim")
    # The worker takes the end over when it is back.
    market.ok("provider", "join", "--home", str(provider), "--faucet", "--yes")
    worker = market.start_worker(provider)
    with open_session(provider, with_key=False) as session:
        work = WorkLog(session.database)
        wait_until(lambda: (found := work.get(job)) is not None and found.state == "expired")
    assert market.stop_worker(worker) == 0


def test_a_buyer_that_waits_is_paid_without_asking(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    worker = market.start_worker(provider)
    job = committed(market, buyer, tmp_path, seed=4)
    market.stop_worker(worker, signal.SIGKILL)
    ended: list[Any] = []
    waiting = threading.Thread(
        target=lambda: ended.append(market.run_process(*demand(buyer, job, "--chunk", "1"))), daemon=True
    )
    waiting.start()
    with open_session(buyer, with_key=False) as session:

        def is_open() -> bool:
            session.sync()
            return bool(session.index.demands.of_job(job))

        wait_until(is_open)
    advance_time(market.node, DAY + 1)
    waiting.join(60)
    assert [ran.code for ran in ended] == [7], ended
    assert ended[0].error["code"] == "job_failed"
    assert record_of(buyer, job).status == Status.EXPIRED
    market.ok("provider", "join", "--home", str(provider), "--faucet", "--yes")


def test_a_gateway_whose_answer_never_ends_does_not_prevent_a_demand(
    market: Marketplace, provider: Path, buyer: Path, contract: DataDemands, tmp_path: Path
) -> None:
    worker = market.start_worker(provider)
    job = committed(market, buyer, tmp_path, seed=15)
    market.stop_worker(worker)
    gateway = Home(provider).load().gateway
    assert gateway is not None
    over = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while not over.wait(0.1):
                    self.wfile.write(b" ")

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer((gateway.host, gateway.port), Dripping) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            plan = market.ok(*demand(buyer, job, "--chunk", "0", "--dry-run"))
            assert "no whole answer" in plan["gateway"]
            assert len(market.ok(*demand(buyer, job, "--chunk", "0", "--detach"))["open"]) == 1
        finally:
            over.set()
            server.shutdown()
            serving.join()
    market.start_worker(provider)
    wait_until(lambda: answers(market, contract, job) == [0])


def test_fees_come_back_if_nobody_ended_the_job_in_time(
    market: Marketplace, provider: Path, buyer: Path, contract: DataDemands, tmp_path: Path
) -> None:
    worker = market.start_worker(provider)
    before = market.wealth(BUYER)
    job = committed(market, buyer, tmp_path, seed=14)
    market.stop_worker(worker, signal.SIGKILL)
    market.ok(*demand(buyer, job, "--detach", "--chunk", "0", "--chunk", "1"))
    record = record_of(buyer, job)
    assert record.commitment is not None
    timeout = record.commitment.committed_at + record.terms.challenge_window + record.terms.dispute_timeout
    advance_time(market.node, timeout - market.contracts.now() + 1)
    late = market.run(*demand(buyer, job, "--claim"))
    assert (late.code, late.error["code"]) == (6, "refused")
    assert "dispute has timed out" in late.error["message"]
    assert "anyone may settle" in late.error["remedy"]

    settle = market.contracts.settle(record.terms, record.commitment)
    sent: Any = {"from": dev_account(STRANGER).address, "to": settle.to, "data": settle.data}
    market.node.eth.wait_for_transaction_receipt(market.node.eth.send_transaction(sent))
    claimed = market.ok(*demand(buyer, job, "--claim"))
    assert claimed["status"] == "settled"
    assert [words.split()[0] for words in claimed["done"]] == ["take", "move"]
    assert market.wealth(BUYER) == before - record.commitment.pay
    assert contract.claimable(str(dev_account(BUYER).address)) == 0


def test_a_worker_killed_between_demand_and_answer_answers_once(
    market: Marketplace, provider: Path, buyer: Path, contract: DataDemands, tmp_path: Path
) -> None:
    worker = market.start_worker(provider)
    job = committed(market, buyer, tmp_path, seed=5)
    market.stop_worker(worker)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUBOND_PROVIDER__ANSWER_GAS_GWEI", "0.000000001")
        worker = market.start_worker(provider)
    market.ok(*demand(buyer, job, "--detach", *(f"--chunk={index}" for index in range(8))))
    wait_until(lambda: f"job {job}: chunk 0 was demanded; gas costs" in log_of(provider))
    market.stop_worker(worker, signal.SIGKILL)
    assert answers(market, contract, job) == []

    market.start_worker(provider)
    wait_until(lambda: record_of(buyer, job).status == Status.COMMITTED)
    assert sorted(answers(market, contract, job)) == list(range(8))


def test_dear_gas_delays_an_answer_and_never_prevents_it(
    market: Marketplace, provider: Path, buyer: Path, contract: DataDemands, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUBOND_PROVIDER__ANSWER_GAS_GWEI", "0.000000001")
        market.start_worker(provider)
    job = committed(market, buyer, tmp_path, seed=6)
    market.ok(*demand(buyer, job, "--detach", "--chunk", "2"))
    wait_until(lambda: f"job {job}: chunk 2 was demanded; gas costs" in log_of(provider))
    assert answers(market, contract, job) == []
    (waiting,) = demands_of(buyer, job)
    shown = market.ok("provider", "status", "--home", str(provider))["demands"]
    assert (shown["open"], shown["next_deadline"]) == (1, waiting.answer_by)
    assert "1 chunk waits to be shown by the worker" in market.text("provider", "status", "--home", str(provider))
    advance_time(market.node, DAY // 2)
    wait_until(lambda: answers(market, contract, job) == [2])
    shown = market.ok("provider", "status", "--home", str(provider))["demands"]
    assert shown == {"open": 0, "next_deadline": None, "fees": contract.claimable(str(dev_account(OWNER).address))}


def test_a_worker_killed_before_its_answer_is_mined_answers_once(
    market: Marketplace, provider: Path, buyer: Path, contract: DataDemands, tmp_path: Path, own_blocks: None
) -> None:
    worker = market.start_worker(provider)
    job = committed(market, buyer, tmp_path, seed=7)
    market.stop_worker(worker)
    market.ok(*demand(buyer, job, "--detach", "--chunk", "2"))
    rpc(market, "evm_setAutomine", False)
    worker = market.start_worker(provider)
    wait_until(lambda: f"job {job}: chunk 2 was demanded; answer sent" in log_of(provider))
    market.stop_worker(worker, signal.SIGKILL)
    worker = market.start_worker(provider)
    rpc(market, "anvil_mine", "0x1")
    rpc(market, "evm_setAutomine", True)
    wait_until(lambda: record_of(buyer, job).status == Status.COMMITTED)
    assert answers(market, contract, job) == [2]
    assert log_of(provider).count(f"job {job}: chunk 2 was demanded; answer sent") == 1
    assert market.stop_worker(worker) == 0


def test_a_demand_has_gas_to_hold_the_job_anew(
    market: Marketplace, provider: Path, buyer: Path, contract: DataDemands, tmp_path: Path
) -> None:
    """The last open demand may be answered between the estimate of another one and its block."""
    worker = market.start_worker(provider)
    job = committed(market, buyer, tmp_path, seed=9)
    # Places that were used before are cheap.
    market.ok(*demand(buyer, job, "--chunk", "0", "--chunk", "1"))
    market.stop_worker(worker)
    market.ok(*demand(buyer, job, "--detach", "--chunk", "2"))
    record = record_of(buyer, job)
    assert record.commitment is not None
    call = contract.demand(record.terms, record.commitment, [3])
    params = call_params(str(dev_account(BUYER).address), call.to, call.data, 0)
    fees = market.contracts.approve(contract.address, FEE)
    sent = market.node.eth.send_transaction(call_params(str(dev_account(BUYER).address), fees.to, fees.data, 0))
    market.node.eth.wait_for_transaction_receipt(sent)
    held = try_call(market.node, params, "demand")
    worker = market.start_worker(provider)
    wait_until(lambda: record_of(buyer, job).status == Status.COMMITTED)
    anew = market.node.eth.estimate_gas(params)
    assert held < anew <= held + HOLD_GAS
    assert market.stop_worker(worker) == 0


def test_a_reorg_that_puts_another_demand_in_the_place_of_one(
    market: Marketplace, provider: Path, contract: DataDemands, tmp_path: Path, own_blocks: None
) -> None:
    # A buyer of this test's own: what its home has sent is not what the chain has in the end.
    buyer = market.buyer("reorganised", UNLUCKY)
    worker = market.start_worker(provider)
    job = committed(market, buyer, tmp_path, seed=8)
    view = market.ok(*demand(buyer, job, "--chunk", "5"))
    assert view["shown"] == [5]
    (first,) = demands_of(buyer, job)
    receipt = market.node.eth.get_transaction_receipt(first.demand_tx)  # type: ignore[arg-type]
    # Demand and answer vanish, and another chunk is demanded at another time.
    rpc(market, "anvil_reorg", market.node.eth.block_number - receipt["blockNumber"] + 1, [])
    rpc(market, "anvil_dropAllTransactions")
    home = market.buyer("forgetful", UNLUCKY, tokens=None)
    with Buyer.open(home) as client:
        client.demand(job, [6])
        (second,) = client.demands(job).demands
        assert (second.chunk, second.state) == (6, DemandState.ANSWERED)
        assert client.record(job).status == Status.COMMITTED
    assert answers(market, contract, job) == [6]
    assert "was mined and refused: demands: " in log_of(provider)
    assert market.stop_worker(worker) == 0


def test_what_cannot_be_demanded_is_refused_before_money_moves(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    market.start_worker(provider)
    job = committed(market, buyer, tmp_path, seed=9)
    stranger = market.buyer("stranger", STRANGER)
    poor = market.buyer("poor", 8, tokens=None)
    nonces = [market.node.eth.get_transaction_count(dev_account(number).address) for number in (BUYER, STRANGER, 8)]

    beyond = market.run(*demand(buyer, job, "--chunk", "20"))
    assert (beyond.code, beyond.error["field"], beyond.error["value"]) == (2, "chunk", 20)
    assert "give 0 to 19" in beyond.error["remedy"]
    assert market.run(*demand(stranger, job, "--chunk", "1")).error["message"].startswith("only the job's buyer")
    assert market.run(*demand(poor, job, "--missing")).code == 2
    both = market.run(*demand(buyer, job, "--chunk", "1", "--missing"))
    assert both.code == 2
    assert "exclude each other" in both.error["message"]
    claim = market.run(*demand(buyer, job, "--claim"))
    assert (claim.code, claim.error["code"]) == (6, "refused")
    assert market.run(*demand(buyer, job, "--to", str(tmp_path / "none"))).document["shown"] == []
    after = [market.node.eth.get_transaction_count(dev_account(number).address) for number in (BUYER, STRANGER, 8)]
    assert after == nonces

    market.ok("job", "release", job, "--home", str(buyer))
    late = market.run(*demand(buyer, job, "--chunk", "1"))
    assert (late.code, late.error["message"]) == (6, "there is no result to demand: the job is settled")


def test_an_offer_without_an_arbiter_says_so_and_join_changes_it(
    market: Marketplace, buyer: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUBOND_OFFER__ANSWERS_DEMANDS", "false")
        home = market.provider(*("silent", 3, 4), *("--challenge-window", "3600"))
        market.start_worker(home)
    address = str(dev_account(3).address)

    def quoted() -> Any:
        found = market.ok("job", "quote", "--seconds", "60", "--home", str(buyer))
        return next(item for item in found if item["provider"] == address)

    assert quoted()["arbiter_kind"] == "none"
    path = write_job(tmp_path / "job", 10)
    job = market.ok("job", "submit", str(path), "--home", str(buyer), "--yes", "--provider", address)["job"]
    refused = market.run(*demand(buyer, job, "--missing"))
    assert (refused.code, refused.error["code"]) == (6, "refused")
    assert "no arbiter" in refused.error["message"]
    assert "`gpubond job fetch`" in refused.error["remedy"]
    market.ok("job", "release", job, "--home", str(buyer))

    words = [call["words"] for call in market.ok("provider", "join", "--home", str(home), "--yes")["calls"]]
    assert [part.split()[0] for part in words] == ["approve", "close", "offer"]
    assert "costs that job's collateral" in words[0]
    assert quoted()["arbiter_kind"] == "demands"
    assert "an unknown arbiter" in market.text("job", "quote", "--seconds", "60", "--home", str(buyer))
    assert market.ok("provider", "join", "--home", str(home), "--yes")["calls"] == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUBOND_OFFER__ANSWERS_DEMANDS", "false")
        words = [call["words"] for call in market.ok("provider", "join", "--home", str(home), "--yes")["calls"]]
        assert [part.split()[0] for part in words] == ["close", "offer", "revoke"]
        assert market.ok("provider", "join", "--home", str(home), "--yes")["calls"] == []
    assert quoted()["arbiter_kind"] == "none"


def test_an_arbiter_that_the_provider_chose_is_called_unknown(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    # Any contract will do: it never speaks.
    own = str(market.contracts.views.address)
    settings = Home(provider).load()
    with Session(Home(provider), settings, settings.owner_key) as session:
        session.sync()
        address = session.address
        (known,) = [item.offer for item in session.index.open_offers() if item.offer.provider == address]
        offer = replace(known, arbiter=own)
        session.send(market.contracts.approve_arbiter(own, True, "approve"), "test:approve")
        session.send(market.contracts.post_offer(offer), "test:offer")
    quotes = market.ok("job", "quote", "--seconds", "60", "--home", str(buyer))
    (found,) = [item for item in quotes if item["arbiter"] == own]
    assert found["arbiter_kind"] == "unknown"
    assert "the provider chose" in found["arbiter_meaning"]

    market.start_worker(provider)
    path = write_job(tmp_path / "job", 13)
    job = market.ok("job", "submit", str(path), "--home", str(buyer), "--yes", "--offer", found["offer"])["job"]
    refused = market.run(*demand(buyer, job, "--missing"))
    assert (refused.code, refused.error["code"]) == (6, "refused")
    assert "is not this deployment's DataDemands" in refused.error["message"]
    market.ok("job", "release", job, "--home", str(buyer))
    # The settings do not know this offer, so joining closes it.
    words = [call["words"] for call in market.ok("provider", "join", "--home", str(provider), "--yes")["calls"]]
    assert [part.split()[0] for part in words] == ["close"]


def test_fees_of_answers_are_collected_when_they_are_worth_it(
    market: Marketplace, provider: Path, buyer: Path, contract: DataDemands, tmp_path: Path
) -> None:
    owner = str(dev_account(OWNER).address)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUBOND_PROVIDER__COLLECT_FEES_FROM", "0.05")
        market.start_worker(provider)
    job = committed(market, buyer, tmp_path, seed=11)
    market.ok(*demand(buyer, job, "--chunk", "1", "--chunk", "7"))
    balance = market.contracts.escrow_balance(owner)
    wait_until(lambda: contract.claimable(owner) == 0)
    assert balance <= market.contracts.escrow_balance(owner)
    assert market.contracts.escrow_balance(owner) >= 2 * FEE


def test_fees_of_answers_are_withdrawn_with_the_earnings(
    market: Marketplace, buyer: Path, contract: DataDemands, tmp_path: Path
) -> None:
    windows = ("--acknowledge-window", "600", "--challenge-window", "600")
    provider, owner = market.provider("leaver", 8, 9, *windows), str(dev_account(8).address)
    home = ("--home", str(provider))
    worker = market.start_worker(provider)
    path = write_job(tmp_path / "job", 12)
    script = tmp_path / "job" / "numbers.py"
    script.write_text(script.read_text() + "import time; time.sleep(2)")  # else it could earn nothing
    job = market.ok("job", "submit", str(path), "--home", str(buyer), "--yes", "--provider", owner)["job"]
    market.ok(*demand(buyer, job, *(f"--chunk={chunk}" for chunk in range(3))))
    assert market.ok("provider", "status", *home)["demands"] == {"open": 0, "next_deadline": None, "fees": 3 * FEE}
    # While a job is open nothing is collected, and it is said what there is.
    plan = market.ok("provider", "leave", *home, "--dry-run")
    assert (plan["complete"], plan["fees"]) == (False, 3 * FEE)
    assert "with 0.15 tUSD of fees to collect" in " ".join(market.text("provider", "leave", *home, "--dry-run").split())
    pay = market.ok("job", "release", job, "--home", str(buyer))["outcome"]["to_provider"]
    assert market.stop_worker(worker) == 0

    # Below provider.collect_fees_from they stay, unless the amount needs them.
    plan = market.ok("provider", "withdraw", *home, "--dry-run")
    assert (verbs(plan), plan["fees_left"]) == (["withdraw"], 3 * FEE)
    assert "fees of 0.15 tUSD stay in DataDemands" in market.text("provider", "withdraw", *home, "--dry-run")
    plan = market.ok("provider", "withdraw", str(Decimal(pay + 3 * FEE).scaleb(-6)), *home, "--dry-run")
    assert (verbs(plan), plan["fees_left"]) == (["move", "withdraw"], 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUBOND_PROVIDER__COLLECT_FEES_FROM", "0.15")
        assert verbs(market.ok("provider", "withdraw", *home, "--dry-run")) == ["move", "withdraw"]
    had = market.contracts.token_balance(owner)
    market.ok("provider", "withdraw", str(Decimal(pay // 2).scaleb(-6)), *home, "--yes")
    assert (market.contracts.token_balance(owner) - had, contract.claimable(owner)) == (pay // 2, 3 * FEE)

    plan = market.ok("provider", "leave", *home, "--dry-run")
    assert (verbs(plan), plan["fees"]) == (["close", "take", "withdraw", "move", "withdraw"], 3 * FEE)
    had = market.wealth(8)
    assert market.ok("provider", "leave", *home, "--yes")["complete"] is True
    assert contract.claimable(owner) == market.contracts.escrow_balance(owner) == 0
    assert market.contracts.token_balance(owner) == market.wealth(8) == had + 3 * FEE
    assert verbs(market.ok("provider", "leave", *home, "--yes")) == []


def verbs(document: Any) -> list[str]:
    return [call["words"].split()[0] for call in document["calls"]]


def test_a_chunk_that_another_contract_handed_in_is_found(
    market: Marketplace, provider: Path, buyer: Path, contract: DataDemands, tmp_path: Path
) -> None:
    worker = market.start_worker(provider)
    job = committed(market, buyer, tmp_path, seed=12)
    market.stop_worker(worker, signal.SIGKILL)
    market.ok(*demand(buyer, job, "--chunk", "2", "--detach"))
    record = record_of(buyer, job)
    assert record.commitment is not None
    with open_session(provider, with_key=False) as session:
        work = WorkLog(session.database).get(job)
    assert work is not None and work.result is not None
    blobs = BlobStore(provider / "blobs" / record.terms.buyer.lower())
    data = blobs.path(work.result["manifest"]).read_bytes()
    files = {item.path: blobs.path(item.sha256) for item in Manifest.parse(data).files}
    proof = prove_chunk(data, files, 2)
    call = contract.answer(record.terms, record.commitment, 0, astuple(proof)[1:])

    # It calls DataDemands with what it is called with, and reverts if that does.
    code = f"365f5f375f5f365f5f73{contract.address[2:].lower()}5af115602557005b5f5ffd"
    sender = {"from": dev_account(STRANGER).address, "gas": 2_000_000}
    init = f"60{len(code) // 2:02x}8060095f395ff3" + code
    deployed = market.node.eth.wait_for_transaction_receipt(
        market.node.eth.send_transaction({**sender, "data": "0x" + init})  # type: ignore[typeddict-item]
    )
    forwarder = deployed["contractAddress"]
    assert forwarder is not None
    receipt = market.node.eth.wait_for_transaction_receipt(
        market.node.eth.send_transaction({**sender, "to": forwarder, "data": call.data})  # type: ignore[typeddict-item]
    )
    assert receipt["status"] == 1
    assert answers(market, contract, job) == [2]
    market.ok(*demand(buyer, job, "--to", str(tmp_path / "shown")))
    (written,) = (tmp_path / "shown").iterdir()
    assert written.read_bytes() == proof.chunk


def test_a_deployment_without_demands_works_as_before(market: Marketplace, tmp_path: Path) -> None:
    document = json.loads(market.deployment.read_text())
    del document["contracts"]["DataDemands"]
    without = tmp_path / "without.json"
    without.write_text(json.dumps(document))
    other = Marketplace(tmp_path, market.devnet, without)
    assert other.contracts.demands_address is None
    home = other.provider("plain", 6, 9)
    with open_session(home, with_key=False) as session:
        session.sync()
        (offer,) = [item for item in session.index.open_offers() if item.offer.provider == dev_account(6).address]
        assert int(offer.offer.arbiter, 16) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUBOND_OFFER__ANSWERS_DEMANDS", "true")
        refused = other.run("provider", "join", "--home", str(home), "--yes")
    assert (refused.code, refused.error["field"]) == (3, "offer.answers_demands")
    # Once the deployment file names the contract, what it said is read as well.
    without.write_text(market.deployment.read_text())
    with open_session(home, with_key=False) as session:
        session.sync()
        assert session.database.connection.execute("SELECT count(*) FROM market_demands").fetchone()[0] > 0
    words = [call["words"] for call in other.ok("provider", "join", "--home", str(home), "--yes")["calls"]]
    assert [part.split()[0] for part in words] == ["approve", "close", "offer"]
