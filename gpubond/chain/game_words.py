# SPDX-License-Identifier: Apache-2.0
"""The packed words of a game's events, as `IDisputeGame.vyi` lays them out: what was picked, and whose clock runs."""

from __future__ import annotations

# The index that picks none of the nodes shown, or is no pick.
NONE = 64

# Bits of a place: where they begin, how many there are.
_TURN, _PICKED, _FROM = (0, 1), (53, 7), (75, 32)
# And of a clock.
_LEFT, _MOVED_AT, _ADDED = ((0, 32), (32, 32)), (64, 40), (104, 32)


def _bits(word: int, part: tuple[int, int]) -> int:
    begin, count = part
    return word >> begin & ((1 << count) - 1)


def challenger_moves(place: int) -> bool:
    """Whose turn it is."""
    return bool(_bits(place, _TURN))


def picked_in(place: int) -> int:
    """After the pick of a node: its index among those shown last."""
    return _bits(place, _PICKED)


def block_in(place: int) -> int:
    """In TOTALS and BLOCK: the first block in doubt."""
    return _bits(place, _FROM)


def deadline(clock: int, challenger_moves: bool) -> int:
    """Unix seconds before which whoever is to move must have moved."""
    return _bits(clock, _MOVED_AT) + _bits(clock, _LEFT[challenger_moves]) + _bits(clock, _ADDED)
