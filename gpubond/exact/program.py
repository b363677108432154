# SPDX-License-Identifier: Apache-2.0
"""Programs and their records: what each says, and whether it is valid (docs/exact.md, section 3)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from gpubond.exact import shapes
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import MAX_RANK, Shape

VERSION = 1
RECORD_BYTES = 128
MAX_RECORDS = 65_535
CANONICAL_NAN = 0x7FC00000
_WORDS = struct.Struct(">32I")
_KIND_HEADER, _KIND_STATE, _KIND_DATA, _KIND_OP = 1, 2, 3, 4
_INPUT_WORDS = 6
_MAX_INPUTS, _MAX_PARAMETERS = 3, 5


class Opcode(IntEnum):
    """The operations of version 1."""

    CONST = 1
    UNIFORM = 2
    VIEW = 3
    CONCAT = 4
    GATHER = 5
    MATMUL_NT = 6
    SUM = 7
    ROWMAX = 8
    ADD = 9
    SUB = 10
    MUL = 11
    DIV = 12
    MAX = 13
    GT = 14
    FMA = 15
    SELECT = 16
    SQRT = 17
    NEG = 18
    EXP = 19
    LOG = 20
    BF16 = 21


# Opcode -> number of inputs, number of parameters (VIEW's beyond the rank are zero).
ARITY: dict[Opcode, tuple[int, int]] = {
    Opcode.CONST: (0, 1),
    Opcode.UNIFORM: (0, 2),
    Opcode.VIEW: (1, 5),
    Opcode.CONCAT: (2, 1),
    Opcode.GATHER: (2, 0),
    Opcode.MATMUL_NT: (2, 0),
    Opcode.SUM: (1, 0),
    Opcode.ROWMAX: (1, 0),
    **dict.fromkeys((Opcode.ADD, Opcode.SUB, Opcode.MUL, Opcode.DIV, Opcode.MAX, Opcode.GT), (2, 0)),
    **dict.fromkeys((Opcode.FMA, Opcode.SELECT), (3, 0)),
    **dict.fromkeys((Opcode.SQRT, Opcode.NEG, Opcode.EXP, Opcode.LOG, Opcode.BF16), (1, 0)),
}
# Element i of the output depends on elements i of the inputs alone.
ELEMENTWISE = frozenset(code for code in Opcode if code >= Opcode.ADD)


@dataclass(frozen=True)
class Op:
    """One operation.

    inputs: tensor numbers. input_shapes: their shapes, as the record says them. shape: the output's.
    parameters: as many as ARITY says.
    """

    code: Opcode
    inputs: tuple[int, ...]
    input_shapes: tuple[Shape, ...]
    shape: Shape
    parameters: tuple[int, ...] = ()

    def check(self, field: str = "op") -> None:
        """Raises Refused if the record is not valid, by itself; `field` names it."""
        inputs, parameters = ARITY[self.code]
        _check_count(f"{field}.inputs", len(self.inputs), inputs)
        _check_count(f"{field}.input_shapes", len(self.input_shapes), inputs)
        _check_count(f"{field}.parameters", len(self.parameters), parameters)
        for at, number in enumerate(self.inputs):
            _check_word(f"{field}.input[{at}].tensor", number)
        for at, value in enumerate(self.parameters):
            _check_word(f"{field}.parameter[{at}]", value)
        for at, shape in enumerate(self.input_shapes):
            shapes.check(f"{field}.input[{at}]", shape)
        shapes.check(f"{field}.output", self.shape)
        _check_shapes(self, field)


@dataclass(frozen=True)
class StateTensor:
    """A tensor of the state. next: number of the tensor of a step, of the state or an output, that it becomes."""

    shape: Shape
    next: int


@dataclass(frozen=True)
class Program:
    """A step: state tensors, data tensors (whole, with the dimension of slices), operations. Made valid or not at all.

    Raises: Refused.
    """

    state: tuple[StateTensor, ...]
    data: tuple[Shape, ...]
    ops: tuple[Op, ...]

    def __post_init__(self) -> None:
        for name, count, least in (
            ("state", len(self.state), 1),
            ("data", len(self.data), 0),
            ("ops", len(self.ops), 1),
        ):
            if not least <= count <= MAX_RECORDS:
                raise Refused(f"header.{name}", count, f"must be from {least} to {MAX_RECORDS}")
        for at, tensor in enumerate(self.state):
            shapes.check(f"state[{at}]", tensor.shape)
        for at, shape in enumerate(self.data):
            shapes.check(f"data[{at}]", shape)
            if not shape or shape[0] < 1:
                raise Refused(f"data[{at}].shape", shape, "the first dimension counts the slices and is at least 1")
        known = [tensor.shape for tensor in self.state] + [shape[1:] for shape in self.data]
        for at, op in enumerate(self.ops):
            op.check(f"op[{at}]")
            for place, (number, shape) in enumerate(zip(op.inputs, op.input_shapes, strict=True)):
                field = f"op[{at}].input[{place}]"
                if number >= len(known):
                    raise Refused(f"{field}.tensor", number, f"tensors from {len(known)} on do not exist yet")
                if shape != known[number]:
                    raise Refused(f"{field}.shape", shape, f"tensor {number} has the shape {known[number]}")
            known.append(op.shape)
        for at, tensor in enumerate(self.state):
            self._check_next(f"state[{at}].next", tensor, known)

    def _check_next(self, field: str, tensor: StateTensor, known: Sequence[Shape]) -> None:
        if not 0 <= tensor.next < len(known):
            raise Refused(field, tensor.next, f"there are only {len(known)} tensors")
        if len(self.state) <= tensor.next < self.first_output:
            reason = "is a slice of the data, which has no commitment of its own"
            raise Refused(field, tensor.next, reason, "name a VIEW that shows all of it")
        if known[tensor.next] != tensor.shape:
            raise Refused(field, tensor.next, f"has the shape {known[tensor.next]}, not {tensor.shape}")

    @property
    def first_output(self) -> int:
        """The number of the first operation's output."""
        return len(self.state) + len(self.data)

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of a step's tensors, by number."""
        own = [tensor.shape for tensor in self.state] + [shape[1:] for shape in self.data]
        return own + [op.shape for op in self.ops]

    @property
    def needed(self) -> set[int]:
        """Positions of the operations that the next state depends on."""
        first, found = self.first_output, set()
        wanted = {tensor.next for tensor in self.state}
        for at in range(len(self.ops) - 1, -1, -1):
            if first + at in wanted:
                found.add(at)
                wanted.update(self.ops[at].inputs)
        return found

    def records(self) -> list[bytes]:
        """The records, 128 bytes each: header, state, data, operations."""
        found = [_pack([_KIND_HEADER, VERSION, len(self.state), len(self.data), len(self.ops)])]
        found += [_pack([_KIND_STATE, *_shape_words(tensor.shape), tensor.next]) for tensor in self.state]
        found += [_pack([_KIND_DATA, *_shape_words(shape)]) for shape in self.data]
        return found + [record_of(op) for op in self.ops]

    def encode(self) -> bytes:
        """The program as a file."""
        return b"".join(self.records())

    @classmethod
    def parse(cls, data: bytes) -> Program:
        """Reads a file. Raises Refused, naming the field, for whatever is not a valid program."""
        if len(data) < RECORD_BYTES or len(data) % RECORD_BYTES:
            raise Refused("program.length", len(data), f"must be a multiple of {RECORD_BYTES} bytes, and not 0")
        count = len(data) // RECORD_BYTES
        header = _WORDS.unpack_from(data)
        for name, word, wanted in (("kind", header[0], _KIND_HEADER), ("version", header[1], VERSION)):
            if word != wanted:
                raise Refused(f"header.{name}", word, f"must be {wanted}")
        state, payload, ops = header[2:5]
        _check_zeros("header", header, 5)
        if 1 + state + payload + ops != count:
            raise Refused("program.length", len(data), f"the header promises {1 + state + payload + ops} records")
        words = [_WORDS.unpack_from(data, at * RECORD_BYTES) for at in range(1, count)]
        return cls(
            tuple(_parse_state(f"state[{at}]", item) for at, item in enumerate(words[:state])),
            tuple(_parse_data(f"data[{at}]", item) for at, item in enumerate(words[state : state + payload])),
            tuple(_parse_op(f"op[{at}]", item) for at, item in enumerate(words[state + payload :])),
        )


