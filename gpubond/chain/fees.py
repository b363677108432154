# SPDX-License-Identifier: Apache-2.0
"""What to offer for gas: at first by the market, then a little more until a transaction is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from web3 import Web3
from web3.exceptions import Web3Exception

from gpubond.errors import Unreachable

# Nodes take a replacement only if both fees rise by at least 10 to 12.5 percent.
BUMP_NUMERATOR, BUMP_DENOMINATOR = 9, 8
# Raising stops here: above this multiple of the market it is not the fee that holds a transaction up.
CEILING = 10


@dataclass(frozen=True)
class Fees:
    """Wei per gas: the most to pay, and of it what the block's producer gets.

    On a chain without EIP-1559 (`dynamic` false) both are the gas price.
    """

    max_fee: int
    priority: int
    dynamic: bool

    def as_fields(self) -> dict[str, Any]:
        """The fields of a transaction."""
        if not self.dynamic:
            return {"gasPrice": self.max_fee}
        return {"type": 2, "maxFeePerGas": self.max_fee, "maxPriorityFeePerGas": self.priority}


def market_fees(node: Web3) -> Fees:
    """What the market asks: twice the base fee, enough for five full blocks in a row, and the usual tip."""
    base = node.eth.get_block("latest").get("baseFeePerGas")
    if base is None:
        price = int(node.eth.gas_price)
        return Fees(price, price, dynamic=False)
    try:
        priority = int(node.eth.max_priority_fee)
    except Unreachable:
        raise
    except (Web3Exception, ValueError):
        # Not every node knows eth_maxPriorityFeePerGas; gas_price is base fee and usual tip.
        priority = max(0, int(node.eth.gas_price) - base)
    return Fees(2 * base + priority, priority, dynamic=True)


def bumped_fees(last: Fees, market: Fees) -> Fees | None:
    """The next offer after `last` was not taken; None when it is far above the market already."""
    far_above = last.max_fee >= CEILING * market.max_fee or last.priority >= CEILING * max(market.priority, 1)
    if far_above and last.max_fee >= market.max_fee:
        return None
    raised_priority = last.priority * BUMP_NUMERATOR // BUMP_DENOMINATOR + 1
    raised_max = last.max_fee * BUMP_NUMERATOR // BUMP_DENOMINATOR + 1
    priority = max(raised_priority, market.priority)
    return Fees(max(raised_max, market.max_fee, priority), priority, dynamic=last.dynamic)
