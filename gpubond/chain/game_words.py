# SPDX-License-Identifier: Apache-2.0
"""The packed words of a game's events, as `IDisputeGame.vyi` lays them out: what was picked, and whose clock runs."""

from __future__ import annotations

# Levels of a game by their number in a place: RUN 1, INTERVAL 2, STEP 3, STATE 4, OUTPUT 5, LEAF 6, TOTALS 7, BLOCK 8.
STATE, TOTALS = 4, 7
# The index that picks none of the nodes shown.
NONE = 64

# Bits of a place: where they begin, how many there are.
_TURN, _LEVEL, _PICKED, _ELEMENT, _FROM = (0, 1), (1, 4), (53, 7), (43, 32), (75, 32)
# And of a clock.
_LEFT, _MOVED_AT, _ADDED = ((0, 32), (32, 32)), (64, 40), (104, 32)


def _bits(word: int, part: tuple[int, int]) -> int:
    begin, count = part
    return word >> begin & ((1 << count) - 1)


def challenger_moves(place: int) -> bool:
    """Whose turn it is."""
    return bool(_bits(place, _TURN))


def level_of(place: int) -> int:
    """The level's number."""
    return _bits(place, _LEVEL)


def picked_in(place: int) -> int:
    """Index of the node that was picked among those shown last; 64 is none."""
    return _bits(place, _PICKED)


def element_in(place: int) -> int:
    """In TOTALS and BLOCK: the element in doubt."""
    return _bits(place, _ELEMENT)


def block_in(place: int) -> int:
    """In TOTALS the first block in doubt, in BLOCK the block."""
    return _bits(place, _FROM)


def deadline(clock: int, challenger_moves: bool) -> int:
    """Unix seconds before which whoever is to move must have moved."""
    return _bits(clock, _MOVED_AT) + _bits(clock, _LEFT[challenger_moves]) + _bits(clock, _ADDED)
