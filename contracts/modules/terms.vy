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

# @dev Share of the price, or of the collateral if that is smaller, that a buyer
#      gets when nothing was delivered. The rest burns, so that of what a thief with
#      an operator's key reaches by hiring from himself, four fifths burn.
COMPENSATION_BPS: constant(uint256) = 2_000

# @dev Shares of the collateral at a conviction; at least half of it burns, also
#      where buyer, provider and challenger are one thief.
CONVICTION_BUYER_BPS: constant(uint256) = 3_500
CONVICTION_ARBITER_BPS: constant(uint256) = 1_500


@internal
@pure
def _job_id(chain_id: uint256, escrow: address, terms: IJobEscrow.JobTerms) -> bytes32:
    # See ids.vy.
    return keccak256(abi_encode(chain_id, escrow, terms))


@internal
@pure
def _digest(commitment: IJobEscrow.Commitment) -> uint256:
    # 200 bits share one slot with status and block: a collision costs 2**100.
    return convert(keccak256(abi_encode(commitment)), uint256) >> 56


@internal
@pure
def _escrowed(price: uint256, price_per_second: uint256, longest_run: uint256) -> uint256:
    # The most that a job or request may cost: checked to be below 2**128.
    return price + price_per_second * longest_run


@internal
@view
def _pay(
    terms: IJobEscrow.JobTerms, exit_status: uint256, seconds_used: uint256, tasks_done: uint256
) -> uint256:
    """
    @dev By the second: min(claimed, elapsed since the match, longest run) * price.
         By the job: price * tasks done / tasks. A bag by the second earns no more
         than the tasks' share of the highest price. A failed run earns at most
         the failure cap. An EXACT job cannot fail and earns the whole price.
    """
    escrowed: uint256 = self._escrowed(
        terms.price, terms.price_per_second, terms.longest_run
    )
    if terms.tier == IJobEscrow.Tier.EXACT:
        return escrowed

    pay: uint256 = escrowed * tasks_done // terms.tasks
    if terms.price_per_second != 0:
        elapsed: uint256 = block.timestamp - terms.matched_at
        paid_seconds: uint256 = min(
            seconds_used, min(elapsed, terms.longest_run)
        )
        by_time: uint256 = paid_seconds * terms.price_per_second
        # A failed run may have done no task and still used the machine.
        pay = min(pay, by_time) if exit_status == 0 else by_time
    if exit_status != 0:
        pay = min(pay, escrowed * terms.failure_cap_bps // BPS)
    return pay


@internal
@pure
def _fee(fee_bps: uint256, pay: uint256) -> uint256:
    return pay * fee_bps // BPS


@internal
@pure
def _compensation(escrowed: uint256, collateral: uint256) -> uint256:
    return min(collateral, escrowed) * COMPENSATION_BPS // BPS


@internal
@pure
def _conviction_share(escrowed: uint256, collateral: uint256) -> uint256:
    # Beyond the refund, at most the price again.
    return min(escrowed, collateral * CONVICTION_BUYER_BPS // BPS)


@internal
@pure
def _arbiter_cap(collateral: uint256) -> uint256:
    return collateral * CONVICTION_ARBITER_BPS // BPS
