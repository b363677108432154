# SPDX-License-Identifier: Apache-2.0
"""Which moves are refused: those of the other side, of another level, and those with any field changed; and that one
that is taken wins nothing against an honest player."""

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
from gpubond.disputes.levels import Level, Side
from gpubond.disputes.moves import (
    AnswerNodes,
    JudgeElement,
    JudgeRun,
    JudgeState,
    Move,
    PickCheckpoint,
    PickElement,
    PickLeaf,
    PickNode,
    PickOperation,
    PickState,
    PickStep,
    ShowNodes,
    ShowValues,
)
from gpubond.disputes.position import Elements, Nodes, OneTensor, Output, Position, Verdict, reached
from gpubond.disputes.records import Records
from gpubond.disputes.showing import Own
from gpubond.disputes.terms import Terms
from gpubond.exact import merkle
from gpubond.exact.commitments import Statement
from gpubond.exact.merkle import Kind
from gpubond.exact.program import Opcode, parse_record, parse_state_record, record_of
from gpubond.exact.refusal import Refused
from tests.disputes.liar import Liar, Lie, LyingExecution, edges
from tests.disputes.mutations import changed
from tests.disputes.picks import JUNK, Proofs, every_opening, every_pick, some_pick
from tests.disputes.play import Honest, play
from tests.disputes.tasks import deep_task, every_level_task, single_task, summing_task, wide_task
from tests.disputes.test_soundness import asked, told
from tests.exact_contracts.operations import drawing

SEED = 20261129

Played = tuple[Position, Move]


@pytest.fixture(scope="module")
def honest() -> Honest:
    return Honest.of(every_level_task())


def begun(honest: Honest, chance: Random) -> Position:
    """A game that says something wrong of a right run."""
    return rules.begin(honest.terms, honest.execution.run_root, chance.choice(list(every_opening(honest))))


def walk(honest: Honest, chance: Random) -> Iterator[Played]:
    """A game between the honest asserter and one that picks at random: each position with the move made in it."""
    position: Position | Verdict = begun(honest, chance)
    while isinstance(position, Position):
        if position.turn is Side.ASSERTER:
            move: Move = honest.asserter.move(position)
        else:
            move = some_pick(honest, position, chance)
        yield position, move
        position = rules.apply(position, move)


EDGES: dict[int, list[Lie]] = {}  # of a task, by its id: those of a long run take seconds to find


def lied(honest: Honest, chance: Random) -> tuple[Liar, list[Played]]:
    """An asserter that lies, and the game that the honest challenger won against it."""
    if id(honest.task) not in EDGES:
        EDGES[id(honest.task)] = edges(honest.task)
    lies = EDGES[id(honest.task)]
    wrong = next(found for lie in chance.sample(lies, min(len(lies), 50)) if (found := told(honest, lie)))
    liar = Liar(wrong[0])
    game = honest.against(liar, wrong[1])
    return liar, list(zip(game.positions, game.moves, strict=True))


class AtRandom:
    """A challenger that makes any move that is allowed."""

    def __init__(self, honest: Honest, chance: Random) -> None:
        self._honest, self._chance = honest, chance

    def move(self, position: Position) -> Move:
        moves = list(every_pick(self._honest, position))
        self._chance.shuffle(moves)
        return next((move for move in moves if asked(position, move) is not None), moves[0])


def bound(position: Position, move: Move) -> list[Any]:
    """The moves that differ in what hashes leave no choice about."""
    fields: dict[type[Any], list[str]] = {
        ShowNodes: ["nodes"] if isinstance(position.doubt, Nodes) and position.doubt.node is not None else [],
        PickCheckpoint: ["checkpoint", "leaf", "path"],
        PickOperation: ["op", "record", "path"],
        PickState: ["nodes"],
        AnswerNodes: ["index", "nodes", "path"] if position.turn is Side.ASSERTER else ["path"],
        PickElement: ["raw"],
    }
    return [
        replace(move, **{name: other})
        for name in fields.get(type(move), [])
        for other in changed(getattr(move, name))
        # One tensor of the state has no tree.
        if not (isinstance(move, PickState) and not move.nodes)
    ]


def tasks() -> list[Honest]:
    """So that every level is reached, some in several shows."""
    made = (
        every_level_task(),
        every_level_task(70, 70),
        deep_task(33),
        summing_task(3000),
        wide_task(132, 2),
        single_task(),
    )
    return [Honest.of(task) for task in made]


@pytest.fixture(scope="module")
def subjects() -> list[Honest]:
    return tasks()


