# pragma version ~=0.4.3
# SPDX-License-Identifier: Apache-2.0
"""
@title Calls the compiled arithmetic on whole domains
@license Apache-2.0
@notice For tests only: the results of many calls at once. Decides nothing; what
        is right is computed in Python.
"""
from contracts.interfaces import IJobEscrow

_MOST: constant(uint256) = 65_536


interface IHarness:
    def escrowed(terms: IJobEscrow.JobTerms) -> uint256: view
    def pay(
        terms: IJobEscrow.JobTerms, exit_status: uint256, seconds_used: uint256, tasks_done: uint256
    ) -> uint256: view
    def fee(fee_bps: uint256, pay: uint256) -> uint256: view
    def compensation(escrowed: uint256, collateral: uint256) -> uint256: view
    def conviction_share(escrowed: uint256, collateral: uint256) -> uint256: view
    def arbiter_cap(collateral: uint256) -> uint256: view


@external
@view
def pays(
    harness: IHarness, terms: IJobEscrow.JobTerms, caps: DynArray[uint256, 16], most_time: uint256
) -> DynArray[uint256, _MOST]:
    """
    @notice What every commitment to a job would earn: for each cap, exit status 0
            and 1, elapsed and claimed seconds up to `most_time`, all tasks done.
    @param harness The TermsHarness.
    @param terms The job's terms; cap and time of the match are replaced.
    @param caps Failure caps.
    @param most_time Seconds.
    @return Base units, the number of tasks done running fastest.
    """
    found: DynArray[uint256, _MOST] = []
    shown: IJobEscrow.JobTerms = terms
    for cap: uint256 in caps:
        shown.failure_cap_bps = cap
        for exit_status: uint256 in range(2):
            for elapsed: uint256 in range(most_time + 1, bound=64):
                shown.matched_at = block.timestamp - elapsed
                for seconds_used: uint256 in range(most_time + 1, bound=64):
                    for done: uint256 in range(terms.tasks + 1, bound=64):
                        found.append(
                            staticcall harness.pay(shown, exit_status, seconds_used, done)
                        )
    return found


@external
@view
def fees(harness: IHarness, fee_bps: uint256, most: uint256) -> DynArray[uint256, _MOST]:
    """
    @notice The fee on every pay up to `most`.
    @param harness The TermsHarness.
    @param fee_bps Basis points.
    @param most Base units.
    @return Base units.
    """
    found: DynArray[uint256, _MOST] = []
    for pay: uint256 in range(most + 1, bound=_MOST):
        found.append(staticcall harness.fee(fee_bps, pay))
    return found


@external
@view
def shares(
    harness: IHarness, escrowed: uint256, lowest: uint256, highest: uint256
) -> DynArray[uint256, _MOST]:
    """
    @notice All shares of every collateral from `lowest` to `highest`.
    @param harness The TermsHarness.
    @param escrowed Base units.
    @param lowest Base units.
    @param highest Base units.
    @return Compensation, the buyer's share at a conviction, the arbiter's cap, for each.
    """
    found: DynArray[uint256, _MOST] = []
    for collateral: uint256 in range(lowest, highest + 1, bound=_MOST):
        found.append(staticcall harness.compensation(escrowed, collateral))
        found.append(staticcall harness.conviction_share(escrowed, collateral))
        found.append(staticcall harness.arbiter_cap(collateral))
    return found
