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
_MAX_LOCKERS: constant(uint256) = 8

struct Figures:
    escrow_holds: uint256
    balances: uint256
    fees: uint256
    staking_holds: uint256
    stakes: uint256  # free, or allocated to one of the lockers
    owed_to_escrow: uint256  # by staking
    owed: uint256  # by staking to all lockers
    burned: uint256  # by all lockers
    locked: uint256  # by the escrow
    statuses: DynArray[uint256, _MAX_JOBS]


@external
@view
def read(
    escrow: address,
    staking: address,
    lockers: DynArray[address, _MAX_LOCKERS],
    accounts: DynArray[address, _MAX_ACCOUNTS],
    jobs: DynArray[bytes32, _MAX_JOBS],
) -> Figures:
    """
    @notice Reads a market.
    @param escrow The JobEscrow.
    @param staking The ProviderStaking contract.
    @param lockers All that stake may be allocated to, the escrow among them.
    @param accounts Whose balances and stakes are summed.
    @param jobs Whose statuses are read.
    @return All figures, in base units, and the statuses as bits.
    """
    token: IERC20 = IERC20(staticcall IProviderStaking(staking).TOKEN())
    figures: Figures = empty(Figures)
    figures.escrow_holds = staticcall token.balanceOf(escrow)
    figures.staking_holds = staticcall token.balanceOf(staking)
    figures.owed_to_escrow = staticcall IProviderStaking(staking).owed_to(escrow)
    for account: address in accounts:
        figures.balances += staticcall IJobEscrow(escrow).balance_of(account)
        figures.fees += staticcall IJobEscrow(escrow).fees_of(account)
        figures.stakes += staticcall IProviderStaking(staking).free_stake_of(account)
        figures.locked += (staticcall IProviderStaking(staking).allowance(account, escrow)).locked
    for locker: address in lockers:
        figures.owed += staticcall IProviderStaking(staking).owed_to(locker)
        figures.burned += staticcall IProviderStaking(staking).burned_by(locker)
        for account: address in accounts:
            allowance: IProviderStaking.Allowance = staticcall IProviderStaking(
                staking
            ).allowance(account, locker)
            figures.stakes += max(allowance.total, allowance.locked)
    for job: bytes32 in jobs:
        figures.statuses.append(staticcall IJobEscrow(escrow).job_slot(job) & (2**16 - 1))
    return figures
