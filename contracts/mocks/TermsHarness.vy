# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title The functions of job terms, callable one by one
@license GNU Affero General Public License v3.0 only
@notice For tests only: exposes `modules/terms.vy`, also for terms that no hire
        would make yet.
"""
from ..interfaces import IJobEscrow
from ..modules import terms as job_terms


@external
@view
def job_id(terms: IJobEscrow.JobTerms) -> bytes32:
    """
    @notice The id of a job, were this contract its escrow.
    @param terms The job's terms.
    @return The hash of its terms.
    """
    return job_terms._job_id(chain.id, self, terms)


@external
@pure
def digest(commitment: IJobEscrow.Commitment) -> uint256:
    """
    @notice What a job's slot keeps of a commitment.
    @param commitment The commitment.
    @return The high 200 bits of its hash.
    """
    return job_terms._digest(commitment)


@external
@pure
def escrowed(terms: IJobEscrow.JobTerms) -> uint256:
    """
    @notice The highest price of a job.
    @param terms The job's terms.
    @return Base units.
    """
    return job_terms._escrowed(terms.price, terms.price_per_second, terms.longest_run)


@external
@view
def pay(
    terms: IJobEscrow.JobTerms, exit_status: uint256, seconds_used: uint256, tasks_done: uint256
) -> uint256:
    """
    @notice What a commitment at this moment would earn, fee included.
    @param terms The job's terms.
    @param exit_status 0 for success.
    @param seconds_used Seconds claimed.
    @param tasks_done Units claimed.
    @return Base units.
    """
    return job_terms._pay(terms, exit_status, seconds_used, tasks_done)


@external
@pure
def fee(fee_bps: uint256, pay: uint256) -> uint256:
    """
    @notice The protocol's part of what a provider earned.
    @param fee_bps Basis points.
    @param pay Base units.
    @return Base units.
    """
    return job_terms._fee(fee_bps, pay)


@external
@pure
def compensation(escrowed: uint256, collateral: uint256) -> uint256:
    """
    @notice What a buyer gets out of the collateral when nothing was delivered.
    @param escrowed The highest price of the job, base units.
    @param collateral Base units.
    @return Base units.
    """
    return job_terms._compensation(escrowed, collateral)


@external
@pure
def conviction_share(escrowed: uint256, collateral: uint256) -> uint256:
    """
    @notice What a buyer gets out of the collateral at a conviction.
    @param escrowed The highest price of the job, base units.
    @param collateral Base units.
    @return Base units.
    """
    return job_terms._conviction_share(escrowed, collateral)


@external
@pure
def arbiter_cap(collateral: uint256) -> uint256:
    """
    @notice What an arbiter gets at most for challengers.
    @param collateral Base units.
    @return Base units.
    """
    return job_terms._arbiter_cap(collateral)
