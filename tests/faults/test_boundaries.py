# SPDX-License-Identifier: Apache-2.0
"""The boundaries: each named and placed once, armed by the environment alone, and met by deaths that lose nothing."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gpubond.provider.work import WorkState
from gpubond.store.boundaries import (
    ARM,
    BOUNDARIES,
    BUYER_BOUNDARIES,
    DISPUTE_BOUNDARIES,
    MOVES,
    STORE_BOUNDARIES,
    names,
)

from .deaths import CHAINS, SCENES, alone, alone_names, chain
from .world import REPOSITORY, World

PACKAGE = REPOSITORY / "gpubond"


def placed() -> Counter[str]:
    """The names in calls of `boundary`, as the sources have them."""
    found: Counter[str] = Counter()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "boundary":
                first = node.args[0]
                assert isinstance(first, ast.Constant), f"{path}:{node.lineno}: a name that cannot be read"
                assert (len(node.args) == 2) == bool(BOUNDARIES.get(str(first.value))), f"{path}:{node.lineno}"
                found[str(first.value)] += 1
    return found


def test_every_boundary_is_placed_once_and_every_placed_one_is_registered() -> None:
    # Processes and containers come to these each in their own way, and a job to one of the two.
    twice = ("run:started", "run:during")
    assert placed() == Counter([*BOUNDARIES, *BUYER_BOUNDARIES, *STORE_BOUNDARIES, *DISPUTE_BOUNDARIES, *twice])


def test_a_boundary_stands_before_and_after_every_move() -> None:
    assert set(MOVES) == {state.value for state in WorkState} - {"convicted"}


def test_a_death_is_planned_for_every_boundary() -> None:
    chained = [name for some in CHAINS.values() for name in some]
    assert len(chained) == len(set(chained))
    assert set(chained) | set(alone_names()) == set(names())
    for name in alone_names():
        first, _, rest = name.partition(":")
        assert (rest.rpartition(":")[2] if first == "move" else first) in SCENES, name


def test_only_the_registry_reads_what_arms_them() -> None:
    readers = [path for path in PACKAGE.rglob("*.py") if ARM in path.read_text("utf-8")]
    assert readers == [PACKAGE / "store" / "boundaries.py"]


def run(code: str, armed: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != ARM}
    environment |= {} if armed is None else {ARM: armed}
    code = f"from gpubond.store.boundaries import boundary\n{code}"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


TWICE = "boundary('adopt:before'); print(1); boundary('adopt:before'); print(2)"


@pytest.mark.parametrize(
    ("armed", "code", "said"),
    [
        (None, 0, "1\n2\n"),
        ("adopt:after", 0, "1\n2\n"),
        ("adopt:before", -signal.SIGKILL, ""),
        ("adopt:before#3", 0, "1\n2\n"),
        ("no:such", 1, ""),
        ("move:before", 1, ""),
    ],
)
def test_a_boundary_kills_only_where_it_is_armed(armed: str | None, code: int, said: str) -> None:
    done = run(TWICE, armed)
    assert (done.returncode, done.stdout) == (code, said)


def test_the_second_time_can_be_meant() -> None:
    done = run("import sys\nboundary('adopt:before'); print(1, flush=True); boundary('adopt:before')", "adopt:before#2")
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "1\n")


def test_one_job_survives_a_death_at_each_of_some_boundaries(world: World) -> None:
    chain(world, ("watch:stored", "move:after:ready", "move:after:executed", "move:after:settling"))


def test_a_death_in_the_middle_of_a_reorg(world: World) -> None:
    alone(world, "unmined:stored")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_death_when_the_buyer_cancels(world: World, when: str) -> None:
    alone(world, f"move:{when}:cancelling")


def test_a_program_that_kills_its_worker_is_not_started_for_ever(world: World, tmp_path: Path) -> None:
    if world.worker is not None:
        world.kill_worker()
    world.to_die_at = ["run:during"] * 5
    world.start_worker("run:during")
    job = world.hire(2)
    world.wait(lambda: world.armed is None and world.state(job) == "declined", "the job to be given back")
    row = world.work(job)
    assert row is not None
    assert (row["attempts"], row["reason"]) == (6, "internal")
    assert world.status(job).name == "DECLINED"


def test_a_running_job_is_seen(world: World) -> None:
    """So that to see none means something."""
    if world.worker is None:
        world.start_worker()
    world.hire(8)
    world.wait(lambda: world.job_processes(begun=True), "its process to be seen")
    world.wait(lambda: not world.job_processes(begun=True), "its process to be gone")
