# SPDX-License-Identifier: Apache-2.0
"""Numbers that a run shows: state tensors of one element, named by a file beside the program that is for people only.

`digits.gpx` may have a `digits.json` with `{"metrics": {"loss": "state.4"}}`; what else is in it means nothing here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpubond.exact import shapes
from gpubond.exact.engine import Array
from gpubond.exact.files import write_whole
from gpubond.exact.program import Program
from gpubond.exact.refusal import Refused

METRICS = "metrics.jsonl"
MOST_BYTES = 4 << 20
_STATE = re.compile(r"state\.(\d{1,5})")


@dataclass(frozen=True)
class Metrics:
    """Name -> number of the state tensor."""

    tensors: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def beside(cls, program_file: Path, program: Program) -> Metrics:
        """Those of the file beside the program; none if there is no such file. Raises Refused, OSError."""
        path = program_file.with_suffix(".json")
        if not path.exists():
            return cls()
        if path.stat().st_size > MOST_BYTES:
            raise Refused(path.name, path.stat().st_size, f"is larger than {MOST_BYTES} bytes")
        try:
            raw = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise Refused(path.name, path.name, f"is not JSON: {error}") from None
        named = raw.get("metrics", {}) if isinstance(raw, dict) else None
        if not isinstance(named, dict):
            raise Refused(f"{path.name}.metrics", named, 'must be as {"loss": "state.4"}')
        return cls({name: _tensor(f"{path.name}.metrics.{name}", at, program) for name, at in named.items()})

    def of(self, state: Sequence[Array]) -> dict[str, float]:
        """The numbers of one state."""
        return {name: float(state[at].reshape(-1)[0]) for name, at in self.tensors.items()}


def line(step: int, values: Mapping[str, float]) -> bytes:
    """One line of the file: the numbers after so many steps. JSON has no infinities and NaNs: they are words."""
    shown = {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
    return json.dumps({"step": step, **shown}).encode() + b"\n"


def cut(folder: Path, step: int) -> None:
    """Leaves the lines of the first `step` steps, whole ones, in a run's file. Raises OSError."""
    path = folder / METRICS
    if path.exists():
        write_whole(path, lambda stream: stream.writelines(_lines_until(path, step)))


def _lines_until(path: Path, step: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        for text in _whole(stream):
            if json.loads(text)["step"] > step:
                return
            yield text


def _whole(lines: Iterable[bytes]) -> Iterator[bytes]:
    return (text for text in lines if text.endswith(b"}\n"))


def _tensor(where: str, raw: Any, program: Program) -> int:
    found = _STATE.fullmatch(raw) if isinstance(raw, str) else None
    if found is None or int(found[1]) >= len(program.state):
        raise Refused(where, raw, f"must be state.0 to state.{len(program.state) - 1}")
    shape = program.state[int(found[1])].shape
    if shapes.count(shape) != 1:
        raise Refused(where, raw, f"has the shape {shape}; a metric has one element")
    return int(found[1])
