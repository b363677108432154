# SPDX-License-Identifier: Apache-2.0
"""What Judge.vy must refuse: whatever is not as docs/exact.md and docs/disputes.md say, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from hashlib import sha256
from random import Random
from typing import Any

import numpy as np
import pytest

from gpubond.exact import merkle, reference
from gpubond.exact.merkle import Kind
from gpubond.exact.program import Op, Opcode, record_of
from tests.exact.conftest import Counted
from tests.exact.values import tensor
from tests.exact_contracts.evm import JUDGE, Evm, Reverted
from tests.exact_contracts.judging import Asked, Committed, Question, element_of, operand, run_of
from tests.exact_contracts.operations import drawing
from tests.exact_contracts.test_records import BASES, changes, right, words_of

SEED = 20_261_126
JUNK = sha256(b"junk").digest()
HUGE = 2**256 - 1


def refused(evm: Evm, reason: str, question: Question) -> None:
    with pytest.raises(Reverted, match=reason):
        question.ask(evm)


def run() -> Asked:
    """Terms 12 to 28 of a product of rows of 100: those of the second row lie in two leaves."""
    inputs = [tensor(SEED, (3, 100)), tensor(SEED + 1, (4, 100))]
    op = Op(Opcode.MATMUL_NT, (0, 1), ((3, 100), (4, 100)), (3, 4))
    held = [Committed(array) for array in inputs]
    element = 2 * 4 + 3
    micros = list(reference.chain(op, inputs, element, 0, 0))
    return run_of(op, held, micros, (0, 0, element), 12, 28)


def crossing() -> Asked:
    """Terms 50 to 66 of a sum, in two leaves of six."""
    array = tensor(SEED, (3, 128))
    op = Op(Opcode.SUM, (0,), (array.shape,), (3,))
    return run_of(op, [Committed(array)], list(reference.chain(op, [array], 1, 0, 0)), (0, 0, 1), 50, 66)


def product() -> Asked:
    """An element of a slice of data and one of an output, in leaves that are not full."""
    whole, other = tensor(SEED + 2, (3, 30)), tensor(SEED + 3, (30,))
    op = Op(Opcode.MUL, (0, 1), ((30,), (30,)), (30,))
    return element_of(op, [Committed(whole, 60), Committed(other)], [whole[2], other], (2, 0, 7))


def gathered(row: float) -> Asked:
    """An element of a row."""
    table, index = tensor(SEED, (4, 5)), np.array([0, row], np.float32)
    op = Op(Opcode.GATHER, (0, 1), ((4, 5), (2,)), (2, 5))
    return element_of(op, [Committed(table), Committed(index)], [table, index], (0, 0, 8))


def joined(element: int) -> Asked:
    """An element of three and two."""
    left, right_ = tensor(SEED, (3,)), tensor(SEED + 1, (2,))
    op = Op(Opcode.CONCAT, (0, 1), ((3,), (2,)), (5,), (0,))
    return element_of(op, [Committed(left), Committed(right_)], [left, right_], (0, 0, element))


def no_terms() -> Asked:
    """The sum of nothing."""
    array = np.zeros((2, 0), np.float32)
    op = Op(Opcode.SUM, (0,), ((2, 0),), (2,))
    return element_of(op, [Committed(array)], [array], (0, 0, 1))


def all_asked() -> list[Asked]:
    return [run(), crossing(), product(), gathered(2), gathered(9), joined(1), joined(4), no_terms()]


def test_these_are_accepted(evm: Evm) -> None:
    for asked in all_asked():
        assert asked.question.ask(evm) == asked.answer
    assert [len(shown["leaves"]) for shown in run().question.operands] == [1, 2]
    assert [len(shown["leaves"]) for shown in crossing().question.operands] == [2]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"element": 12}, "no such element"),
        ({"element": HUGE}, "no such element"),
        ({"step": 2**64}, "no such step"),
        ({"step": HUGE}, "no such step"),
        ({"op": 65_535}, "no such operation"),
        ({"op": HUGE}, "no such operation"),
        ({"begin": 12, "end": 12}, "no such terms"),
        ({"begin": 0, "end": 0}, "no such terms"),
        ({"begin": 13, "end": 12}, "no such terms"),
        ({"begin": HUGE, "end": 8}, "no such terms"),
        ({"begin": 90, "end": 101}, "no such terms"),
        ({"begin": 100, "end": 101}, "no such terms"),
        ({"begin": 8, "end": HUGE}, "no such terms"),
        ({"begin": 11, "end": 28}, "too many terms"),
        ({"begin": 0, "end": 100}, "too many terms"),
        ({"accumulator": 2**32}, "more than 32 bits"),
        ({"accumulator": HUGE}, "more than 32 bits"),
    ],
    ids=str,
)
def test_places_that_do_not_exist(evm: Evm, given: dict[str, int], reason: str) -> None:
    refused(evm, f"judge: {reason}", replace(run().question, **given))


def test_terms_of_two_blocks(evm: Evm) -> None:
    array = tensor(SEED, (1, 1100))
    op = Op(Opcode.ROWMAX, (0,), ((1, 1100),), (1,))
    held, micros = [Committed(array)], list(reference.chain(op, [array], 0, 0, 0))
    for begin, end in ((511, 513), (500, 516), (1023, 1025), (1010, 1025)):
        refused(evm, "judge: terms of two blocks", run_of(op, held, micros, (0, 0, 0), begin, end).question)
    for begin, end in ((511, 512), (512, 513), (496, 512), (1024, 1040)):
        asked = run_of(op, held, micros, (0, 0, 0), begin, end)
        assert asked.question.ask(evm) == asked.answer


@pytest.mark.parametrize("at", range(8))
def test_operands_missing_and_too_many(evm: Evm, at: int) -> None:
    question = all_asked()[at].question
    empty = operand(Committed(np.zeros(0, np.float32)), [])
    refused(evm, "judge: inputs are missing", replace(question, operands=question.operands[:-1]))
    if len(question.operands) < 3:
        refused(evm, "judge: inputs are missing", replace(question, operands=[*question.operands, empty]))


Change = Callable[[dict[str, Any]], None]


def changed(question: Question, at: int, change: Change) -> Question:
    operands = deepcopy(question.operands)
    change(operands[at])
    return replace(question, operands=operands)


def in_leaf(at: int, **given: Any) -> Change:
    def change(shown: dict[str, Any]) -> None:
        shown["leaves"][at] |= given

    return change


def on_path(act: Callable[[list[bytes]], list[bytes]]) -> Change:
    def change(shown: dict[str, Any]) -> None:
        shown["leaves"][0]["path"] = act(shown["leaves"][0]["path"])

    return change


def of_list(act: Callable[[list[Any]], list[Any]]) -> Change:
    def change(shown: dict[str, Any]) -> None:
        shown["leaves"] = act(shown["leaves"])

    return change


@pytest.mark.parametrize("asked", [run, crossing, product, lambda: gathered(2)], ids=["run", "two", "one", "gather"])
def test_leaves_that_are_not_those_of_the_tensor(evm: Evm, asked: Callable[[], Asked]) -> None:
    question = asked().question
    for at, shown in enumerate(question.operands):
        count = len(shown["leaves"])
        raw, path = shown["leaves"][0]["raw"], shown["leaves"][0]["path"]
        cases: list[tuple[str, Change]] = [
            ("other leaves are read", of_list(lambda leaves: [])),
            ("not of the tensor", in_leaf(0, raw=bytes([raw[0] ^ 1]) + raw[1:])),
            ("leaf is not 256 bytes", in_leaf(0, raw=raw[:-1])),
            ("leaf is not 256 bytes", in_leaf(0, raw=b"")),
            ("path has another length", on_path(lambda path: [*path, JUNK])),
            ("path has another length", on_path(lambda path: [JUNK] * 25)),
            ("not of the tensor", lambda shown: shown.update(root=JUNK)),
            ("not of the tensor", lambda shown: shown.update(root=bytes(32))),
            ("not a tensor of this shape", lambda shown: shown.update(elements=0)),
            ("not a tensor of this shape", lambda shown: shown.update(elements=shown["elements"] + 1)),
            ("not a tensor of this shape", lambda shown: shown.update(offset=shown["offset"] + 1)),
            ("not a tensor of this shape", lambda shown: shown.update(offset=shown["elements"])),
            ("not a tensor of this shape", lambda shown: shown.update(offset=HUGE - HUGE % shown["elements"])),
            ("too many elements", lambda shown: shown.update(elements=2**31)),
            ("too many elements", lambda shown: shown.update(elements=HUGE)),
        ]
        if count == 1:
            cases.append(("other leaves are read", of_list(lambda leaves: leaves * 2)))
        else:
            cases.append(("other leaves are read", of_list(lambda leaves: leaves[:1])))
            cases.append(("not of the tensor", of_list(lambda leaves: leaves[::-1])))
            cases.append(("not of the tensor", of_list(lambda leaves: leaves[:1] * 2)))
            cases.append(("not of the tensor", of_list(lambda leaves: leaves[1:] * 2)))
            cases.append(("not of the tensor", in_leaf(1, raw=raw)))
        if path:
            cases.append(("path has another length", on_path(lambda path: path[:-1])))
            cases.append(("path has another length", on_path(lambda path: path[1:])))
            cases.append(("not of the tensor|beyond the count", on_path(lambda path: [JUNK, *path[1:]])))
            cases.append(("not of the tensor|beyond the count", on_path(lambda path: [*path[:-1], JUNK])))
        for reason, change in cases:
            refused(evm, reason, changed(question, at, change))


def test_every_other_leaf_of_the_same_tensor(evm: Evm) -> None:
    array = tensor(SEED, (300,))
    held, op = Committed(array), Op(Opcode.NEG, (0,), ((300,),), (300,))
    for element in (0, 63, 64, 200, 256, 299):
        asked = element_of(op, [held], [array], (0, 0, element))
        assert asked.question.ask(evm) == asked.answer
        for index in {*range(5)} - {element // 64}:
            other = replace(asked.question, operands=[operand(held, [index])])
            refused(evm, "not of the tensor|beyond the count|beyond the elements", other)


def test_junk_behind_the_elements(evm: Evm) -> None:
    """Somebody committed to it: it is the right leaf with the right path, and still refused."""
    for elements in (1, 63, 65, 100, 127):
        raw = tensor(SEED, (elements,)).tobytes()
        op = Op(Opcode.NEG, (0,), ((elements,),), (elements,))
        array = np.frombuffer(raw, np.float32)
        for at in {len(raw), len(raw) + 1, 256 * (1 + len(raw) // 256) - 1}:
            filled = bytearray(raw.ljust(256 * -(-len(raw) // 256), b"\0"))
            filled[at] = 1
            junk = Committed(np.frombuffer(bytes(filled), np.float32))
            asked = element_of(op, [Committed(array)], [array], (0, 0, elements - 1))
            shown = operand(junk, [(elements - 1) // 64]) | {"elements": elements}
            refused(evm, "bytes beyond the elements", replace(asked.question, operands=[shown]))


def test_a_leaf_behind_the_last_one(evm: Evm) -> None:
    """A tree over six leaves, said to be one of five."""
    array = tensor(SEED, (384,))
    op = Op(Opcode.NEG, (0,), ((320,),), (320,))
    shown = operand(Committed(array), [4]) | {"elements": 320}
    asked = element_of(op, [Committed(array[:320])], [array[:320]], (0, 0, 319))
    refused(evm, "a subtree beyond the count", replace(asked.question, operands=[shown]))


def test_leaves_that_are_not_read(evm: Evm) -> None:
    """Nobody has to show them, and nobody may, since nothing would be said about them."""
    shown = operand(Committed(tensor(SEED, (20,))), [0])
    for asked, at in ((gathered(9), 0), (gathered(-1), 0), (gathered(0.5), 0), (joined(1), 1), (joined(4), 0)):
        question = asked.question
        assert not question.operands[at]["leaves"]
        refused(evm, "judge: leaves that are not read", changed(question, at, lambda given: given.update(shown)))
    question = replace(no_terms().question, operands=[shown])
    refused(evm, "judge: leaves that are not read", question)


def test_leaves_beside_those_that_operands_say_to_have(evm: Evm) -> None:
    *rest, leaves = run().question.arguments()
    assert len(leaves) == 3
    with pytest.raises(Reverted, match="judge: leaves that are not read"):
        evm.call(JUDGE, "evaluate", *rest, [*leaves, leaves[-1]])
    for wrong in (leaves[:-1], leaves[1:], []):
        with pytest.raises(Reverted):
            evm.call(JUDGE, "evaluate", *rest, wrong)
    # In another order, or one path longer by what the next leaf begins with.
    for wrong in (leaves[::-1], [leaves[0] + leaves[1][:32], leaves[1][32:], leaves[2]]):
        with pytest.raises(Reverted, match=r"not of the tensor|path has another length|beyond the"):
            evm.call(JUDGE, "evaluate", *rest, wrong)


def test_what_is_not_read_is_not_looked_at(evm: Evm) -> None:
    nothing = {"root": JUNK, "elements": HUGE, "offset": HUGE, "leaves": []}
    for asked, at in ((gathered(9), 0), (joined(1), 1), (joined(4), 0), (no_terms(), 0)):
        question = changed(asked.question, at, lambda given: given.update(nothing))
        assert question.ask(evm) == asked.answer


def test_begin_end_and_accumulator_are_for_reductions_only(evm: Evm) -> None:
    for asked in (product(), gathered(2), joined(1)):
        question = replace(asked.question, begin=HUGE, end=7, accumulator=HUGE)
        assert question.ask(evm) == asked.answer


def test_what_the_interface_has_no_room_for(evm: Evm) -> None:
    question = crossing().question
    leaf = question.operands[0]["leaves"][0]
    for wrong in (
        replace(question, record=question.record + b"\0"),
        replace(question, operands=question.operands * 4),
        changed(question, 0, of_list(lambda leaves: leaves * 2)),
        changed(question, 0, in_leaf(0, raw=leaf["raw"] + b"\0")),
        changed(question, 0, in_leaf(0, path=[JUNK] * 26)),
    ):
        with pytest.raises(Reverted):
            wrong.ask(evm)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((5, 0, 0), "no reduction"),
        ((9, 0, 0), "no reduction"),
        ((0, 0, 0), "no reduction"),
        ((HUGE, 0, 0), "no reduction"),
        ((6, 2**32, 0), "more than 32 bits"),
        ((6, 0, 2**32), "more than 32 bits"),
        ((8, HUGE, 0), "more than 32 bits"),
        ((6, 2**32, 2**32), "more than 32 bits"),
    ],
    ids=str,
)
def test_joins_of_what_is_none(evm: Evm, arguments: tuple[int, int, int], reason: str) -> None:
    with pytest.raises(Reverted, match=f"judge: {reason}"):
        evm.call(JUDGE, "join", *arguments)


def said(evm: Evm, record: bytes) -> list[int] | None:
    """The words of a record by the judge; None if it says that it is not valid."""
    found = evm.call(JUDGE, "operation", record)
    if found["opcode"] == 0:
        return None
    words = [4, found["opcode"], found["inputs"]]
    for number, (rank, dimensions) in zip(found["tensors"], found["shapes"], strict=True):
        words += [number, rank, *dimensions]
    return [*words, found["output"]["rank"], *found["output"]["dimensions"], *found["parameters"], 0]


def agreed(evm: Evm, records: Iterator[bytes]) -> int:
    """How many of the records both refuse."""
    count = 0
    for record in records:
        found = said(evm, record)
        assert (found is not None) == right(record), record.hex()
        if found is None:
            count += 1
            with pytest.raises(Reverted, match="judge: record is not valid"):
                evm.call(JUDGE, "evaluate", record, 0, 0, 0, 0, 0, 0, [], [])
        else:
            assert found == [int.from_bytes(record[at : at + 4], "big") for at in range(0, 128, 4)]
    return count


@pytest.mark.parametrize("op", BASES, ids=lambda op: f"{op.code.name}-{len(op.shape)}")
def test_records(evm: Evm, op: Op) -> None:
    assert said(evm, record_of(op)) == words_of(op)
    every = list(changes(op))
    assert agreed(evm, iter(drawing(SEED).sample(every, 30))) > 10


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_every_field_of_records_changed(evm: Evm, counted: Counted) -> None:
    every = [record for op in BASES for record in changes(op)]
    assert agreed(evm, iter(every)) > 10_000
    counted(len(every), 0)


def test_records_of_another_length(evm: Evm) -> None:
    for record in (b"", record_of(BASES[0])[:-1], record_of(BASES[0])[:96]):
        assert said(evm, record) is None


def mutated(random_: Random, question: Question) -> Question:
    """One thing that is shown is not as it was: what a thief has in hand, since all else is told by the game."""
    operands = deepcopy(question.operands)
    shown = random_.choice([given for given in operands if given["leaves"]])
    leaves = shown["leaves"]
    leaf = random_.choice(leaves)
    kind = random_.randrange(6)
    if kind == 0 or not leaf["path"]:
        raw = bytearray(leaf["raw"])
        raw[random_.randrange(256)] ^= 1 << random_.randrange(8)
        leaf["raw"] = bytes(raw)
    elif kind == 1:
        at = random_.randrange(len(leaf["path"]))
        leaf["path"][at] = random_.choice([JUNK, merkle.zero(Kind.ELEMENTS, at), leaf["path"][-1]])
    elif kind == 2:
        leaf["path"] = leaf["path"][random_.randrange(2) :][: random_.randint(0, len(leaf["path"]))]
    elif kind == 3:
        leaf["path"] = [*leaf["path"], random_.choice([JUNK, merkle.zero(Kind.ELEMENTS, len(leaf["path"]))])]
    elif kind == 4:
        shown["leaves"] = random_.choice([leaves[::-1], leaves[:-1], (leaves * 2)[:2], []])
    else:
        leaf["raw"] = random_.choice([leaf["raw"][: random_.randrange(256)], random_.randbytes(256), bytes(256)])
    return replace(question, operands=operands)


def tried(evm: Evm, cases: int, seed: int) -> int:
    """How many of the changed questions were refused; the others must be answered as if nothing had changed."""
    random_ = drawing(seed)
    every = [asked for asked in all_asked() if any(given["leaves"] for given in asked.question.operands)]
    count = 0
    for _ in range(cases):
        asked = random_.choice(every)
        try:
            assert mutated(random_, asked.question).ask(evm) == asked.answer
        except Reverted:
            count += 1
    return count


def test_nothing_shown_leads_to_another_answer(evm: Evm) -> None:
    assert tried(evm, 1_000, SEED) > 800


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_nothing_shown_leads_to_another_answer_50_000_times(evm: Evm, counted: Counted) -> None:
    assert tried(evm, 50_000, SEED + 1) > 40_000
    counted(50_000, SEED + 1)
