# SPDX-License-Identifier: Apache-2.0
"""Many jobs in one worker: what a look costs the node, and declines and settlements that go together."""

from __future__ import annotations

import os
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from web3.middleware import Web3Middleware
from web3.types import RPCEndpoint

from gpubond.chain.contracts import MAX_BATCH
from gpubond.chain.development import advance_time, dev_account
from gpubond.chain.fees import market_fees
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Order, Status, Tier
from gpubond.chain.outbox import gas_costs
from gpubond.chain.sender import Sender
from gpubond.chain.session import Session, open_session
from gpubond.provider.dispatcher import Dispatcher
from gpubond.provider.earnings import ledger
from gpubond.provider.work import WorkLog, WorkState
from gpubond.store.boundaries import ARM

from .marketplace import Marketplace, wait_until
from .test_cancel import dispatcher_of, rpc

OWNER, OPERATOR, BUYER = 1, 2, 5
PROVIDER = str(dev_account(OWNER).address)
WINDOW = 600
ACKNOWLEDGE = 900
# More than one transaction holds.
MANY = MAX_BATCH + 4
REFUSES_ALL = {"GPUBOND_PROVIDER__MIN_PRICE_PER_HOUR": "1000"}


@pytest.fixture(scope="module")
def market(market: Marketplace) -> Marketplace:
    windows = ("--acknowledge-window", str(ACKNOWLEDGE), "--challenge-window", str(WINDOW))
    market.provider("provider", OWNER, OPERATOR, *windows, "--count", "64", "--backed-jobs", "256")
    market.buyer("buyer", BUYER)
    buyer = str(dev_account(BUYER).address)
    send(market, market.contracts.approve(str(market.contracts.escrow.address), 10**12), buyer)
    send(market, market.contracts.deposit(900 * 10**6, buyer), buyer)
    # A block for each transaction and no others, so that what is mined together is said here.
    rpc(market, "evm_setIntervalMining", 0)
    rpc(market, "evm_setAutomine", True)
    return market


@pytest.fixture(autouse=True)
def no_worker_is_left(market: Marketplace) -> Iterator[None]:
    yield
    for worker in list(market.workers):
        market.stop_worker(worker, signal.SIGKILL)


@dataclass
class Inside:
    """A worker's parts, in this process."""

    session: Session
    sender: Sender
    work: WorkLog
    dispatcher: Dispatcher

    def look(self) -> None:
        """One round of the daemon's loop, when what was sent before is mined: a busy node does that some time later."""
        wait_until(lambda: not self._waits_for_a_block())
        self.session.sync()
        self.dispatcher.reconcile()
        self.sender.poll()
        self.dispatcher.tick()

    def _waits_for_a_block(self) -> bool:
        ask = self.session.node.provider.make_request
        return bool(
            ask(RPCEndpoint("anvil_getAutomine"), [])["result"]
            and int(ask(RPCEndpoint("txpool_status"), [])["result"]["pending"], 16)
        )

    def states(self, jobs: list[str]) -> set[str]:
        return {str(work.state) for job in jobs if (work := self.work.get(job)) is not None}

    def sent(self) -> int:
        return self.session.node.eth.get_transaction_count(self.session.account.address, "pending")


@contextmanager
def worker_inside(market: Marketplace, **variables: str) -> Iterator[Inside]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        session = open_session(market.directory / "provider")
    with session, session.sender() as sender:
        work = WorkLog(session.database)
        yield Inside(session, sender, work, dispatcher_of(session, sender, work))


def send(market: Marketplace, call: Any, sender: str) -> Any:
    """Sends with one of anvil's own accounts and waits for the receipt."""
    sent = market.node.eth.send_transaction({"from": sender, "to": call.to, "data": call.data, "gas": 20_000_000})
    receipt = market.node.eth.wait_for_transaction_receipt(sent)
    assert receipt["status"] == 1
    return receipt


