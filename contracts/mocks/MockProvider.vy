# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title An operator that is a contract
@license GNU Affero General Public License v3.0 only
@notice For tests only. Accepts several requests in one transaction, hence in one
        block and second.
"""

from ..interfaces import IJobEscrow

_MAX_REQUESTS: constant(uint256) = 8

# @dev The escrow that it accepts in.
ESCROW: public(immutable(IJobEscrow))


@deploy
def __init__(escrow: IJobEscrow):
    """
    @param escrow The JobEscrow.
    """
    ESCROW = escrow


@external
def accept(requests: DynArray[IJobEscrow.Request, _MAX_REQUESTS], bid: IJobEscrow.Bid):
    """
    @notice Accepts each request at the same bid.
    @param requests The requests.
    @param bid Provider and price.
    """
    for request: IJobEscrow.Request in requests:
        extcall ESCROW.accept(request, bid)
