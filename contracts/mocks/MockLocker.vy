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
def lock(provider: address, job: bytes32, amount: uint256):
    """
    @notice Locks stake.
    @param provider Whose stake.
    @param job Any id.
    @param amount Base units.
    """
    extcall STAKING.lock(provider, job, amount)


@external
def unlock(provider: address, job: bytes32):
    """
    @notice Ends a lock.
    @param provider Whose stake.
    @param job The id that was locked.
    """
    extcall STAKING.unlock(provider, job)


@external
def slash(provider: address, job: bytes32, to_buyer: uint256, to_challenger: uint256):
    """
    @notice Slashes a lock; the shares stay in this contract.
    @param provider Whose stake.
    @param job The id that was locked.
    @param to_buyer Base units.
    @param to_challenger Base units.
    """
    extcall STAKING.slash(provider, job, to_buyer, to_challenger)
