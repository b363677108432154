# SPDX-License-Identifier: Apache-2.0
"""Fees lie beside the balance of the provider that earned them: neither ever disturbs the other."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import COLLATERAL, PRICE, ZERO, Account, Contract, Job, Market, logs

FEE = 600 * PRICE * 250 // 10_000
EARNED = 600 * PRICE - FEE


@pytest.fixture
def settled(market: Market, committed: Job) -> Job:
    market.escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    return committed


def test_collect(market: Market, escrow: Contract, settled: Job, receiver: Account) -> None:
    held = market.token.balanceOf(escrow)
    assert escrow.collect_fees.call([market.owner], receiver, sender=market.admin) == FEE
    receipt = escrow.collect_fees([market.owner], receiver, sender=market.admin)
    assert logs(receipt, escrow) == [("FeesCollected", {"receiver": receiver.address, "amount": FEE})]
    assert market.token.balanceOf(receiver) == FEE
    assert market.token.balanceOf(escrow) == held - FEE
    assert market.fees() == 0
    assert market.balance(market.owner) == EARNED


def test_twice(market: Market, escrow: Contract, settled: Job, receiver: Account) -> None:
    escrow.collect_fees([market.owner], receiver, sender=market.admin)
    with ape.reverts("escrow: no fees"):
        escrow.collect_fees([market.owner], receiver, sender=market.admin)
    assert market.token.balanceOf(receiver) == FEE


def test_the_same_provider_named_twice(market: Market, escrow: Contract, settled: Job, receiver: Account) -> None:
    escrow.collect_fees([market.owner, market.owner], receiver, sender=market.admin)
    assert market.token.balanceOf(receiver) == FEE


def test_of_several_providers(
    market: Market, escrow: Contract, settled: Job, newcomer: Account, keeper: Account, receiver: Account
) -> None:
    staking = market.staking
    staking.register(newcomer, "", sender=newcomer)
    staking.stake(COLLATERAL, sender=newcomer)
    staking.allow(escrow, COLLATERAL, COLLATERAL, sender=newcomer)
    offer = market.offer(provider=newcomer.address)
    escrow.post_offer(offer, sender=newcomer)
    job = market.hire(offer)
    market.at(job.terms["matched_at"] + 1_000)
    market.commit(job, sender=newcomer, seconds_used=1_000)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert (market.fees(), market.fees(newcomer)) == (FEE, 25 * PRICE)

    # Those who earned nothing add nothing; those not named keep theirs.
    escrow.collect_fees([keeper, newcomer], receiver, sender=market.admin)
    assert market.token.balanceOf(receiver) == 25 * PRICE
    assert (market.fees(), market.fees(newcomer)) == (FEE, 0)
    escrow.collect_fees([newcomer, market.owner], receiver, sender=market.admin)
    assert market.token.balanceOf(receiver) == 25 * PRICE + FEE


def test_a_hundred_providers(market: Market, escrow: Contract, settled: Job, receiver: Account) -> None:
    strangers = [f"0x{number:040x}" for number in range(1, 100)]
    escrow.collect_fees([*strangers, market.owner], receiver, sender=market.admin)
    assert market.token.balanceOf(receiver) == FEE


def test_one_provider_too_many(market: Market, escrow: Contract, settled: Job, receiver: Account) -> None:
    strangers = [f"0x{number:040x}" for number in range(1, 101)]
    with ape.reverts():
        escrow.collect_fees([*strangers, market.owner], receiver, sender=market.admin)
    assert market.fees() == FEE


@pytest.mark.parametrize("named", [[], ["buyer"], ["buyer", "operator"]])
def test_no_fees(market: Market, escrow: Contract, settled: Job, receiver: Account, named: list[str]) -> None:
    with ape.reverts("escrow: no fees"):
        escrow.collect_fees([getattr(market, role) for role in named], receiver, sender=market.admin)
    assert market.fees() == FEE


@pytest.mark.parametrize("role", ["thief", "owner", "operator", "buyer"])
def test_by_others(market: Market, escrow: Contract, settled: Job, role: str, request: pytest.FixtureRequest) -> None:
    other = request.getfixturevalue(role)
    with ape.reverts("ownable: caller is not the owner"):
        escrow.collect_fees([market.owner], other, sender=other)
    assert market.fees() == FEE


def test_receiver_is_zero(market: Market, escrow: Contract, settled: Job) -> None:
    with ape.reverts("escrow: receiver is zero"):
        escrow.collect_fees([market.owner], ZERO, sender=market.admin)
    assert market.fees() == FEE


def test_receiver_is_the_escrow(market: Market, escrow: Contract, settled: Job) -> None:
    with ape.reverts("escrow: receiver is the escrow"):
        escrow.collect_fees([market.owner], escrow, sender=market.admin)
    assert market.fees() == FEE


def test_a_providers_balance_moves_beside_its_fees(market: Market, escrow: Contract, settled: Job) -> None:
    owner = market.owner
    with ape.reverts("escrow: not enough balance"):
        escrow.withdraw(EARNED + 1, sender=owner)
    escrow.deposit(7, sender=owner)
    assert (market.balance(owner), market.fees()) == (EARNED + 7, FEE)
    escrow.withdraw(EARNED, sender=owner)
    assert (market.balance(owner), market.fees()) == (7, FEE)
    escrow.withdraw(7, sender=owner)
    assert (market.balance(owner), market.fees()) == (0, FEE)
    with ape.reverts("escrow: not enough balance"):
        escrow.withdraw(1, sender=owner)


def test_a_provider_that_buys_spends_its_balance_and_no_fee(
    market: Market, escrow: Contract, settled: Job, receiver: Account
) -> None:
    # It hires from itself with all that it earned: debit, refund and pay each touch the slot with the fees.
    offer = market.post(market.offer(challenge_window=0))
    with ape.reverts("escrow: not enough balance"):
        market.hire(offer, market.owner, longest_run=586)
    job = market.hire(offer, market.owner, longest_run=585)
    assert (market.balance(market.owner), market.fees()) == (0, FEE)
    market.at(job.terms["matched_at"] + 400)
    market.commit(job, seconds_used=400)
    escrow.collect_fees([market.owner], receiver, sender=market.admin)
    escrow.settle(job.terms, job.commitment, sender=market.owner)
    assert (market.balance(market.owner), market.fees()) == (575 * PRICE, 10 * PRICE)
    expired = market.hire(offer, market.owner, longest_run=100)
    market.at(expired.terms["deliver_by"] + 1)
    escrow.expire(expired.terms, sender=market.owner)
    assert (market.balance(market.owner), market.fees()) == (595 * PRICE, 10 * PRICE)


def test_fees_add_up_over_jobs(market: Market, escrow: Contract, settled: Job, receiver: Account) -> None:
    offer = market.post(market.offer(challenge_window=0, max_fee_bps=499))
    for fee_bps, seconds in ((0, 900), (499, 700), (1, 60)):
        escrow.set_fee(fee_bps, sender=market.admin)
        job = market.hire(offer)
        market.at(job.terms["matched_at"] + 1_000)
        market.commit(job, seconds_used=seconds)
        escrow.settle(job.terms, job.commitment, sender=market.buyer)
    fees = FEE + 700 * PRICE * 499 // 10_000 + 60 * PRICE // 10_000
    assert market.fees() == fees
    assert market.balance(market.owner) == (600 + 900 + 700 + 60) * PRICE - fees


def test_fees_of_a_slashed_market_are_fetched_first(
    market: Market, escrow: Contract, settled: Job, offer: dict[str, Any], receiver: Account
) -> None:
    # Everybody leaves; what is left in the escrow is less than the fees, since staking owes the rest.
    job = market.hire(offer)
    market.at(job.terms["deliver_by"] + 1)
    escrow.expire(job.terms, sender=market.buyer)
    assert market.owed() == 720_000
    escrow.withdraw(EARNED, sender=market.owner)
    escrow.withdraw(market.token.balanceOf(escrow), sender=market.buyer)
    receipt = escrow.collect_fees([market.owner], receiver, sender=market.admin)
    assert [name for name, _ in logs(receipt, escrow)] == ["SlashesCollected", "FeesCollected"]
    assert market.token.balanceOf(receiver) == FEE
    escrow.withdraw(market.balance(market.buyer), sender=market.buyer)
    assert market.token.balanceOf(escrow) == 0


def test_largest_balance_beside_fees(rogue_market: Market, receiver: Account, admin: Account) -> None:
    # A token of unlimited supply: a provider's balance is full, and one unit more is refused instead of
    # becoming a fee.
    most = 2**128 - 1
    market = rogue_market
    escrow, owner = market.escrow, market.owner
    job = market.hire(market.post(market.offer(challenge_window=0)))
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    market.token.mint(owner, most, sender=admin)
    escrow.deposit(most - EARNED, sender=owner)
    assert (market.balance(owner), market.fees()) == (most, FEE)
    with ape.reverts("escrow: amount too large"):
        escrow.deposit(1, sender=owner)
    escrow.collect_fees([owner], receiver, sender=admin)
    assert (market.balance(owner), market.fees()) == (most, 0)
    escrow.withdraw(most, receiver, sender=owner)
    assert market.balance(owner) == 0
    assert market.token.balanceOf(receiver) == most + FEE
