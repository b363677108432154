# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title All figures of the books in one call
@license GNU Affero General Public License v3.0 only
@notice For tests only: what a market holds and what it owes to those named.
"""
from ethereum.ercs import IERC20

from ..interfaces import IJobEscrow
from ..interfaces import IProviderStaking

_MAX_ACCOUNTS: constant(uint256) = 32
_MAX_JOBS: constant(uint256) = 64

interface IFees:
    def protocol_fees() -> uint256: view


interface IBurned:
    def burned() -> uint256: view


struct Figures:
    escrow_holds: uint256
    balances: uint256
    fees: uint256
    staking_holds: uint256
    stakes: uint256
    burned: uint256
    locked: uint256
    statuses: DynArray[uint256, _MAX_JOBS]


@external
@view
def read(
    escrow: address,
    provider: address,
    staking: address,
    accounts: DynArray[address, _MAX_ACCOUNTS],
    jobs: DynArray[bytes32, _MAX_JOBS],
) -> Figures:
    """
    @notice Reads a market.
    @param escrow The JobEscrow.
    @param provider Whose locks are counted.
    @param staking The ProviderStaking contract.
    @param accounts Whose balances and stakes are summed.
    @param jobs Whose statuses are read.
    @return All figures, in base units, and the statuses as bits.
    """
    token: IERC20 = IERC20(staticcall IProviderStaking(staking).TOKEN())
    figures: Figures = empty(Figures)
    figures.escrow_holds = staticcall token.balanceOf(escrow)
    figures.fees = staticcall IFees(escrow).protocol_fees()
    figures.staking_holds = staticcall token.balanceOf(staking)
    figures.burned = staticcall IBurned(staking).burned()
    figures.locked = (staticcall IProviderStaking(staking).allowance(provider, escrow)).locked
    for account: address in accounts:
        figures.balances += staticcall IJobEscrow(escrow).balance_of(account)
        figures.stakes += staticcall IProviderStaking(staking).stake_of(account)
    for job: bytes32 in jobs:
        state: IJobEscrow.JobState = staticcall IJobEscrow(escrow).job_state(job)
        figures.statuses.append(convert(state.status, uint256))
    return figures
