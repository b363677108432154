# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Clocks of a dispute game
@license GNU Affero General Public License v3.0 only
@notice Each side has a chess clock, and each move adds some seconds to that of who makes
        it. A move is in time strictly before the clock's end.
@dev All in one word, from bit 0: seconds left to the asserter and to the challenger (32
     bits each), time of the last move (40), seconds that a move adds (32), moves that
     the challenger made (16).
"""
from . import errors

# @dev What an opening counts as among the moves, each of which is refunded alike: it
#      costs most, and a claim follows.
OPENING: constant(uint256) = 3

_SECONDS: constant(uint256) = 2**32 - 1
_TIME: constant(uint256) = 2**40 - 1
_MOVES: constant(uint256) = 2**16 - 1
_TIME_SHIFT: constant(uint256) = 64
_INCREMENT_SHIFT: constant(uint256) = 104
_MOVES_SHIFT: constant(uint256) = 136


@internal
@view
def _started(seconds: uint256, increment: uint256) -> uint256:
    return (
        seconds
        | (seconds << 32)
        | (block.timestamp << _TIME_SHIFT)
        | (increment << _INCREMENT_SHIFT)
        | (OPENING << _MOVES_SHIFT)
    )


@internal
@pure
def _left(clock: uint256, side: uint256) -> uint256:
    # 0 is the asserter, 1 the challenger.
    return (clock >> (side << 5)) & _SECONDS


@internal
@pure
def _deadline(clock: uint256, side: uint256) -> uint256:
    # The first second in which a move of this side, whose turn it is, comes too late.
    return (
        ((clock >> _TIME_SHIFT) & _TIME)
        + self._left(clock, side)
        + ((clock >> _INCREMENT_SHIFT) & _SECONDS)
    )


@internal
@pure
def _moves(clock: uint256) -> uint256:
    return (clock >> _MOVES_SHIFT) & _MOVES


@internal
@view
def _moved(clock: uint256, side: uint256) -> uint256:
    # After a move of this side. What is left fits, since a whole game is shorter than
    # the escrow waits for it.
    deadline: uint256 = self._deadline(clock, side)
    if block.timestamp >= deadline:
        errors._fail("game: too late")
    kept: uint256 = clock & ~((_SECONDS << (side << 5)) | (_TIME << _TIME_SHIFT))
    return (
        kept
        + (unsafe_sub(deadline, block.timestamp) << (side << 5))
        + (block.timestamp << _TIME_SHIFT)
        + (side << _MOVES_SHIFT)
    )
