# SPDX-License-Identifier: Apache-2.0
"""Programs and their records: what is valid, and that everything else is refused with the field's name."""

from __future__ import annotations

import dataclasses
import re
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubond.exact.program import (
    ARITY,
    MAX_RECORDS,
    RECORD_BYTES,
    Op,
    Opcode,
    Program,
    StateTensor,
    parse_record,
    parse_state_record,
    record_of,
)
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import MOST, Shape
from tests.exact.programs import Case, every_operation, programs

EVERY = every_operation().program
RECORDS = EVERY.records()
WORDS = RECORD_BYTES // 4
FIELD = re.compile(
    r"(program\.length|header\.(kind|version|state|data|ops|word\[\d+\])"
    r"|(state|data|op)\[\d+\]\.(kind|opcode|inputs|next|rank|shape|word\[\d+\]|dimension\[\d\]|parameter(\[\d\])?"
    r"|input\[\d\]\.(tensor|rank|shape|dimension\[\d\])|output\.(rank|shape|dimension\[\d\])))"
)


def label(number: int) -> str:
    """The name of a record of EVERY in refusals."""
    first_op = 1 + EVERY.first_output
    if number >= first_op:
        return f"op[{number - first_op}]"
    return "header" if number == 0 else ("state[0]", "state[1]", "data[0]", "data[1]")[number - 1]


def with_word(number: int, word: int, value: int) -> bytes:
    """EVERY's file with one word of one record changed."""
    file = bytearray(EVERY.encode())
    struct.pack_into(">I", file, number * RECORD_BYTES + 4 * word, value)
    return bytes(file)


def word_of(number: int, word: int) -> int:
    return int(struct.unpack_from(">I", RECORDS[number], 4 * word)[0])


def test_what_is_written_is_read_again() -> None:
    assert Program.parse(EVERY.encode()) == EVERY
    assert len(EVERY.encode()) == RECORD_BYTES * len(RECORDS)
    for op in EVERY.ops:
        assert parse_record(record_of(op)) == op


@settings(max_examples=50, deadline=None)
@given(programs())
def test_random_programs_are_read_again(case: Case) -> None:
    assert Program.parse(case.program.encode()) == case.program


def test_a_record_is_as_the_page_lays_it_out() -> None:
    op = Op(Opcode.CONCAT, (5, 6), ((2, 3), (4, 3)), (6, 3), (0,))
    words = struct.unpack(">32I", record_of(op))
    assert words[:9] == (4, 4, 2, 5, 2, 2, 3, 0, 0)
    assert words[9:15] == (6, 2, 4, 3, 0, 0) and words[15:21] == (0,) * 6
    assert words[21:26] == (2, 6, 3, 0, 0) and words[26:] == (0,) * 6
    program = Program((StateTensor((7,), 0),), ((3, 7),), (Op(Opcode.NEG, (1,), ((7,),), (7,)),))
    header, state, data, _ = (struct.unpack(">32I", record) for record in program.records())
    assert header[:6] == (1, 1, 1, 1, 1, 0)
    assert state[:8] == (2, 1, 7, 0, 0, 0, 0, 0) and data[:7] == (3, 2, 3, 7, 0, 0, 0)


@pytest.mark.parametrize("number", range(len(RECORDS)), ids=label)
def test_every_field_of_every_record_changed(number: int) -> None:
    """It is refused by a name, or it is another valid program, which is written just so."""
    accepted = 0
    for word in range(WORDS):
        old = word_of(number, word)
        for value in {0, 1, 2, 3, 4, 5, 22, old ^ 1, old + 1, old ^ 0x80000000, 2**31 - 1, 2**32 - 1} - {old}:
            file = with_word(number, word, value)
            try:
                program = Program.parse(file)
            except Refused as refused:
                assert FIELD.fullmatch(refused.field), refused
                assert refused.reason and refused.field in str(refused)
                check_name(number, word, file, refused)
            else:
                assert program.encode() == file and program != EVERY
                accepted += 1
    # A header promises what is there, and nothing here fits GATHER's shapes but its inputs.
    assert (accepted > 0) == (label(number) not in ("header", "op[4]")), accepted


def check_name(number: int, word: int, file: bytes, refused: Refused) -> None:
    """A record that is wrong by itself is named; one that does not fit others is, or the one that it does not fit."""
    if label(number).startswith("op"):
        record = file[number * RECORD_BYTES :][:RECORD_BYTES]
        try:
            parse_record(record, label(number))
        except Refused as alone:
            assert alone.field == refused.field
        else:
            assert refused.field.startswith(("op", "state"))
    elif word == 0:
        assert refused.field == f"{label(number)}.kind"
    elif number == 0:
        assert refused.field.startswith(("header", "program.length"))
    elif word >= 7:
        assert refused.field == f"{label(number)}.word[{word}]"


