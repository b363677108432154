# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title The judge of exact programs
@license GNU Affero General Public License v3.0 only
@author GpuBond
@notice Evaluates one element of one operation, or at most sixteen terms of a reduction,
        by docs/exact.md, from leaves of its inputs. Pure: it holds nothing, owns nothing,
        and knows nobody. Who asks, and what follows, is DisputeGame's.
@dev What it returns is what the page says for operands that are committed to by the
     roots that it is given; whatever is not so is refused. It takes no count, place or
     index from who shows the operands: all of them follow from the record and from what
     is asked.
     How it is stopped: it cannot be, since it does nothing by itself.
"""
from .interfaces import IJudge
from .modules import exact_merkle
from .modules import exact_records
from .modules import float32

implements: IJudge

# @dev Terms of a reduction between two joins.
BLOCK: public(constant(uint256)) = 512

# @dev Terms of one evaluation.
MAX_TERMS: public(constant(uint256)) = float32.MAX_TERMS

_RECORD_BYTES: constant(uint256) = exact_records.RECORD_BYTES
_LEAF_ELEMENTS: constant(uint256) = exact_merkle.LEAF_ELEMENTS
_SHOWN_BYTES: constant(uint256) = exact_merkle.SHOWN_BYTES

# @dev Two of each input of a product.
_MAX_LEAVES: constant(uint256) = 4

# @dev The place of an element that is not read.
_NOWHERE: constant(uint256) = max_value(uint256)

# @dev Steps of a run, and operations of a program.
_MOST_STEPS: constant(uint256) = 2**64 - 1
_MOST_OPS: constant(uint256) = 65_535

_WORD: constant(uint256) = 2**32 - 1
_FRACTION: constant(uint256) = 2**23 - 1


@external
@pure
def operation(record: Bytes[_RECORD_BYTES]) -> IJudge.Operation:
    """
    @notice What a record of an operation says.
    @param record Its 128 bytes.
    @return Opcode, inputs, shapes and parameters; all zero if it is not valid by itself.
    """
    valid: bool = False
    what: exact_records.Record = empty(exact_records.Record)
    valid, what = exact_records._parse(record)
    if not valid:
        return empty(IJudge.Operation)
    parameters: uint256[5] = empty(uint256[5])
    for at: uint256 in range(5):
        parameters[at] = exact_records._parameter(what, at)
    return IJudge.Operation(
        opcode=what.opcode,
        inputs=what.inputs,
        tensors=what.tensors,
        shapes=[
            self._shape(what.shapes[0]), self._shape(what.shapes[1]), self._shape(what.shapes[2])
        ],
        output=self._shape(what.output),
        parameters=parameters,
    )


@external
@pure
def evaluate(
    record: Bytes[_RECORD_BYTES],
    step: uint256,
    op: uint256,
    element: uint256,
    begin: uint256,
    end: uint256,
    accumulator: uint256,
    operands: DynArray[IJudge.Operand, 3],
    leaves: DynArray[Bytes[_SHOWN_BYTES], _MAX_LEAVES],
) -> uint256:
    """
    @notice One element of an output; of a reduction, the accumulator after some terms
            that follow each other within one block. Those are the whole element if
            the reduction has no others. Refuses what cannot be evaluated.
    @param record The operation's.
    @param step The step's number, from 0.
    @param op The operation's position in its program, from 0.
    @param element The element's number in the output.
    @param begin The first term. This and the next two are for reductions only.
    @param end Behind the last term: at most sixteen further; not further if the
           reduction has no terms, and only then.
    @param accumulator Before the first term. At the start of a block it is not looked
           at: the accumulator is the identity there.
    @param operands As many as the record has inputs, each with the number of its leaves
           that are read: none of in0 of a GATHER whose row does not exist, none of the
           input that a CONCAT does not take the element from.
    @param leaves Those of the last input first, of one input in their order: each its
           256 bytes and its path from below.
    @return The bits.
    """
    what: exact_records.Record = self._parsed(record)
    code: uint256 = what.opcode
    assert len(operands) == what.inputs, "judge: inputs are missing"
    assert element < exact_records._elements(what.output), "judge: no such element"
    assert step <= _MOST_STEPS, "judge: no such step"
    assert op < _MOST_OPS, "judge: no such operation"

    # Where each input is read, and how many elements from there on.
    places: uint256[3] = [element, element, element]
    terms: uint256 = 1
    before: uint256 = accumulator
    if code >= exact_records.ADD:
        pass
    elif code >= exact_records.MATMUL_NT:
        places, terms, before = self._reduced(what, element, begin, end, accumulator)
    elif code == exact_records.GATHER:
        places[1] = element // exact_records._dimension(what.shapes[0], 1)
    elif code == exact_records.CONCAT:
        places = self._concatenated(what, element)
    elif code == exact_records.VIEW:
        places[0] = self._viewed(what, element)

    # The last one first: which row a GATHER reads its in1 says. What is not read is 0.
    found: uint256[2][3] = empty(uint256[2][3])
    used: uint256 = 0
    for back: uint256 in range(what.inputs, bound=3):
        at: uint256 = unsafe_sub(unsafe_sub(what.inputs, 1), back)
        operand: IJudge.Operand = operands[at]
        place: uint256 = places[at]
        if at == 0 and code == exact_records.GATHER:
            place = self._gathered(what, element, found[1][0] >> 224)
        if place == _NOWHERE or terms == 0:
            assert operand.leaves == 0, "judge: leaves that are not read"
            continue
        first: uint256 = self._first(operand, what.shapes[at], place)
        leaf: uint256 = first // _LEAF_ELEMENTS
        count: uint256 = (first + terms - 1) // _LEAF_ELEMENTS - leaf + 1
        assert operand.leaves == count, "judge: other leaves are read"
        for _: uint256 in range(count, bound=2):
            assert (
                exact_merkle._opened(operand.elements, leaf, leaves[used]) == operand.root
            ), "judge: leaf is not of the tensor"
            leaf += 1
            used += 1
        raw: Bytes[2 * exact_merkle.LEAF_BYTES] = slice(
            leaves[used - 1], 0, exact_merkle.LEAF_BYTES
        )
        if count == 2:
            raw = concat(
                slice(leaves[used - 2], 0, exact_merkle.LEAF_BYTES),
                slice(leaves[used - 1], 0, exact_merkle.LEAF_BYTES),
            )
        found[at][0], found[at][1] = exact_merkle._sixteen(raw, first % _LEAF_ELEMENTS)
    assert len(leaves) == used, "judge: leaves that are not read"

    if code >= exact_records.ADD:
        return self._scalar(code, found[0][0] >> 224, found[1][0] >> 224, found[2][0] >> 224)
    if code >= exact_records.MATMUL_NT:
        return float32._chain(code, before, terms, found[0], found[1])
    if code == exact_records.UNIFORM:
        return float32._uniform(
            exact_records._parameter(what, 0),
            exact_records._parameter(what, 1),
            step,
            op,
            element,
        )
    if code == exact_records.CONST:
        return exact_records._parameter(what, 0)
    # Of two inputs one is read at most.
    if code == exact_records.CONCAT:
        return (found[0][0] | found[1][0]) >> 224
    return found[0][0] >> 224


@external
@pure
def join(opcode: uint256, total: uint256, block_sum: uint256) -> uint256:
    """
    @notice The total of a reduction after one block more.
    @param opcode The reduction's.
    @param total Before the block.
    @param block_sum The block's.
    @return The bits.
    """
    assert opcode >= exact_records.MATMUL_NT and opcode <= exact_records.ROWMAX, "judge: no reduction"
    assert total | block_sum <= _WORD, "judge: more than 32 bits"
    return float32._join(opcode, total, block_sum)


@internal
@pure
def _parsed(record: Bytes[_RECORD_BYTES]) -> exact_records.Record:
    valid: bool = False
    found: exact_records.Record = empty(exact_records.Record)
    valid, found = exact_records._parse(record)
    assert valid, "judge: record is not valid"
    return found


@internal
@pure
def _shape(shape: uint256) -> IJudge.Shape:
    return IJudge.Shape(
        rank=shape >> 128,
        dimensions=[
            (shape >> 96) & _WORD, (shape >> 64) & _WORD, (shape >> 32) & _WORD, shape & _WORD
        ],
    )


@internal
@pure
def _scalar(code: uint256, a: uint256, b: uint256, c: uint256) -> uint256:
    # An operation on the elements with one number of all inputs.
    if code == exact_records.SQRT:
        return float32._sqrt(a)
    if code == exact_records.NEG:
        return float32._neg(a)
    if code == exact_records.EXP:
        return float32._exp(a)
    if code == exact_records.LOG:
        return float32._log(a)
    if code == exact_records.BF16:
        return float32._bf16(a)
    if code == exact_records.ADD:
        return float32._add(a, b)
    if code == exact_records.SUB:
        return float32._sub(a, b)
    if code == exact_records.MUL:
        return float32._mul(a, b)
    if code == exact_records.DIV:
        return float32._div(a, b)
    if code == exact_records.MAX:
        return float32._max(a, b)
    if code == exact_records.GT:
        return float32._gt(a, b)
    if code == exact_records.FMA:
        return float32._fma(a, b, c)
    return float32._select(a, b, c)


@internal
@pure
def _reduced(
    what: exact_records.Record,
    element: uint256,
    begin: uint256,
    end: uint256,
    accumulator: uint256,
) -> (uint256[3], uint256, uint256):
    # Where terms `begin` to `end` of a reduction are read, how many they are, and the
    # accumulator before them.
    input: uint256 = what.shapes[0]
    count: uint256 = exact_records._dimension(input, exact_records._rank(input) - 1)
    assert end <= count and (begin < end or count == 0), "judge: no such terms"
    terms: uint256 = end - begin
    assert terms <= MAX_TERMS, "judge: too many terms"
    assert accumulator <= _WORD, "judge: more than 32 bits"
    before: uint256 = accumulator
    if begin % BLOCK == 0:
        before = float32._identity(what.opcode)
    else:
        assert begin // BLOCK == (end - 1) // BLOCK, "judge: terms of two blocks"

    # The rows that the element is made of: of a product, one of each input.
    row: uint256 = element
    other: uint256 = 0
    if what.opcode == exact_records.MATMUL_NT:
        rank: uint256 = exact_records._rank(what.output)
        columns: uint256 = exact_records._dimension(what.output, rank - 1)
        rows: uint256 = exact_records._dimension(what.output, rank - 2)
        row = element // columns
        other = row // rows * columns + element % columns
    return [row * count + begin, other * count + begin, 0], terms, before


@internal
@pure
def _gathered(what: exact_records.Record, element: uint256, index: uint256) -> uint256:
    # Where the element stands in the row with this index.
    height: uint256 = exact_records._dimension(what.shapes[0], 0)
    width: uint256 = exact_records._dimension(what.shapes[0], 1)
    row: uint256 = self._whole(index)
    if row >= height:
        return _NOWHERE
    return row * width + element % width


@internal
@pure
def _concatenated(what: exact_records.Record, element: uint256) -> uint256[3]:
    # The inputs' elements alternate: so many of the first, so many of the second.
    axis: uint256 = exact_records._parameter(what, 0)
    rank: uint256 = exact_records._rank(what.output)
    inner: uint256 = 1
    for at: uint256 in range(axis + 1, rank, bound=exact_records.MAX_RANK):
        inner *= exact_records._dimension(what.output, at)
    left: uint256 = exact_records._dimension(what.shapes[0], axis) * inner
    right: uint256 = exact_records._dimension(what.shapes[1], axis) * inner
    outer: uint256 = element // (left + right)
    within: uint256 = element % (left + right)
    if within < left:
        return [outer * left + within, _NOWHERE, _NOWHERE]
    return [_NOWHERE, outer * right + (within - left), _NOWHERE]


@internal
@pure
def _viewed(what: exact_records.Record, element: uint256) -> uint256:
    # Where a VIEW's element stands in its input.
    rank: uint256 = exact_records._rank(what.output)
    place: uint256 = exact_records._parameter(what, 0)
    left: uint256 = element
    for back: uint256 in range(rank, bound=exact_records.MAX_RANK):
        at: uint256 = rank - 1 - back
        length: uint256 = exact_records._dimension(what.output, at)
        place += left % length * exact_records._parameter(what, at + 1)
        left = left // length
    return place


@internal
@pure
def _whole(bits: uint256) -> uint256:
    """
    @dev The integer that a value is; one that no tensor has so many rows for if it is
         NaN, negative, fractional or not below 2**31. -0 is 0.
    """
    if bits << 1 & _WORD == 0:
        return 0
    field: uint256 = bits >> 23
    # 1 has the field 127; the sign would be above the fields.
    if field < 127 or field >= 158:
        return max_value(uint256)
    significand: uint256 = (bits & _FRACTION) | (_FRACTION + 1)
    if field >= 150:
        return significand << (field - 150)
    whole: uint256 = significand >> (150 - field)
    if whole << (150 - field) != significand:
        return max_value(uint256)
    return whole


@internal
@pure
def _first(operand: IJudge.Operand, shape: uint256, place: uint256) -> uint256:
    # The number of the `place`-th element in the whole tensor, which slices of the
    # shape make up.
    elements: uint256 = exact_records._elements(shape)
    assert operand.elements <= exact_records.MOST, "judge: too many elements"
    assert (
        operand.elements % elements == 0
        and operand.offset % elements == 0
        and operand.offset < operand.elements
    ), "judge: not a tensor of this shape"
    return operand.offset + place
