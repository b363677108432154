# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Ids of offers, requests and jobs
@license GNU Affero General Public License v3.0 only
@notice An id is keccak256(abi.encode(chain id, escrow, struct)), so a signature or
        a proof about a job holds for that job alone, on that chain.
@dev The chain's id is that of the deployment: were it read anew, a chain that
     takes another id would lose all that is open, for nobody could name it.
"""

CHAIN_ID: public(immutable(uint256))


@deploy
def __init__():
    """
    @dev The chain's id is kept for good.
    """
    CHAIN_ID = chain.id
