# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import BALANCE, CHALLENGE_WINDOW, PRICE, STAKE, Account, Contract, Job, Market, logs
from ..reference import COMMITTED, DISPUTE_TIMEOUT, DISPUTED, EXACT_DISPUTE_TIMEOUT, SETTLED

PAY = 600 * PRICE
FEE = PAY * 250 // 10_000
REFUND = 3_000 * PRICE


def test_by_the_buyer_at_once(market: Market, escrow: Contract, committed: Job) -> None:
    receipt = escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    assert receipt.timestamp < market.window_end(committed)
    assert logs(receipt, escrow) == [
        (
            "JobSettled",
            {"job": committed.id, "to_provider": PAY - FEE, "fee": FEE, "refund": REFUND},
        )
    ]
    assert market.status(committed) == SETTLED
    assert market.balance(market.owner) == PAY - FEE
    assert market.balance(market.buyer) == BALANCE - PAY
    assert market.balance(market.operator) == 0
    assert market.fees() == FEE
    assert market.locked() == 0
    assert market.stake() == STAKE


@pytest.mark.parametrize("role", ["keeper", "operator", "owner", "thief"])
def test_by_anyone_once_the_window_is_over(
    market: Market, escrow: Contract, committed: Job, role: str, request: pytest.FixtureRequest
) -> None:
    market.at(market.window_end(committed))
    receipt = escrow.settle(committed.terms, committed.commitment, sender=request.getfixturevalue(role))
    assert receipt.timestamp == committed.commitment["committed_at"] + CHALLENGE_WINDOW
    assert market.balance(market.owner) == PAY - FEE
    assert market.balance(market.buyer) == BALANCE - PAY


@pytest.mark.parametrize("role", ["keeper", "operator", "owner", "thief"])
def test_by_anyone_in_the_last_second_of_the_window(
    market: Market, escrow: Contract, committed: Job, role: str, request: pytest.FixtureRequest
) -> None:
    market.at(market.window_end(committed) - 1)
    with ape.reverts("escrow: challenge window is open"):
        escrow.settle(committed.terms, committed.commitment, sender=request.getfixturevalue(role))
    assert market.status(committed) == COMMITTED


def test_without_a_window(market: Market, escrow: Contract, keeper: Account) -> None:
    job = market.hire(market.post(market.offer(challenge_window=0)))
    market.commit(job)
    escrow.settle(job.terms, job.commitment, sender=keeper)
    assert market.status(job) == SETTLED


def test_twice(market: Market, escrow: Contract, committed: Job, keeper: Account) -> None:
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    market.at(market.window_end(committed) + DISPUTE_TIMEOUT)
    for sender in (market.buyer, keeper):
        with ape.reverts("escrow: wrong state"):
            escrow.settle(committed.terms, committed.commitment, sender=sender)
    assert market.balance(market.owner) == PAY - FEE


def test_before_the_commitment(market: Market, escrow: Contract, job: Job) -> None:
    made_up = {"result_root": b"\1" * 32, "chunks": 1, "pay": 1, "committed_at": 1}
    with ape.reverts("escrow: wrong state"):
        escrow.settle(job.terms, made_up, sender=market.buyer)


def test_unknown_job(market: Market, escrow: Contract, committed: Job) -> None:
    with ape.reverts("escrow: wrong state"):
        escrow.settle(committed.terms | {"fee_bps": 0}, committed.commitment, sender=market.buyer)


@pytest.mark.parametrize(
    "changes",
    [
        {"pay": PAY + 1},
        {"pay": 0},
        {"pay": 2**128 - 1},
        {"result_root": b"\x12" * 32},
        {"committed_at": 0},
        {"committed_at": 2**256 - 1},
        {"chunks": 0},
        {"chunks": 2},
    ],
)
def test_another_commitment(market: Market, escrow: Contract, committed: Job, changes: dict[str, Any]) -> None:
    with ape.reverts("escrow: not what was committed"):
        escrow.settle(committed.terms, committed.commitment | changes, sender=market.buyer)
    assert market.status(committed) == COMMITTED


def test_backdated_commitment_does_not_open_the_window(
    market: Market, escrow: Contract, committed: Job, thief: Account
) -> None:
    with ape.reverts("escrow: not what was committed"):
        escrow.settle(committed.terms, committed.commitment | {"committed_at": 0}, sender=thief)


