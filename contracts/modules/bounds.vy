# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Bounds of what offers and requests may ask
@license GNU Affero General Public License v3.0 only
@notice They keep every deadline of a job within sight, and every amount within
        the terms' types.
"""
from ..interfaces import IJobEscrow
from . import errors

# @dev Seconds.
MAX_RUN: constant(uint256) = 366 * 86_400
MAX_WINDOW: constant(uint256) = 90 * 86_400

# @dev Seconds. A provider must have time to decline: inputs may be withheld, and
#      an offer may be a thief's. A long window would be its option for free.
MIN_ACKNOWLEDGE_WINDOW: constant(uint256) = 60
MAX_ACKNOWLEDGE_WINDOW: constant(uint256) = 86_400

# @dev Base units.
MAX_PRICE: constant(uint256) = 2**128 - 1

# @dev Tasks of one job.
MAX_TASKS: constant(uint256) = 2**32 - 1

_BPS: constant(uint256) = 10_000


@internal
@pure
def _check(
    price: uint256,
    price_per_second: uint256,
    longest_run: uint256,
    acknowledge_window: uint256,
    delivery_margin: uint256,
    challenge_window: uint256,
    failure_cap_bps: uint256,
    collateral: uint256,
):
    if longest_run == 0:
        errors._fail("escrow: longest run is zero")
    if longest_run > MAX_RUN:
        errors._fail("escrow: longest run too long")
    if acknowledge_window < MIN_ACKNOWLEDGE_WINDOW:
        errors._fail("escrow: window too short")
    if (
        acknowledge_window > MAX_ACKNOWLEDGE_WINDOW
        or delivery_margin > MAX_WINDOW
        or challenge_window > MAX_WINDOW
    ):
        errors._fail("escrow: window too long")
    if failure_cap_bps > _BPS:
        errors._fail("escrow: failure cap too high")
    if collateral == 0:
        errors._fail("escrow: collateral is zero")
    # Keeps every product of the terms' arithmetic far below 2**256, this one too.
    if (
        price > MAX_PRICE
        or price_per_second > MAX_PRICE
        or price + price_per_second * longest_run > MAX_PRICE
    ):
        errors._fail("escrow: price too high")
