# SPDX-License-Identifier: Apache-2.0
"""Where the time of a step goes in the C engine: its plan, instruction by instruction, as native/plan.h lays it out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gpubond.exact.c_engine import CPrepared
from gpubond.exact.engine import Array

_KINDS = {1: "pass", 2: "copy", 3: "gather", 4: "product", 5: "sums", 6: "maxima"}
_ROUNDS = 5


@dataclass
class _Row:
    """One instruction. words: its own, behind kind and length."""

    kind: str
    words: list[int]
    seconds: list[float] = field(default_factory=list)

    def label(self) -> str:
        """What it is, with its sizes; equal ones are shown together."""
        words = self.words
        if self.kind == "product":
            batch, m, n, k = words[8] * words[9], *words[10:13]
            return f"product {batch} x ({m} x {n}, {k} terms)"
        if self.kind == "pass":
            return f"pass of {words[0]:,} elements, {words[7]} operations"
        if self.kind == "copy":
            return "copy of " + " x ".join(str(n) for n in words[4:8] if n != 1)
        if self.kind == "gather":
            return f"gather of {words[8]} rows"
        return f"{self.kind}: {words[4] * words[5] * words[6]:,} of {words[10]} terms"

    def products(self) -> int:
        """Multiply-adds of a matrix product."""
        words = self.words
        return words[8] * words[9] * words[10] * words[11] * words[12] if self.kind == "product" else 0


def where(prepared: CPrepared, state: Sequence[Array], data: Sequence[Array], step: int) -> list[dict[str, Any]]:
    """Rows, greatest first: what, how often in a step, milliseconds (medians), percent, GFLOP/s of products."""
    rows: list[_Row] = []
    for turn in range(_ROUNDS):
        for at, (words, carry_out) in enumerate(prepared.instructions(state, data, step)):
            if turn == 0:
                rows.append(_Row(_KINDS[words[0]], words[2:]))
            started = time.perf_counter()
            carry_out()
            rows[at].seconds.append(time.perf_counter() - started)
    return _table(rows)


def _table(rows: Sequence[_Row]) -> list[dict[str, Any]]:
    whole = sum(statistics.median(row.seconds) for row in rows)
    together: dict[str, list[_Row]] = {}
    for row in rows:
        together.setdefault(row.label(), []).append(row)
    found = []
    for label, same in together.items():
        seconds = sum(statistics.median(row.seconds) for row in same)
        entry = {
            "what": label,
            "times": len(same),
            "ms": round(1000 * seconds, 3),
            "percent": round(100 * seconds / whole, 1),
        }
        if same[0].products():
            entry["gflops"] = round(2 * sum(row.products() for row in same) / seconds / 1e9, 1)
        found.append(entry)
    return sorted(found, key=lambda entry: -entry["ms"])
