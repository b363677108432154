# SPDX-License-Identifier: Apache-2.0
"""Every test that docs/threat-model.md, trust.md and cuda.md name exists, and every threat names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("page", [PAGE, PAGE.with_name("trust.md")], ids=lambda page: page.stem)
def test_every_named_test_exists(page: Path) -> None:
    named = NAMED.findall(page.read_text())
    assert named
    for file, name in named:
        found = [path for path in (ROOT / "tests" / "unit" / file, ROOT / "tests" / file) if path.is_file()]
        assert found, file
        path = found[0]
        assert name in names_in(path), f"{file}::{name}"


def test_every_test_that_the_page_on_cuda_names_exists() -> None:
    named = NAMED.findall((ROOT / "docs" / "cuda.md").read_text())
    assert len(named) > 20
    for file, name in named:
        assert name in names_in(ROOT / "tests" / "worker" / file), f"{file}::{name}"


def test_every_threat_names_a_test() -> None:
    assert len(rows()) > 30
    assert [row for row in rows() if not NAMED.search(row)] == []