@pytest.mark.parametrize("number", range(1, len(RECORDS)), ids=label)
def test_words_without_a_name_must_be_zero(number: int) -> None:
    named = {"state": 7, "data": 6}.get(label(number)[:-3])
    if named is None:
        op = EVERY.ops[number - 1 - EVERY.first_output]
        inputs, parameters = ARITY[op.code]
        free = [*range(3 + 6 * inputs, 21), *range(26 + parameters, WORDS)]
    else:
        free = list(range(named, WORDS))
    for word in free:
        with pytest.raises(Refused) as refused:
            Program.parse(with_word(number, word, 1))
        assert refused.value.field == f"{label(number)}.word[{word}]" and refused.value.value == 1


@pytest.mark.parametrize("length", [0, 1, 127, 129, 128 * len(RECORDS) - 1, 128 * len(RECORDS) - 128])
def test_files_cut_short(length: int) -> None:
    with pytest.raises(Refused) as refused:
        Program.parse(EVERY.encode()[:length])
    assert refused.value.field == "program.length"


def test_files_that_go_on() -> None:
    with pytest.raises(Refused, match=r"program\.length"):
        Program.parse(EVERY.encode() + bytes(128))


@pytest.mark.parametrize(
    ("number", "word", "value", "field"),
    [
        (0, 1, 2, "header.version"),
        (0, 1, 0, "header.version"),
        (0, 2, 0, "program.length"),
        (0, 4, 2**32 - 1, "program.length"),
        (1, 1, 5, "state[0].rank"),
        (1, 6, 2**32 - 1, "state[0].next"),
        (1, 6, 1, "state[0].next"),  # another shape
        (1, 6, 3, "state[0].next"),  # a slice of the data, of the same shape
        (3, 1, 0, "data[0].shape"),
        (3, 1, 2**31, "data[0].rank"),
        (5, 1, 0, "op[0].opcode"),
        (5, 1, 22, "op[0].opcode"),
        (5, 2, 1, "op[0].inputs"),
        (7, 3, 6, "op[2].input[0].tensor"),  # its own output
        (7, 3, 7, "op[2].input[0].tensor"),  # a later one
        (7, 3, 2**32 - 1, "op[2].input[0].tensor"),
        (7, 4, 5, "op[2].input[0].rank"),
        (7, 21, 2**32 - 1, "op[2].output.rank"),
        (5, 22, 2**31, "op[0].output.dimension[0]"),
        (5, 22, 2**31 - 1, "op[0].output.shape"),  # three times as many elements
        (7, 26, 5, "op[2].parameter"),
        (7, 30, 1, "op[2].parameter[4]"),
        (5, 26, 0x7F800001, "op[0].parameter[0]"),
        (5, 26, 0xFFC00000, "op[0].parameter[0]"),
    ],
)
def test_the_field_is_named(number: int, word: int, value: int, field: str) -> None:
    with pytest.raises(Refused) as refused:
        Program.parse(with_word(number, word, value))
    assert refused.value.field == field


def refusal(op: Op) -> str:
    with pytest.raises(Refused) as refused:
        op.check()
    with pytest.raises(Refused) as read:
        parse_record(record_of(op))
    assert read.value.field == refused.value.field
    return refused.value.field


A, B, C = (2, 3), (3, 2), (2, 3, 4)
BIG = (1 << 16, 1 << 15)


