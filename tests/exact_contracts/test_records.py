# SPDX-License-Identifier: Apache-2.0
"""modules/exact_records.vy against gpubond/exact/program.py: one verdict on every record, and one meaning."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from random import Random

import pytest

from gpubond.exact.program import ARITY, RECORD_BYTES, Op, Opcode, Program, StateTensor, parse_record, record_of
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import MOST, Shape
from tests.exact_contracts.evm import COMMITMENTS, Evm
from tests.exact_contracts.operations import drawing

WORDS = RECORD_BYTES // 4
SEED = 20_261_125
VALUES = (0, 1, 2, 3, 4, 5, 6, 21, 22, 255, 256, 2**16, 2**31 - 2, 2**31 - 1, 2**31, 2**32 - 1)
NANS = (0x7F800000, 0x7F800001, 0x7FC00000, 0x7FC00001, 0xFF800000, 0xFF800001, 0xFFC00000)
A, B = (2, 3), (2, 3, 4)
PAIRS = (Opcode.ADD, Opcode.SUB, Opcode.MUL, Opcode.DIV, Opcode.MAX, Opcode.GT)
SINGLES = (Opcode.SQRT, Opcode.NEG, Opcode.EXP, Opcode.LOG, Opcode.BF16)

# Valid ones of every opcode and kind of shape: changes start from these.
BASES: tuple[Op, ...] = (
    Op(Opcode.CONST, (), (), A, (0x7FC00000,)),
    Op(Opcode.CONST, (), (), (), (0,)),
    Op(Opcode.UNIFORM, (), (), (4, 0), (1, 2**32 - 1)),
    Op(Opcode.VIEW, (7,), (A,), (3, 2), (0, 1, 3, 0, 0)),
    Op(Opcode.VIEW, (7,), ((2, 3, 4, 5),), (5, 4, 3, 2), (0, 1, 5, 20, 60)),
    Op(Opcode.VIEW, (7,), ((),), (), (0, 0, 0, 0, 0)),
    Op(Opcode.VIEW, (7,), ((0,),), (0, 2), (9, 9, 9, 0, 0)),
    Op(Opcode.CONCAT, (1, 2), (B, (2, 5, 4)), (2, 8, 4), (1,)),
    Op(Opcode.CONCAT, (1, 2), ((3,), (0,)), (3,), (0,)),
    Op(Opcode.CONCAT, (1, 2), ((1, 1, 1, 2),) * 2, (1, 1, 1, 4), (3,)),
    Op(Opcode.GATHER, (1, 2), ((9, 5), (2, 2)), (2, 2, 5)),
    Op(Opcode.GATHER, (1, 2), ((9, 5), ()), (5,)),
    Op(Opcode.GATHER, (1, 2), ((9, 5), (1, 2, 3)), (1, 2, 3, 5)),
    Op(Opcode.MATMUL_NT, (1, 2), ((4, 3), (5, 3)), (4, 5)),
    Op(Opcode.MATMUL_NT, (1, 2), ((2, 4, 3), (2, 5, 3)), (2, 4, 5)),
    Op(Opcode.MATMUL_NT, (1, 2), ((2, 6, 4, 3), (2, 6, 5, 3)), (2, 6, 4, 5)),
    Op(Opcode.SUM, (1,), (B,), A),
    Op(Opcode.SUM, (1,), ((5,),), ()),
    Op(Opcode.ROWMAX, (1,), ((2, 2, 2, 2),), (2, 2, 2)),
    *(Op(code, (1, 2), (A, A), A) for code in PAIRS),
    Op(Opcode.ADD, (1, 2), ((), ()), ()),
    Op(Opcode.FMA, (1, 2, 3), ((1, 2, 3, 4),) * 3, (1, 2, 3, 4)),
    Op(Opcode.SELECT, (2**32 - 1, 0, 5), ((MOST,),) * 3, (MOST,)),
    *(Op(code, (1,), (A,), A) for code in SINGLES),
)


def right(record: bytes) -> bool:
    try:
        parse_record(record)
    except Refused:
        return False
    return True


def compare(evm: Evm, records: Sequence[bytes]) -> tuple[int, int]:
    """Both verdicts on each; how many were valid, and how many not."""
    valid = 0
    for begin in range(0, len(records), 512):
        some = records[begin : begin + 512]
        verdicts = [bool(word & 1) for word in evm.call(COMMITMENTS, "verdicts", some)]
        for record, verdict in zip(some, verdicts, strict=True):
            assert verdict == right(record), struct.unpack(">32I", record)
        valid += sum(verdicts)
    return valid, len(records) - valid


def words_of(op: Op) -> list[int]:
    return list(struct.unpack(">32I", record_of(op)))


def pack(words: Sequence[int]) -> bytes:
    return struct.pack(">32I", *words)


def changes(op: Op) -> Iterator[bytes]:
    """Each word replaced by each value that may matter."""
    words = words_of(op)
    for at, old in enumerate(words):
        near = (old - 1, old + 1, old ^ 0x80000000)
        for value in {*VALUES, *(NANS if at == 26 else ()), *near} - {old}:
            if 0 <= value < 2**32:
                yield pack([*words[:at], value, *words[at + 1 :]])


@pytest.mark.parametrize("op", BASES, ids=lambda op: f"{op.code.name}-{len(op.shape)}")
def test_every_field_changed(evm: Evm, op: Op) -> None:
    assert right(record_of(op))
    valid, refused = compare(evm, [record_of(op), *changes(op)])
    assert valid >= 1 and refused > 300


def test_every_opcode_has_a_base() -> None:
    assert {op.code for op in BASES} == set(Opcode) == set(ARITY)


@pytest.mark.parametrize("code", Opcode, ids=lambda code: code.name)
def test_random_shapes(evm: Evm, code: Opcode) -> None:
    """Shapes that nearly fit, of every rank: small dimensions, and those about the limits."""
    random_ = drawing(SEED + code)
    inputs, parameters = ARITY[code]
    records = []
    for _ in range(600):
        few = random_.choice([(1,), (1, 2), (0, 1, 2), (1, 2, MOST, 2**16, 2**15)])
        drawn = [tuple(random_.choice(few) for _ in range(random_.randint(0, 4))) for _ in range(inputs)]
        if random_.random() < 0.5:
            drawn = [drawn[0]] * inputs if drawn else []
        shape = likely(random_, code, drawn) if random_.random() < 0.8 else (random_.choice(few),)
        given = [random_.choice([0, 0, 1, 1, 2, 3, 4, *NANS[:3], 2**32 - 1]) for _ in range(parameters)]
        if code == Opcode.VIEW and random_.random() < 0.7:
            given = [random_.randint(0, 2), *(random_.randint(0, 3) if at < len(shape) else 0 for at in range(4))]
        tensors = tuple(random_.getrandbits(random_.choice([3, 32])) for _ in range(inputs))
        records.append(record_of(Op(code, tensors, tuple(drawn), shape, tuple(given))))
    valid, refused = compare(evm, records)
    assert valid > 10, (valid, refused)
    assert refused > 10 or code in (Opcode.CONST, Opcode.UNIFORM), (valid, refused)


def likely(random_: Random, code: Opcode, drawn: list[Shape]) -> Shape:
    """A shape of the output that would fit if the inputs did."""
    first = drawn[0] if drawn else (2, random_.choice([1, 3, 2**30]))
    if code in (Opcode.SUM, Opcode.ROWMAX):
        return first[:-1]
    if code == Opcode.GATHER and len(first) == 2:
        return (*drawn[1], first[1])[:4]
    if code == Opcode.MATMUL_NT and min(map(len, drawn)) > 1:
        return (*first[:-1], drawn[1][-2])
    if code == Opcode.CONCAT and first and drawn[1]:
        return (min(first[0] + drawn[1][0], 2**32 - 1), *first[1:])
    return first


def test_bits_turned_and_words_made_up(evm: Evm) -> None:
    random_ = drawing(SEED)
    records = []
    for _ in range(3_000):
        record = bytearray(record_of(random_.choice(BASES)))
        for _ in range(random_.randint(1, 2)):
            bit = random_.randrange(8 * RECORD_BYTES)
            record[bit // 8] ^= 1 << bit % 8
        records.append(bytes(record))
    records += [pack([4, random_.randint(0, 23), *random_.choices(VALUES, k=30)]) for _ in range(1_000)]
    records += [random_.randbytes(128) for _ in range(100)]
    compare(evm, records)


def test_records_of_another_length(evm: Evm) -> None:
    for record in (b"", record_of(BASES[0])[:-1], record_of(BASES[0])[:-32]):
        assert evm.call(COMMITMENTS, "verdicts", [record])[0] & 1 == 0


@pytest.mark.parametrize("op", BASES, ids=lambda op: f"{op.code.name}-{len(op.shape)}")
def test_what_a_record_says(evm: Evm, op: Op) -> None:
    found = evm.call(COMMITMENTS, "parse", record_of(op))
    words = words_of(op)
    # Word 0 is the kind, word 31 is zero; otherwise the order is that of the record.
    assert list(found) == [1, *words[1:31]]


SHAPES: tuple[Shape, ...] = ((), (3,), (0,), (2, 3), (2, 0, 3), (5, 4, 3, 2), (MOST, 1))


def tensor_changes() -> list[list[int]]:
    """Records of tensors, right and wrong: each word replaced, and shapes about the limits."""
    found = []
    for kind in (1, 2, 3, 4):
        for shape in SHAPES:
            base = [kind, len(shape), *shape, *[0] * (31 - 1 - len(shape))]
            assert len(base) == WORDS
            found.append(base)
            found += [[*base[:at], value, *base[at + 1 :]] for at in range(WORDS) for value in VALUES]
    random_ = drawing(SEED)
    few = (0, 1, 2, 2**15, 2**16, MOST, MOST + 1)
    for _ in range(1_000):
        rank = random_.randint(0, 5)
        dimensions = [random_.choice(few) if at < rank or random_.random() < 0.1 else 0 for at in range(4)]
        found.append([random_.randint(2, 3), rank, *dimensions, *[0] * 26])
    return found


def program_holds(state: bytes, data: bytes) -> bool:
    """Whether a program with these two records is valid; its state must become itself."""
    const = Op(Opcode.CONST, (), (), (), (0,))
    header = Program((StateTensor((), 0),), ((1,),), (const,)).records()[0]
    try:
        Program.parse(header + state + data + record_of(const))
    except Refused:
        return False
    return True


def test_records_of_tensors(evm: Evm) -> None:
    state, data = Program((StateTensor((), 0),), ((1,),), (Op(Opcode.CONST, (), (), (), (0,)),)).records()[1:3]
    assert program_holds(state, data)
    records = tensor_changes()
    counts = [0, 0]
    for begin in range(0, len(records), 512):
        some = records[begin : begin + 512]
        found = evm.call(COMMITMENTS, "tensors", [pack(words) for words in some])
        for at, words in enumerate(some):
            of_state, of_data = found[13 * at : 13 * at + 7], found[13 * at + 7 : 13 * at + 13]
            # Whatever it becomes: whether there is such a tensor is not told by the record.
            assert of_state[0] == program_holds(pack([*words[:6], 0, *words[7:]]), data), words
            assert of_data[0] == program_holds(state, pack(words)), words
            if of_state[0]:
                assert list(of_state[1:]) == words[1:7]
            if of_data[0]:
                assert list(of_data[1:]) == words[1:6]
            counts[0] += of_state[0]
            counts[1] += of_data[0]
    assert min(counts) > 200
