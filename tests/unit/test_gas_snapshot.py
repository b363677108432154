# SPDX-License-Identifier: Apache-2.0
"""Gas of the main functions in steady state, compared with `tests/gas_snapshot.json`.

After a change that is meant: `ape test tests/unit/test_gas_snapshot.py --update-gas`, and commit the file.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .market import USD, Contract, Market

SNAPSHOT = Path(__file__).resolve().parents[1] / "gas_snapshot.json"
TOLERANCE = 0.005  # zero bytes in addresses and hashes differ from chain to chain


def measure(market: Market, escrow: Contract, staking: Contract) -> dict[str, int]:
    """Gas of each function, 21,000 and calldata included, when everyone has balances and slots already."""
    owner, operator, buyer = market.owner, market.operator, market.buyer
    used: dict[str, int] = {}
    offer = market.offer(count=8)
    used["post_offer"] = escrow.post_offer(offer, sender=operator).gas_used
    used["stake"] = staking.stake(USD, sender=owner).gas_used
    used["allow"] = staking.allow(escrow, 4_001 * USD, 1_000 * USD, sender=owner).gas_used
    used["deposit"] = escrow.deposit(USD, sender=buyer).gas_used
    # The first life warms everybody's balance.
    for warm in (True, False):
        job = market.hire(offer)
        committed = market.commit(job, seconds_used=1)
        settled = escrow.settle(job.terms, job.commitment, sender=buyer)
        if not warm:
            used |= {"hire": job.receipt.gas_used, "commit": committed.gas_used, "settle": settled.gas_used}
    used["lifecycle"] = used["hire"] + used["commit"] + used["settle"]
    used["withdraw"] = escrow.withdraw(1, sender=owner).gas_used
    # So does the first slash the counters of the contract, the first decline that of the provider.
    for _ in range(2):
        late = market.hire(offer)
        market.at(late.terms["deliver_by"] + 1)
        used["expire"] = escrow.expire(late.terms, sender=buyer).gas_used
        given_back = market.hire(offer)
        used["decline"] = escrow.decline(given_back.terms, False, sender=operator).gas_used
    return used


def test_gas_is_as_committed(
    market: Market, escrow: Contract, staking: Contract, request: pytest.FixtureRequest
) -> None:
    used = measure(market, escrow, staking)
    if request.config.getoption("--update-gas"):
        SNAPSHOT.write_text(json.dumps(used, indent=2, sort_keys=True) + "\n")
    expected = json.loads(SNAPSHOT.read_text())
    assert used.keys() == expected.keys()
    different = {
        name: (expected[name], gas)
        for name, gas in used.items()
        if abs(gas - expected[name]) > TOLERANCE * expected[name]
    }
    assert not different, "as committed, now: if it is meant, run again with --update-gas"
