# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title A token without value, with a faucet and permit
@license GNU Affero General Public License v3.0 only
@notice For tests, devnets and testnets only: anyone may mint, a little at a time.
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from snekmate.auth import ownable
from snekmate.tokens import erc20
from snekmate.tokens.interfaces import IERC20Permit

initializes: ownable
initializes: erc20[ownable := ownable]

implements: IERC20
implements: IERC20Detailed
implements: IERC20Permit

exports: (
    erc20.totalSupply,
    erc20.balanceOf,
    erc20.transfer,
    erc20.transferFrom,
    erc20.approve,
    erc20.allowance,
    erc20.name,
    erc20.symbol,
    erc20.decimals,
    erc20.permit,
    erc20.nonces,
    erc20.DOMAIN_SEPARATOR,
    erc20.eip712Domain,
)

# @dev Base units that one call of the faucet gives at most.
FAUCET_LIMIT: public(constant(uint256)) = 1_000_000 * 10**6


@deploy
def __init__():
    """
    @dev The owner is renounced: supply comes from the faucet alone.
    """
    ownable.__init__()
    erc20.__init__("GpuBond Test USD", "tUSD", 6, "GpuBond Test USD", "1")
    erc20.is_minter[msg.sender] = False
    ownable._transfer_ownership(empty(address))


@external
def faucet(amount: uint256, receiver: address = msg.sender):
    """
    @notice Mints worthless test tokens.
    @param amount Base units (6 decimals), at most `FAUCET_LIMIT`.
    @param receiver Who gets them.
    """
    assert amount <= FAUCET_LIMIT, "token: above faucet limit"
    erc20._mint(receiver, amount)
