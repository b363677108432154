# SPDX-License-Identifier: Apache-2.0
"""The second suite: random calls, contracts against model, for the few mutants that the directed one lets through.

A process of its own, since the stateful tests replace parts of the EVM for their speed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .chain import CONTRACTS, ROOT

# Fixed seeds, so that a verdict is the same each time.
SEEDS = range(9_000, 9_005)

# Seconds for all of them, which take less than twenty.
LIMIT = 900

_FELL = 3


def failure(file: str, source: str, names: Iterable[str]) -> str:
    """Plays episodes against contracts compiled with one file's source replaced; the first mismatch, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        contracts = Path(folder) / "contracts"
        shutil.copytree(CONTRACTS, contracts)
        (contracts / file).write_text(source)
        command = [sys.executable, "-m", "tests.mutation.episodes", str(contracts), *names]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return f"episode: more than {LIMIT} seconds"
    if done.returncode == _FELL:
        return done.stdout.strip()[:300]
    assert done.returncode == 0, done.stderr
    return ""


def main(contracts: Path, names: list[str]) -> int:
    """Plays the episodes; the exit status says whether one of them failed."""
    from tests.stateful.harness import Tally, World
    from tests.stateful.run import play

    try:
        world = World(dict.fromkeys(names, contracts))
        for seed in SEEDS:
            play(world, seed, Tally())
    except Exception as error:
        print(f"episode: {type(error).__name__}: {error}"[:300].replace("\n", " "))
        return _FELL
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
