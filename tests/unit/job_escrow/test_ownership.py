# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest
from eth_utils.crypto import keccak

from ..market import BALANCE, COLLATERAL, PRICE, STAKE, ZERO, Account, Contract, Job, Market
from ..reference import SETTLED


def test_handed_over_in_two_steps(market: Market, escrow: Contract, keeper: Account) -> None:
    escrow.transfer_ownership(keeper, sender=market.admin)
    assert escrow.owner() == market.admin.address
    assert escrow.pending_owner() == keeper.address
    escrow.set_fee(1, sender=market.admin)
    escrow.accept_ownership(sender=keeper)
    assert escrow.owner() == keeper.address
    escrow.set_fee(2, sender=keeper)
    with ape.reverts("ownable: caller is not the owner"):
        escrow.set_fee(3, sender=market.admin)


def test_accepted_by_a_thief(market: Market, escrow: Contract, keeper: Account, thief: Account) -> None:
    escrow.transfer_ownership(keeper, sender=market.admin)
    with ape.reverts("ownable_2step: caller is not the new owner"):
        escrow.accept_ownership(sender=thief)
    assert escrow.owner() == market.admin.address


@pytest.mark.parametrize("role", ["thief", "owner", "buyer"])
def test_handed_over_by_others(escrow: Contract, role: str, request: pytest.FixtureRequest) -> None:
    other = request.getfixturevalue(role)
    with ape.reverts("ownable: caller is not the owner"):
        escrow.transfer_ownership(other, sender=other)
    assert escrow.owner() != other.address
    assert escrow.pending_owner() == ZERO


def test_cannot_be_renounced(market: Market, escrow: Contract, receiver: Account) -> None:
    # Fees would be nobody's. The function is not there, neither by its name nor by its selector.
    assert "renounce_ownership" not in {abi.name for abi in escrow.contract_type.mutable_methods}
    with ape.reverts():
        market.admin.transfer(escrow, 0, data=keccak(text="renounce_ownership()")[:4])
    assert escrow.owner() == market.admin.address
    # Nor by handing it to nobody: that takes back an offer to hand it over.
    escrow.transfer_ownership(receiver, sender=market.admin)
    escrow.transfer_ownership(ZERO, sender=market.admin)
    assert (escrow.owner(), escrow.pending_owner()) == (market.admin.address, ZERO)
    with ape.reverts("ownable_2step: caller is not the new owner"):
        escrow.accept_ownership(sender=receiver)


def test_fees_earned_before_and_after_a_handover_are_the_new_owners(
    market: Market, escrow: Contract, offer: dict[str, Any], committed: Job, keeper: Account, receiver: Account
) -> None:
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    escrow.transfer_ownership(keeper, sender=market.admin)
    escrow.accept_ownership(sender=keeper)
    job = market.hire(offer)
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    with ape.reverts("ownable: caller is not the owner"):
        escrow.collect_fees([market.owner], market.admin, sender=market.admin)
    escrow.collect_fees([market.owner], receiver, sender=keeper)
    assert market.token.balanceOf(receiver) == 30 * PRICE


def test_an_admin_that_vanishes_while_paused_strands_no_users_money(
    market: Market, escrow: Contract, committed: Job, keeper: Account
) -> None:
    request = market.request()
    market.post_request(request)
    escrow.set_paused(True, sender=market.admin)
    # From here on the admin does nothing any more.
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    market.chain.mine(timestamp=request["expiry"])
    escrow.cancel_request(request, sender=keeper)
    escrow.withdraw(BALANCE - 600 * PRICE, sender=market.buyer)
    escrow.withdraw(585 * PRICE, sender=market.owner)
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    market.staking.withdraw(STAKE, sender=market.owner)
    assert market.status(committed) == SETTLED
    assert market.token.balanceOf(escrow) == 15 * PRICE


def test_malicious_admin_reaches_no_balance(market: Market, escrow: Contract, committed: Job) -> None:
    admin = market.admin
    escrow.set_fee(500, sender=admin)
    escrow.set_paused(True, sender=admin)
    for attempt in (
        lambda: escrow.withdraw(1, sender=admin),
        lambda: escrow.collect_fees([market.owner, market.buyer], admin, sender=admin),
        lambda: escrow.settle(committed.terms, committed.commitment, sender=admin),
        lambda: escrow.expire(committed.terms, sender=admin),
        lambda: escrow.decline(committed.terms, False, sender=admin),
        lambda: escrow.hold(committed.terms, committed.commitment, sender=admin),
        lambda: escrow.release(committed.terms, sender=admin),
        lambda: escrow.convict(committed.terms, committed.commitment, 0, sender=admin),
        lambda: escrow.collect_slashes(sender=admin),
        lambda: market.staking.withdraw(1, sender=admin),
        lambda: market.staking.unlock(market.owner, COLLATERAL, sender=admin),
        lambda: market.staking.slash(market.owner, committed.id, COLLATERAL, COLLATERAL, 0, sender=admin),
        lambda: market.staking.collect(sender=admin),
    ):
        with ape.reverts():
            attempt()
    market.at(market.window_end(committed))
    escrow.settle(committed.terms, committed.commitment, sender=admin)
    # The fee is the one that the job started under; the rest is where it belongs.
    assert market.balance(market.owner) == 585 * PRICE
    assert market.balance(market.buyer) == BALANCE - 600 * PRICE
    assert market.stake() == STAKE
    assert market.fees() == 15 * PRICE


def test_admin_has_no_other_function(escrow: Contract) -> None:
    admins = {"set_paused", "set_fee", "collect_fees", "transfer_ownership", "accept_ownership"}
    peoples = {
        "deposit",
        "deposit_with_permit",
        "withdraw",
        "collect_slashes",
        "approve_arbiter",
        "revoke_offers",
        "post_offer",
        "close_offer",
        "post_request",
        "cancel_request",
        "hire",
        "hire_many",
        "accept",
        "decline",
        "decline_many",
        "commit",
        "commit_many",
        "settle",
        "settle_many",
        "expire",
        "hold",
        "release",
        "convict",
    }
    assert {abi.name for abi in escrow.contract_type.mutable_methods} == admins | peoples
