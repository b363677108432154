# SPDX-License-Identifier: Apache-2.0
"""The engine in C: a program is planned once; a step is one call."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from gpubond.exact import c_library
from gpubond.exact.c_plan import Plan, plan, plan_roots, plan_trace
from gpubond.exact.engine import Array, OnOutput
from gpubond.exact.program import Program
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import Shape, count

_FLOAT = 4
_ROOT_FLOATS = 8


class CEngine:
    """The processor, through C.

    threads: how many work on a step; all processors by default. instructions: `portable`, `avx2` or `avx512`; the
    best that there is by default. Raises: c_library.Unavailable; Refused for a set that this processor does not have.
    """

    def __init__(self, threads: int | None = None, instructions: str | None = None) -> None:
        self.library = c_library.load()
        self.threads = max(1, threads if threads is not None else len(os.sched_getaffinity(0)))
        sets = self.library.sets()
        chosen = instructions or os.environ.get("GPUBOND_EXACT_SET") or sets[-1]
        if chosen not in sets:
            raise Refused("instructions", chosen, f"this processor has {', '.join(sets)}")
        self.instructions = chosen
        self.number = sets.index(chosen)
        self.name = f"c ({chosen}, {self.threads} thread{'s' if self.threads > 1 else ''})"

    def prepare(self, program: Program) -> CPrepared:
        """Plans the memory; raises MemoryError before anything runs if it is not to be had."""
        return CPrepared(self, program)

    def work(self, batch: int, m: int, n: int, k: int) -> int:
        """Floats that a product needs to work in."""
        return self.library.matmul_work((batch, m, n, k), self.threads, self.number)


class CPrepared:
    """A planned program. memory_bytes: of steps without `on_output`; those with it take the memory that they need."""

    def __init__(self, engine: CEngine, program: Program) -> None:
        self._engine = engine
        self._program = program
        self._steps = _Memory(plan(program, engine.work))
        self._trace: _Memory | None = None
        self._traced: _Memory | None = None
        self.memory_bytes = self._steps.bytes
        # The most that one product's packed panels take of it.
        self.work_floats = self._steps.plan.work

    def step(
        self, state: Sequence[Array], data: Sequence[Array], step: int, on_output: OnOutput | None = None
    ) -> list[Array]:
        """See engine.Prepared."""
        memory = self._steps
        if on_output is not None:
            self._trace = memory = self._trace or _Memory(plan_trace(self._program, self._engine.work))
        call = _Call(self._program, memory, state, data, step)
        with memory.own():
            begin = 0
            if on_output is not None:
                for at, end in enumerate(memory.plan.ends):
                    self._run(call, begin, end)
                    begin = end
                    on_output(at, memory.output(at + self._program.first_output, self._program.ops[at].shape))
            self._run(call, begin, len(memory.plan.words))
        return call.outputs

    def traced(self, state: Sequence[Array], data: Sequence[Array], step: int) -> tuple[list[Array], list[bytes]]:
        """See engine.Tracing. Raises MemoryError before anything runs."""
        memory = self._for_traced()
        wanted = memory.plan.wanted
        found = np.empty((len(wanted.shown), _ROOT_FLOATS), np.float32)
        call = _Call(self._program, memory, state, data, step, found)
        with memory.own():
            self._run(call, 0, len(memory.plan.words))
        return call.outputs, [each if isinstance(each, bytes) else found[each].tobytes() for each in wanted.of]

    @property
    def traced_bytes(self) -> int:
        """What a traced step holds beyond state and data, beside memory_bytes. Raises MemoryError."""
        return self._for_traced().bytes

    def _for_traced(self) -> _Memory:
        self._traced = self._traced or _Memory(plan_roots(self._program, self._engine.work))
        return self._traced

    def instructions(
        self, state: Sequence[Array], data: Sequence[Array], step: int
    ) -> Iterator[tuple[list[int], Callable[[], None]]]:
        """For measurements: the instructions of a step, as native/plan.h lays them out, and what carries them out."""
        call = _Call(self._program, self._steps, state, data, step)
        words = self._steps.plan.words.tolist()
        begin = 0
        while begin < len(words):
            end = begin + words[begin + 1]
            yield words[begin:end], partial(self._run, call, begin, end)
            begin = end

    def _run(self, call: _Call, begin: int, end: int) -> None:
        if begin == end:
            return
        engine = self._engine
        wrong = engine.library.run(call.words, begin, end, call.bases, call.step, engine.threads, engine.number)
        if wrong == -2:
            raise MemoryError("no memory for the tiles of threads")
        if wrong:
            raise RuntimeError(f"the library does not know the plan's word {wrong - 1}")


class _Call:
    """A step's pointers, and what they point to. more: what comes behind the next state."""

    def __init__(
        self,
        program: Program,
        memory: _Memory,
        state: Sequence[Array],
        data: Sequence[Array],
        step: int,
        *more: Array,
    ) -> None:
        shapes = [tensor.shape for tensor in program.state]
        self._inputs = [*_checked("state", state, shapes), *_slices(_checked("data", data, program.data), step)]
        self.outputs = [np.empty(shape, dtype=np.float32) for shape in shapes]
        addresses = [memory.address, *map(_address, (*self._inputs, *self.outputs, *more))]
        self.bases = (ctypes.c_void_p * len(addresses))(*addresses)
        self.words, self.step = memory.words, step


class _Memory:
    """A plan and its arena, which one step uses at a time."""

    def __init__(self, made: Plan) -> None:
        self.plan = made
        self.words = made.words.ctypes.data
        self.bytes = made.arena * _FLOAT
        self._arena = _arena(self.bytes)
        self.address = _address(self._arena)

        self._busy, self._process = threading.Lock(), os.getpid()

    def own(self) -> threading.Lock:
        """To be held for a step. A fork leaves the child a lock of its own, whoever held it, as it does the arena."""
        if self._process != os.getpid():
            self._busy, self._process = threading.Lock(), os.getpid()
        return self._busy

    def output(self, number: int, shape: Shape) -> Array:
        """An operation's output, as long as nothing else is written there."""
        base, offset = self.plan.places[number]
        if base != 0:
            raise AssertionError("outputs are traced in the arena")
        return self._arena[offset : offset + count(shape)].reshape(shape)


def _arena(size: int) -> Array:
    """Memory that begins at a page, in large pages if the system has them. Raises MemoryError."""
    try:
        # Private: after a fork parent and child would write over one another.
        held = mmap.mmap(-1, max(size, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            held.madvise(mmap.MADV_HUGEPAGE)
    except (OSError, OverflowError, ValueError) as error:
        raise MemoryError(f"{size} bytes for the tensors of a step are not to be had: {error}") from error
    return np.frombuffer(held, dtype=np.float32)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _checked(name: str, arrays: Sequence[Array], shapes: Sequence[Shape]) -> list[Array]:
    if len(arrays) != len(shapes):
        raise Refused(name, len(arrays), f"the program has {len(shapes)}")
    for at, (array, shape) in enumerate(zip(arrays, shapes, strict=True)):
        if array.dtype != np.float32 or array.shape != shape:
            raise Refused(f"{name}[{at}]", (str(array.dtype), array.shape), f"must be float32 of the shape {shape}")
    return [np.ascontiguousarray(array).reshape(array.shape) for array in arrays]


def _slices(data: Sequence[Array], step: int) -> list[Array]:
    # Of a range, since one element of a vector would be a copy.
    chosen = ((whole, step % len(whole)) for whole in data)
    return [whole[at : at + 1].reshape(whole.shape[1:]) for whole, at in chosen]
