# pragma version ~=0.4.3
# SPDX-License-Identifier: Apache-2.0
"""
@title Commitments and records of exact programs, callable
@license Apache-2.0
@notice For tests and benchmarks only: exposes `modules/exact_merkle.vy` and
        `modules/exact_records.vy`.
"""
from contracts.modules import exact_merkle
from contracts.modules import exact_records

_MOST: constant(uint256) = 512


@external
@pure
def leaf(kind: uint256, content: Bytes[exact_merkle.LEAF_BYTES]) -> bytes32:
    """
    @notice The hash of a leaf.
    @param kind The tree's.
    @param content The leaf.
    @return Its hash.
    """
    return exact_merkle._leaf(kind, content)


@external
@pure
def short_leaf(kind: uint256, content: bytes32) -> bytes32:
    """
    @notice The hash of a leaf that is a commitment.
    @param kind The tree's.
    @param content The leaf.
    @return Its hash.
    """
    return exact_merkle._short_leaf(kind, content)


@external
@pure
def node(kind: uint256, left: bytes32, right: bytes32) -> bytes32:
    """
    @notice The hash of a node.
    @param kind The tree's.
    @param left What stands below.
    @param right What stands below.
    @return Its hash.
    """
    return exact_merkle._node(kind, left, right)


@external
@pure
def zero(kind: uint256, height: uint256) -> bytes32:
    """
    @notice The hash of a subtree without leaves.
    @param kind The tree's.
    @param height Its levels.
    @return Its hash.
    """
    return exact_merkle._zero(kind, height)


@external
@pure
def depth(count: uint256) -> uint256:
    """
    @notice The depth of a tree.
    @param count Its leaves.
    @return Levels.
    """
    return exact_merkle._depth(count)


@external
@pure
def root(
    kind: uint256,
    count: uint256,
    index: uint256,
    hash: bytes32,
    path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
) -> bytes32:
    """
    @notice The root that a path opens.
    @param kind The tree's.
    @param count Its leaves.
    @param index The leaf's place.
    @param hash The leaf's hash.
    @param path From below.
    @return The root.
    """
    return exact_merkle._root(kind, count, index, hash, self._packed(path))


@external
@view
def root_gas(
    kind: uint256,
    count: uint256,
    index: uint256,
    hash: bytes32,
    path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
) -> uint256:
    """
    @notice What the same takes, without reading the arguments.
    @param kind The tree's.
    @param count Its leaves.
    @param index The leaf's place.
    @param hash The leaf's hash.
    @param path From below.
    @return Gas.
    """
    packed: Bytes[32 * exact_merkle.MAX_DEPTH] = self._packed(path)
    before: uint256 = msg.gas
    found: bytes32 = exact_merkle._root(kind, count, index, hash, packed)
    return before - msg.gas


@external
@pure
def parent(
    kind: uint256,
    count: uint256,
    height: uint256,
    levels: uint256,
    index: uint256,
    children: DynArray[bytes32, exact_merkle.MAX_CHILDREN],
) -> bytes32:
    """
    @notice A node from what stands some levels below it.
    @param kind The tree's.
    @param count Its leaves.
    @param height Of the children.
    @param levels How far the node is above them.
    @param index The node's place.
    @param children Those that hold leaves.
    @return The node.
    """
    return exact_merkle._parent(kind, count, height, levels, index, children)


@external
@pure
def element(
    elements: uint256, index: uint256, content: Bytes[exact_merkle.LEAF_BYTES], at: uint256
) -> uint256:
    """
    @notice An element of a leaf whose padding holds.
    @param elements Of the tensor.
    @param index The leaf's place.
    @param content The leaf.
    @param at Which of its 64.
    @return The element's bits.
    """
    exact_merkle._check_padding(elements, index, content)
    return exact_merkle._bits(content, at)


@external
@pure
def tensor(rank: uint256, dimensions: uint256[4], elements_root: bytes32) -> bytes32:
    """
    @notice The commitment of a tensor.
    @param rank Its dimensions' number.
    @param dimensions Zero beyond the rank.
    @param elements_root Of the tree of its elements.
    @return The commitment.
    """
    return exact_merkle._tensor(rank, dimensions, elements_root)


