# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import FEE_BPS, PRICE, Contract, Job, Market, logs


@pytest.mark.parametrize("fee_bps", [0, 1, 500])
@pytest.mark.parametrize("paused", [False, True])
def test_within_the_cap(market: Market, escrow: Contract, fee_bps: int, paused: bool) -> None:
    escrow.set_paused(paused, sender=market.admin)
    receipt = escrow.set_fee(fee_bps, sender=market.admin)
    assert logs(receipt, escrow) == [("FeeSet", {"fee_bps": fee_bps})]
    assert escrow.fee_bps() == fee_bps
    assert escrow.is_paused() == paused


@pytest.mark.parametrize("fee_bps", [501, 2**16, 2**256 - 1])
def test_above_the_cap(market: Market, escrow: Contract, fee_bps: int) -> None:
    with ape.reverts("escrow: fee above cap"):
        escrow.set_fee(fee_bps, sender=market.admin)
    assert escrow.fee_bps() == FEE_BPS
    assert not escrow.is_paused()


@pytest.mark.parametrize("role", ["thief", "owner", "operator", "buyer"])
def test_by_others(escrow: Contract, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("ownable: caller is not the owner"):
        escrow.set_fee(0, sender=request.getfixturevalue(role))


def test_running_jobs_keep_theirs(market: Market, escrow: Contract, committed: Job) -> None:
    escrow.set_fee(500, sender=market.admin)
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    assert market.fees() == 600 * PRICE * FEE_BPS // 10_000


def test_none(market: Market, escrow: Contract) -> None:
    escrow.set_fee(0, sender=market.admin)
    job = market.hire(market.post(market.offer(max_fee_bps=0)))
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.fees() == 0
    assert market.balance(market.owner) == 600 * PRICE