def hire(market: Marketplace, count: int) -> list[str]:
    """Jobs of one buyer at the provider's offer, nothing uploaded; at most 32 a transaction."""
    with open_session(market.directory / "buyer", with_key=False) as session:
        session.sync()
        offer = next(item.offer for item in session.index.open_offers() if item.offer.provider == PROVIDER)
    jobs: list[str] = []
    for start in range(0, count, MAX_BATCH):
        orders = [
            Order(
                secrets.token_bytes(32), Tier.BASIC, 1, 60, bytes(32), 0, bytes(32), bytes(32), secrets.token_bytes(32)
            )
            for _ in range(min(MAX_BATCH, count - start))
        ]
        escrow = market.contracts.escrow
        data = escrow.encode_abi("hire_many", args=[offer.as_tuple(), [order.as_tuple() for order in orders]])
        sent = market.node.eth.send_transaction(
            {"from": dev_account(BUYER).address, "to": escrow.address, "data": data, "gas": 20_000_000}
        )
        receipt = market.node.eth.wait_for_transaction_receipt(sent)
        jobs += ["0x" + event["args"]["job"].hex() for event in escrow.events.JobMatched().process_receipt(receipt)]
    assert len(jobs) == count
    return jobs


def committed(market: Marketplace, count: int) -> list[str]:
    """Jobs that the provider's operator has committed to by hand: as after a loss of the store."""
    jobs = hire(market, count)
    escrow = market.contracts.escrow
    for start in range(0, count, MAX_BATCH):
        results = [
            (record.terms.as_tuple(), secrets.token_bytes(32), 1, 0, 60, 1)
            for record in records(market, jobs[start : start + MAX_BATCH])
        ]
        data = escrow.encode_abi("commit_many", args=[results])
        sent = market.node.eth.send_transaction(
            {"from": dev_account(OPERATOR).address, "to": escrow.address, "data": data, "gas": 20_000_000}
        )
        assert market.node.eth.wait_for_transaction_receipt(sent)["status"] == 1
    return jobs


def records(market: Marketplace, jobs: list[str]) -> list[JobRecord]:
    with open_session(market.directory / "buyer", with_key=False) as session:
        session.sync()
        found = [session.index.job(job) for job in jobs]
    assert None not in found
    return [record for record in found if record is not None]


def statuses(market: Marketplace, jobs: list[str]) -> set[str]:
    return {record.status.name for record in records(market, jobs)}


def ends(market: Marketplace, name: str, jobs: list[str]) -> Counter[str]:
    """The transactions in which the jobs ended, and how many of the jobs in each; each job has one end."""
    events = [market.events(name, job) for job in jobs]
    assert [len(found) for found in events] == [1] * len(jobs)
    return Counter(found[0]["transactionHash"].to_0x_hex() for found in events)


def no_blocks(market: Marketplace, yes: bool = True) -> None:
    rpc(market, "evm_setAutomine", not yes)


class Counted(Web3Middleware):  # type: ignore[misc]  # web3 has no types for it
    """Counts what a node is asked."""

    calls: ClassVar[Counter[str]] = Counter()

    def request_processor(self, method: RPCEndpoint, params: Any) -> Any:
        Counted.calls[method] += 1
        return method, params


@pytest.mark.parametrize("count", [1, 12])
def test_a_look_at_committed_jobs_asks_the_node_once_and_reads_no_row_twice(market: Marketplace, count: int) -> None:
    with worker_inside(market) as inside:
        jobs = committed(market, count)
        inside.look()
        assert inside.states(jobs) == {"committed"}
        Counted.calls.clear()
        inside.session.node.middleware_onion.inject(Counted, layer=0)
        statements: list[str] = []
        inside.session.database.connection.set_trace_callback(statements.append)
        inside.dispatcher.tick()
        inside.session.database.connection.set_trace_callback(None)
        assert Counted.calls == {"eth_getBlockByNumber": 1}
        rows = [text for text in statements if "FROM work " in text]
        assert len(rows) == 1, rows
        # The next look asks anew.
        inside.dispatcher.tick()
        assert Counted.calls == {"eth_getBlockByNumber": 2}
        inside.session.node.middleware_onion.remove(Counted)
        settle_all(market, inside, jobs)
        Counted.calls.clear()
        inside.session.node.middleware_onion.inject(Counted, layer=0)
        inside.dispatcher.tick()
        assert Counted.calls == {}  # nothing waits, so nothing is asked


def settle_all(market: Marketplace, inside: Inside, jobs: list[str]) -> None:
    advance_time(market.node, WINDOW + 1)
    inside.look()
    inside.look()
    assert inside.states(jobs) == {"settled"}