def test_nothing_earned(market: Market, escrow: Contract, job: Job) -> None:
    market.commit(job, seconds_used=0)
    receipt = escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert logs(receipt, escrow)[-1][1] == {
        "job": job.id,
        "to_provider": 0,
        "fee": 0,
        "refund": job.escrowed,
    }
    assert market.balance(market.buyer) == BALANCE


def test_everything_earned(market: Market, escrow: Contract, exact_job: Job) -> None:
    receipt = escrow.settle(exact_job.terms, exact_job.commitment, sender=market.buyer)
    assert logs(receipt, escrow)[-1][1]["refund"] == 0
    assert market.balance(market.owner) == 3_600_000 - 90_000


@pytest.mark.parametrize(("seconds", "fee"), [(39, 0), (40, 1), (41, 1), (79, 1), (80, 2)])
def test_fee_rounds_down_and_parts_sum_to_the_price(market: Market, escrow: Contract, seconds: int, fee: int) -> None:
    job = market.hire(market.post(market.offer(price_per_second=1)))
    market.at(job.terms["matched_at"] + 100)
    market.commit(job, seconds_used=seconds)
    receipt = escrow.settle(job.terms, job.commitment, sender=market.buyer)
    parts = logs(receipt, escrow)[-1][1]
    assert (parts["to_provider"], parts["fee"]) == (seconds - fee, fee)
    assert parts["to_provider"] + parts["fee"] + parts["refund"] == 3_600


def test_highest_fee(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    escrow.set_fee(500, sender=market.admin)
    job = market.hire(offer)
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.fees() == PAY // 20
    assert market.balance(market.owner) == PAY - PAY // 20


def test_while_disputed_even_by_the_buyer(market: Market, escrow: Contract, disputed: Job) -> None:
    with ape.reverts("escrow: job is disputed"):
        escrow.settle(disputed.terms, disputed.commitment, sender=market.buyer)
    market.at(market.window_end(disputed))
    with ape.reverts("escrow: job is disputed"):
        escrow.settle(disputed.terms, disputed.commitment, sender=market.owner)
    assert market.status(disputed) == DISPUTED


def test_arbiter_vanished(market: Market, escrow: Contract, disputed: Job, keeper: Account) -> None:
    market.at(market.window_end(disputed) + EXACT_DISPUTE_TIMEOUT)
    escrow.settle(disputed.terms, disputed.commitment, sender=keeper)
    assert market.status(disputed) == SETTLED
    assert market.balance(market.owner) == 3_600_000 - 90_000
    assert market.locked() == 0


def test_arbiter_of_a_basic_job_vanished(
    market: Market, escrow: Contract, exact_offer: dict[str, Any], keeper: Account
) -> None:
    job = market.hire(exact_offer)
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    market.hold(job)
    market.at(market.window_end(job) + DISPUTE_TIMEOUT - 1)
    with ape.reverts("escrow: job is disputed"):
        escrow.settle(job.terms, job.commitment, sender=keeper)
    market.at(market.window_end(job) + DISPUTE_TIMEOUT)
    escrow.settle(job.terms, job.commitment, sender=keeper)
    assert market.status(job) == SETTLED
    assert market.balance(market.owner) == PAY - FEE


def test_arbiter_has_one_second_left(market: Market, escrow: Contract, disputed: Job, keeper: Account) -> None:
    market.at(market.window_end(disputed) + EXACT_DISPUTE_TIMEOUT - 1)
    with ape.reverts("escrow: job is disputed"):
        escrow.settle(disputed.terms, disputed.commitment, sender=keeper)


def test_arbiter_vanished_and_another_commitment(
    market: Market, escrow: Contract, disputed: Job, thief: Account
) -> None:
    # A commitment of long ago would make the timeout pass at once.
    with ape.reverts("escrow: not what was committed"):
        escrow.settle(disputed.terms, disputed.commitment | {"committed_at": 0}, sender=thief)


def test_while_paused(market: Market, escrow: Contract, committed: Job) -> None:
    escrow.set_paused(True, sender=market.admin)
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    escrow.withdraw(PAY - FEE, sender=market.owner)
    escrow.withdraw(BALANCE - PAY, sender=market.buyer)
    assert market.balance(market.owner) == market.balance(market.buyer) == 0


def test_stake_is_free_again(market: Market, escrow: Contract, committed: Job) -> None:
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    market.staking.withdraw(STAKE, sender=market.owner)
    assert market.stake() == 0
