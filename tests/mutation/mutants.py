# SPDX-License-Identifier: Apache-2.0
"""Makes wrong contracts out of the right ones, one change at a time.

The sources are read as Python after a replacement of Vyper's own words by others of the same length, so that every
node of the tree has its place in the source. Mocks and interfaces are left alone, and contracts that the suite
does not execute: those of exact programs have tests of their own. Out of scope: the pragmas of
nonreentrancy, since no mutant of them is a fault of a line; types; the numbers within types.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from .chain import CONTRACTS, closure
from .world import TARGETS

# Same length, same precedence where it matters.
_WORDS = (
    (r"\blog (?=\w)", "not "),
    (r"\bextcall (?=\w)", "~       "),
    (r"\bstaticcall (?=\w)", "~          "),
    (r"^struct (?=\w)", "class  "),
    (r"^interface (?=\w)", "class     "),
)
_LOOP = re.compile(r"(?<=for )(\w+)(: [\w.\[\]]+)(?= in )")

_COMPARISONS = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("!=", "<=", ">="),
    "!=": ("==", "<", ">"),
}
_SYMBOLS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_ARITHMETIC: dict[type[ast.operator], tuple[str, tuple[str, ...]]] = {
    ast.Add: ("+", ("-",)),
    ast.Sub: ("-", ("+",)),
    ast.Mult: ("*", ("+", "//")),
    ast.FloorDiv: ("//", ("*",)),
    ast.LShift: ("<<", (">>",)),
    ast.RShift: (">>", ("<<",)),
    ast.BitAnd: ("&", ("|", "^")),
    ast.BitOr: ("|", ("&", "^")),
    ast.BitXor: ("^", ("|", "&")),
}


@dataclass(frozen=True)
class Mutant:
    """One change of one line: `start` and `end` are offsets into the source of `file`."""

    id: str
    file: str
    line: int
    operator: str
    start: int
    end: int
    text: str

    def apply(self, source: str) -> str:
        """The source with the change."""
        return source[: self.start] + self.text + source[self.end :]

    def diff(self, source: str) -> str:
        """The lines it touches, before and after."""
        first = source.rfind("\n", 0, self.start) + 1
        last = source.find("\n", self.end)
        before = source[first:last]
        after = source[first : self.start] + self.text + source[self.end : last]
        return f"{self.file}:{self.line}: {' '.join(before.split())}  =>  {' '.join(after.split())}"


def files() -> list[Path]:
    """The contracts that the suite executes, and their modules: of others no mutant could be killed."""
    executed = frozenset[Path]().union(*(closure(CONTRACTS / f"{name}.vy") for name in TARGETS))
    return sorted(path for path in executed if path.suffix == ".vy")


def _readable(source: str) -> str:
    for word, other in _WORDS:
        source = re.sub(word, other, source, flags=re.MULTILINE)
    return _LOOP.sub(lambda match: match[1] + " " * len(match[2]), source)


class _Finder(ast.NodeVisitor):
    """Finds places and changes: start, end, new text, operator."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines = [0]
        for line in source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line.encode()))
        assert source.isascii(), "offsets of the tree are bytes"
        self.found: list[tuple[int, int, str, str]] = []

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.lines[node.lineno - 1] + node.col_offset, self.lines[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr | ast.stmt) -> str:
        start, end = self.span(node)
        return self.source[start:end]

    def add(self, node: ast.expr | ast.stmt, text: str, operator: str) -> None:
        self.found.append((*self.span(node), text, operator))

    def between(self, left: ast.expr, right: ast.expr, symbol: str) -> tuple[int, int]:
        """Where an operator stands between its operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        at = self.source.index(symbol, start, end)
        return at, at + len(symbol)

    # What is left alone.

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Structs and interfaces are types."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for default in node.args.defaults:
            self.visit(default)
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and not self.text(node).startswith(("implements", "initializes", "exports")):
            self.visit(node.value)

    # Statements.

    def visit_Expr(self, node: ast.Expr) -> None:
        text = self.text(node)
        if isinstance(node.value, ast.Constant):
            return
        if "_fail(" in text:
            self.add(node, "pass", "drop guard")
            return
        operator = "drop event" if text.startswith("log ") else "drop call"
        if any(role in text for role in ("_check_owner", "_require_provider", "_require_arbiter")):
            operator = "role check"
        if "__init__" not in text:
            self.add(node, "pass", operator)
        self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        test = self.text(node.test)
        self.add(node, "pass", "drop guard")
        if test.startswith("extcall "):
            self.add(node, test, "ignore outcome")
        else:
            self.add(node.test, f"not ({test})", "negate")
        self.visit(node.test)

    def visit_Raise(self, node: ast.Raise) -> None:
        self.add(node, "pass", "drop guard")

    def visit_If(self, node: ast.If) -> None:
        self.add(node.test, f"not ({self.text(node.test)})", "negate")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.add(node.test, f"not ({self.text(node.test)})", "negate")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.targets[0], (ast.Attribute, ast.Subscript)):
            self.add(node, "pass", "drop write")
        self.visit(node.targets[0])
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.add(node, "pass", "drop write")
        symbol, others = _ARITHMETIC[type(node.op)]
        place = self.between(node.target, node.value, symbol + "=")
        for other in (*others, ""):
            self.found.append((*place, other + "=", "change write"))
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.visit(node.value)
        else:
            self.add(node, "pass", "drop return")

    # Expressions.

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        symbol, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            self.found.append((*self.between(left, right, symbol), other, "logic"))
        for value in node.values:
            self.add(value, f"not ({self.text(value)})", "negate")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        right = node.comparators[0]
        symbol = _SYMBOLS.get(type(node.ops[0]))
        if symbol:
            place = self.between(node.left, right, symbol)
            role = "msg.sender" in self.text(node)
            zero = self.text(right) == "0"
            for other in _COMPARISONS[symbol]:
                # Nothing is below zero: these would be the same contract.
                if zero and (symbol, other) in (("==", "<="), ("!=", ">")):
                    continue
                self.found.append((*place, other, "role check" if role else "comparison"))
            if role:
                self.add(node, "True", "role check")
                self.add(node, "False", "role check")
        elif isinstance(node.ops[0], ast.In):
            place = self.between(node.left, right, "in")
            self.found.append((*place, "not in", "comparison"))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in _ARITHMETIC:
            symbol, others = _ARITHMETIC[type(node.op)]
            place = self.between(node.left, node.right, symbol)
            for other in others:
                self.found.append((*place, other, "arithmetic"))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        text = self.text(node)
        if text.startswith(("~", "not ")):
            self.add(node, self.text(node.operand), "negate" if text.startswith("not") else "arithmetic")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if type(node.value) is int and not self.text(node).startswith("0x"):
            self.add(node, str(node.value + 1), "constant")
            if node.value:
                self.add(node, str(node.value - 1), "constant")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        text = self.text(node)
        if text == "msg.sender":
            self.add(node, "tx.origin", "role check")
        match = re.fullmatch(r"IJobEscrow\.Status\.(\w+)", text)
        if match:
            after = {"OPEN": "ACTIVE", "ACTIVE": "COMMITTED", "COMMITTED": "DISPUTED", "DISPUTED": "COMMITTED"}
            self.add(node, f"IJobEscrow.Status.{after.get(match[1], 'OPEN')}", "state")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = self.text(node.func)
        if name in ("min", "max"):
            self.add(node.func, "max" if name == "min" else "min", "arithmetic")
        values = [*node.args] if len(node.args) > 1 else [keyword.value for keyword in node.keywords]
        if name not in ("min", "max", "convert", "concat", "abi_encode", "errors._fail"):
            for left, right in pairwise(values):
                start, end = self.span(left)[0], self.span(right)[1]
                middle = self.source[self.span(left)[1] : self.span(right)[0]]
                self.found.append((start, end, self.text(right) + middle + self.text(left), "swap"))
        self.generic_visit(node)


def of_file(path: Path) -> list[Mutant]:
    """All mutants of one source."""
    source = path.read_text()
    finder = _Finder(source)
    finder.visit(ast.parse(_readable(source)))
    file = path.relative_to(CONTRACTS).as_posix()
    mutants: dict[str, Mutant] = {}
    lines = source.splitlines()
    for start, end, text, operator in sorted(finder.found):
        if source[start:end] == text:
            continue
        line = source.count("\n", 0, start) + 1
        first = source.rfind("\n", 0, start) + 1
        words = lines[line - 1].strip()
        # The line's text and its number among equal lines, so that changes elsewhere leave the id as it is.
        twin = [other.strip() for other in lines[: line - 1]].count(words)
        column = start - first - (len(lines[line - 1]) - len(lines[line - 1].lstrip()))
        material = f"{file}|{words}|{twin}|{column}|{end - start}|{operator}|{text}"
        digest = hashlib.sha256(material.encode()).hexdigest()[:12]
        mutants.setdefault(digest, Mutant(digest, file, line, operator, start, end, text))
    return list(mutants.values())


def every() -> list[Mutant]:
    """All mutants of all sources, in the order of files and lines."""
    return [mutant for path in files() for mutant in of_file(path)]


def sample(mutants: list[Mutant], size: int, seed: int) -> Iterator[Mutant]:
    """A drawing without bias, of which each smaller one is the beginning; each file in it with its share."""
    order = sorted(mutants, key=lambda mutant: hashlib.sha256(f"{seed}:{mutant.id}".encode()).digest())
    yield from order[:size]
