# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Records of exact programs
@license GNU Affero General Public License v3.0 only
@notice Reads a record of 128 bytes, of an operation or a tensor, and says whether it is
        valid by itself, by the tables of docs/exact.md, section 3: what
        gpubond/exact/program.py is in Python. No record makes it revert.
"""

struct Shape:
    # Dimensions beyond the rank are zero.
    rank: uint256
    dimensions: uint256[4]

struct Record:
    opcode: uint256
    # How many there are; what is beyond is empty.
    inputs: uint256
    tensors: uint256[3]
    shapes: Shape[3]
    output: Shape
    parameters: uint256[5]


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

_WORDS: constant(uint256) = 32
_OUTPUT: constant(uint256) = 21
_PARAMETERS: constant(uint256) = 26
_WORD: constant(uint256) = (1 << 32) - 1
_INFINITY: constant(uint256) = 255 << 23
_MAGNITUDE: constant(uint256) = (1 << 31) - 1
_NAN: constant(uint256) = 511 << 22

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
    words: uint256[_WORDS] = self._words(record)
    found.opcode = words[1]
    if words[0] != _OPERATION or found.opcode == 0 or found.opcode > BF16:
        return False, found
    found.inputs = (convert(_INPUTS, uint256) >> (found.opcode << 2)) & 15
    if words[2] != found.inputs:
        return False, found
    parameters: uint256 = (convert(_PARAMETER_COUNTS, uint256) >> (found.opcode << 2)) & 15

    # Inputs and parameters that the operation does not have.
    beyond: uint256 = 0
    for at: uint256 in range(3 + 6 * found.inputs, _OUTPUT, bound=18):
        beyond = beyond | words[at]
    for at: uint256 in range(_PARAMETERS + parameters, _WORDS, bound=6):
        beyond = beyond | words[at]
    if beyond != 0:
        return False, found

    for at: uint256 in range(found.inputs, bound=3):
        found.tensors[at] = words[3 + 6 * at]
        found.shapes[at] = self._shape(words, 4 + 6 * at)
        if not self._possible(found.shapes[at]):
            return False, found
    found.output = self._shape(words, _OUTPUT)
    if not self._possible(found.output):
        return False, found
    for at: uint256 in range(parameters, bound=5):
        found.parameters[at] = words[_PARAMETERS + at]
    return self._fits(found), found


@internal
@pure
def _parse_state(record: Bytes[RECORD_BYTES]) -> (bool, Shape, uint256):
    # Whether a state tensor's record is valid, its shape, and the tensor that it becomes.
    valid: bool = False
    words: uint256[_WORDS] = empty(uint256[_WORDS])
    valid, words = self._tensor_words(record, _STATE, 7)
    shape: Shape = self._shape(words, 1)
    return valid and self._possible(shape), shape, words[6]


@internal
@pure
def _parse_data(record: Bytes[RECORD_BYTES]) -> (bool, Shape):
    # Whether a data tensor's record is valid, and its shape, whose first dimension
    # counts the slices.
    valid: bool = False
    words: uint256[_WORDS] = empty(uint256[_WORDS])
    valid, words = self._tensor_words(record, _DATA, 6)
    shape: Shape = self._shape(words, 1)
    return (
        valid and self._possible(shape) and shape.rank != 0 and shape.dimensions[0] != 0
    ), shape


@internal
@pure
def _tensor_words(
    record: Bytes[RECORD_BYTES], kind: uint256, used: uint256
) -> (bool, uint256[_WORDS]):
    # A record of this kind with words beyond those that are used all zero.
    words: uint256[_WORDS] = empty(uint256[_WORDS])
    if len(record) != RECORD_BYTES:
        return False, words
    words = self._words(record)
    beyond: uint256 = 0
    for at: uint256 in range(used, _WORDS, bound=_WORDS):
        beyond = beyond | words[at]
    return words[0] == kind and beyond == 0, words


@internal
@pure
def _elements(shape: Shape) -> uint256:
    # Of a tensor; below 2**31.
    count: uint256 = 1
    for at: uint256 in range(shape.rank, bound=MAX_RANK):
        count *= shape.dimensions[at]
    return count


@internal
@pure
def _words(record: Bytes[RECORD_BYTES]) -> uint256[_WORDS]:
    a: uint256 = convert(extract32(record, 0), uint256)
    b: uint256 = convert(extract32(record, 32), uint256)
    c: uint256 = convert(extract32(record, 64), uint256)
    d: uint256 = convert(extract32(record, 96), uint256)
    # Spelled out: a loop costs three times as much.
    return [
        (a >> 224) & _WORD, (a >> 192) & _WORD,
        (a >> 160) & _WORD, (a >> 128) & _WORD,
        (a >> 96) & _WORD, (a >> 64) & _WORD,
        (a >> 32) & _WORD, (a >> 0) & _WORD,
        (b >> 224) & _WORD, (b >> 192) & _WORD,
        (b >> 160) & _WORD, (b >> 128) & _WORD,
        (b >> 96) & _WORD, (b >> 64) & _WORD,
        (b >> 32) & _WORD, (b >> 0) & _WORD,
        (c >> 224) & _WORD, (c >> 192) & _WORD,
        (c >> 160) & _WORD, (c >> 128) & _WORD,
        (c >> 96) & _WORD, (c >> 64) & _WORD,
        (c >> 32) & _WORD, (c >> 0) & _WORD,
        (d >> 224) & _WORD, (d >> 192) & _WORD,
        (d >> 160) & _WORD, (d >> 128) & _WORD,
        (d >> 96) & _WORD, (d >> 64) & _WORD,
        (d >> 32) & _WORD, (d >> 0) & _WORD,
    ]


@internal
@pure
def _shape(words: uint256[_WORDS], begin: uint256) -> Shape:
    return Shape(
        rank=words[begin],
        dimensions=[words[begin + 1], words[begin + 2], words[begin + 3], words[begin + 4]],
    )


@internal
@pure
def _possible(shape: Shape) -> bool:
    # A tensor may have this shape.
    if shape.rank > MAX_RANK:
        return False
    count: uint256 = 1
    for at: uint256 in range(MAX_RANK):
        dimension: uint256 = shape.dimensions[at]
        if dimension > MOST:
            return False
        if at >= shape.rank and dimension != 0:
            return False
        count *= max(dimension, 1)
    return count <= MOST


@internal
@pure
def _same(left: Shape, right: Shape) -> bool:
    return left.rank == right.rank and self._distinct(left, right) == 0


@internal
@pure
def _distinct(left: Shape, right: Shape) -> uint256:
    # Bit i says that dimension i is not the same.
    found: uint256 = 0
    for at: uint256 in range(MAX_RANK):
        if left.dimensions[at] != right.dimensions[at]:
            found = found | (1 << at)
    return found


@internal
@pure
def _fits(op: Record) -> bool:
    """
    @dev The table: shapes and parameters of a record that has the right counts, and
         shapes that tensors may have.
    """
    left: Shape = op.shapes[0]
    right: Shape = op.shapes[1]
    if op.opcode >= ADD:
        for at: uint256 in range(1, op.inputs, bound=2):
            if not self._same(left, op.shapes[at]):
                return False
        return self._same(left, op.output)

    if op.opcode == CONST:
        bits: uint256 = op.parameters[0]
        return (bits & _MAGNITUDE) <= _INFINITY or bits == _NAN

    if op.opcode == UNIFORM:
        return True

    if op.opcode == VIEW:
        return self._view_fits(op)

    wanted: Shape = left
    if op.opcode == CONCAT:
        axis: uint256 = op.parameters[0]
        if left.rank != right.rank or axis >= left.rank:
            return False
        if self._distinct(left, right) & ~(1 << axis) != 0:
            return False
        wanted.dimensions[axis] += right.dimensions[axis]
    elif op.opcode == GATHER:
        if left.rank != 2 or right.rank > MAX_RANK - 1:
            return False
        wanted = right
        wanted.dimensions[right.rank] = left.dimensions[1]
        wanted.rank = right.rank + 1
    elif op.opcode == MATMUL_NT:
        if left.rank < 2 or left.rank != right.rank:
            return False
        if self._distinct(left, right) & ~(1 << (left.rank - 2)) != 0:
            return False
        wanted.dimensions[left.rank - 1] = right.dimensions[left.rank - 2]
    else:
        # SUM and ROWMAX.
        if left.rank == 0:
            return False
        wanted.rank = left.rank - 1
        wanted.dimensions[wanted.rank] = 0
    return self._same(wanted, op.output)


@internal
@pure
def _view_fits(op: Record) -> bool:
    last: uint256 = op.parameters[0]
    for at: uint256 in range(MAX_RANK):
        stride: uint256 = op.parameters[at + 1]
        if at >= op.output.rank:
            if stride != 0:
                return False
        else:
            # A dimension of 0 makes no difference: then there are no elements.
            last += (max(op.output.dimensions[at], 1) - 1) * stride
    return self._elements(op.output) == 0 or last < self._elements(op.shapes[0])
