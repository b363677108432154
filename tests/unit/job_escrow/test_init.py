# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import FEE_BPS, ZERO, Account, Contract, Market, logs


def test_set_up(market: Market, escrow: Contract) -> None:
    assert escrow.TOKEN() == market.token.address
    assert escrow.STAKING() == market.staking.address
    assert escrow.owner() == market.admin.address
    assert escrow.pending_owner() == ZERO
    assert escrow.fee_bps() == FEE_BPS
    assert not escrow.is_paused()
    assert market.fees() == 0
    assert escrow.MAX_FEE_BPS() == 500
    assert escrow.DISPUTE_TIMEOUT() == 7 * 86_400
    assert escrow.EXACT_DISPUTE_TIMEOUT() == 90 * 86_400


@pytest.mark.parametrize("fee_bps", [0, 500])
def test_fee_within_cap(market: Market, fee_bps: int) -> None:
    escrow = market.admin.deploy(ape.project.JobEscrow, market.token, market.staking, fee_bps)
    assert ("FeeSet", {"fee_bps": fee_bps}) in logs(escrow.creation_metadata.receipt, escrow)
    assert escrow.fee_bps() == fee_bps


@pytest.mark.parametrize("fee_bps", [501, 10_000, 2**256 - 1])
def test_fee_above_cap(market: Market, fee_bps: int) -> None:
    with ape.reverts("escrow: fee above cap"):
        market.admin.deploy(ape.project.JobEscrow, market.token, market.staking, fee_bps)


def test_token_is_no_contract(market: Market, thief: Account) -> None:
    with ape.reverts("escrow: token is no contract"):
        market.admin.deploy(ape.project.JobEscrow, thief, market.staking, 0)


def test_staking_is_no_contract(market: Market, thief: Account) -> None:
    with ape.reverts("escrow: staking is no contract"):
        market.admin.deploy(ape.project.JobEscrow, market.token, thief, 0)


def test_stake_is_another_token(market: Market) -> None:
    # The shares of a slash would arrive in a token that nobody is owed.
    other = market.admin.deploy(ape.project.TestToken)
    with ape.reverts("escrow: stake is another token"):
        market.admin.deploy(ape.project.JobEscrow, other, market.staking, 0)
