# SPDX-License-Identifier: Apache-2.0
"""Every test that docs/threat-model.md names exists, and every threat names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "threat-model.md"
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def names_in(path: Path) -> set[str]:
    """Names of the test functions of a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def rows() -> list[str]:
    """Rows of the page's tables, without heads and rules."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return [line for line in lines if not re.match(r"\|[\s:|-]+\|$", line) and "| defence |" not in line]


def test_every_named_test_exists() -> None:
    named = NAMED.findall(PAGE.read_text())
    assert named
    for file, name in named:
        # The contracts' own tests are named from their folder on, the others from `tests/` on.
        folder = ROOT / "tests"
        path = folder / file if file.startswith(("integration/", "worker/")) else folder / "unit" / file
        assert path.is_file(), file
        assert name in names_in(path), f"{file}::{name}"


def test_every_threat_names_a_test() -> None:
    assert len(rows()) > 30
    assert [row for row in rows() if not NAMED.search(row)] == []
