# SPDX-License-Identifier: Apache-2.0
"""The states that a run keeps on disk: one file for each checkpoint, as many as a budget allows."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpubond.exact import commitments
from gpubond.exact.engine import Array
from gpubond.exact.manifest import Checkpoint
from gpubond.exact.program import Program
from gpubond.exact.refusal import Refused
from gpubond.exact.tensors import STATE, file_bytes, read_state, write_tensors

# Beside the newest one, the one before: should the newest be torn.
_NEWEST = 2


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the state after so many steps lies."""
    return folder / f"checkpoint-{step:012d}.safetensors"


def read_checkpoint(folder: Path, item: Checkpoint, program: Program) -> list[Array] | None:
    """The kept state, if it is there and is the one that was committed to.

    Raises: Refused for a file that is not: it was torn, or somebody changed it.
    """
    path = checkpoint_path(folder, item.step)
    if not path.exists():
        return None
    state = read_state(path, program)
    found = commitments.state(state)
    if found != item.state:
        raise Refused(path.name, found.hex(), f"its commitment should be {item.state.hex()}")
    return state


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay: all, if they fit; else the two newest and some in equal distances.

    count: checkpoints of the run. every: of these, each so-many-th stays.
    """

    count: int
    every: int

    @classmethod
    def plan(cls, program: Program, count: int, budget_bytes: int | None) -> Retention:
        """Raises Refused if the budget does not hold what a run needs to go on after a fault."""
        if budget_bytes is None:
            return cls(count, 1)
        size = file_bytes([tensor.shape for tensor in program.state])
        files = budget_bytes // size
        if count <= files:
            return cls(count, 1)
        # Two that are kept and one that is being written.
        if files < _NEWEST + 1:
            needed = min(count, _NEWEST + 1) * size
            raise Refused("disk", budget_bytes, f"a checkpoint needs {size} bytes", f"allow {needed} bytes at least")
        spread = files - _NEWEST - 1
        return cls(count, -(-count // spread) if spread else count + 1)

    def kept(self, number: int, newest: int) -> bool:
        """Whether checkpoint `number` stays when `newest` is written."""
        return number > newest - _NEWEST or (number + 1) % self.every == 0

    def bytes_needed(self, program: Program) -> int:
        """What the kept files hold at most, with the one that is being written."""
        size = file_bytes([tensor.shape for tensor in program.state])
        files = self.count if self.every == 1 else self.count // self.every + _NEWEST + 1
        return min(files, self.count) * size


def check_room(folder: Path, needed: int) -> None:
    """Raises Refused if the disk has no room for the checkpoints."""
    free = shutil.disk_usage(folder).free
    held = sum(path.stat().st_size for path in folder.glob("checkpoint-*.safetensors"))
    if needed - held > free:
        remedy = "make room, or give a smaller budget for checkpoints"
        raise Refused("disk", needed, f"only {free} bytes are free", remedy)


def keep(folder: Path, step: int, state: Sequence[Array]) -> None:
    """Writes a checkpoint, whole or not at all, and durably. Raises OSError."""
    write_tensors(checkpoint_path(folder, step), STATE, state)


def drop(folder: Path, retention: Retention, items: Sequence[Checkpoint], begin: int = 0) -> None:
    """Removes the files of the checkpoints from number `begin` on that need not stay."""
    newest = len(items) - 1
    for number in range(begin, len(items)):
        if not retention.kept(number, newest):
            checkpoint_path(folder, items[number].step).unlink(missing_ok=True)