def test_settlements_that_are_due_together_share_their_gas(market: Marketplace) -> None:
    with worker_inside(market) as inside:
        jobs = committed(market, MANY)
        before = inside.sent()
        settle_all(market, inside, jobs)
        sent = ends(market, "JobSettled", jobs)
        assert sorted(sent.values()) == [MANY - MAX_BATCH, MAX_BATCH]
        assert inside.sent() == before + 2
        # All of the gas is in the ledger, and each job bears its share: in a full batch less than half of what one
        # alone costs. The other batch is of a few jobs.
        costs = dict(gas_costs(inside.session.database, 31337))
        shares = [costs[f"settle:{job}"] for job in jobs]
        receipts = [market.node.eth.get_transaction_receipt(tx) for tx in sent]  # type: ignore[arg-type]
        assert sum(shares) == sum(receipt["gasUsed"] * receipt["effectiveGasPrice"] for receipt in receipts)
        each = {receipt["gasUsed"] / sent[receipt["transactionHash"].to_0x_hex()] for receipt in receipts}
        assert min(each) < 56_164 / 2
        assert max(each) < 56_164
        book = ledger(inside.session.index, costs.items(), PROVIDER, market.contracts.now())
        assert {entry.amounts.gas_wei for entry in book.entries if entry.job in jobs} == set(shares)


def test_hires_that_are_given_back_together_are_declined_together(market: Marketplace) -> None:
    with worker_inside(market, **REFUSES_ALL) as inside:
        jobs = hire(market, MANY)
        before = inside.sent()
        inside.look()
        assert inside.states(jobs) == {"declining"}
        inside.look()
        assert inside.states(jobs) == {"declined"}
        assert inside.sent() == before + 2
        assert sorted(ends(market, "JobDeclined", jobs).values()) == [MANY - MAX_BATCH, MAX_BATCH]
        # Each has its reason, as one that is declined alone.
        assert {work.reason for job in jobs if (work := inside.work.get(job)) is not None} == {"policy"}


@pytest.mark.parametrize(
    "boundary",
    [
        *("move:after:declining#2", "send:tried:decline", "send:in_store:decline", "send:stored:decline"),
        *("send:broadcast:decline", "mined:stored:decline", "move:after:declined#2"),
    ],
)
def test_a_worker_that_dies_over_declines_neither_doubles_nor_loses_one(market: Marketplace, boundary: str) -> None:
    jobs = dies_and_goes_on(market, boundary, lambda: hire(market, 3), REFUSES_ALL)
    assert statuses(market, jobs) == {"DECLINED"}
    assert len(ends(market, "JobDeclined", jobs)) == 1


@pytest.mark.parametrize(
    "boundary",
    [
        *("send:tried:settle", "send:in_store:settle", "send:stored:settle", "move:before:settling#2"),
        *("send:broadcast:settle", "receipt:read:settle", "move:before:settled#2"),
    ],
)
def test_a_worker_that_dies_over_settlements_neither_doubles_nor_loses_one(market: Marketplace, boundary: str) -> None:
    def due() -> list[str]:
        jobs = committed(market, 3)
        advance_time(market.node, WINDOW + 1)
        return jobs

    jobs = dies_and_goes_on(market, boundary, due, {})
    assert statuses(market, jobs) == {"SETTLED"}
    assert len(ends(market, "JobSettled", jobs)) == 1


def dies_and_goes_on(
    market: Marketplace, boundary: str, make: Callable[[], list[str]], variables: dict[str, str]
) -> list[str]:
    """The jobs after a worker died at a boundary, and another went on; it sent one transaction in all."""
    jobs = make()
    operator = dev_account(OPERATOR).address
    before = market.node.eth.get_transaction_count(operator)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**variables, ARM: boundary}.items():
            patch.setenv(name, value)
        worker = market.spawn_worker(market.directory / "provider")
        assert worker.wait(timeout=60) == -signal.SIGKILL
        market.workers.remove(worker)
        patch.delenv(ARM)
        worker = market.start_worker(market.directory / "provider")
    wait_until(lambda: len(statuses(market, jobs) & {"ACTIVE", "COMMITTED"}) == 0)
    market.stop_worker(worker)
    assert market.node.eth.get_transaction_count(operator) == before + 1
    assert os.environ.get(ARM) is None
    return jobs


