# SPDX-License-Identifier: Apache-2.0
"""What the commands of `gpubond exact` read: program, initial state, data, engine; refusals as errors with a remedy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gpubond.errors import BadInput, NotEnough
from gpubond.exact import memory
from gpubond.exact.engine import Engine, Prepared
from gpubond.exact.engines import best
from gpubond.exact.intervals import default_interval
from gpubond.exact.memory import MemoryPlan, plan_memory
from gpubond.exact.metrics import Metrics
from gpubond.exact.program import MAX_RECORDS, RECORD_BYTES, Program
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task
from gpubond.exact.tensors import read_data, read_state

INITIAL, DATA = "initial.safetensors", "data.safetensors"
_MOST_BYTES = RECORD_BYTES * (1 + 3 * MAX_RECORDS)


@dataclass(frozen=True)
class Files:
    """The files of a task; None stands for the usual name beside the program."""

    program: Path
    state: Path | None
    data: Path | None

    @cached_property
    def read(self) -> Program:
        """The program. Raises Refused, OSError."""
        return read_program(self.program)


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Turns what gpubond.exact refuses into errors of the command line."""
    try:
        yield
    except Refused as refused:
        remedy = refused.remedy or "correct it, or name another file"
        kind = NotEnough if refused.field in ("memory", "disk") else BadInput
        raise kind(refused.reason, field=refused.field, value=refused.value, remedy=remedy) from None
    except MemoryError as error:
        raise NotEnough(
            f"there is not enough memory: {error}", field="memory", remedy="use a larger machine, or end something else"
        ) from None


def read_program(path: Path) -> Program:
    """Raises Refused, OSError."""
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise Refused("program.length", size, f"is larger than {_MOST_BYTES} bytes, the most that a program has")
    return Program.parse(path.read_bytes())


def prepare(
    files: Files, kind: str, threads: int | None, memory_bytes: int | None
) -> tuple[Engine, Prepared, MemoryPlan]:
    """The engine, ready for the program, before any tensor is read. Raises Refused, OSError."""
    program = files.read
    engine = best(threads, kind)
    prepared = memory.prepare(engine, program, memory_bytes)
    return engine, prepared, plan_memory(program, prepared)


def load(files: Files, steps: int, interval: int | None, every: int) -> Task:
    """The task, its tensors judged. Raises Refused, OSError."""
    program = files.read
    folder = files.program.parent
    data = (files.data or folder / DATA) if program.data else None
    return Task(
        program,
        read_state(files.state or folder / INITIAL, program),
        read_data(data, program),
        steps,
        interval or default_interval(program, steps),
        Metrics.beside(files.program, program),
        every,
    )
