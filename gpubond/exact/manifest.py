# SPDX-License-Identifier: Apache-2.0
"""A run's manifest, and the journal of its checkpoints while it goes on (docs/exact.md, section 5)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpubond.exact import commitments
from gpubond.exact.commitments import Statement
from gpubond.exact.files import sync_folder, write_whole
from gpubond.exact.program import VERSION, Program
from gpubond.exact.refusal import Refused

MANIFEST, JOURNAL = "manifest.json", "journal.jsonl"
# A thousand million steps with a checkpoint each are no run that anybody makes.
MOST_BYTES = 1 << 30
_HASH_DIGITS = 64


@dataclass(frozen=True)
class Checkpoint:
    """step: how many steps were taken. state: the commitment of the state after them."""

    step: int
    state: bytes

    def as_dict(self) -> dict[str, Any]:
        return {"step": self.step, "state": self.state.hex()}


@dataclass(frozen=True)
class Manifest:
    """What somebody says about a run. `parse` believes its form alone; `check` holds it against the statement.

    run: the run root; None while the run goes on, which only a journal says.
    """

    statement: bytes
    steps: int
    interval: int
    program: bytes
    initial: bytes
    data: bytes
    checkpoints: tuple[Checkpoint, ...] = ()
    run: bytes | None = None

    @classmethod
    def begin(cls, said: Statement) -> Manifest:
        """That of a run which has not taken a step."""
        return cls(said.hash(), said.steps, said.interval, said.program, said.initial, said.data)

    def ended(self, checkpoints: Sequence[Checkpoint]) -> Manifest:
        """That of the whole run."""
        root = commitments.run([item.state for item in checkpoints])
        return replace(self, checkpoints=tuple(checkpoints), run=root)

    def as_dict(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "version": VERSION,
            "statement": self.statement.hex(),
            "steps": self.steps,
            "interval": self.interval,
            "program": self.program.hex(),
            "initial": self.initial.hex(),
            "data": self.data.hex(),
            "checkpoints": [item.as_dict() for item in self.checkpoints],
            "run": None if self.run is None else self.run.hex(),
        }

    @classmethod
    def parse(cls, raw: Any, field: str = "manifest") -> Manifest:
        """Raises Refused, naming the field, unless it has the form of a manifest."""
        if not isinstance(raw, dict):
            raise Refused(field, type(raw).__name__, "must be a JSON object")
        if raw.get("version") != VERSION or isinstance(raw.get("version"), bool):
            raise Refused(f"{field}.version", raw.get("version"), f"must be {VERSION}")
        listed = raw.get("checkpoints")
        if not isinstance(listed, list):
            raise Refused(f"{field}.checkpoints", type(listed).__name__, "must be a list")
        made = cls(
            statement=_hash(raw, "statement", field),
            steps=_count(raw, "steps", field),
            interval=_count(raw, "interval", field),
            program=_hash(raw, "program", field),
            initial=_hash(raw, "initial", field),
            data=_hash(raw, "data", field),
            checkpoints=tuple(_checkpoint(item, f"{field}.checkpoints[{at}]") for at, item in enumerate(listed)),
            run=None if raw.get("run") is None else _hash(raw, "run", field),
        )
        made._check_steps(field)
        return made

    def check(self, said: Statement, field: str = "manifest") -> None:
        """Raises Refused, naming the field, unless it is about this statement and agrees with itself.

        Whether the checkpoints' states are the right ones is another question.
        """
        for name in ("steps", "interval", "program", "initial", "data"):
            stated, wanted = getattr(self, name), getattr(said, name)
            if stated != wanted:
                raise Refused(f"{field}.{name}", _shown(stated), f"the run that is asked about has {_shown(wanted)}")
        if self.statement != said.hash():
            raise Refused(f"{field}.statement", self.statement.hex(), f"its own fields give {said.hash().hex()}")
        if self.run is None:
            return
        count = commitments.checkpoints(self.steps, self.interval)
        if len(self.checkpoints) != count:
            raise Refused(f"{field}.checkpoints", len(self.checkpoints), f"a run of so many steps has {count}")
        root = commitments.run([item.state for item in self.checkpoints])
        if root != self.run:
            raise Refused(f"{field}.run", self.run.hex(), f"its own checkpoints give {root.hex()}")

    def _check_steps(self, field: str) -> None:
        count = commitments.checkpoints(self.steps, self.interval)
        for at, item in enumerate(self.checkpoints):
            wanted = commitments.checkpoint_step(at, self.steps, self.interval) if at < count else None
            if item.step != wanted:
                raise Refused(f"{field}.checkpoints[{at}].step", item.step, f"must be {wanted}")


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a run's folder, or what its journal says if the run has not ended. Raises Refused, OSError."""
    path = folder / MANIFEST
    if not path.exists() and (folder / JOURNAL).exists():
        return read_journal(folder)[0]
    if path.stat().st_size > MOST_BYTES:
        raise Refused("manifest", path.stat().st_size, f"is larger than {MOST_BYTES} bytes")
    return Manifest.parse(_json(path.read_bytes(), "manifest"))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Raises OSError."""
    text = json.dumps(manifest.as_dict(), indent=2).encode() + b"\n"
    write_whole(folder / MANIFEST, lambda stream: stream.write(text))


def begin_journal(folder: Path, manifest: Manifest) -> None:
    """Writes the journal's first line. Raises OSError."""
    head = json.dumps(manifest.as_dict()).encode() + b"\n"
    write_whole(folder / JOURNAL, lambda stream: stream.write(head))