def test_one_that_cannot_be_settled_does_not_hold_up_the_others(market: Marketplace) -> None:
    with worker_inside(market) as inside:
        jobs = committed(market, 5)
        inside.look()
        assert inside.states(jobs) == {"committed"}
        advance_time(market.node, WINDOW + 1)
        # The buyer was quicker with the third, and the worker has not heard of it.
        third = records(market, jobs[2:3])[0]
        assert third.commitment is not None
        send(market, market.contracts.settle(third.terms, third.commitment), str(dev_account(BUYER).address))
        inside.dispatcher.tick()
        assert [str(work.state) for job in jobs if (work := inside.work.get(job)) is not None] == (
            ["settling"] * 2 + ["committed"] + ["settling"] * 2
        )
        inside.look()
        assert inside.states(jobs) == {"settled"}
        assert sum(ends(market, "JobSettled", jobs).values()) == 5


def test_a_decline_that_was_passed_over_is_followed_up(market: Marketplace) -> None:
    with worker_inside(market, **REFUSES_ALL) as inside:
        early = hire(market, 1)
        advance_time(market.node, 100)
        late = hire(market, 2)
        deadline = records(market, early)[0].terms.acknowledge_by
        no_blocks(market)
        try:
            inside.look()
            rpc(market, "evm_setNextBlockTimestamp", deadline + 1)
            rpc(market, "evm_mine")
        finally:
            no_blocks(market, False)
        assert (statuses(market, early), statuses(market, late)) == ({"ACTIVE"}, {"DECLINED"})
        for _ in range(4):
            inside.look()
        # Too late for a decline: a failed run of no seconds, which costs neither side anything.
        assert inside.states(late) == {"declined"}
        assert statuses(market, early) == {"COMMITTED"}
        assert records(market, early)[0].report == {"exit_status": 126, "seconds_used": 0, "tasks_done": 0}
        settle_all(market, inside, early)


def test_gas_money_for_some_declines_is_used_for_them(market: Marketplace) -> None:
    operator = dev_account(OPERATOR).address
    with worker_inside(market, **REFUSES_ALL) as inside:
        jobs = hire(market, 8)
        had = market.node.eth.get_balance(operator)
        # Eight together take about 210,000 gas with the sender's margin, two about 90,000.
        rpc(market, "anvil_setBalance", operator, hex(130_000 * market_fees(market.node).max_fee))
        try:
            inside.look()
        finally:
            declined = [record.job for record in records(market, jobs) if record.status == Status.DECLINED]
            rpc(market, "anvil_setBalance", operator, hex(had))
        assert 0 < len(declined) < 8
        inside.look()
        inside.look()
        assert inside.states(jobs) == {"declined"}
        assert sum(ends(market, "JobDeclined", jobs).values()) == 8


def test_a_payment_waits_for_others_that_are_due_soon_and_for_no_others(market: Marketplace) -> None:
    with worker_inside(market, GPUBOND_PROVIDER__SETTLE_WAIT_SECONDS="200") as inside:
        lone = committed(market, 1)
        settle_all(market, inside, lone)
        first = committed(market, 1)
        advance_time(market.node, 100)
        second = committed(market, 1)
        advance_time(market.node, 150)
        third = committed(market, 1)
        due = {job: record.commitment.committed_at + WINDOW for job, record in by_job(market, first + second + third)}
        inside.look()
        advance_time(market.node, due[first[0]] - market.contracts.now() + 1)
        inside.look()
        assert inside.states(first) == {"committed"}
        advance_time(market.node, due[second[0]] - market.contracts.now() + 1)
        inside.look()
        # The third is due too late to be waited for.
        assert (inside.states(first + second), inside.states(third)) == ({"settling"}, {"committed"})
        inside.look()
        assert len(ends(market, "JobSettled", first + second)) == 1
        advance_time(market.node, due[third[0]] - market.contracts.now() + 1)
        inside.look()
        inside.look()
        assert inside.states(third) == {str(WorkState.SETTLED)}


def by_job(market: Marketplace, jobs: list[str]) -> list[tuple[str, Any]]:
    return [(record.job, record) for record in records(market, jobs)]