@external
@pure
def statement(
    states: uint256,
    datas: uint256,
    ops: uint256,
    steps: uint256,
    interval: uint256,
    program: bytes32,
    initial: bytes32,
    data: bytes32,
) -> bytes32:
    """
    @notice The statement of a run.
    @param states State tensors.
    @param datas Data tensors.
    @param ops Operations.
    @param steps Of the run.
    @param interval Steps between checkpoints.
    @param program Its root.
    @param initial Commitment of the initial state.
    @param data Commitment of the data.
    @return The statement.
    """
    return exact_merkle._statement(
        states, datas, ops, steps, interval, program, initial, data
    )


@external
@pure
def parse(record: Bytes[exact_records.RECORD_BYTES]) -> DynArray[uint256, 64]:
    """
    @notice What a record says.
    @param record The record.
    @return 1 or 0 for valid or not; opcode; inputs; of each tensor, rank and dimensions;
            rank and dimensions of the output; five parameters.
    """
    valid: bool = False
    op: exact_records.Record = empty(exact_records.Record)
    valid, op = exact_records._parse(record)
    found: DynArray[uint256, 64] = [convert(valid, uint256), op.opcode, op.inputs]
    for at: uint256 in range(3):
        found.append(op.tensors[at])
        for place: uint256 in range(5):
            found.append(self._word(op.shapes[at], place))
    for place: uint256 in range(5):
        found.append(self._word(op.output, place))
    for at: uint256 in range(5):
        found.append(exact_records._parameter(op, at))
    return found


@external
@view
def verdicts(records: DynArray[Bytes[exact_records.RECORD_BYTES], _MOST]) -> DynArray[uint256, _MOST]:
    """
    @notice Which records are valid.
    @param records Many.
    @return Of each 1 or 0 in the lowest bit, and above it the gas.
    """
    found: DynArray[uint256, _MOST] = []
    for record: Bytes[exact_records.RECORD_BYTES] in records:
        valid: bool = False
        op: exact_records.Record = empty(exact_records.Record)
        before: uint256 = msg.gas
        valid, op = exact_records._parse(record)
        found.append(convert(valid, uint256) | ((before - msg.gas) << 1))
    return found


@external
@pure
def tensors(
    records: DynArray[Bytes[exact_records.RECORD_BYTES], _MOST]
) -> DynArray[uint256, 14 * _MOST]:
    """
    @notice What records of tensors say.
    @param records Many.
    @return Of each, as one of the state: 1 or 0 for valid or not, rank, dimensions, and
            the tensor that it becomes; as one of the data: 1 or 0, rank, dimensions.
    """
    found: DynArray[uint256, 14 * _MOST] = []
    for record: Bytes[exact_records.RECORD_BYTES] in records:
        valid: bool = False
        shape: uint256 = 0
        next: uint256 = 0
        valid, shape, next = exact_records._parse_state(record)
        found.append(convert(valid, uint256))
        for place: uint256 in range(5):
            found.append(self._word(shape, place))
        found.append(next)
        valid, shape = exact_records._parse_data(record)
        found.append(convert(valid, uint256))
        for place: uint256 in range(5):
            found.append(self._word(shape, place))
    return found


@internal
@pure
def _word(shape: uint256, place: uint256) -> uint256:
    # Rank and dimensions.
    return (shape >> (128 - 32 * place)) & (2**32 - 1)


@internal
@pure
def _packed(path: DynArray[bytes32, exact_merkle.MAX_DEPTH]) -> Bytes[32 * exact_merkle.MAX_DEPTH]:
    encoded: Bytes[64 + 32 * exact_merkle.MAX_DEPTH] = abi_encode(path)
    return abi_decode(
        concat(
            convert(32, bytes32),
            convert(32 * len(path), bytes32),
            slice(encoded, 64, 32 * len(path)),
        ),
        Bytes[32 * exact_merkle.MAX_DEPTH],
    )
