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
from .modules import exact_merkle
from .modules import exact_records
from .modules import game_evidence
from .modules import game_trees

implements: IExaminer

# @dev What evaluates.
JUDGE: public(immutable(IJudge))

_MAX_EVIDENCE: constant(uint256) = 12_288


@deploy
def __init__(judge: address):
    """
    @param judge The Judge.
    """
    assert judge.is_contract, "game: judge is no contract"
    JUDGE = IJudge(judge)


@external
@view
def operation(
    counts: uint256,
    program: bytes32,
    operation: uint256,
    record: Bytes[128],
    path: DynArray[bytes32, 18],
) -> IExaminer.Picked:
    """
    @notice What the record of an operation says. Refuses one that is not valid, or is not
            the program's.
    @param counts As in IDisputeGame.Way.
    @param program The root of the program's tree.
    @param operation The operation's number in the program.
    @param record Its 128 bytes.
    @param path Siblings in the program's tree, from below.
    @return Its output's shape and elements, opcode and terms.
    """
    game_evidence._require_record(
        counts,
        program,
        1 + game_evidence._states(counts) + game_evidence._datas(counts) + operation,
        record,
        path,
    )
    found: IJudge.Operation = staticcall JUDGE.operation(record)
    shape: uint256 = (
        (found.output.rank << 128)
        | (found.output.dimensions[0] << 96)
        | (found.output.dimensions[1] << 64)
        | (found.output.dimensions[2] << 32)
        | found.output.dimensions[3]
    )
    terms: uint256 = 0
    if found.opcode >= exact_records.MATMUL_NT and found.opcode <= exact_records.ROWMAX:
        terms = found.shapes[0].dimensions[found.shapes[0].rank - 1]
    return IExaminer.Picked(
        shape=shape,
        elements=game_trees._elements(shape),
        opcode=found.opcode,
        terms=terms,
    )


@external
@view
def evaluate(
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
    element: uint256,
    begin: uint256,
    end: uint256,
    accumulator: uint256,
    evidence: Bytes[_MAX_EVIDENCE],
) -> uint256:
    """
    @notice One element of the operation in doubt, or some terms of a reduction, by operands
            that are found to be its own.
    @param way What the picks have fixed.
    @param origin What is fixed since the game opened.
    @param element Its number in the output.
    @param begin The first term of a reduction.
    @param end Behind the last.
    @param accumulator Before the first.
    @param evidence An abi-encoded IDisputeGame.Evidence.
    @return The bits.
    """
    shown: IDisputeGame.Evidence = abi_decode(evidence, IDisputeGame.Evidence)
    game_evidence._check(way, origin, shown)
    return staticcall JUDGE.evaluate(
        shown.record,
        way.step,
        way.operation,
        element,
        begin,
        end,
        accumulator,
        shown.operands,
    )


@external
@view
def is_next(
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
    node: bytes32,
    levels: uint256,
    number: uint256,
    evidence: Bytes[_MAX_EVIDENCE],
) -> bool:
    """
    @notice Whether a tensor of the state after the step in doubt is the one that its record
            names.
    @param way What the picks have fixed.
    @param origin What is fixed since the game opened.
    @param node The node over the tensor; not looked at if the state is one tensor.
    @param levels So many above it.
    @param number The tensor's.
    @param evidence An abi-encoded IDisputeGame.Next.
    @return Whether it is.
    """
    shown: IDisputeGame.Next = abi_decode(evidence, IDisputeGame.Next)
    states: uint256 = game_evidence._states(way.counts)
    right: bytes32 = exact_merkle._short_leaf(exact_merkle.STATE, shown.source)
    if states == 1:
        # The leaf is the state.
        assert game_evidence._is_state_hash(
            way, way.step + 1, shown.shown, shown.shown_path
        ), "game: not the state"
        right = exact_merkle._short_leaf(
            game_evidence._state_kind(way.counts, way.step + 1), right
        )
    else:
        assert len(shown.shown_path) == levels, "game: path has another length"
        index: uint256 = number & ((1 << levels) - 1)
        assert (
            game_trees._above(exact_merkle.STATE, shown.shown, index, shown.shown_path)
            == node
        ), "game: not under the node"

    game_evidence._require_record(
        way.counts, origin.program, 1 + number, shown.record, shown.record_path
    )
    valid: bool = False
    shape: exact_records.Shape = empty(exact_records.Shape)
    tensor: uint256 = 0
    valid, shape, tensor = exact_records._parse_state(shown.record)
    assert valid, "game: record is not valid"
    if tensor < states:
        assert game_evidence._is_state(
            way, origin.initial, way.step, shown.state, shown.state_path
        ), "game: not the state"
    else:
        # A slice of the data has no commitment.
        assert (
            tensor >= states + game_evidence._datas(way.counts)
        ), "game: record is not valid"
    game_evidence._require_tensor(
        way, origin.data, shown.state, tensor, shown.source, shown.source_path
    )
    return right == shown.shown


@external
@view
def is_state(
    way: IDisputeGame.Way,
    initial: bytes32,
    step: uint256,
    state: bytes32,
    path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
) -> bool:
    """
    @notice Whether something is the state before the step in doubt, or after it.
    @param way What the picks have fixed.
    @param initial The initial state.
    @param step How many steps lead to the state.
    @param state Its commitment.
    @param path Siblings in tree 5 or 6, from below.
    @return Whether it is.
    """
    return game_evidence._is_state(way, initial, step, state, path)