def record_of(op: Op) -> bytes:
    """The record of one operation, valid or not, as long as its numbers fit."""
    words = [_KIND_OP, int(op.code), len(op.inputs)]
    for number, shape in zip(op.inputs, op.input_shapes, strict=True):
        words += [number, *_shape_words(shape)]
    words += [0] * (3 + _MAX_INPUTS * _INPUT_WORDS - len(words))
    return _pack([*words, *_shape_words(op.shape), *op.parameters])


def parse_record(record: bytes, field: str = "op") -> Op:
    """One operation's record. Raises Refused unless it is valid by itself."""
    if len(record) != RECORD_BYTES:
        raise Refused(f"{field}.length", len(record), f"must be {RECORD_BYTES} bytes")
    op = _parse_op(field, _WORDS.unpack(record))
    op.check(field)
    return op


def parse_state_record(record: bytes, field: str = "state") -> StateTensor:
    """A state tensor's record. Raises Refused unless it is valid by itself."""
    if len(record) != RECORD_BYTES:
        raise Refused(f"{field}.length", len(record), f"must be {RECORD_BYTES} bytes")
    tensor = _parse_state(field, _WORDS.unpack(record))
    shapes.check(field, tensor.shape)
    return tensor


def _pack(words: Sequence[int]) -> bytes:
    return _WORDS.pack(*words, *[0] * (32 - len(words)))