def test_what_is_bound_cannot_be_another(subjects: list[Honest]) -> None:
    """By hashes that were shown or committed to: of either side, and of right runs and wrong ones."""
    seen: Counter[str] = Counter()
    for honest in subjects:
        played = [found for number in range(10) for found in walk(honest, drawing(7000 + number))]
        for position, move in [*played, *lied(honest, drawing(SEED))[1]]:
            for other in bound(position, move):
                seen[f"{position.turn.value} {type(other).__name__}"] += 1
                assert asked(position, other) is None, (position.level, other)
    assert len(seen) == 8, seen


@pytest.mark.parametrize("number", range(6))
def test_a_changed_move_is_refused_or_wins_nothing(subjects: list[Honest], number: int) -> None:
    """However a challenger's move is changed, it never wins against who computed right, and never leaves it without a
    move."""
    honest, chance = subjects[number], drawing(number)
    taken: Counter[str] = Counter()
    for _ in range(6):
        for position, move in walk(honest, chance):
            if position.turn is Side.ASSERTER:
                continue
            others = list(changed(move))
            for other in chance.sample(others, min(len(others), 20)):
                after = asked(position, other)
                taken["refused" if after is None else "taken"] += 1
                assert not isinstance(after, Verdict) or not after.convicted, (position.level, other)
                if isinstance(after, Position):
                    game = play(after, honest.asserter, AtRandom(honest, chance))
                    assert not game.convicted, (position.level, other, game.ending)
    assert taken["refused"] > 20, taken


@pytest.mark.parametrize("number", range(6))
def test_a_changed_move_of_a_liar_wins_nothing(subjects: list[Honest], number: int) -> None:
    """Nor against an honest challenger, which always has a move."""
    honest, chance = subjects[number], drawing(number)
    taken: Counter[str] = Counter()
    for _ in range(5):
        liar, played = lied(honest, chance)
        for position, move in played:
            if position.turn is Side.CHALLENGER:
                continue
            others = list(changed(move))
            for other in chance.sample(others, min(len(others), 20)):
                after = asked(position, other)
                taken["refused" if after is None else "taken"] += 1
                assert not isinstance(after, Verdict), (position.level, other)
                if after is not None:
                    game = play(after, liar, honest.challenger)
                    assert game.convicted, (position.level, other, game.ending)
    assert taken["refused"] > 10, taken


def test_proofs_are_refused_with_any_field_changed(honest: Honest) -> None:
    """But for which run or tensor is judged, nothing of a last move may be another; nor may a record."""
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


# At one level there may be two ways to go on.
ALTERNATIVES = {
    Level.RUN: {"PickNode", "PickCheckpoint"},
    Level.INTERVAL: {"PickNode", "PickStep"},
    Level.STEP: {"PickNode", "PickOperation", "PickState"},
    Level.STATE: {"PickNode", "JudgeState"},
    Level.BLOCK: {"JudgeJoin", "JudgeRun"},
}


def test_moves_of_the_other_side_and_of_other_levels_are_refused(subjects: list[Honest]) -> None:
    """In each position of all games every move of every other kind is refused, whichever was made in it."""
    played = [found for honest in subjects for number in range(12) for found in walk(honest, drawing(2000 + number))]
    kinds: dict[str, list[Move]] = {}
    for _, move in played:
        kinds.setdefault(type(move).__name__, []).append(move)
    assert len(kinds) == 15, kinds.keys()
    assert len({position.level for position, _ in played}) == len(Level)
    for position, move in played:
        due = {type(move).__name__}
        if not isinstance(move, ShowNodes | ShowValues):
            due |= ALTERNATIVES.get(position.level, set())
        for name in kinds.keys() - due:
            for other in kinds[name][:3]:
                assert asked(position, other) is None, (position.level, other)


def test_a_leaf_is_not_picked_as_a_node_nor_a_node_as_a_leaf(subjects: list[Honest]) -> None:
    seen: Counter[str] = Counter()
    for honest in subjects:
        for number in range(12):
            for position, move in walk(honest, drawing(3000 + number)):
                for other in _at_another_height(honest, position, move):
                    seen[type(other).__name__] += 1
                    assert asked(position, other) is None, (position.level, other)
    assert len(seen) == 7, seen


def _at_another_height(honest: Honest, position: Position, move: Move) -> Iterator[Move]:
    """All but the height is as it must be."""
    own, records = Own(honest.execution), Records(honest.task.program)
    match move:
        case PickCheckpoint():
            yield PickNode(move.checkpoint)
        case PickOperation():
            yield PickNode(move.op)
        case PickLeaf():
            yield AnswerNodes(move.index, (JUNK,))
        case PickNode() if position.level is Level.RUN:
            yield PickCheckpoint(move.index, JUNK, None, own.interval(move.index))
        case PickNode() if position.level is Level.INTERVAL:
            begins = honest.terms.interval(reached(position.checkpoint))[0]
            yield PickStep(move.index, own.step(begins + move.index))
        case PickNode() if position.level is Level.STEP:
            nodes = own.output(reached(position.step), move.index)
            yield PickOperation(move.index, *records.operation(move.index), nodes)
        case PickNode() if position.level is Level.STATE:
            yield Proofs(honest.execution, position).state(move.index)
        case AnswerNodes():
            yield PickLeaf(move.index, JUNK.ljust(256, b"\0"))


