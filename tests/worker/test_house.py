# SPDX-License-Identifier: Apache-2.0
"""The rules of the house that no linter knows: licences, direction of imports, size, pins, ABIs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "gpubond"
SOURCE_SUFFIXES = {".py", ".vy", ".vyi", ".h", ".c", ".cpp", ".cu", ".sh"}
MAX_LINES = 450
CONTRACTS = ("DataDemands", "DisputeGame", "JobEscrow", "JobEscrowViews", "ProviderStaking", "TestToken")

# Each layer may import itself and the layers named; everyone may import the foundation.
FOUNDATION = {"errors", "settings"}
MAY_IMPORT = {
    "__init__": {"buyer"},
    "errors": set(),
    "settings": set(),
    "store": set(),
    "exact": set(),
    "chain": {"store"},
    "jobs": {"exact", "chain", "store"},
    "disputes": {"exact", "jobs", "chain", "store"},
    "provider": {"disputes", "exact", "jobs", "chain", "store"},
    "buyer": {"disputes", "exact", "jobs", "chain", "store"},
    "anvil": set(),
    "devnet": {"anvil", "chain", "store"},
    "cli": {"provider", "buyer", "disputes", "exact", "jobs", "chain", "store", "devnet", "anvil"},
}


def tracked() -> list[Path]:
    """All files that git tracks or would."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [REPOSITORY / name for name in listed.split("\0") if name and (REPOSITORY / name).is_file()]


def sources() -> list[Path]:
    return [path for path in tracked() if path.suffix in SOURCE_SUFFIXES]


def modules() -> list[Path]:
    return [path for path in sources() if path.suffix == ".py" and path.is_relative_to(PACKAGE)]


def imported(source: str, package: str) -> Iterator[str]:
    """The absolute names that a module imports, at its top or inside of functions.

    `package` is the module's own package, for relative imports.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            # `from gpubond import chain` names a layer, `from gpubond.chain import node` is one.
            yield from (f"{base}.{alias.name}" for alias in node.names) if base == "gpubond" else (base,)


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def violations(source: str, package: str, layer: str) -> list[str]:
    """Imports that point the wrong way."""
    wrong = []
    for name in imported(source, package):
        top, _, rest = name.partition(".")
        if top == "ape" or top.startswith("ape_"):
            wrong.append(f"{name}: no Ape on a worker")
        target = rest.split(".")[0]
        if top == "gpubond" and target and target not in {"__version__", layer} | FOUNDATION | MAY_IMPORT[layer]:
            wrong.append(f"{name}: {layer} may not import {target}")
    return wrong


def test_sources_are_found() -> None:
    assert len(modules()) > 20
    assert {".py", ".vy", ".vyi"} <= {path.suffix for path in sources()}


def test_every_source_names_its_licence() -> None:
    unmarked = []
    for path in sources():
        licence = "AGPL-3.0-only" if path.is_relative_to(REPOSITORY / "contracts") else "Apache-2.0"
        head = path.read_text("utf-8").splitlines()[:5]
        if not any(line.endswith(f"SPDX-License-Identifier: {licence}") for line in head):
            unmarked.append(f"{path.relative_to(REPOSITORY)}: {licence}")
    assert not unmarked


def test_licence_texts_are_here() -> None:
    assert "Apache License" in (REPOSITORY / "LICENSE").read_text()[:200]
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in (REPOSITORY / "contracts" / "LICENSE").read_text()[:200]


def test_imports_point_one_way() -> None:
    wrong = {}
    for path in modules():
        package = ".".join(path.relative_to(REPOSITORY).parent.parts)
        found = violations(path.read_text("utf-8"), package, layer_of(path))
        if found:
            wrong[str(path.relative_to(REPOSITORY))] = found
    assert not wrong


@pytest.mark.parametrize(
    ("source", "layer", "expected"),
    [
        ("from gpubond.chain.node import connect", "store", 1),
        ("from gpubond import provider", "buyer", 1),
        ("def late():\n    import gpubond.cli.main", "jobs", 1),
        ("from ..provider import daemon", "chain", 1),
        ("import ape", "cli", 1),
        ("from ape_console import plugin", "cli", 1),
        ("from gpubond.jobs.manifest import Manifest\nfrom gpubond import errors", "exact", 1),
        ("from gpubond.store.database import Database", "chain", 0),
        ("from gpubond import __version__\nfrom gpubond.buyer import quote", "cli", 0),
        ("from .node import connect\nimport json", "chain", 0),
    ],
)
def test_wrong_imports_would_be_found(source: str, layer: str, expected: int) -> None:
    assert len(violations(source, f"gpubond.{layer}", layer)) == expected


def test_every_layer_has_its_place() -> None:
    assert {layer_of(path) for path in modules()} <= set(MAY_IMPORT)


def test_modules_fit_in_one_reading() -> None:
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text("utf-8").splitlines()) for path in modules()}
    assert not {name: count for name, count in lengths.items() if count > MAX_LINES}


def test_every_requirement_is_pinned_and_names_no_place() -> None:
    pin = re.compile(r"^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+( ; .+)?$")
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 100
    assert not [line for line in pins if not pin.match(line)]
    assert not [line for line in lines if "://" in line or "@" in line or line.startswith("-")]


def test_no_source_names_a_place_of_one_machine() -> None:
    # Assembled, so that this file does not find itself.
    places = re.compile(r"(?<![\w})/])/" + "(?:root/|home/[a-z]|work/|opt/pypi)")
    assert places.search('"' + "/" + 'work/main"') and not places.search("/proc/{pid}/root/x")
    texts = [path for path in tracked() if path.suffix in SOURCE_SUFFIXES | {".md", ".txt", ".toml", ".yaml", ".yml"}]
    found = [str(path.relative_to(REPOSITORY)) for path in texts if places.search(path.read_text("utf-8"))]
    assert not found


@pytest.mark.parametrize("name", CONTRACTS)
def test_abi_of_contract_is_committed(name: str) -> None:
    abi = json.loads((PACKAGE / "chain" / "abi" / f"{name}.json").read_text())
    assert any(entry["type"] == "function" for entry in abi)
    assert any(entry["type"] == "constructor" for entry in abi)
