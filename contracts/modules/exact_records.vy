# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Records of exact programs
@license GNU Affero General Public License v3.0 only
@notice Reads a record of 128 bytes, of an operation or a tensor, and says whether it is
        valid by itself, by the tables of docs/exact.md, section 3: what
        gpubond/exact/program.py is in Python. No record makes it revert.
"""

# @dev A shape is one number of 160 bits, as it stands in a record: rank and four
#      dimensions, 32 bits each, the rank highest; dimensions beyond the rank are zero.

struct Record:
    opcode: uint256
    # How many there are; what is beyond is zero.
    inputs: uint256
    tensors: uint256[3]
    shapes: uint256[3]
    output: uint256
    # As in the record: five of 32 bits, and as many zeros.
    parameters: uint256


CONST: constant(uint256) = 1
UNIFORM: constant(uint256) = 2
VIEW: constant(uint256) = 3
CONCAT: constant(uint256) = 4
GATHER: constant(uint256) = 5
MATMUL_NT: constant(uint256) = 6
SUM: constant(uint256) = 7
ROWMAX: constant(uint256) = 8
ADD: constant(uint256) = 9
SUB: constant(uint256) = 10
MUL: constant(uint256) = 11
DIV: constant(uint256) = 12
MAX: constant(uint256) = 13
GT: constant(uint256) = 14
FMA: constant(uint256) = 15
SELECT: constant(uint256) = 16
SQRT: constant(uint256) = 17
NEG: constant(uint256) = 18
EXP: constant(uint256) = 19
LOG: constant(uint256) = 20
BF16: constant(uint256) = 21

RECORD_BYTES: constant(uint256) = 128
MAX_RANK: constant(uint256) = 4

# @dev Of a dimension, and of the product of all that are not 0.
MOST: constant(uint256) = 2**31 - 1

# @dev Of word 0.
_STATE: constant(uint256) = 2
_DATA: constant(uint256) = 3
_OPERATION: constant(uint256) = 4

_WORD: constant(uint256) = (1 << 32) - 1
_SHAPE: constant(uint256) = (1 << 160) - 1
_INFINITY: constant(uint256) = 255 << 23
_MAGNITUDE: constant(uint256) = (1 << 31) - 1
_NAN: constant(uint256) = 511 << 22

# @dev The highest bit of each dimension, and the lowest.
_HIGHEST: constant(uint256) = (1 << 127) | (1 << 95) | (1 << 63) | (1 << 31)
_LOWEST: constant(uint256) = (1 << 96) | (1 << 64) | (1 << 32) | 1

# @dev Nibble i is the number of inputs, and of parameters, of opcode i.
_INPUTS: constant(bytes32) = 0x0000000000000000000000000000000000000000001111133222222112221000
_PARAMETER_COUNTS: constant(bytes32) = 0x0000000000000000000000000000000000000000000000000000000000015210


@internal
@pure
def _parse(record: Bytes[RECORD_BYTES]) -> (bool, Record):
    """
    @dev Whether an operation's record is valid, and what it says; if it is not valid,
         nothing is meant by the rest.
    """
    found: Record = empty(Record)
    if len(record) != RECORD_BYTES:
        return False, found
    # Words 0, 1 and 2.
    head: uint256 = convert(extract32(record, 0), uint256) >> 160
    found.opcode = (head >> 32) & _WORD
    if head >> 64 != _OPERATION or found.opcode == 0 or found.opcode > BF16:
        return False, found
    found.inputs = (convert(_INPUTS, uint256) >> (found.opcode << 2)) & 15
    if head & _WORD != found.inputs:
        return False, found

    # Words 24 to 31, less two.
    count: uint256 = (convert(_PARAMETER_COUNTS, uint256) >> (found.opcode << 2)) & 15
    found.parameters = convert(extract32(record, 96), uint256) & ((1 << 192) - 1)
    if found.parameters << unsafe_add(64, count << 5) != 0:
        return False, found
    # Words 21 to 25.
    found.output = convert(extract32(record, 84), uint256) >> 96
    if not self._possible(found.output):
        return False, found
    # Six words for each input, from word 3 on.
    for at: uint256 in range(3):
        input: uint256 = convert(extract32(record, unsafe_add(12, unsafe_mul(24, at))), uint256) >> 64
        if at < found.inputs:
            found.tensors[at] = input >> 160
            found.shapes[at] = input & _SHAPE
            if not self._possible(found.shapes[at]):
                return False, found
        elif input != 0:
            return False, found
    return self._fits(found), found


@internal
@pure
def _parse_state(record: Bytes[RECORD_BYTES]) -> (bool, uint256, uint256):
    # Whether a state tensor's record is valid, its shape, and the tensor that it becomes.
    valid: bool = False
    shape: uint256 = 0
    next: uint256 = 0
    valid, shape, next = self._parse_tensor(record, _STATE)
    return valid, shape, next


@internal
@pure
def _parse_data(record: Bytes[RECORD_BYTES]) -> (bool, uint256):
    # Whether a data tensor's record is valid, and its shape, whose first dimension
    # counts the slices.
    valid: bool = False
    shape: uint256 = 0
    next: uint256 = 0
    valid, shape, next = self._parse_tensor(record, _DATA)
    return valid and next == 0 and self._dimension(shape, 0) != 0, shape


@internal
@pure
def _parse_tensor(record: Bytes[RECORD_BYTES], kind: uint256) -> (bool, uint256, uint256):
    # Whether a record of this kind is valid but for word 6; the shape, and word 6.
    if len(record) != RECORD_BYTES:
        return False, 0, 0
    head: uint256 = convert(extract32(record, 0), uint256)
    shape: uint256 = (head >> 64) & _SHAPE
    beyond: uint256 = (
        (head & _WORD)
        | convert(extract32(record, 32), uint256)
        | convert(extract32(record, 64), uint256)
        | convert(extract32(record, 96), uint256)
    )
    return head >> 224 == kind and beyond == 0 and self._possible(shape), shape, (head >> 32) & _WORD


@internal
@pure
def _rank(shape: uint256) -> uint256:
    return shape >> 128


@internal
@pure
def _dimension(shape: uint256, at: uint256) -> uint256:
    # Of four; `at` is below 4.
    return (shape >> unsafe_sub(96, at << 5)) & _WORD


@internal
@pure
def _elements(shape: uint256) -> uint256:
    # Of a tensor; below 2**31.
    # Dimensions beyond the rank are 1 for this.
    filled: uint256 = shape | (_LOWEST & self._beyond(shape >> 128))
    return unsafe_mul(
        unsafe_mul((filled >> 96) & _WORD, (filled >> 64) & _WORD),
        unsafe_mul((filled >> 32) & _WORD, filled & _WORD),
    )


@internal
@pure
def _parameter(op: Record, at: uint256) -> uint256:
    # Of five; `at` is below 5.
    return (op.parameters >> unsafe_sub(160, at << 5)) & _WORD


@internal
@pure
def _beyond(rank: uint256) -> uint256:
    # All bits of the dimensions beyond a rank that is at most 4.
    return max_value(uint256) >> unsafe_add(128, rank << 5)


@internal
@pure
def _possible(shape: uint256) -> bool:
    # A tensor may have this shape.
    if shape >> 128 > MAX_RANK:
        return False
    if shape & (_HIGHEST | self._beyond(shape >> 128)) != 0:
        return False
    # Four of at most 31 bits.
    return (
        unsafe_mul(
            unsafe_mul(max((shape >> 96) & _WORD, 1), max((shape >> 64) & _WORD, 1)),
            unsafe_mul(max((shape >> 32) & _WORD, 1), max(shape & _WORD, 1)),
        )
        <= MOST
    )


@internal
@pure
def _fits(op: Record) -> bool:
    """
    @dev The table: shapes and parameters of a record that has the right counts, and
         shapes that tensors may have.
    """
    left: uint256 = op.shapes[0]
    right: uint256 = op.shapes[1]
    if op.opcode >= ADD:
        for at: uint256 in range(1, op.inputs, bound=2):
            if op.shapes[at] != left:
                return False
        return op.output == left

    if op.opcode == CONST:
        bits: uint256 = self._parameter(op, 0)
        return (bits & _MAGNITUDE) <= _INFINITY or bits == _NAN

    if op.opcode == UNIFORM:
        return True

    if op.opcode == VIEW:
        return self._view_fits(op)

    # Where the dimension in question stands; a sum of two dimensions has 32 bits.
    rank: uint256 = left >> 128
    wanted: uint256 = left
    if op.opcode == CONCAT:
        axis: uint256 = self._parameter(op, 0)
        if axis >= rank:
            return False
        place: uint256 = unsafe_sub(96, axis << 5)
        if (left ^ right) & ~(_WORD << place) != 0:
            return False
        wanted = unsafe_add(left, right & (_WORD << place))
    elif op.opcode == GATHER:
        places: uint256 = right >> 128
        if rank != 2 or places > MAX_RANK - 1:
            return False
        width: uint256 = self._dimension(left, 1) << unsafe_sub(96, places << 5)
        wanted = unsafe_add(right, 1 << 128) | width
    elif op.opcode == MATMUL_NT:
        if rank < 2:
            return False
        # Of the last dimension.
        place: uint256 = unsafe_sub(128, rank << 5)
        if (left ^ right) & ~(_WORD << (place + 32)) != 0:
            return False
        wanted = (left & ~(_WORD << place)) | ((right >> 32) & (_WORD << place))
    else:
        # SUM and ROWMAX.
        if rank == 0:
            return False
        wanted = unsafe_sub(left & ~(_WORD << unsafe_sub(128, rank << 5)), 1 << 128)
    return wanted == op.output


@internal
@pure
def _view_fits(op: Record) -> bool:
    rank: uint256 = op.output >> 128
    # Strides beyond the rank; word 31 is zero.
    if op.parameters << unsafe_add(96, rank << 5) != 0:
        return False
    last: uint256 = self._parameter(op, 0)
    for at: uint256 in range(rank, bound=MAX_RANK):
        # A dimension of 0 makes no difference: then there are no elements. All numbers
        # are below 2**32.
        steps: uint256 = unsafe_sub(max(self._dimension(op.output, at), 1), 1)
        last = unsafe_add(last, unsafe_mul(steps, self._parameter(op, at + 1)))
    return self._elements(op.output) == 0 or last < self._elements(op.shapes[0])