def test_none_is_for_the_first_show_of_a_free_level(subjects: list[Honest]) -> None:
    """Below it something was picked."""
    seen: Counter[tuple[Level, bool]] = Counter()
    for honest in subjects:
        for number in range(12):
            for position, move in walk(honest, drawing(4000 + number)):
                doubt = position.doubt
                if not isinstance(doubt, Nodes) or not doubt.shown:
                    continue
                states = Own(honest.execution)
                none: Move = PickStep(None, states.step(honest.terms.interval(position.checkpoint or 0)[1] - 1))
                if position.turn is Side.ASSERTER:
                    none = PickState(states.state((position.step or 0) + 1))
                first = doubt.at_root and position.level in {Level.INTERVAL, Level.STEP}
                if position.level is Level.STEP:
                    # Its run was computed to be right.
                    none = move if isinstance(move, PickState) else none
                taken = asked(position, none) is not None
                assert taken == first, (position.level, doubt.height)
                seen[position.level, first] += 1
    for place in ((Level.INTERVAL, True), (Level.INTERVAL, False), (Level.STEP, True), (Level.STEP, False)):
        assert seen[place], place
    assert seen[Level.RUN, False] and seen[Level.STATE, False]


# Who answers must say something else: else the other side would have nothing to pick, and lose by its clock.


def test_an_opening_is_of_another_run(honest: Honest) -> None:
    root, nodes = honest.execution.run_root, honest.challenger.opening()
    with pytest.raises(Refused, match="run root that was committed"):
        rules.begin(honest.terms, root, nodes)
    for opening in every_opening(honest):
        assert isinstance(rules.begin(honest.terms, root, opening), Position)
        for wrong in (opening[1:], (*opening, bytes(32)), (), (*opening[1:], b"")):
            with pytest.raises(Refused, match=r"show\.nodes"):
                rules.begin(honest.terms, root, wrong)
    alone = Honest.of(single_task())
    assert isinstance(rules.begin(alone.terms, root, ()), Position)
    with pytest.raises(Refused, match=r"show\.nodes"):
        rules.begin(alone.terms, root, (bytes(32),))


def test_a_checkpoint_is_picked_that_is_another(honest: Honest) -> None:
    """By a liar: of its checkpoints the first is right."""
    execution = LyingExecution(honest.prepared, honest.task, Lie(3, tensor=0, mask=1 << 23))
    liar = Own(execution)
    position = rules.begin(honest.terms, execution.run_root, honest.challenger.opening())
    tree = liar.run_tree()
    for at in range(3):
        pick = PickCheckpoint(at, tree.node(0, at), tree.path(at), liar.interval(at))
        assert (asked(position, pick) is None) == (at == 0)


def test_answers_are_others_than_what_is_picked(subjects: list[Honest]) -> None:
    """Of an honest asserter, its outputs where the challenger has them, too; and of a challenger the asserter's."""
    seen: Counter[str] = Counter()
    for honest in subjects:
        for number in range(12):
            for position, move in walk(honest, drawing(5000 + number)):
                for other in _equal(honest, position, move):
                    seen[f"{position.turn.value} {type(other).__name__}"] += 1
                    with pytest.raises(Refused, match="is what the other side has shown"):
                        rules.apply(position, other)
    assert seen.keys() == {
        "asserter PickOperation",
        "challenger AnswerNodes",
        "asserter AnswerNodes",
        "challenger PickLeaf",
        "asserter PickElement",
    }, seen


def _equal(honest: Honest, position: Position, move: Move) -> Iterator[Move]:
    own = Own(honest.execution)
    match position.doubt:
        case Nodes() as doubt if isinstance(move, PickOperation):
            below = doubt.below
            at = below.first + (move.op - below.first + 1) % below.nodes
            record = honest.task.program.records()[1 + honest.terms.first_output + at]
            tree = merkle.tree_of(Kind.PROGRAM, honest.task.program.records())
            path = tree.path(1 + honest.terms.first_output + at)
            if at != move.op:
                yield PickOperation(at, record, path, own.output(position.step or 0, at))
        case Output() as doubt if isinstance(move, AnswerNodes):
            last, side = doubt.last, position.turn
            for index in range(last.first, last.first + last.nodes):
                below = doubt.below(index)
                tree = own.output_tree(position)
                path = tree.path(index << last.height)[last.height : doubt.height] if side is Side.ASSERTER else ()
                if side is Side.CHALLENGER or index != move.index:
                    yield AnswerNodes(index, tree.nodes(*below), path)
        case Output() if isinstance(move, PickLeaf):
            yield PickLeaf(move.index, own.leaf(position, move.index))
        case Elements() as doubt if isinstance(move, PickElement):
            held = range(64 * doubt.index, min(64 * doubt.index + 64, honest.execution.output(*_place(position)).size))
            yield from (replace(move, element=at) for at in held if at != move.element)


