# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import ZERO, Account, Contract, Market
from .conftest import ANSWER_FEE, ANSWER_WINDOW, LANES, Demands


def test_constants(demands: Demands, market: Market) -> None:
    contract = demands.contract
    assert contract.ESCROW() == market.escrow.address
    assert contract.TOKEN() == market.token.address
    assert contract.ANSWER_FEE() == ANSWER_FEE
    assert (contract.ANSWER_WINDOW(), contract.LANES()) == (ANSWER_WINDOW, LANES)


def test_escrow_without_code(market: Market, admin: Account) -> None:
    for escrow in (ZERO, market.owner.address):
        with ape.reverts("demands: escrow is no contract"):
            admin.deploy(ape.project.DataDemands, escrow, ANSWER_FEE)


@pytest.mark.parametrize(
    ("fee", "reason"),
    [(0, "demands: fee is zero"), (2**128, "demands: fee too large"), (2**256 - 1, "demands: fee too large")],
)
def test_fee(market: Market, admin: Account, fee: int, reason: str) -> None:
    with ape.reverts(reason):
        admin.deploy(ape.project.DataDemands, market.escrow, fee)


@pytest.mark.parametrize("fee", [1, 2**128 - 1])
def test_fee_at_its_bounds(market: Market, admin: Account, fee: int) -> None:
    contract: Contract = admin.deploy(ape.project.DataDemands, market.escrow, fee)
    assert contract.ANSWER_FEE() == fee


def test_a_job_without_demands(demands: Demands) -> None:
    for lane in (0, LANES - 1, LANES, 2**256 - 1):
        assert not demands.contract.demand_of(b"\1" * 32, lane).is_open
