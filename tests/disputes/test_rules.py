# SPDX-License-Identifier: Apache-2.0
"""Which moves are refused: those of the other side, of another level, and those with any field changed."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from random import Random
from typing import Any

import pytest

from gpubond.disputes import rules
from gpubond.disputes.levels import FREE
from gpubond.disputes.moves import (
    JudgeElement,
    JudgeRun,
    JudgeState,
    Move,
    PickNode,
    PickOperation,
    ShowAccumulators,
    ShowLeaf,
    ShowNodes,
    ShowTotals,
)
from gpubond.disputes.position import Nodes, Position, Side, Verdict
from gpubond.disputes.terms import Terms
from gpubond.exact import merkle
from gpubond.exact.commitments import Statement
from gpubond.exact.merkle import Kind
from gpubond.exact.program import Opcode, parse_record, parse_state_record, record_of
from gpubond.exact.refusal import Refused
from tests.disputes.liar import Liar, Lie, LyingExecution, edges
from tests.disputes.mutations import changed
from tests.disputes.play import Honest
from tests.disputes.tasks import every_level_task, single_task, summing_task
from tests.disputes.test_soundness import every_pick, told
from tests.exact_contracts.operations import drawing

SHOWS = (ShowNodes, ShowLeaf, ShowTotals, ShowAccumulators)


@pytest.fixture(scope="module")
def honest() -> Honest:
    return Honest.of(every_level_task())


def asked(position: Position, move: Move) -> Position | Verdict | None:
    """What a move leads to; None if it is refused. Nothing else may happen."""
    try:
        return rules.apply(position, move)
    except Refused:
        return None


def walk(honest: Honest, chance: Random) -> Iterator[tuple[Position, Move]]:
    """A game between the honest asserter and one that picks at random: each position with the move made in it."""
    position: Position | Verdict = rules.begin(honest.terms, honest.execution.run_root)
    while isinstance(position, Position):
        if position.turn is Side.ASSERTER:
            move: Move = honest.asserter.show(position)
        else:
            move = chance.choice(list(every_pick(honest, position)))
        yield position, move
        position = rules.apply(position, move)


def free(position: Position) -> bool:
    """Whether what is shown here is bound to nothing."""
    doubt = position.doubt
    return (
        doubt.level in FREE and doubt.at_root
        if isinstance(doubt, Nodes)
        else position.level.value in ("totals", "block")
    )


@pytest.mark.parametrize("number", range(6))
def test_a_changed_move_is_refused_or_wins_nothing(honest: Honest, number: int) -> None:
    """Whoever computed right is not convicted by a move with any field changed; what is bound cannot be another."""
    taken: Counter[str] = Counter()
    for position, move in walk(honest, drawing(number)):
        for other in changed(move):
            after = asked(position, other)
            taken["refused" if after is None else "taken"] += 1
            assert not isinstance(after, Verdict) or not after.convicted, (position.level, other)
            if isinstance(other, SHOWS):
                assert (after is not None) <= free(position), (position.level, other)
    assert taken["refused"] > 20


def test_proofs_are_refused_with_any_field_changed(honest: Honest) -> None:
    """But for which element, run or tensor is judged, nothing of a last move may be another."""
    seen: set[str] = set()
    for number in range(40):
        for position, move in walk(honest, drawing(1000 + number)):
            if not isinstance(move, JudgeElement | JudgeRun | JudgeState | PickOperation):
                continue
            seen.add(type(move).__name__)
            for name in ("shown", "record", "record_path", "commitment", "path", "state_path"):
                for other in changed(getattr(move, name)) if hasattr(move, name) else ():
                    wrong = replace(move, **{name: other})
                    after = asked(position, wrong)
                    # What is not needed may say anything.
                    assert after is None or _used(wrong, move) == _used(move, move), (position.level, wrong)
    assert seen == {"JudgeElement", "JudgeRun", "JudgeState", "PickOperation"}


def _used(move: Move, right: Move) -> object:
    """What is looked at, which is as much as in the right move."""
    if isinstance(move, JudgeState) and isinstance(right, JudgeState):
        return replace(move, state_path=move.state_path if right.state_path else ())
    if not isinstance(move, JudgeElement | JudgeRun) or not isinstance(right, JudgeElement | JudgeRun):
        return move
    path = move.shown.state_path if right.shown.state_path else ()
    return path, [operand if operand.leaves else None for operand in move.shown.operands]


def test_moves_of_the_other_side_and_of_other_levels_are_refused(honest: Honest) -> None:
    """In each position of all games every move of every other kind is refused."""
    played: list[tuple[Position, Move]] = []
    for number in range(30):
        played += walk(honest, drawing(2000 + number))
    kinds = {type(move): move for _, move in played}
    assert len(kinds) >= 11, kinds.keys()
    for position, move in played:
        for other in kinds.values():
            # At one level there may be two ways to go on.
            if type(other) is not type(move) and not _alternative(position, other):
                assert asked(position, other) is None, (position.level, other)


def _alternative(position: Position, other: Move) -> bool:
    at_leaf = isinstance(position.doubt, Nodes) and position.turn is Side.CHALLENGER
    return at_leaf or (position.turn is Side.CHALLENGER and position.level.value in ("totals", "leaf"))


def test_none_is_for_the_first_show_of_a_free_level() -> None:
    honest = Honest.of(every_level_task(40, 40))
    position = rules.begin(honest.terms, honest.execution.run_root)
    shown = rules.apply(position, honest.asserter.show(position))
    assert isinstance(shown, Position) and isinstance(shown.doubt, Nodes) and shown.level.value == "interval"
    assert asked(shown, PickNode(None)) is not None
    below = replace(shown.doubt, height=1)
    assert asked(replace(shown, doubt=below), PickNode(None)) is None
    for level in ("run", "output", "state"):
        for position, move in walk(Honest.of(every_level_task()), drawing(7)):
            if position.level.value == level and isinstance(move, PickNode):
                assert asked(position, PickNode(None)) is None


def test_a_state_of_one_tensor_is_judged_at_once() -> None:
    honest = Honest.of(single_task(3, 2))
    execution = LyingExecution(honest.prepared, honest.task, Lie(1, tensor=0))
    game = honest.against(Liar(execution), execution.run_root)
    before, move = game.positions[-1], game.moves[-1]
    assert isinstance(move, JudgeState) and before.level.value == "step"
    assert asked(before, PickNode(None)) is None
    for other in (replace(move, tensor=1), replace(move, record=b""), replace(move, commitment=bytes(32))):
        assert asked(before, other) is None


def test_values_must_fit_in_four_bytes() -> None:
    honest = Honest.of(summing_task(1030))
    for position, move in walk(honest, drawing(1)):
        if isinstance(move, ShowTotals):
            for wrong in (-1, 2**32):
                assert asked(position, replace(move, totals=(wrong, *move.totals[1:]))) is None
                assert asked(position, replace(move, sums=(wrong, *move.sums[1:]))) is None


@pytest.mark.parametrize("seconds", [-1, 2**64])
def test_terms_have_room_for_their_numbers(honest: Honest, seconds: int) -> None:
    with pytest.raises(Refused, match="answer_seconds"):
        Terms(honest.terms.statement, seconds)


def test_terms_hash_all_that_they_say(honest: Honest) -> None:
    """H(0x82 ‖ statement ‖ answer seconds); another value in any field gives other terms."""
    said = honest.terms.statement
    assert honest.terms.exact_terms == sha256(b"\x82" + said.hash() + (60).to_bytes(8, "big")).digest()
    hashes = {honest.terms.exact_terms, Terms(said, 61).exact_terms}
    for name, value in vars(said).items():
        other: Any = value + 1 if isinstance(value, int) else bytes(32)
        hashes.add(Terms(replace(said, **{name: other}), 60).exact_terms)
    assert len(hashes) == 2 + len(vars(said))


@pytest.mark.parametrize("root", [b"", bytes(31), bytes(33)])
def test_a_run_root_has_32_bytes(honest: Honest, root: bytes) -> None:
    with pytest.raises(Refused, match="run_root"):
        rules.begin(honest.terms, root)


def words_changed(record: bytes) -> Iterator[bytes]:
    """Each of the 32 words replaced."""
    words = list(struct.unpack(">32I", record))
    for at, old in enumerate(words):
        for value in {0, 1, 2, 4, 5, 22, 2**31 - 1, 2**31, 2**32 - 1, old - 1, old + 1, old ^ 1 << 31} - {old}:
            if 0 <= value < 2**32:
                yield struct.pack(">32I", *words[:at], value, *words[at + 1 :])


def with_record(said: Statement, records: list[bytes], at: int, record: bytes) -> tuple[Statement, tuple[bytes, ...]]:
    """Terms of a program with one record replaced, and the path of that record."""
    tree = merkle.tree_of(Kind.PROGRAM, [*records[:at], record, *records[at + 1 :]])
    return replace(said, program=tree.root), tree.path(at)


def valid(record: bytes, *, of_state: bool) -> bool:
    try:
        _ = parse_state_record(record) if of_state else parse_record(record)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("code", [Opcode.MATMUL_NT, Opcode.VIEW, Opcode.GATHER, Opcode.CONST, Opcode.FMA])
def test_an_operation_whose_record_is_not_valid_cannot_be_picked(honest: Honest, code: Opcode) -> None:
    """Terms with a malformed record: whoever agreed to them cannot be convicted by it."""
    program = honest.task.program
    op = next(at for at, op in enumerate(program.ops) if op.code is code)
    records = program.records()
    shown = next(
        position
        for number in range(100)
        for position, move in walk(honest, drawing(number))
        if isinstance(move, PickOperation)
    )
    refused = 0
    for record in words_changed(record_of(program.ops[op])):
        at = 1 + program.first_output + op
        said, path = with_record(honest.terms.statement, records, at, record)
        position = replace(shown, terms=Terms(said, 60))
        after = asked(position, PickOperation(op, record, path))
        # Nor is the record taken that the program does not have.
        assert asked(position, PickOperation(op, records[at], path)) is None
        assert (after is not None) == valid(record, of_state=False)
        refused += after is None
    assert refused > 100


def test_a_tensor_of_the_state_whose_record_is_not_valid_is_not_judged(honest: Honest) -> None:
    program = honest.task.program
    found = None
    for lie in edges(honest.task):
        wrong = told(honest, lie) if lie.tensor is not None else None
        if wrong is not None:
            game = honest.against(Liar(wrong[0]), wrong[1])
            found = game.positions[-1], game.moves[-1]
            break
    assert found is not None
    position, move = found
    assert isinstance(move, JudgeState)
    records = program.records()
    convicted = 0
    for record in words_changed(move.record):
        said, path = with_record(honest.terms.statement, records, 1 + move.tensor, record)
        after = asked(replace(position, terms=Terms(said, 60)), replace(move, record=record, record_path=path))
        assert after is None or valid(record, of_state=True)
        convicted += after is not None
    # Only words that say nothing of what the tensor becomes may differ: its shape.
    assert convicted < 20


def test_shows_are_the_same_when_asked_again(honest: Honest) -> None:
    """A player keeps nothing: after a crash a new one gives the same move."""
    for position, move in walk(honest, drawing(5)):
        fresh = Honest.of(honest.task)
        if position.turn is Side.ASSERTER:
            assert fresh.asserter.show(position) == move
    lie = next(wrong for wrong in (told(honest, lie) for lie in drawing(6).sample(edges(honest.task), 50)) if wrong)
    game = honest.against(Liar(lie[0]), lie[1])
    for position, made in zip(game.positions, game.moves, strict=True):
        if position.turn is Side.CHALLENGER:
            assert Honest.of(honest.task).challenger.pick(position) == made