def _place(position: Position) -> tuple[int, int]:
    assert position.step is not None and position.op is not None
    return position.step, position.op


def test_a_leaf_of_elements_has_256_bytes_and_zeros_beyond(subjects: list[Honest]) -> None:
    """On either side, in the last leaf of an output."""
    honest = subjects[0]
    seen: set[Side] = set()
    for number in range(60):
        for position, move in walk(honest, drawing(6000 + number)):
            if not isinstance(move, PickLeaf | PickElement):
                continue
            seen.add(position.turn)
            size = honest.execution.output(*_place(position)).size
            index = move.index if isinstance(move, PickLeaf) else move.element // 64
            others = [move.raw[:-4], move.raw + bytes(4)]
            others += [move.raw[:-1] + b"\1"] if 64 * index + 64 > size else []
            for raw in others:
                assert asked(position, replace(move, raw=raw)) is None
            if isinstance(move, PickElement):
                # In another leaf, or in none.
                for element in (move.element - 64, move.element + 64, 64 * index + 64, size, -1):
                    assert asked(position, replace(move, element=element)) is None
    assert seen == set(Side)


def test_a_state_of_one_tensor_is_judged_at_once() -> None:
    honest = Honest.of(single_task(3, 2))
    execution = LyingExecution(honest.prepared, honest.task, Lie(1, tensor=0))
    game = honest.against(Liar(execution), execution.run_root)
    before, move = game.positions[-1], game.moves[-1]
    assert isinstance(move, JudgeState) and isinstance(before.doubt, OneTensor)
    assert asked(game.positions[-2], PickState((bytes(32),))) is None
    for other in (replace(move, tensor=1), replace(move, record=b""), replace(move, commitment=bytes(32))):
        assert asked(before, other) is None


def test_values_must_fit_in_four_bytes_and_be_as_many_as_they_must() -> None:
    honest = Honest.of(summing_task(5 * 512))
    seen = 0
    for number in range(20):
        for position, move in walk(honest, drawing(number)):
            if isinstance(move, ShowValues) or (isinstance(move, PickElement) and move.values):
                seen += 1
                for wrong in (-1, 2**32):
                    assert asked(position, replace(move, values=(wrong, *move.values[1:]))) is None
                for values in ((), move.values[1:], (*move.values, 0)):
                    assert asked(position, replace(move, values=values)) is None
    assert seen > 10
    for position, move in walk(Honest.of(single_task()), drawing(1)):
        if isinstance(move, PickElement):
            assert asked(position, replace(move, values=(0,))) is None


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
        rules.begin(honest.terms, root, honest.challenger.opening())


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
def test_an_operation_whose_record_is_not_valid_acquits(honest: Honest, code: Opcode) -> None:
    """Terms with a malformed record: whoever agreed to them cannot be convicted by it. The asserter picks it, where the
    challenger says whatever it says of such an operation; that ends the game."""
    program = honest.task.program
    op = next(at for at, op in enumerate(program.ops) if op.code is code)
    records = program.records()
    before, picked = next(
        (position, move)
        for number in range(300)
        for position, move in walk(honest, drawing(number))
        if isinstance(move, PickOperation) and move.op == op
    )
    refused = 0
    for record in words_changed(record_of(program.ops[op])):
        at = 1 + program.first_output + op
        said, path = with_record(honest.terms.statement, records, at, record)
        position = replace(before, terms=Terms(said, 60))
        after = asked(position, replace(picked, record=record, path=path))
        # Nor is the record taken that the program does not have.
        assert asked(position, replace(picked, path=path)) is None
        assert isinstance(after, Verdict) != valid(record, of_state=False)
        assert not isinstance(after, Verdict) or not after.convicted
        # Nodes of it say nothing.
        if after is not None and isinstance(after, Verdict):
            assert asked(position, replace(picked, record=record, path=path, nodes=())) == after
        refused += isinstance(after, Verdict)
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


def test_moves_are_the_same_when_asked_again(honest: Honest) -> None:
    """A player keeps nothing: after a crash a new one gives the same move."""
    for position, move in walk(honest, drawing(5)):
        if position.turn is Side.ASSERTER:
            assert Honest.of(honest.task).asserter.move(position) == move
    for position, made in lied(honest, drawing(6))[1]:
        if position.turn is Side.CHALLENGER:
            assert Honest.of(honest.task).challenger.move(position) == made
