# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title A buyer that is a contract
@license GNU Affero General Public License v3.0 only
@notice For tests only. Hires several times in one transaction, hence in one
        block and second. It spends what was deposited for its address.
"""
from ..interfaces import IJobEscrow

_MAX_HIRES: constant(uint256) = 8

# @dev The escrow that it hires in.
ESCROW: public(immutable(IJobEscrow))


@deploy
def __init__(escrow: IJobEscrow):
    """
    @param escrow The JobEscrow.
    """
    ESCROW = escrow


@external
def hire(offer: IJobEscrow.Offer, orders: DynArray[IJobEscrow.Order, _MAX_HIRES]):
    """
    @notice Hires once an order.
    @param offer The offer.
    @param orders What is added to it.
    """
    for order: IJobEscrow.Order in orders:
        extcall ESCROW.hire(offer, order)
