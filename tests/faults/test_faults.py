# SPDX-License-Identifier: Apache-2.0
"""A sample of the schedule that `make test-faults` plays: some of each group."""

from __future__ import annotations

import random

import pytest

from .kinds import kinds, through_proxy
from .schedule import units
from .world import World

SAMPLE = ("reorg:hire_back", "reorg:both", "reorg:decline", "tx:gap", "tx:reverts", "store:torn", "disk:full")


@pytest.mark.parametrize("name", SAMPLE)
def test_a_job_comes_to_its_right_end(world: World, disk_refusal: str | None, name: str) -> None:
    found = {kind.name: kind for kind in kinds(tmpfs=disk_refusal is None)}
    if name not in found:
        pytest.skip(str(disk_refusal))
    assert found[name].play(world, random.Random(name)) >= 0  # noqa: S311


def test_a_job_whose_node_does_all_this_comes_to_its_right_end(world: World) -> None:
    faults = ["refuse", "garbage", "two_views", "lose_answer"]
    assert len(through_proxy(world, random.Random(1), faults)) == len(faults)  # noqa: S311


def test_a_schedule_is_as_long_as_it_should_be_and_always_the_same() -> None:
    first, again, other = units(1, 300, tmpfs=True), units(1, 300, tmpfs=True), units(2, 300, tmpfs=True)
    assert sum(size for size, _, _ in first) >= 300
    assert [name for _, name, _ in first] == [name for _, name, _ in again]
    assert [name for _, name, _ in first] != [name for _, name, _ in other]
    assert {kind.name for kind in kinds(tmpfs=True)} <= {name for _, name, _ in first}
