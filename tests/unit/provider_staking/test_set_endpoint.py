# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import Account, Contract, Market, logs


@pytest.mark.parametrize("role", ["owner", "operator"])
@pytest.mark.parametrize("endpoint", ["https://gpu.example:9443", ""])
def test_by_owner_or_operator(market: Market, staking: Contract, role: str, endpoint: str) -> None:
    receipt = staking.set_endpoint(market.owner, endpoint, sender=getattr(market, role))
    assert logs(receipt, staking) == [("EndpointSet", {"provider": market.owner.address, "endpoint": endpoint})]


def test_by_a_thief(staking: Contract, owner: Account, thief: Account) -> None:
    with ape.reverts("staking: not owner or operator"):
        staking.set_endpoint(owner, "https://thief.example", sender=thief)


def test_not_registered(staking: Contract, newcomer: Account) -> None:
    with ape.reverts("staking: not owner or operator"):
        staking.set_endpoint(newcomer, "", sender=newcomer)


def test_too_long(staking: Contract, owner: Account) -> None:
    with ape.reverts():
        staking.set_endpoint(owner, "e" * 129, sender=owner)
