# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import BALANCE, FEE_BPS, STAKE, Contract, Job, Market, logs
from ..reference import DECLINED


def test_and_back(market: Market, escrow: Contract) -> None:
    receipt = escrow.set_paused(True, sender=market.admin)
    assert logs(receipt, escrow) == [("Paused", {"paused": True})]
    assert escrow.is_paused()
    assert escrow.fee_bps() == FEE_BPS
    receipt = escrow.set_paused(False, sender=market.admin)
    assert logs(receipt, escrow) == [("Paused", {"paused": False})]
    assert not escrow.is_paused()
    assert escrow.fee_bps() == FEE_BPS


def test_twice(market: Market, escrow: Contract) -> None:
    escrow.set_paused(True, sender=market.admin)
    escrow.set_paused(True, sender=market.admin)
    assert escrow.is_paused()
    assert escrow.fee_bps() == FEE_BPS


@pytest.mark.parametrize("role", ["thief", "owner", "operator", "buyer"])
def test_by_others(escrow: Contract, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("ownable: caller is not the owner"):
        escrow.set_paused(True, sender=request.getfixturevalue(role))
    assert not escrow.is_paused()


def test_blocks_nothing_but_matches(market: Market, escrow: Contract, offer: dict[str, Any], job: Job) -> None:
    # Commit, settle, expire, hold and convict while paused: each in the tests of that function.
    escrow.set_paused(True, sender=market.admin)
    escrow.decline(job.terms, True, sender=market.operator)
    assert market.status(job) == DECLINED
    market.post(offer)
    escrow.close_offer(offer, sender=market.operator)
    escrow.approve_arbiter(market.arbiter, False, sender=market.owner)
    request = market.request()
    market.post_request(request)
    escrow.cancel_request(request, sender=market.buyer)
    escrow.deposit(5, sender=market.buyer)
    escrow.withdraw(BALANCE + 5, sender=market.buyer)
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    market.staking.withdraw(STAKE, sender=market.owner)
    with ape.reverts("escrow: new jobs are paused"):
        escrow.hire(offer, market.order(), sender=market.buyer)
    with ape.reverts("escrow: new jobs are paused"):
        escrow.hire_many(offer, [market.order()], sender=market.buyer)
    with ape.reverts("escrow: new jobs are paused"):
        escrow.accept(market.request(), market.bid(), sender=market.operator)
