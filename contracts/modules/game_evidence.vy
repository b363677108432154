# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Evidence in a dispute game
@license GNU Affero General Public License v3.0 only
@notice That what the challenger shows stands in the step's tree, in the state before it or
        in the data, and has the shape that the record names.
@dev A place follows from the picks alone; the challenger chooses no index.
"""
from ..interfaces import IDisputeGame
from ..interfaces import IJudge
from . import errors
from . import exact_merkle
from . import game_trees

# @dev From bit 0 of `counts`.
_INTERVAL_SHIFT: constant(uint256) = 64
_STATES_SHIFT: constant(uint256) = 128
_DATAS_SHIFT: constant(uint256) = 144
_OPS_SHIFT: constant(uint256) = 160
_LOW_16: constant(uint256) = 2**16 - 1
_LOW_32: constant(uint256) = 2**32 - 1
_LOW_64: constant(uint256) = 2**64 - 1

# @dev Of a record of an operation: bytes before its first input, and of each.
_INPUTS: constant(uint256) = 12
_INPUT_BYTES: constant(uint256) = 24


@internal
@pure
def _counts(run: IDisputeGame.Run) -> uint256:
    # What does not fit no valid program has.
    if max(run.states, max(run.datas, run.ops)) > _LOW_16:
        errors._fail("game: run is not valid")
    if max(run.steps, run.interval) > _LOW_64:
        errors._fail("game: run is not valid")
    if min(min(run.states, run.ops), min(run.steps, run.interval)) == 0:
        errors._fail("game: run is not valid")
    return (
        run.steps
        | (run.interval << _INTERVAL_SHIFT)
        | (run.states << _STATES_SHIFT)
        | (run.datas << _DATAS_SHIFT)
        | (run.ops << _OPS_SHIFT)
    )


@internal
@pure
def _steps(counts: uint256) -> uint256:
    return counts & _LOW_64


@internal
@pure
def _interval(counts: uint256) -> uint256:
    return (counts >> _INTERVAL_SHIFT) & _LOW_64


@internal
@pure
def _states(counts: uint256) -> uint256:
    return (counts >> _STATES_SHIFT) & _LOW_16


@internal
@pure
def _datas(counts: uint256) -> uint256:
    return (counts >> _DATAS_SHIFT) & _LOW_16


@internal
@pure
def _ops(counts: uint256) -> uint256:
    return counts >> _OPS_SHIFT


@internal
@pure
def _checkpoints(counts: uint256) -> uint256:
    interval: uint256 = self._interval(counts)
    return (self._steps(counts) + interval - 1) // interval


@internal
@pure
def _end(counts: uint256, begin: uint256) -> uint256:
    # Of the interval that begins so.
    return min(begin + self._interval(counts), self._steps(counts))


@internal
@pure
def _between(counts: uint256, begin: uint256) -> uint256:
    # States strictly between the two ends of the interval that begins so.
    return self._end(counts, begin) - begin - 1


@internal
@pure
def _require_record(
    counts: uint256,
    program: bytes32,
    number: uint256,
    record: Bytes[128],
    path: DynArray[bytes32, 18],
):
    # The record with this number, counted from the header, is that of the program.
    records: uint256 = 1 + self._states(counts) + self._datas(counts) + self._ops(counts)
    game_trees._require_length(len(path), exact_merkle._depth(records))
    leaf: bytes32 = exact_merkle._leaf(exact_merkle.PROGRAM, record)
    if game_trees._above(exact_merkle.PROGRAM, leaf, number, path) != program:
        errors._fail("game: not the record")


@internal
@pure
def _is_before(
    way: IDisputeGame.Way,
    initial: bytes32,
    state: bytes32,
    path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
) -> bool:
    """
    @dev Whether it is s_t, the state before the step in doubt. At the begin of an interval
         that is the challenger's word, to which the asserter agreed; else the asserter's.
    """
    if way.step == 0:
        return state == initial
    # No call stands among the arguments of one with a path: it would be copied once more.
    interval: uint256 = self._interval(way.counts)
    number: uint256 = way.step % interval
    kind: uint256 = exact_merkle.INTERVAL
    leaves: uint256 = 0
    root: bytes32 = way.interval
    if number == 0:
        kind = exact_merkle.RUN
        leaves = self._checkpoints(way.counts)
        number = way.step // interval
        root = way.run
    else:
        leaves = self._between(way.counts, way.step - number)
    hash: bytes32 = exact_merkle._short_leaf(kind, state)
    return game_trees._holds_hash(kind, leaves, number - 1, hash, path, root)


@internal
@pure
def _is_after(
    way: IDisputeGame.Way,
    hash: bytes32,
    path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
) -> bool:
    """
    @dev Whether it is the hash of the leaf s_{t+1}, the state after the step in doubt, as the
         asserter says. What the leaf is nobody else may know.
    """
    if self._kind_after(way.counts, way.step) == exact_merkle.RUN:
        return len(path) == 0 and hash == way.end
    number: uint256 = way.step % self._interval(way.counts)
    leaves: uint256 = self._between(way.counts, way.step - number)
    return game_trees._holds_hash(
        exact_merkle.INTERVAL, leaves, number, hash, path, way.interval
    )


@internal
@pure
def _kind_after(counts: uint256, step: uint256) -> uint256:
    # Of the tree that the state after a step is a leaf of.
    if (step + 1) % self._interval(counts) == 0 or step + 1 == self._steps(counts):
        return exact_merkle.RUN
    return exact_merkle.INTERVAL


@internal
@pure
def _require_tensor(
    way: IDisputeGame.Way,
    data: bytes32,
    state: bytes32,
    tensor: uint256,
    commitment: bytes32,
    path: DynArray[bytes32, 16],
):
    """
    @dev The commitment is that of a tensor of the step in doubt; `state` must be shown to be
         the state if it is one of the state.
    """
    states: uint256 = self._states(way.counts)
    datas: uint256 = self._datas(way.counts)
    kind: uint256 = exact_merkle.STATE
    leaves: uint256 = states
    number: uint256 = tensor
    root: bytes32 = state
    if tensor >= states + datas:
        kind = exact_merkle.STEP
        leaves = self._ops(way.counts)
        number = tensor - states - datas
        root = way.outputs
    elif tensor >= states:
        kind = exact_merkle.DATA
        leaves = datas
        number = tensor - states
        root = data
    leaf: bytes32 = exact_merkle._short_leaf(kind, commitment)
    if not game_trees._holds_hash(kind, leaves, number, leaf, path, root):
        errors._fail("game: not the tensor")


@internal
@pure
def _operand(
    way: IDisputeGame.Way,
    data: bytes32,
    record: Bytes[128],
    input: uint256,
    state: bytes32,
    source: IDisputeGame.Source,
) -> (IJudge.Operand, bool):
    """
    @dev An input of the operation in doubt as the judge takes it: what its record says.
         That its leaves stand under its root, the judge finds. Also whether it is a tensor
         of the state, which must have been shown to be the state then.
    """
    operand: IJudge.Operand = empty(IJudge.Operand)
    if source.leaves == 0:
        return operand, False
    states: uint256 = self._states(way.counts)
    datas: uint256 = self._datas(way.counts)
    word: uint256 = convert(extract32(record, _INPUTS + _INPUT_BYTES * input), uint256) >> 64
    tensor: uint256 = word >> 160
    shape: uint256 = word & ((1 << 160) - 1)
    slices: uint256 = source.slices
    operand.root = source.root
    operand.elements = game_trees._elements(shape)
    operand.leaves = source.leaves
    if tensor >= states and tensor < states + datas:
        # The whole tensor has one dimension more, the first.
        if shape >> 128 > 3 or slices > _LOW_32:
            errors._fail("game: no such data")
        operand.offset = way.step % slices * operand.elements
        operand.elements *= slices
        shape = (
            (((shape >> 128) + 1) << 128) | (slices << 96) | ((shape & (2**128 - 1)) >> 32)
        )
    elif slices != 0:
        errors._fail("game: no data tensor")
    elif tensor >= states + datas + way.operation:
        errors._fail("game: no such tensor")
    commitment: bytes32 = game_trees._commitment(shape, source.root)
    self._require_tensor(way, data, state, tensor, commitment, source.path)
    return operand, tensor < states
