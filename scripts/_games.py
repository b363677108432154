# SPDX-License-Identifier: Apache-2.0
"""What the dispute game of a network is deployed with."""

from __future__ import annotations

from typing import NamedTuple

_HOUR = 3600
_GWEI = 10**9


class GameTimes(NamedTuple):
    """Seconds, and wei a unit of gas.

    increment: how long a transaction can be kept out of the chain against its sender's will: the delay of forced
    inclusion where one party orders transactions. A side has twice that at first. max_answer: that terms may give to an
    answer.
    """

    increment: int
    max_answer: int
    min_gas_price: int

    @property
    def clock(self) -> int:
        """Seconds that each side has at first."""
        return 2 * self.increment


# Arbitrum and OP Stack chains: 24 hours, as their documentation says of the delayed inbox and of the sequencer window
# with what its derivation may add.
_ROLLUP = GameTimes(24 * _HOUR, 6 * _HOUR, _GWEI // 100)
# Many parties order transactions; hours of empty or hostile blocks are allowed for.
_LAYER_1 = GameTimes(6 * _HOUR, 6 * _HOUR, _GWEI)
# One process on one machine, which nobody attacks. Short, so that games can be watched to their end; but its 64th part
# is what a provider may need for its answers, and examples must find room in that.
_LOCAL = GameTimes(_HOUR // 2, 6 * _HOUR, _GWEI // 50)

_NETWORKS = {
    1: _LAYER_1,
    11_155_111: _LAYER_1,  # Sepolia
    560_048: _LAYER_1,  # Hoodi
    42_161: _ROLLUP,  # Arbitrum One
    42_170: _ROLLUP,  # Arbitrum Nova
    421_614: _ROLLUP,  # Arbitrum Sepolia
    10: _ROLLUP,  # OP Mainnet
    11_155_420: _ROLLUP,  # OP Sepolia
    8_453: _ROLLUP,  # Base
    84_532: _ROLLUP,  # Base Sepolia
    31_337: _LOCAL,
    1_337: _LOCAL,
}


def game_times(chain_id: int) -> GameTimes:
    """Of a network; of one that is not known the longest."""
    return _NETWORKS.get(chain_id, _ROLLUP)
