# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Places of a dispute game
@license GNU Affero General Public License v3.0 only
@notice Level, turn and what is in doubt, in one word; IDisputeGame.vyi has its layout at
        `Position`. What follows from it: how many nodes, totals or accumulators are
        shown, which of them may be picked, and where the pick leads.
"""
from . import errors
from . import exact_merkle
from . import game_trees

# @dev Sides.
ASSERTER: constant(uint256) = 0
CHALLENGER: constant(uint256) = 1

# @dev Levels.
RUN: constant(uint256) = 1
INTERVAL: constant(uint256) = 2
STEP: constant(uint256) = 3
STATE: constant(uint256) = 4
OUTPUT: constant(uint256) = 5
LEAF: constant(uint256) = 6
TOTALS: constant(uint256) = 7
BLOCK: constant(uint256) = 8

# @dev Level and turn where there is one kind of move only, or two of one side.
RUN_ASSERTER: constant(uint256) = 2 * RUN + ASSERTER
INTERVAL_CHALLENGER: constant(uint256) = 2 * INTERVAL + CHALLENGER
STEP_ASSERTER: constant(uint256) = 2 * STEP + ASSERTER
OUTPUT_CHALLENGER: constant(uint256) = 2 * OUTPUT + CHALLENGER
LEAF_ASSERTER: constant(uint256) = 2 * LEAF + ASSERTER
TOTALS_CHALLENGER: constant(uint256) = 2 * TOTALS + CHALLENGER

# @dev Picked if all nodes shown first are as one's own; also said of what is no pick.
NO_NODE: constant(uint256) = 64

# @dev Terms of a block, and of a run that the judge evaluates.
BLOCK_TERMS: constant(uint256) = 512
RUN_TERMS: constant(uint256) = 16

_BLOCK_RUNS: constant(uint256) = 32

# @dev Segments of blocks, one of which is picked, at most.
_MOST_SEGMENTS: constant(uint256) = 64

# @dev Blocks of which all is shown at once, at most.
_WHOLE_BLOCKS: constant(uint256) = 4

_OPCODE_SHIFT: constant(uint256) = 6
_TERMS_SHIFT: constant(uint256) = 11
_HEIGHT_SHIFT: constant(uint256) = 43
_LEVELS_SHIFT: constant(uint256) = 50
_INDEX_SHIFT: constant(uint256) = 53
_LAST_SHIFT: constant(uint256) = 60
_LEAVES_SHIFT: constant(uint256) = 67
_PLACE_SHIFT: constant(uint256) = 131

_ELEMENT_SHIFT: constant(uint256) = 43
_FROM_SHIFT: constant(uint256) = 75
_TO_SHIFT: constant(uint256) = 107
_BEFORE_SHIFT: constant(uint256) = 139
_AFTER_SHIFT: constant(uint256) = 171

_LOW_7: constant(uint256) = 2**7 - 1
_LOW_32: constant(uint256) = 2**32 - 1
_LOW_64: constant(uint256) = 2**64 - 1
# @dev Opcode and terms.
_KEPT: constant(uint256) = (2**37 - 1) << 6


# Of all levels.

@internal
@pure
def _fail():
    errors._fail("game: not this move")


@internal
@pure
def _head(level: uint256, side: uint256) -> uint256:
    return side | (level << 1)


@internal
@pure
def _side(place: uint256) -> uint256:
    return place & 1


@internal
@pure
def _level(place: uint256) -> uint256:
    return (place >> 1) & 15


@internal
@pure
def _opcode(place: uint256) -> uint256:
    return (place >> _OPCODE_SHIFT) & 31


@internal
@pure
def _terms(place: uint256) -> uint256:
    return (place >> _TERMS_SHIFT) & _LOW_32


# Of trees.

@internal
@pure
def _height(place: uint256) -> uint256:
    return (place >> _HEIGHT_SHIFT) & _LOW_7


@internal
@pure
def _levels(place: uint256) -> uint256:
    return (place >> _LEVELS_SHIFT) & 7


@internal
@pure
def _index(place: uint256) -> uint256:
    return (place >> _INDEX_SHIFT) & _LOW_7


@internal
@pure
def _last(place: uint256) -> uint256:
    return (place >> _LAST_SHIFT) & _LOW_7


@internal
@pure
def _leaves(place: uint256) -> uint256:
    return (place >> _LEAVES_SHIFT) & _LOW_64


@internal
@pure
def _number(place: uint256, index: uint256) -> uint256:
    # Of a node shown last among all of its height.
    return ((place >> _PLACE_SHIFT) << self._levels(place)) | index


@internal
@pure
def _picked_number(place: uint256) -> uint256:
    return self._number(place, self._index(place))


@internal
@pure
def _shower(level: uint256) -> uint256:
    # Who shows the first nodes of a level to OUTPUT; those of RUN and STEP the challenger.
    return level & convert(level != OUTPUT, uint256)


@internal
@pure
def _begun(level: uint256, leaves: uint256) -> uint256:
    # A level to OUTPUT of which nothing is shown yet.
    return (
        self._head(level, self._shower(level))
        | (exact_merkle._depth(leaves) << _HEIGHT_SHIFT)
        | (leaves << _LEAVES_SHIFT)
    )


@internal
@pure
def _is_begun(place: uint256) -> bool:
    # Nothing is shown of the level yet, if it is the turn of who shows: else a node was picked,
    # which stands at least one level above those that were shown.
    return self._levels(place) == 0


@internal
@pure
def _shown(place: uint256, height: uint256, levels: uint256, number: uint256) -> uint256:
    # After a show of nodes at `height`, so many levels below node `number`.
    return (
        # In OUTPUT opcode, terms and elements in the last leaf stay.
        (place & (31 | _KEPT | (_LOW_7 << _LAST_SHIFT) | (_LOW_64 << _LEAVES_SHIFT))) ^ 1
        | (height << _HEIGHT_SHIFT)
        | (levels << _LEVELS_SHIFT)
        | (number << _PLACE_SHIFT)
    )


@internal
@pure
def _only_state() -> uint256:
    # STATE of one tensor: there are no nodes, and the challenger has it judged.
    return self._head(STATE, CHALLENGER)


@internal
@pure
def _require_first_show(place: uint256):
    if (
        self._height(place) + self._levels(place) != exact_merkle._depth(self._leaves(place))
    ):
        errors._fail("game: none is for the first show")


@internal
@pure
def _require_leaves(place: uint256):
    # The nodes shown last are leaves.
    if self._height(place) != 0:
        self._fail()


@internal
@pure
def _require_shown(place: uint256, index: uint256):
    # A node among those shown last that holds leaves.
    held: uint256 = game_trees._held(
        self._leaves(place), self._height(place), self._levels(place), place >> _PLACE_SHIFT
    )
    if index >= held:
        errors._fail("game: no such node")


@internal
@pure
def _picked(place: uint256, index: uint256) -> uint256:
    """
    @dev After the pick of a node above leaves, by who does not show the level. Where a leaf
         is picked, another kind of move is the pick, and so it is in OUTPUT.
    """
    level: uint256 = self._level(place)
    if (
        level > STATE
        or self._side(place) == self._shower(level)
        or self._height(place) == 0
    ):
        self._fail()
    self._require_shown(place, index)
    return (place ^ 1) | (index << _INDEX_SHIFT)


@internal
@pure
def _operation(opcode: uint256, terms: uint256, elements: uint256) -> uint256:
    # OUTPUT of which nothing is shown yet; there are elements.
    leaves: uint256 = exact_merkle._leaves(elements)
    return (
        self._begun(OUTPUT, leaves)
        | (opcode << _OPCODE_SHIFT)
        | (terms << _TERMS_SHIFT)
        | ((elements - (leaves - 1) * exact_merkle.LEAF_ELEMENTS) << _LAST_SHIFT)
    )


@internal
@pure
def _leaf(place: uint256, number: uint256) -> uint256:
    # After the pick of a leaf of elements, with which the challenger shows its own.
    return (
        (place & (_KEPT | (_LOW_7 << _LAST_SHIFT) | (_LOW_64 << _LEAVES_SHIFT)))
        | self._head(LEAF, ASSERTER)
        | (number << _PLACE_SHIFT)
    )


@internal
@pure
def _held(place: uint256) -> uint256:
    # In LEAF: of the 64 elements, those that there are.
    if (place >> _PLACE_SHIFT) + 1 == self._leaves(place):
        return self._last(place)
    return exact_merkle.LEAF_ELEMENTS


@internal
@pure
def _element_picked(place: uint256, index: uint256, bits: uint256) -> uint256:
    """
    @dev After the pick of an element of the leaf, of which the asserter says these bits: of a
         reduction of more than 16 terms all blocks are in doubt, and values were shown.
    """
    if index >= self._held(place):
        errors._fail("game: no such element")
    terms: uint256 = self._terms(place)
    level: uint256 = LEAF
    last: uint256 = 0
    if terms > RUN_TERMS:
        last = unsafe_sub(terms, 1) // BLOCK_TERMS
        level = self._level_of(unsafe_add(last, 1))
    return (
        (place & _KEPT)
        | self._head(level, CHALLENGER)
        | ((((place >> _PLACE_SHIFT) << 6) | index) << _ELEMENT_SHIFT)
        | (last << _TO_SHIFT)
        | (bits << _AFTER_SHIFT)
    )


# Of an element.

@internal
@pure
def _level_of(blocks: uint256) -> uint256:
    # At which so many blocks are in doubt.
    return TOTALS if blocks > _WHOLE_BLOCKS else BLOCK


@internal
@pure
def _element(place: uint256) -> uint256:
    return (place >> _ELEMENT_SHIFT) & _LOW_32


@internal
@pure
def _from(place: uint256) -> uint256:
    return (place >> _FROM_SHIFT) & _LOW_32


@internal
@pure
def _before(place: uint256) -> uint256:
    return (place >> _BEFORE_SHIFT) & _LOW_32


@internal
@pure
def _after(place: uint256) -> uint256:
    return (place >> _AFTER_SHIFT) & _LOW_32


@internal
@pure
def _blocks(place: uint256) -> uint256:
    # In doubt.
    return ((place >> _TO_SHIFT) & _LOW_32) + 1 - self._from(place)


@internal
@pure
def _segment(place: uint256) -> uint256:
    # In TOTALS: blocks between two totals that are shown.
    return (self._blocks(place) + _MOST_SEGMENTS - 1) // _MOST_SEGMENTS


@internal
@pure
def _runs(place: uint256) -> uint256:
    # In BLOCK: runs of all blocks in doubt. Only the last run of a reduction has fewer terms.
    begin: uint256 = self._from(place) * BLOCK_TERMS
    end: uint256 = min(begin + self._blocks(place) * BLOCK_TERMS, self._terms(place))
    return (end - begin + RUN_TERMS - 1) // RUN_TERMS


@internal
@pure
def _values_size(place: uint256) -> uint256:
    # Bytes of the values that are shown.
    level: uint256 = self._level(place)
    if level == LEAF:
        return 0
    between: uint256 = self._blocks(place) - 1
    if level == TOTALS:
        return between // self._segment(place) * 4
    return (self._runs(place) + between) * 4


@internal
@pure
def _segment_picked(place: uint256, values: Bytes[524], segment: uint256) -> uint256:
    blocks: uint256 = self._blocks(place)
    size: uint256 = self._segment(place)
    last: uint256 = (blocks - 1) // size
    if segment > last:
        errors._fail("game: no such segment")
    begin: uint256 = self._from(place) + segment * size
    held: uint256 = min(size, blocks - segment * size)
    before: uint256 = self._before(place) if segment == 0 else self._value(values, segment - 1)
    after: uint256 = self._after(place) if segment == last else self._value(values, segment)
    return (
        (place & (_KEPT | (_LOW_32 << _ELEMENT_SHIFT)))
        | self._head(self._level_of(held), ASSERTER)
        | (begin << _FROM_SHIFT)
        | ((begin + held - 1) << _TO_SHIFT)
        | (before << _BEFORE_SHIFT)
        | (after << _AFTER_SHIFT)
    )


@internal
@pure
def _joins(place: uint256, values: Bytes[524], index: uint256) -> (uint256, uint256, uint256):
    # In BLOCK: total before a block, its sum, and the total after it.
    blocks: uint256 = self._blocks(place)
    if index >= blocks:
        errors._fail("game: no such value")
    runs: uint256 = self._runs(place)
    before: uint256 = self._before(place)
    if index != 0:
        before = self._value(values, runs + index - 1)
    after: uint256 = self._after(place)
    if index != blocks - 1:
        after = self._value(values, runs + index)
    return before, self._value(values, min((index + 1) * _BLOCK_RUNS, runs) - 1), after


@internal
@pure
def _value(raw: Bytes[524], index: uint256) -> uint256:
    # Of 4 bytes, little-endian.
    word: uint256 = convert(slice(raw, 4 * index, 4), uint256)
    return (
        ((word & 255) << 24)
        | (((word >> 8) & 255) << 16)
        | (((word >> 16) & 255) << 8)
        | (word >> 24)
    )
