# SPDX-License-Identifier: Apache-2.0
"""How much memory a run holds at most, told before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from gpubond.exact import shapes
from gpubond.exact.engine import Engine, Prepared
from gpubond.exact.program import Program
from gpubond.exact.refusal import Refused

# The state that a step starts from, the one that it makes, and the one that is being hashed and written.
STATES_HELD = 3
# Leaves and hashes of the piece of a tensor that is being hashed.
_HASHING_BYTES = 16 << 20


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes. Initial state and data are mapped files: their pages can be given back, and count all the same."""

    states: int
    data: int
    engine: int
    hashing: int

    @property
    def peak(self) -> int:
        return self.states + self.data + self.engine + self.hashing

    def check(self, most: int | None) -> None:
        """Raises Refused if a run could need more."""
        if most is not None and self.peak > most:
            raise Refused(
                "memory",
                most,
                f"the run holds up to {self.peak} bytes: {self.states} for states, {self.data} for data, {self.engine} "
                f"for operations, {self.hashing} for hashing",
                f"allow {self.peak} bytes",
            )


def state_bytes(program: Program) -> int:
    """Of one state."""
    return sum(4 * shapes.count(tensor.shape) for tensor in program.state)


def data_bytes(program: Program) -> int:
    """Of the whole data."""
    return sum(4 * shapes.count(shape) for shape in program.data)


def plan_memory(program: Program, prepared: Prepared) -> MemoryPlan:
    """What a run of this program holds, with this engine."""
    state = state_bytes(program)
    hashing = min(_HASHING_BYTES, 4 * state)
    return MemoryPlan(STATES_HELD * state, data_bytes(program), prepared.memory_bytes, hashing)


def prepare(engine: Engine, program: Program, most: int | None = None) -> Prepared:
    """Makes an engine ready for a program. Raises Refused if that needs more memory than is there, or than `most`."""
    try:
        prepared = engine.prepare(program)
    except MemoryError as error:
        reason = "the engine cannot have what the program needs"
        raise Refused("memory", str(error), reason, "use a larger machine") from None
    plan_memory(program, prepared).check(most)
    return prepared
