# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title An arbiter that does as it is told
@license GNU Affero General Public License v3.0 only
@notice For tests only. The escrow takes nothing but a contract as an arbiter;
        this one lets anyone decide.
"""
from ..interfaces import IJobEscrow

# @dev The escrow whose jobs it decides.
ESCROW: public(immutable(IJobEscrow))


@deploy
def __init__(escrow: IJobEscrow):
    """
    @param escrow The JobEscrow.
    """
    ESCROW = escrow


@external
def hold(terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment):
    """
    @notice Opens a dispute.
    @param terms The job's terms.
    @param commitment What the provider committed to.
    """
    extcall ESCROW.hold(terms, commitment)


@external
def release(terms: IJobEscrow.JobTerms):
    """
    @notice Decides for the provider.
    @param terms The job's terms.
    """
    extcall ESCROW.release(terms)


@external
def convict(
    terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment, to_arbiter: uint256
):
    """
    @notice Decides against the provider.
    @param terms The job's terms.
    @param commitment What the provider committed to.
    @param to_arbiter Base units of the collateral for this contract's balance.
    """
    extcall ESCROW.convict(terms, commitment, to_arbiter)


@external
def withdraw(amount: uint256, receiver: address):
    """
    @notice Takes the shares out of the escrow.
    @param amount Base units.
    @param receiver Who gets the tokens.
    """
    extcall ESCROW.withdraw(amount, receiver)