def _shape_words(shape: Shape) -> list[int]:
    return [len(shape), *shape, *[0] * (MAX_RANK - len(shape))]


def _check_zeros(field: str, words: Sequence[int], begin: int, end: int = 32) -> None:
    for at in range(begin, end):
        if words[at]:
            raise Refused(f"{field}.word[{at}]", words[at], "must be zero")


def _check_count(field: str, count: int, wanted: int) -> None:
    if count != wanted:
        raise Refused(field, count, f"must be {wanted}")


def _check_word(field: str, value: int) -> None:
    if not 0 <= value < 1 << 32:
        raise Refused(field, value, "does not fit in 32 bits")


def _parse_kind(field: str, words: Sequence[int], wanted: int) -> None:
    if words[0] != wanted:
        raise Refused(f"{field}.kind", words[0], f"must be {wanted}")


def _parse_shape(field: str, words: Sequence[int]) -> Shape:
    rank, dimensions = words[0], words[1:5]
    if rank > MAX_RANK:
        raise Refused(f"{field}.rank", rank, f"must be at most {MAX_RANK}")
    if any(dimensions[rank:]):
        raise Refused(f"{field}.shape", tuple(dimensions), f"dimensions beyond the rank, {rank}, must be zero")
    return tuple(dimensions[:rank])


def _parse_state(field: str, words: Sequence[int]) -> StateTensor:
    _parse_kind(field, words, _KIND_STATE)
    _check_zeros(field, words, 7)
    return StateTensor(_parse_shape(field, words[1:6]), words[6])


def _parse_data(field: str, words: Sequence[int]) -> Shape:
    _parse_kind(field, words, _KIND_DATA)
    _check_zeros(field, words, 6)
    return _parse_shape(field, words[1:6])


def _parse_op(field: str, words: Sequence[int]) -> Op:
    _parse_kind(field, words, _KIND_OP)
    try:
        code = Opcode(words[1])
    except ValueError:
        raise Refused(f"{field}.opcode", words[1], "there is no such operation") from None
    inputs, parameters = ARITY[code]
    _check_count(f"{field}.inputs", words[2], inputs)
    begins = [3 + _INPUT_WORDS * at for at in range(inputs)]
    _check_zeros(field, words, 3 + _INPUT_WORDS * inputs, 3 + _INPUT_WORDS * _MAX_INPUTS)
    _check_zeros(field, words, 26 + parameters)
    return Op(
        code,
        tuple(words[begin] for begin in begins),
        tuple(_parse_shape(f"{field}.input[{at}]", words[begin + 1 : begin + 6]) for at, begin in enumerate(begins)),
        _parse_shape(f"{field}.output", words[21:26]),
        tuple(words[26 : 26 + parameters]),
    )


