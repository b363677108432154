# SPDX-License-Identifier: Apache-2.0
"""Plans for the C engine: which operations run together, over which memory. None of that changes a bit.

A VIEW whose elements a consumer can read where they are is not carried out; neighbouring operations element by element
become one pass over tiles; what nothing needs is left out; memory is given by lifetimes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

from gpubond.exact import c_roots, c_words
from gpubond.exact.arena import Lifetime, arrange
from gpubond.exact.c_roots import Shown, Wanted, work_floats
from gpubond.exact.c_words import Constant, Place
from gpubond.exact.live import live_bytes, most_alive
from gpubond.exact.program import ELEMENTWISE, Op, Opcode, Program
from gpubond.exact.shapes import count
from gpubond.exact.strided import Ref
from gpubond.exact.views import collapse

# Floats that a product of (batch, m, n, k) needs to work in.
Work = Callable[[int, int, int, int], int]
# Operations looked through for one that can join a pass. Looking far means fewer passes, and longer lives of tensors.
WINDOWS = (48, 8, 0)
# Of one pass; MAX_SLOTS of native/plan.h is above their sum.
MAX_MICROS, MAX_OPERANDS = 30, 28
# Times that VIEWs are followed anew.
MOST_TURNS = 32
# Elements that are hashed at a time, if there are so many: half a millisecond's work.
HASHED_TOGETHER = 1 << 18
# Cache lines of 64 bytes.
ALIGNMENT = 16
_FLOAT_BYTES = 4
_TILED = ELEMENTWISE | {Opcode.UNIFORM}
_REDUCTIONS = (Opcode.SUM, Opcode.ROWMAX)


@dataclass
class Plan:
    """words: what exact_run reads. ends: behind each operation's words, for tracing; the rest copies to the next state.

    places: of the operations' outputs that are in memory. peak: the most floats alive at once. arena: floats.
    work: the most floats that one instruction has for itself. wanted: the roots that it gives.
    """

    words: npt.NDArray[np.int64]
    ends: list[int]
    places: dict[int, Place]
    arena: int
    peak: int
    work: int
    wanted: Wanted


@dataclass
class _Instruction:
    """ops: positions of the operations that it carries out. work: floats of its own. shown: what it hashes instead."""

    ops: list[int]
    reads: set[int] = field(default_factory=set)
    work: int = 0
    shown: list[Shown] = field(default_factory=list)


class _Purpose(Enum):
    """Of a step: the next state, every output by itself as it comes, or the roots of all outputs."""

    STATE = 0
    OUTPUTS = 1
    ROOTS = 2


def plan(program: Program, work: Work) -> Plan:
    """The plan of steps that nobody looks into."""
    return _narrowest(program, work, _Purpose.STATE, live_bytes(program))


def plan_trace(program: Program, work: Work) -> Plan:
    """The plan of steps in which every operation is carried out by itself."""
    return _Planner(program, work, 0, _Purpose.OUTPUTS).plan()


def plan_roots(program: Program, work: Work) -> Plan:
    """The plan of steps that hash all outputs."""
    return _narrowest(program, work, _Purpose.ROOTS, live_bytes(program, whole=True))


def _narrowest(program: Program, work: Work, purpose: _Purpose, bound: int) -> Plan:
    """The first plan that comes near the bound, in bytes, or the one that needs least."""
    found = _Planner(program, work, WINDOWS[0], purpose).plan()
    for window in WINDOWS[1:]:
        if _FLOAT_BYTES * found.arena <= 1.05 * bound:
            break
        narrow = _Planner(program, work, window, purpose).plan()
        found = narrow if narrow.arena < found.arena else found
    return found


class _Planner:
    def __init__(self, program: Program, work: Work, window: int, purpose: _Purpose) -> None:
        self._program = program
        self._first = program.first_output
        self._shapes = program.shapes
        self._work = work
        self._window = window
        self._purpose = purpose
        self._trace = purpose is _Purpose.OUTPUTS
        self._live = program.needed if purpose is _Purpose.STATE else set(range(len(program.ops)))
        # VIEWs that are carried out.
        self._copied = {at for at, op in enumerate(program.ops) if self._trace and op.code == Opcode.VIEW}
        self._refs: list[Ref | Constant] = []
        self._resolve()
        self._constants = self._constants_in_memory()
        self._wanted = Wanted(program, self._refs if purpose is _Purpose.ROOTS else [])

    def plan(self) -> Plan:
        instructions = self._hashing(self._schedule())
        stored = self._stored(instructions)
        places, arena, peak = self._arrange(instructions, stored)
        words, ends = self._encode(instructions, places, arena)
        return Plan(
            np.array(words, dtype=np.int64),
            ends,
            places[0],
            arena,
            peak,
            max((each.work for each in instructions), default=0),
            self._wanted,
        )

    # ---- Where operands stand ----

    def _resolve(self) -> None:
        """Follows VIEWs to what they show; those that a consumer cannot follow are carried out."""
        for turn in itertools.count():
            if turn == MOST_TURNS:
                # Each VIEW that is carried out changes what the others show; a program made to last is cut short.
                self._copied |= {at for at, op in enumerate(self._program.ops) if op.code == Opcode.VIEW}
            self._refs = [Ref.whole(number, self._shapes[number]) for number in range(self._first)]
            copied = len(self._copied)
            for at, op in enumerate(self._program.ops):
                self._refs.append(
                    self._reference(at, op) if at in self._live else Ref.whole(self._first + at, op.shape)
                )
            if len(self._copied) > copied:
                # What was resolved before one of them was carried out still looks through it.
                continue
            refused = {
                number - self._first
                for at, op in enumerate(self._program.ops)
                if at in self._live and not self._followed(at)
                for place, number in enumerate(op.inputs)
                if self._is_followed_view(number) and not self._readable(op, place, self._refs[number])
            }
            if not refused:
                return
            self._copied |= refused

    def _reference(self, at: int, op: Op) -> Ref | Constant:
        if op.code == Opcode.CONST and not self._trace:
            return Constant(op.parameters[0])
        if op.code == Opcode.VIEW and at not in self._copied:
            source = self._refs[op.inputs[0]]
            if isinstance(source, Constant):
                return source
            found = source.view(op.input_shapes[0], op.shape, op.parameters)
            if found is None:
                # What it looks at has to stand in memory.
                number = op.inputs[0]
                self._copied.add(number - self._first)
                return Ref(number, op.parameters[0], op.parameters[1 : 1 + len(op.shape)])
            return found
        return Ref.whole(self._first + at, op.shape)

    def _followed(self, at: int) -> bool:
        """Whether consumers look through this operation."""
        ref = self._refs[self._first + at]
        return isinstance(ref, Constant) or ref.root != self._first + at

    def _is_followed_view(self, number: int) -> bool:
        at = number - self._first
        return at >= 0 and self._program.ops[at].code == Opcode.VIEW and self._followed(at)

    def _readable(self, op: Op, place: int, ref: Ref | Constant) -> bool:
        shape = op.input_shapes[place]
        if isinstance(ref, Constant) or count(shape) == 0 or ref.dense(shape):
            return True
        if op.code in ELEMENTWISE:
            _, (strides,) = collapse(shape, [ref.strides])
            return strides[-1] in (0, 1)
        if op.code == Opcode.MATMUL_NT:
            return 1 in (ref.strides[-1], ref.strides[-2])
        if op.code in _REDUCTIONS:
            return ref.strides[-1] == 1 or (len(shape) > 1 and ref.strides[-2] == 1)
        return op.code == Opcode.CONCAT

    # ---- Order ----

    def _schedule(self) -> list[_Instruction]:
        done = set(range(self._first))
        taken: set[int] = set()
        found = []
        for at, op in enumerate(self._program.ops):
            if at not in self._live or at in taken or (self._followed(at) and self._first + at not in self._constants):
                continue
            instruction = _Instruction([at])
            if op.code in _TILED:
                self._fill_pass(instruction, done, taken)
            elif op.code == Opcode.MATMUL_NT and count(op.shape):
                *batch, m, k = op.input_shapes[0]
                instruction.work = self._work(count(tuple(batch)), m, op.shape[-1], k)
            own = {self._first + each for each in instruction.ops}
            for each in instruction.ops:
                instruction.reads |= {root for root in self._roots(each) if root not in own}
            done |= own
            taken.update(instruction.ops)
            found.append(instruction)
        return found

    def _hashing(self, instructions: Sequence[_Instruction]) -> list[_Instruction]:
        """Has what is wanted hashed soon, but not in pieces so small that threads wait for one another."""
        found: list[_Instruction] = []
        waiting: list[Shown] = []

        def hash_those(least: int) -> None:
            if sum(shown.elements for shown in waiting) >= least:
                roots = {shown.root for shown in waiting}
                found.append(_Instruction([], roots, work_floats(waiting), [*waiting]))
                waiting.clear()

        for number in range(self._first):
            waiting += self._wanted.by_root(number)
        for instruction in instructions:
            hash_those(HASHED_TOGETHER)
            found.append(instruction)
            for at in instruction.ops:
                waiting += self._wanted.by_root(self._first + at)
        hash_those(1)
        return found

    def _constants_in_memory(self) -> set[int]:
        """Constants, and VIEWs of them, that are read by what is not done element by element."""
        return {
            number
            for at, op in enumerate(self._program.ops)
            if at in self._live and not self._followed(at) and op.code not in ELEMENTWISE
            for number in op.inputs
            if isinstance(self._refs[number], Constant)
        }

    def _roots(self, at: int) -> list[int]:
        """The tensors in memory that an operation reads."""
        found = []
        op = self._program.ops[at]
        for number in op.inputs:
            ref = self._refs[number]
            if isinstance(ref, Ref):
                found.append(ref.root)
            elif op.code not in ELEMENTWISE:
                found.append(number)
        return found

    def _fill_pass(self, instruction: _Instruction, done: set[int], taken: set[int]) -> None:
        """Adds the operations of one shape that can be done in the same pass."""
        ops = self._program.ops
        shape = ops[instruction.ops[0]].shape
        inside = {self._first + instruction.ops[0]}
        operands = set(self._operands(instruction.ops[0]))
        at = instruction.ops[0] + 1
        end = at + self._window
        while at < min(end, len(ops)) and len(instruction.ops) < MAX_MICROS:
            if at in self._live and at not in taken and ops[at].code in _TILED and ops[at].shape == shape:
                more = self._operands(at)
                outside = {ref for ref in more if isinstance(ref, Constant) or ref.root not in inside}
                if (
                    all(
                        isinstance(ref, Constant)
                        or ref.root in done
                        or (ref.root in inside and ref == Ref.whole(ref.root, shape))
                        for ref in more
                    )
                    and len(operands | outside) + len(instruction.ops) < MAX_OPERANDS
                ):
                    operands |= outside
                    inside.add(self._first + at)
                    instruction.ops.append(at)
                    end = at + 1 + self._window
            at += 1

    def _operands(self, at: int) -> list[Ref | Constant]:
        return [self._refs[number] for number in self._program.ops[at].inputs]

    # ---- Memory ----

    def _stored(self, instructions: Sequence[_Instruction]) -> set[int]:
        """The outputs that have to be in memory: read by another instruction, or of the next state."""
        read = {number for instruction in instructions for number in instruction.reads}
        for tensor in self._program.state:
            ref = self._refs[tensor.next]
            read |= {ref.root} if isinstance(ref, Ref) else set()
        if self._trace:
            read |= {self._first + at for at in range(len(self._program.ops))}
        return {number for number in read if number >= self._first}

    def _arrange(
        self, instructions: Sequence[_Instruction], stored: set[int]
    ) -> tuple[tuple[dict[int, Place], dict[int, int]], int, int]:
        """Places of tensors, offsets of the instructions' own memory, the arena's size, and the most alive at once."""
        own_output = {} if self._trace else self._direct(stored)
        places = {number: Place(number + 1, 0) for number in range(self._first)}
        places |= {number: Place(1 + self._first + at, 0) for number, at in own_output.items()}
        made: dict[int, int] = {}
        last: dict[int, int] = {}
        lives: list[Lifetime] = []
        works = []
        for time, instruction in enumerate(instructions):
            for at in instruction.ops:
                made[self._first + at] = last[self._first + at] = time
            for number in instruction.reads:
                last[number] = time
            if instruction.work:
                works.append(time)
                lives.append(Lifetime(time, time, _aligned(instruction.work)))
        for tensor in self._program.state:
            ref = self._refs[tensor.next]
            if isinstance(ref, Ref):
                last[ref.root] = len(instructions)
        kept = sorted(number for number in stored if number in made and number not in own_output)
        lives += [Lifetime(made[number], last[number], _aligned(count(self._shapes[number]))) for number in kept]
        offsets = arrange(lives)
        places |= {number: Place(0, offset) for number, offset in zip(kept, offsets[len(works) :], strict=True)}
        arena = max((offset + life.size for offset, life in zip(offsets, lives, strict=True)), default=0)
        return (places, dict(zip(works, offsets, strict=False))), arena, most_alive(lives)

    def _direct(self, stored: set[int]) -> dict[int, int]:
        """Outputs that are written where the next state wants them, and which of its tensors that is."""
        found: dict[int, int] = {}
        for at, tensor in enumerate(self._program.state):
            if tensor.next in stored and tensor.next not in found and self._is_own(tensor.next):
                found[tensor.next] = at
        return found

    @property
    def _results(self) -> int:
        """The number of the pointer to where roots go, behind those of the next state."""
        return 1 + self._first + len(self._program.state)

    def _is_own(self, number: int) -> bool:
        ref = self._refs[number]
        return isinstance(ref, Ref) and ref == Ref.whole(number, self._shapes[number])

    # ---- Words ----

    def _encode(
        self, instructions: Sequence[_Instruction], memory: tuple[dict[int, Place], dict[int, int]], arena: int
    ) -> tuple[list[int], list[int]]:
        places, works = memory
        writer = c_words.Writer(self._program, self._refs, places)
        words: list[int] = []
        ends = []
        for time, instruction in enumerate(instructions):
            work = Place(0, works.get(time, 0))
            if instruction.shown:
                words += c_roots.words(instruction.shown, places, work, self._wanted.shown, self._results)
            else:
                words += writer.instruction(instruction.ops, work)
            ends.append(len(words))
        for at, tensor in enumerate(self._program.state):
            words += writer.to_next(tensor.next, Place(1 + self._first + at, 0))
        return words, ends


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
