# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Number of the block in which an event will be found
@license GNU Affero General Public License v3.0 only
@notice On Arbitrum `block.number` is that of the parent chain; nodes file events
        under the chain's own number.
@dev https://docs.arbitrum.io/build-decentralized-apps/arbitrum-vs-ethereum/block-numbers-and-time
"""

interface IArbSys:
    def arbBlockNumber() -> uint256: view


# @dev Arbitrum One, Nova and Sepolia.
_ARBITRUM_CHAINS: constant(uint256[3]) = [42161, 42170, 421614]

_ARB_SYS: constant(address) = 0x0000000000000000000000000000000000000064

_ON_ARBITRUM: immutable(bool)


@deploy
def __init__():
    """
    @dev The chain decides once.
    """
    _ON_ARBITRUM = chain.id in _ARBITRUM_CHAINS


@internal
@view
def _number() -> uint256:
    if _ON_ARBITRUM:
        return staticcall IArbSys(_ARB_SYS).arbBlockNumber()
    return block.number