def _check_shapes(op: Op, field: str) -> None:
    """The table of docs/exact.md, section 3."""
    if op.code in ELEMENTWISE:
        for at, shape in enumerate(op.input_shapes):
            if shape != op.input_shapes[0]:
                raise Refused(f"{field}.input[{at}].shape", shape, f"must be that of input 0, {op.input_shapes[0]}")
        _check_output(op, field, op.input_shapes[0])
    elif op.code in _SHAPE_CHECKS:
        _SHAPE_CHECKS[op.code](op, field)


def _check_const(op: Op, field: str) -> None:
    bits = op.parameters[0]
    if bits & 0x7FFFFFFF > 0x7F800000 and bits != CANONICAL_NAN:
        raise Refused(f"{field}.parameter[0]", hex(bits), "is a NaN, but not the canonical one")


def _check_gather(op: Op, field: str) -> None:
    table, index = op.input_shapes
    if len(table) != 2:
        raise Refused(f"{field}.input[0].rank", len(table), "must be 2")
    if len(index) > MAX_RANK - 1:
        raise Refused(f"{field}.input[1].rank", len(index), f"must be at most {MAX_RANK - 1}")
    _check_output(op, field, (*index, table[1]))


def _check_matmul(op: Op, field: str) -> None:
    left, right = op.input_shapes
    if len(left) < 2 or len(left) != len(right):
        raise Refused(f"{field}.input[1].rank", len(right), f"must be that of input 0, {len(left)}, and at least 2")
    if (left[:-2], left[-1]) != (right[:-2], right[-1]):
        raise Refused(f"{field}.input[1].shape", right, f"does not fit {left}: only the last but one may differ")
    _check_output(op, field, (*left[:-1], right[-2]))


def _check_reduction(op: Op, field: str) -> None:
    if not op.input_shapes[0]:
        raise Refused(f"{field}.input[0].rank", 0, "must be at least 1")
    _check_output(op, field, op.input_shapes[0][:-1])


def _check_output(op: Op, field: str, wanted: Iterable[int]) -> None:
    if op.shape != tuple(wanted):
        raise Refused(f"{field}.output.shape", op.shape, f"must be {tuple(wanted)}")


def _check_view(op: Op, field: str) -> None:
    offset, *strides = op.parameters
    for at, stride in enumerate(strides):
        if at >= len(op.shape) and stride:
            raise Refused(f"{field}.parameter[{at + 1}]", stride, "strides beyond the rank must be zero")
    if shapes.count(op.shape) == 0:
        return
    last = offset + sum((dim - 1) * stride for dim, stride in zip(op.shape, strides, strict=False))
    held = shapes.count(op.input_shapes[0])
    if last >= held:
        raise Refused(f"{field}.parameter", op.parameters, f"reaches element {last} of {held}")


def _check_concat(op: Op, field: str) -> None:
    left, right = op.input_shapes
    axis = op.parameters[0]
    if len(left) != len(right) or not left:
        raise Refused(f"{field}.input[1].rank", len(right), f"must be that of input 0, {len(left)}, and at least 1")
    if axis >= len(left):
        raise Refused(f"{field}.parameter[0]", axis, f"the axis must be below the rank, {len(left)}")
    if left[:axis] + left[axis + 1 :] != right[:axis] + right[axis + 1 :]:
        raise Refused(f"{field}.input[1].shape", right, f"may differ from {left} along axis {axis} only")
    _check_output(op, field, (*left[:axis], left[axis] + right[axis], *left[axis + 1 :]))


_SHAPE_CHECKS: dict[Opcode, Callable[[Op, str], None]] = {
    Opcode.CONST: _check_const,
    Opcode.VIEW: _check_view,
    Opcode.CONCAT: _check_concat,
    Opcode.GATHER: _check_gather,
    Opcode.MATMUL_NT: _check_matmul,
    Opcode.SUM: _check_reduction,
    Opcode.ROWMAX: _check_reduction,
}