@pytest.mark.parametrize(
    ("code", "inputs", "shape", "parameters", "field"),
    [
        (Opcode.ADD, (A, B), A, (), "op.input[1].shape"),
        (Opcode.FMA, (A, A, B), A, (), "op.input[2].shape"),
        (Opcode.NEG, (A,), B, (), "op.output.shape"),
        (Opcode.SUM, ((),), (), (), "op.input[0].rank"),
        (Opcode.ROWMAX, (A,), (3,), (), "op.output.shape"),
        (Opcode.MATMUL_NT, ((3,), (3,)), (), (), "op.input[1].rank"),
        (Opcode.MATMUL_NT, (A, C), A, (), "op.input[1].rank"),
        (Opcode.MATMUL_NT, (A, B), (2, 3), (), "op.input[1].shape"),
        (Opcode.MATMUL_NT, ((2, 2, 3), (3, 2, 3)), (2, 2, 2), (), "op.input[1].shape"),
        (Opcode.MATMUL_NT, (A, A), A, (), "op.output.shape"),
        (Opcode.MATMUL_NT, ((1 << 16, 1), (1 << 16, 1)), (1 << 16, 1 << 16), (), "op.output.shape"),
        (Opcode.GATHER, (C, A), A, (), "op.input[0].rank"),
        (Opcode.GATHER, (A, (1, 1, 1, 1)), A, (), "op.input[1].rank"),
        (Opcode.GATHER, (A, (4,)), (4, 2), (), "op.output.shape"),
        (Opcode.CONCAT, (A, C), A, (0,), "op.input[1].rank"),
        (Opcode.CONCAT, ((), ()), (), (0,), "op.input[1].rank"),
        (Opcode.CONCAT, (A, A), (4, 3), (2,), "op.parameter[0]"),
        (Opcode.CONCAT, (A, A), (4, 3), (2**32 - 1,), "op.parameter[0]"),
        (Opcode.CONCAT, (A, B), (4, 3), (0,), "op.input[1].shape"),
        (Opcode.CONCAT, (A, A), (4, 3), (1,), "op.output.shape"),
        (Opcode.CONCAT, ((MOST,), (1,)), (MOST + 1,), (0,), "op.output.dimension[0]"),
        (Opcode.VIEW, (A,), (2,), (5, 1, 0, 0, 0), "op.parameter"),
        (Opcode.VIEW, (A,), (2,), (0, 2**32 - 1, 0, 0, 0), "op.parameter"),
        (Opcode.VIEW, (A,), (2, 2), (2**32 - 1, 2**32 - 1, 2**32 - 1, 0, 0), "op.parameter"),
        (Opcode.VIEW, ((0,),), (), (0, 0, 0, 0, 0), "op.parameter"),
        (Opcode.VIEW, (A,), (2,), (0, 1, 1, 0, 0), "op.parameter[2]"),
        (Opcode.VIEW, (A,), (0,), (0, 1, 1, 0, 0), "op.parameter[2]"),
        (Opcode.CONST, (), BIG, (0,), "op.output.shape"),
        (Opcode.CONST, (), (1 << 16, 1 << 15, 0), (0,), "op.output.shape"),
        (Opcode.CONST, (), (1 << 8,) * 4, (0,), "op.output.shape"),
        (Opcode.CONST, (), (2**32 - 1, 0), (0,), "op.output.dimension[0]"),
        (Opcode.NEG, (BIG,), BIG, (), "op.input[0].shape"),
    ],
)
def test_operations_that_are_refused(
    code: Opcode, inputs: tuple[Shape, ...], shape: Shape, parameters: tuple[int, ...], field: str
) -> None:
    assert refusal(Op(code, tuple(range(len(inputs))), inputs, shape, parameters)) == field


@pytest.mark.parametrize(
    ("code", "inputs", "shape", "parameters"),
    [
        (Opcode.SUM, ((0,),), (), ()),
        (Opcode.SUM, ((MOST, 0),), (MOST,), ()),
        (Opcode.MATMUL_NT, ((0, 3), (4, 3)), (0, 4), ()),
        (Opcode.MATMUL_NT, ((2, 1, 5, 0), (2, 1, 4, 0)), (2, 1, 5, 4), ()),
        (Opcode.GATHER, ((0, 7), (2, 2, 2)), (2, 2, 2, 7), ()),
        (Opcode.GATHER, ((4, 7), ()), (7,), ()),
        (Opcode.CONCAT, ((0,), (0,)), (0,), (0,)),
        (Opcode.CONCAT, ((MOST - 1,), (1,)), (MOST,), (0,)),
        (Opcode.VIEW, (A,), (6,), (0, 1, 0, 0, 0)),
        (Opcode.VIEW, ((),), (MOST,), (0, 0, 0, 0, 0)),
        (Opcode.VIEW, ((),), (0,), (2**32 - 1, 2**32 - 1, 0, 0, 0)),
        (Opcode.VIEW, ((),), (1,), (0, 2**32 - 1, 0, 0, 0)),
        (Opcode.CONST, (), (MOST,), (0x7FC00000,)),
        (Opcode.CONST, (), (MOST, 1, 0), (0xFF800000,)),
        (Opcode.UNIFORM, (), (), (2**32 - 1, 2**32 - 1)),
        (Opcode.ADD, ((), ()), (), ()),
    ],
)
def test_operations_that_are_accepted(
    code: Opcode, inputs: tuple[Shape, ...], shape: Shape, parameters: tuple[int, ...]
) -> None:
    op = Op(code, tuple(range(len(inputs))), inputs, shape, parameters)
    assert parse_record(record_of(op)) == op


