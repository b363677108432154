# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title The examiner of evidence in dispute games
@license GNU Affero General Public License v3.0 only
@author GpuBond
@notice Finds that what a challenger shows at the end of a dispute game stands where the picks
        lead: the record in the program, the operands in the step's tree, in the state before
        it or in the data. The judge evaluates what is found so.
@dev A part of DisputeGame, which alone would be larger than a contract may be. It holds
     nothing, owns nothing, and knows nobody: whoever asks gets the same answer.
     How it is stopped: it cannot be, since it does nothing by itself.
"""
from .interfaces import IDisputeGame
from .interfaces import IExaminer
from .interfaces import IJudge
from .modules import errors
from .modules import exact_merkle
from .modules import exact_records
from .modules import game_clocks
from .modules import game_evidence
from .modules import game_places
from .modules import game_trees

implements: IExaminer

# @dev What evaluates.
JUDGE: public(immutable(IJudge))

_MAX_EVIDENCE: constant(uint256) = 9_088


@deploy
def __init__(judge: address):
    """
    @param judge The Judge.
    """
    if not judge.is_contract:
        errors._fail("game: judge is no contract")
    JUDGE = IJudge(judge)


@external
@view
def operation(
    counts: uint256,
    program: bytes32,
    number: uint256,
    record: Bytes[128],
    path: DynArray[bytes32, 18],
) -> IExaminer.Picked:
    """
    @notice What follows from the pick of an operation. Refuses a record that is not the
            program's.
    @param counts As in IDisputeGame.Way.
    @param program The root of the program's tree.
    @param number Of the operation, from 0.
    @param record Its 128 bytes.
    @param path Siblings in the program's tree, from below.
    @return Whether the record is valid, its output's shape, and the place that follows.
    """
    place: uint256 = (
        1 + game_evidence._states(counts) + game_evidence._datas(counts) + number
    )
    game_evidence._require_record(counts, program, place, record, path)
    picked: IExaminer.Picked = empty(IExaminer.Picked)
    what: exact_records.Record = empty(exact_records.Record)
    picked.is_valid, what = exact_records._parse(record)
    if not picked.is_valid:
        return picked
    picked.shape = what.output
    elements: uint256 = exact_records._elements(what.output)
    if elements != 0:
        terms: uint256 = 0
        if what.opcode >= exact_records.MATMUL_NT and what.opcode <= exact_records.ROWMAX:
            input: uint256 = what.shapes[0]
            terms = exact_records._dimension(input, exact_records._rank(input) - 1)
        picked.place = game_places._operation(what.opcode, terms, elements)
    return picked


@external
@view
def terms(run: IDisputeGame.Run, answer: uint256) -> (bytes32, uint256):
    """
    @notice The exact terms of a job, from what they are the hash of.
    @param run What the statement is the hash of.
    @param answer Seconds that an answer may take.
    @return The terms' hash, and the counts as in IDisputeGame.Way.
    """
    counts: uint256 = game_evidence._counts(run)
    statement: bytes32 = exact_merkle._statement(
        run.states,
        run.datas,
        run.ops,
        run.steps,
        run.interval,
        run.program,
        run.initial,
        run.data,
    )
    return (
        sha256(concat(b"\x82", statement, convert(convert(answer, uint64), bytes8))),
        counts,
    )


@external
@view
def is_right(
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
    node: bytes32,
    place: uint256,
    values: Bytes[524],
    index: uint256,
    evidence: Bytes[_MAX_EVIDENCE],
) -> bool:
    """
    @notice Whether what the challenger says to be wrong follows from what it shows all the same.
    @param way What the picks have fixed.
    @param origin What is fixed since the game opened.
    @param node In STATE the one over the nodes shown last.
    @param place After the last pick of LEAF, or the last show of BLOCK or STATE.
    @param values In BLOCK as they were shown.
    @param index In BLOCK of the value: the runs' accumulators, then the totals. In STATE of the
           tensor among the nodes shown last; 0 if it is the only one. In LEAF 0.
    @param evidence An abi-encoded IDisputeGame.Evidence; in STATE IDisputeGame.Next; empty for
           a total.
    @return Whether it does.
    """
    level: uint256 = game_places._level(place)
    if game_places._side(place) != game_places.CHALLENGER:
        game_places._fail()
    if level == game_places.STATE:
        next: IDisputeGame.Next = abi_decode(evidence, IDisputeGame.Next)
        return self._is_next(way, origin, node, place, index, next)
    begin: uint256 = 0
    end: uint256 = game_places._terms(place)
    before: uint256 = 0
    claimed: uint256 = 0
    if level == game_places.LEAF:
        if index != 0:
            errors._fail("game: no such value")
        claimed = game_places._after(place)
    elif level == game_places.BLOCK:
        runs: uint256 = game_places._runs(place)
        if index >= runs:
            if len(evidence) != 0:
                errors._fail("game: nothing is to be shown")
            return self._is_join(place, values, index - runs)
        # The judge takes the identity at a block's start.
        if index != 0:
            before = game_places._value(values, index - 1)
        claimed = game_places._value(values, index)
        begin = (
            game_places._from(place) * game_places.BLOCK_TERMS
            + index * game_places.RUN_TERMS
        )
        end = min(begin + game_places.RUN_TERMS, end)
    else:
        game_places._fail()

    shown: IDisputeGame.Evidence = abi_decode(evidence, IDisputeGame.Evidence)
    if keccak256(shown.record) != way.record:
        errors._fail("game: not the record")
    operands: DynArray[IJudge.Operand, 3] = []
    reads_state: bool = False
    for input: uint256 in range(len(shown.sources), bound=3):
        operand: IJudge.Operand = empty(IJudge.Operand)
        is_state: bool = False
        operand, is_state = game_evidence._operand(
            way, origin.data, shown.record, input, shown.state, shown.sources[input]
        )
        operands.append(operand)
        reads_state = reads_state or is_state
    if reads_state:
        if not game_evidence._is_before(
            way, origin.initial, shown.state, shown.state_path
        ):
            errors._fail("game: not the state")
    element: uint256 = game_places._element(place)
    return claimed == staticcall JUDGE.evaluate(
        shown.record,
        way.step,
        way.operation,
        element,
        begin,
        end,
        before,
        operands,
        shown.leaves,
    )


@external
@view
def segment(place: uint256, values: Bytes[524], segment: uint256) -> uint256:
    """
    @notice Where the pick of a segment of blocks leads.
    @param place In TOTALS.
    @param values As they were shown.
    @param segment From 0.
    @return The place.
    """
    return game_places._segment_picked(place, values, segment)


@external
@view
def is_next_state(
    way: IDisputeGame.Way,
    state: bytes32,
    path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
) -> bool:
    """
    @notice Whether something is the state after the step in doubt, as the asserter says.
    @param way What the picks have fixed.
    @param state Its commitment.
    @param path Siblings of its leaf's hash in the interval's tree, from below; none at the
           interval's end.
    @return Whether it is.
    """
    hash: bytes32 = exact_merkle._short_leaf(
        game_evidence._kind_after(way.counts, way.step), state
    )
    return game_evidence._is_after(way, hash, path)


@external
@view
def is_padded(leaf: Bytes[exact_merkle.LEAF_BYTES], held: uint256) -> bool:
    """
    @notice Whether a leaf of elements is zero beyond them.
    @param leaf Its 256 bytes.
    @param held Elements that it has.
    @return Whether it is.
    """
    for at: uint256 in range(exact_merkle.LEAF_BYTES // 32):
        # Bytes of this word that belong to elements fall away.
        own: uint256 = min(max(held * 4, 32 * at) - 32 * at, 32)
        if convert(extract32(leaf, 32 * at), uint256) << (8 * own) != 0:
            return False
    return True


@external
@view
def game_of(position: IDisputeGame.Position) -> IDisputeGame.Game:
    """
    @notice A position in words for people.
    @param position Of a game. DisputeGame.position says whether the game is there.
    @return Level, turn and clocks.
    """
    side: uint256 = game_places._side(position.place)
    return IDisputeGame.Game(
        level=game_places._level(position.place),
        asserter_moves=side == game_places.ASSERTER,
        deadline=game_clocks._deadline(position.clock, side),
        asserter_left=game_clocks._left(position.clock, game_places.ASSERTER),
        challenger_left=game_clocks._left(position.clock, game_places.CHALLENGER),
        moves=game_clocks._moves(position.clock),
    )


@internal
@view
def _is_join(place: uint256, values: Bytes[524], index: uint256) -> bool:
    # Whether the total that was shown after a block is what its sum gives.
    before: uint256 = 0
    right: uint256 = 0
    after: uint256 = 0
    before, right, after = game_places._joins(place, values, index)
    # Before block 0 there is no total.
    if game_places._from(place) + index != 0:
        right = staticcall JUDGE.join(game_places._opcode(place), before, right)
    return right == after


@internal
@view
def _is_next(
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
    node: bytes32,
    place: uint256,
    index: uint256,
    shown: IDisputeGame.Next,
) -> bool:
    # Whether a tensor of the state after the step in doubt is the one that its record names.
    game_places._require_leaves(place)
    right: bytes32 = exact_merkle._short_leaf(exact_merkle.STATE, shown.source)
    number: uint256 = 0
    if game_evidence._states(way.counts) == 1:
        if index != 0:
            errors._fail("game: no such node")
        # The leaf is the state.
        if not game_evidence._is_after(way, shown.shown, shown.shown_path):
            errors._fail("game: not the state")
        right = exact_merkle._short_leaf(
            game_evidence._kind_after(way.counts, way.step), right
        )
    else:
        game_places._require_shown(place, index)
        number = game_places._number(place, index)
        game_trees._require_length(len(shown.shown_path), game_places._levels(place))
        if (
            game_trees._above(exact_merkle.STATE, shown.shown, index, shown.shown_path)
            != node
        ):
            errors._fail("game: not under the node")

    game_evidence._require_record(
        way.counts, origin.program, 1 + number, shown.record, shown.record_path
    )
    valid: bool = False
    shape: uint256 = 0
    tensor: uint256 = 0
    valid, shape, tensor = exact_records._parse_state(shown.record)
    if not valid:
        errors._fail("game: record is not valid")
    states: uint256 = game_evidence._states(way.counts)
    if tensor < states:
        if not game_evidence._is_before(
            way, origin.initial, shown.state, shown.state_path
        ):
            errors._fail("game: not the state")
    elif tensor < states + game_evidence._datas(way.counts):
        # A slice of the data has no commitment.
        errors._fail("game: record is not valid")
    game_evidence._require_tensor(
        way, origin.data, shown.state, tensor, shown.source, shown.source_path
    )
    return right == shown.shown
