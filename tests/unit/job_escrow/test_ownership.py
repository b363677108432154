# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import BALANCE, PRICE, STAKE, ZERO, Account, Contract, Job, Market
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
    with ape.reverts("ownable: caller is not the owner"):
        escrow.renounce_ownership(sender=other)


def test_renounced_while_paused_strands_no_users_money(market: Market, escrow: Contract, committed: Job) -> None:
    escrow.set_paused(True, sender=market.admin)
    escrow.renounce_ownership(sender=market.admin)
    assert escrow.owner() == ZERO
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    escrow.withdraw(BALANCE - 600 * PRICE, sender=market.buyer)
    escrow.withdraw(585 * PRICE, sender=market.owner)
    assert market.status(committed) == SETTLED


@pytest.mark.xfail(
    strict=True,
    reason="renounce_ownership leaves the fee on and collect_fees to nobody: fees are stranded",
)
def test_renounced_strands_no_fees(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    escrow.renounce_ownership(sender=market.admin)
    job = market.hire(offer)
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert escrow.protocol_fees() == 0


def test_malicious_admin_reaches_no_balance(market: Market, escrow: Contract, committed: Job) -> None:
    admin = market.admin
    escrow.set_fee(500, sender=admin)
    escrow.set_paused(True, sender=admin)
    for attempt in (
        lambda: escrow.withdraw(1, sender=admin),
        lambda: escrow.collect_fees(admin, sender=admin),
        lambda: escrow.settle(committed.terms, committed.commitment, sender=admin),
        lambda: escrow.expire(committed.terms, sender=admin),
        lambda: escrow.decline(committed.terms, sender=admin),
        lambda: escrow.hold(committed.terms, committed.commitment, sender=admin),
        lambda: escrow.convict(committed.terms, 0, sender=admin),
        lambda: market.staking.withdraw(1, sender=admin),
        lambda: market.staking.unlock(market.owner, committed.id, sender=admin),
        lambda: market.staking.slash(market.owner, committed.id, 1, 0, sender=admin),
    ):
        with ape.reverts():
            attempt()
    market.at(market.window_end(committed))
    escrow.settle(committed.terms, committed.commitment, sender=admin)
    # The fee is the one that the job started under; the rest is where it belongs.
    assert market.balance(market.owner) == 585 * PRICE
    assert market.balance(market.buyer) == BALANCE - 600 * PRICE
    assert market.staking.stake_of(market.owner) == STAKE
    assert escrow.protocol_fees() == 15 * PRICE


def test_admin_has_no_other_function(escrow: Contract) -> None:
    admins = {
        "set_paused",
        "set_fee",
        "collect_fees",
        "transfer_ownership",
        "accept_ownership",
        "renounce_ownership",
    }
    peoples = {
        "deposit",
        "deposit_with_permit",
        "withdraw",
        "post_offer",
        "close_offer",
        "hire",
        "decline",
        "commit",
        "settle",
        "expire",
        "hold",
        "release",
        "convict",
    }
    assert {abi.name for abi in escrow.contract_type.mutable_methods} == admins | peoples
