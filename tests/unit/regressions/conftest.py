# SPDX-License-Identifier: Apache-2.0
"""People and contracts that the regressions share."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import USD, Account, Contract, Market

CAPITAL = 90_000 * USD


@pytest.fixture
def funded_thief(market: Market, thief: Account) -> Account:
    """A thief with a balance of its own to buy with."""
    market.escrow.deposit(CAPITAL, sender=thief)
    return thief


@pytest.fixture
def rival(market: Market, newcomer: Account) -> Account:
    """A second provider, its own operator."""
    market.staking.register(newcomer, "", sender=newcomer)
    market.staking.stake(1_000 * USD, sender=newcomer)
    market.staking.allow(market.escrow, 1_000 * USD, 1_000 * USD, sender=newcomer)
    return newcomer


@pytest.fixture
def demands(market: Market, admin: Account) -> Contract:
    """DataDemands, approved by the owner; the buyer may pay its fees."""
    contract = admin.deploy(ape.project.DataDemands, market.escrow, 50_000)
    market.escrow.approve_arbiter(contract, True, sender=market.owner)
    market.token.approve(contract, 2**256 - 1, sender=market.buyer)
    market.others = (*market.others, contract)
    return contract


def stake_of(market: Market) -> int:
    """The owner's stake, free or allocated to the escrow."""
    allowance: Any = market.staking.allowance(market.owner, market.escrow)
    return int(market.staking.free_stake_of(market.owner) + max(allowance.total, allowance.locked))
