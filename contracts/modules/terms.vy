# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Job terms: identity and money arithmetic
@license GNU Affero General Public License v3.0 only
@notice Pure functions of the terms. Every division rounds down, and what is
        split off is subtracted from the whole, so that parts always sum to it.
"""
from ..interfaces import IJobEscrow

# @dev One hundred percent in basis points.
BPS: constant(uint256) = 10_000

# @dev Share of the price that a buyer gets out of the collateral when nothing
#      was delivered.
COMPENSATION_BPS: constant(uint256) = 2_000

# @dev Shares of the collateral at a conviction; at least half of it burns.
CONVICTION_BUYER_BPS: constant(uint256) = 3_500
CONVICTION_ARBITER_BPS: constant(uint256) = 1_500


@internal
@view
def _job_id(terms: IJobEscrow.JobTerms) -> bytes32:
    # Chain and escrow are in it, so a signature or a proof about a job holds
    # for that job alone.
    return keccak256(abi_encode(chain.id, self, terms))


@internal
@pure
def _digest(commitment: IJobEscrow.Commitment) -> uint256:
    # 200 bits share one slot with status and block: a collision costs 2**100.
    return convert(keccak256(abi_encode(commitment)), uint256) >> 56


@internal
@pure
def _escrowed(terms: IJobEscrow.JobTerms) -> uint256:
    # uint128 + uint128 * uint32 fits into 161 bits.
    return convert(terms.price, uint256) + convert(terms.price_per_second, uint256) * convert(
        terms.longest_run, uint256
    )


@internal
@view
def _pay(
    terms: IJobEscrow.JobTerms, exit_status: uint8, seconds_used: uint32, tasks_done: uint32
) -> uint256:
    """
    @dev By the second: min(claimed, elapsed since the match, longest run) * price.
         By the job: price * tasks done / tasks. A failed run earns at most the
         failure cap. An EXACT job cannot fail and earns the whole price.
    """
    escrowed: uint256 = self._escrowed(terms)
    if terms.tier == IJobEscrow.Tier.EXACT:
        return escrowed

    pay: uint256 = 0
    if terms.price_per_second != 0:
        elapsed: uint256 = block.timestamp - convert(terms.matched_at, uint256)
        paid_seconds: uint256 = min(
            convert(seconds_used, uint256), min(elapsed, convert(terms.longest_run, uint256))
        )
        pay = paid_seconds * convert(terms.price_per_second, uint256)
    else:
        pay = escrowed * convert(tasks_done, uint256) // convert(terms.tasks, uint256)
    if exit_status != 0:
        pay = min(pay, escrowed * convert(terms.failure_cap_bps, uint256) // BPS)
    return pay


@internal
@pure
def _fee(terms: IJobEscrow.JobTerms, pay: uint256) -> uint256:
    return pay * convert(terms.fee_bps, uint256) // BPS


@internal
@pure
def _compensation(terms: IJobEscrow.JobTerms) -> uint256:
    return min(
        convert(terms.collateral, uint256), self._escrowed(terms) * COMPENSATION_BPS // BPS
    )


@internal
@pure
def _conviction_share(terms: IJobEscrow.JobTerms) -> uint256:
    # Beyond the refund, at most the price again.
    return min(
        self._escrowed(terms),
        convert(terms.collateral, uint256) * CONVICTION_BUYER_BPS // BPS,
    )


@internal
@pure
def _arbiter_cap(terms: IJobEscrow.JobTerms) -> uint256:
    return convert(terms.collateral, uint256) * CONVICTION_ARBITER_BPS // BPS