def test_operations_made_wrong_in_python_are_refused() -> None:
    good = Op(Opcode.ADD, (0, 1), (A, A), A)
    for change, field in [
        ({"inputs": (0,)}, "op.inputs"),
        ({"input_shapes": (A,)}, "op.input_shapes"),
        ({"parameters": (1,)}, "op.parameters"),
        ({"inputs": (0, -1)}, "op.input[1].tensor"),
        ({"inputs": (0, 2**32)}, "op.input[1].tensor"),
        ({"shape": (-1, 3)}, "op.output.dimension[0]"),
        ({"shape": (1, 1, 1, 1, 1)}, "op.output.rank"),
    ]:
        with pytest.raises(Refused) as refused:
            dataclasses.replace(good, **change).check()  # type: ignore[arg-type]
        assert refused.value.field == field
    with pytest.raises(Refused, match=r"parameter\[0\]"):
        Op(Opcode.UNIFORM, (), (), A, (2**32, 0)).check()
    with pytest.raises(Refused, match=r"op\.length"):
        parse_record(bytes(127))


def test_counts_are_bounded() -> None:
    state, op = StateTensor((), 0), Op(Opcode.CONST, (), (), (), (0,))
    for wrong, field in [
        (((), (), (op,)), "header.state"),
        (((state,), (), ()), "header.ops"),
        (((state,) * (MAX_RECORDS + 1), (), (op,)), "header.state"),
        (((state,), ((1,),) * (MAX_RECORDS + 1), (op,)), "header.data"),
        (((state,), (), (op,) * (MAX_RECORDS + 1)), "header.ops"),
    ]:
        with pytest.raises(Refused) as refused:
            Program(*wrong)
        assert refused.value.field == field
    assert len(Program((state,), (), (op,) * MAX_RECORDS).ops) == MAX_RECORDS


def test_state_comes_from_state_and_outputs_and_no_data() -> None:
    ops = (Op(Opcode.CONST, (), (), (2,), (0,)),)

    def program(number: int) -> Program:
        return Program((StateTensor((2,), number), StateTensor((2,), 0)), ((5, 2), (2, 2)), ops)

    for number in (0, 1, 4):
        assert program(number).state[0].next == number
    for number in (-1, 2, 3, 5):
        with pytest.raises(Refused) as refused:
            program(number)
        assert (refused.value.field, refused.value.value) == ("state[0].next", number)
        assert ("VIEW" in refused.value.remedy) == (number in (2, 3))


def refused_or_read_again(file: bytes) -> None:
    try:
        program = Program.parse(file)
    except Refused as refused:
        assert FIELD.fullmatch(refused.field), refused
    else:
        assert program.encode() == file


@settings(max_examples=150)
@given(st.binary(max_size=1024))
def test_any_bytes(file: bytes) -> None:
    refused_or_read_again(file)


@settings(max_examples=150)
@given(
    st.lists(st.lists(st.one_of(st.integers(0, 22), st.integers(0, 2**32 - 1)), min_size=32, max_size=32), max_size=5)
)
def test_any_words(records: list[list[int]]) -> None:
    refused_or_read_again(b"".join(struct.pack(">32I", *words, *[0] * (32 - len(words))) for words in records))


@settings(max_examples=150, deadline=None)
@given(programs(), st.data())
def test_programs_with_bits_turned(case: Case, data: st.DataObject) -> None:
    file = bytearray(case.program.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        bit = data.draw(st.integers(0, 8 * len(file) - 1))
        file[bit // 8] ^= 1 << bit % 8
    refused_or_read_again(bytes(file))


@pytest.mark.extended
@pytest.mark.timeout(3600)
@settings(max_examples=50_000, deadline=None)
@given(st.one_of(st.binary(max_size=2048), st.binary(min_size=512, max_size=512)))
def test_any_bytes_fifty_thousand_times(file: bytes) -> None:
    refused_or_read_again(struct.pack(">5I", 1, 1, 1, 1, max(len(file) // 128 - 2, 0)) + bytes(108) + file)


@pytest.mark.extended
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, deadline=None)
@given(programs(), st.data())
def test_programs_with_bits_turned_ten_thousand_times(case: Case, data: st.DataObject) -> None:
    file = bytearray(case.program.encode())
    bit = data.draw(st.integers(0, 8 * len(file) - 1))
    file[bit // 8] ^= 1 << bit % 8
    refused_or_read_again(bytes(file))


def test_a_state_tensors_record_is_read_by_itself() -> None:
    program = Program((StateTensor((2, 3), 0),), (), (Op(Opcode.CONST, (), (), (), (0,)),))
    record = program.records()[1]
    assert parse_state_record(record) == program.state[0]
    for wrong in (record[:-1], record + b"\0", program.records()[0], program.records()[2], record[:-1] + b"\1"):
        with pytest.raises(Refused):
            parse_state_record(wrong)
    # A shape that no tensor may have.
    huge = record[:8] + (2**31).to_bytes(4, "big") + record[12:]
    with pytest.raises(Refused, match=r"state\.dimension"):
        parse_state_record(huge)