def read_journal(folder: Path) -> tuple[Manifest, int]:
    """What the journal says, and how many of its bytes are whole lines: one that was cut off is as not written."""
    whole = (folder / JOURNAL).read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    lines = whole.splitlines()
    if not lines:
        raise Refused("journal", len(whole), "has no first line", "begin anew in an empty folder")
    head = _json(lines[0], "journal")
    if isinstance(head, dict):
        head["checkpoints"] = [_json(line, f"journal.line[{at}]") for at, line in enumerate(lines[1:], 1)]
    return Manifest.parse(head, "journal"), len(whole)


def add_to_journal(folder: Path, item: Checkpoint) -> None:
    """One more line, durably. Raises OSError."""
    append(folder / JOURNAL, json.dumps(item.as_dict()).encode() + b"\n")


def append(path: Path, text: bytes) -> None:
    """Appends to a file, durably. Raises OSError."""
    fresh = not path.exists()
    with path.open("ab") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    if fresh:
        sync_folder(path.parent)


def statement_of(program: Program, manifest: Manifest) -> Statement:
    """The statement that a manifest's fields give with a program's counts."""
    counts = (len(program.state), len(program.data), len(program.ops))
    return Statement(*counts, manifest.steps, manifest.interval, manifest.program, manifest.initial, manifest.data)


def _shown(value: bytes | int) -> str | int:
    return value.hex() if isinstance(value, bytes) else value


def _json(text: bytes, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(field, text[:40].decode(errors="replace"), f"is not JSON: {error}") from None


def _hash(raw: dict[str, Any], name: str, field: str) -> bytes:
    value = raw.get(name)
    digits = set("0123456789abcdef")
    if not isinstance(value, str) or len(value) != _HASH_DIGITS or not set(value) <= digits:
        raise Refused(f"{field}.{name}", value, f"must be {_HASH_DIGITS} hexadecimal digits in lower case")
    return bytes.fromhex(value)


def _count(raw: dict[str, Any], name: str, field: str) -> int:
    value = raw.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= commitments.MOST_STEPS:
        raise Refused(f"{field}.{name}", value, f"must be a whole number from 1 to {commitments.MOST_STEPS}")
    return value


def _checkpoint(raw: Any, field: str) -> Checkpoint:
    if not isinstance(raw, dict):
        raise Refused(field, type(raw).__name__, "must be a JSON object")
    return Checkpoint(_count(raw, "step", field), _hash(raw, "state", field))
