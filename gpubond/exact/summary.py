# SPDX-License-Identifier: Apache-2.0
"""What a program costs: parameters, arithmetic of a step, memory; as numbers and as a table to print."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gpubond.exact.build import Built
from gpubond.exact.live import live_bytes
from gpubond.exact.program import ELEMENTWISE, Op, Opcode
from gpubond.exact.shapes import count

_VALUE_BYTES = 4


@dataclass
class Cost:
    """Of some operations of a step. products: fused multiply-adds of matrix products; terms: of sums and maxima."""

    operations: int = 0
    products: int = 0
    terms: int = 0
    elements: int = 0

    def take(self, op: Op) -> None:
        """Adds one operation."""
        self.operations += 1
        if op.code == Opcode.MATMUL_NT:
            self.products += count(op.shape) * op.input_shapes[0][-1]
        elif op.code in (Opcode.SUM, Opcode.ROWMAX):
            self.terms += count(op.input_shapes[0])
        elif op.code in ELEMENTWISE:
            self.elements += count(op.shape)


@dataclass
class Summary:
    """parameters: trained values. state_bytes, data_bytes: of the tensors that enter, data whole.

    live_bytes: see live.py. by_layer: cost by path.
    """

    parameters: int
    state_bytes: int
    data_bytes: int
    live_bytes: int
    whole: Cost
    by_layer: dict[str, Cost] = field(default_factory=dict)
    by_code: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """To print: a line for each layer, then the totals."""
        rows = [("layer", "operations", "FMAs", "sums", "elementwise")]
        rows += [(name or "(step)", *_cells(cost)) for name, cost in self.by_layer.items()]
        rows += [("all", *_cells(self.whole))]
        widths = [max(len(row[at]) for row in rows) for at in range(5)]
        table = [
            "  ".join(cell.rjust(w) if at else cell.ljust(w) for at, (cell, w) in _cut(row, widths)) for row in rows
        ]
        return [
            *table,
            "",
            f"parameters   {self.parameters:,}",
            f"FMAs a step  {self.whole.products + self.whole.terms + self.whole.elements:,}",
            f"memory       state {size(self.state_bytes)}, data {size(self.data_bytes)}, "
            f"live tensors at the peak of a step {size(self.live_bytes)}",
        ]


def summarise(built: Built) -> Summary:
    """The summary of a program, by layer."""
    program, names = built.program, built.names
    found = Summary(
        parameters=sum(count(program.state[at].shape) for at in names.trained),
        state_bytes=_VALUE_BYTES * sum(count(tensor.shape) for tensor in program.state),
        data_bytes=_VALUE_BYTES * sum(count(shape) for shape in program.data),
        live_bytes=live_bytes(program),
        whole=Cost(),
    )
    for op, path in zip(program.ops, names.operations, strict=True):
        found.whole.take(op)
        found.by_layer.setdefault(path, Cost()).take(op)
        found.by_code[op.code.name] += 1
    return found


def _cells(cost: Cost) -> tuple[str, str, str, str]:
    return f"{cost.operations:,}", f"{cost.products:,}", f"{cost.terms:,}", f"{cost.elements:,}"


def _cut(row: tuple[str, ...], widths: list[int]) -> list[tuple[int, tuple[str, int]]]:
    return list(enumerate(zip(row, widths, strict=True)))


def size(amount: float) -> str:
    """Bytes, for people."""
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} GiB"
