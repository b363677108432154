# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title A locker that does as it is told
@license GNU Affero General Public License v3.0 only
@notice For tests only: the worst contract that an owner could ever allow.
"""
from ..interfaces import IProviderStaking

# @dev Where it locks and slashes.
STAKING: public(immutable(IProviderStaking))


@deploy
def __init__(staking: IProviderStaking):
    """
    @param staking The ProviderStaking contract.
    """
    STAKING = staking


@external
def lock(provider: address, amount: uint256):
    """
    @notice Locks stake.
    @param provider Whose stake.
    @param amount Base units.
    """
    extcall STAKING.lock(provider, amount)


@external
def unlock(provider: address, amount: uint256):
    """
    @notice Ends a lock.
    @param provider Whose stake.
    @param amount Base units.
    """
    extcall STAKING.unlock(provider, amount)


@external
def slash(
    provider: address, job: bytes32, amount: uint256, to_buyer: uint256, to_challenger: uint256
):
    """
    @notice Slashes a lock; the shares are owed to this contract.
    @param provider Whose stake.
    @param job Any id.
    @param amount Base units of the lock.
    @param to_buyer Base units.
    @param to_challenger Base units.
    """
    extcall STAKING.slash(provider, job, amount, to_buyer, to_challenger)


@external
def collect() -> uint256:
    """
    @notice Fetches what is owed.
    @return Base units.
    """
    return extcall STAKING.collect()
