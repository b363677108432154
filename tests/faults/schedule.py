# SPDX-License-Identifier: Apache-2.0
"""The seeded schedule: which faults one world goes through, in which order, and what came of each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .deaths import CHAINS, alone, alone_names, chain
from .kinds import kinds, through_proxy
from .proxy import FAULTS
from .world import ChainBroke, Doubled, World

NODE_FAULTS_A_JOB = 4


@dataclass(frozen=True)
class Fault:
    """One fault and what came of it; `recovery` in seconds."""

    kind: str
    group: str
    words: str
    recovery: float


Unit = Callable[[World, random.Random], list[Fault]]


def _chain(name: str) -> tuple[int, Unit]:
    chained = CHAINS[name]

    def unit(world: World, rng: random.Random) -> list[Fault]:
        found = chain(world, chained, declined="decline" in name)
        return [Fault(f"sigkill:{item}", "SIGKILL", "at a named boundary", took) for item, took in found.items()]

    return len(chained), unit


def _alone(name: str) -> tuple[int, Unit]:
    def unit(world: World, rng: random.Random) -> list[Fault]:
        return [Fault(f"sigkill:{name}", "SIGKILL", "at a named boundary", alone(world, name))]

    return 1, unit


def _node(names: list[str]) -> tuple[int, Unit]:
    def unit(world: World, rng: random.Random) -> list[Fault]:
        found = through_proxy(world, rng, names)
        return [Fault(f"node:{name}", "node", FAULTS[name], took) for name, took in zip(names, found, strict=True)]

    return len(names), unit


def units(seed: int, faults: int, *, tmpfs: bool) -> list[tuple[int, str, Unit]]:
    """Enough units for so many faults, with their sizes and names: first every boundary
    and every kind once, then kinds again."""
    rng = random.Random(seed)  # noqa: S311  # a schedule, no secret
    deaths: list[tuple[int, str, Unit]] = []
    for name in alone_names():
        size, unit = _alone(name)
        deaths.append((size, f"SIGKILL at {name}", unit))
    for name in CHAINS:
        size, unit = _chain(name)
        deaths.append((size, f"SIGKILL in a chain: {name}", unit))

    def others() -> Iterator[tuple[int, str, Unit]]:
        names = list(FAULTS)
        rng.shuffle(names)
        for first in range(0, len(names), NODE_FAULTS_A_JOB):
            some = names[first : first + NODE_FAULTS_A_JOB]
            size, unit = _node(some)
            yield size, f"node: {', '.join(some)}", unit
        for kind in kinds(tmpfs=tmpfs):

            def play(world: World, rng: random.Random, kind: Any = kind) -> list[Fault]:
                return [Fault(kind.name, kind.group, kind.words, kind.play(world, rng))]

            yield 1, kind.name, play

    first = list(others())
    rng.shuffle(first)
    rng.shuffle(deaths)
    once = [*first, *deaths]
    again: list[tuple[int, str, Unit]] = []
    while sum(size for size, _, _ in [*once, *again]) < faults:
        again += others()
    rng.shuffle(again)
    return [*once, *again]


@dataclass(frozen=True)
class Loss:
    """A unit whose job did not come to its right end."""

    unit: str
    seed: int
    why: str
    doubled: bool = False


def play(
    world: World, number: int, seed: int, name: str, unit: Unit, report: Callable[[str], None]
) -> tuple[list[Fault], Loss | None]:
    """Plays one unit; what went wrong is told, and the world goes on.

    Raises:
        ChainBroke: it must be played again, in another world.
    """
    began = time.monotonic()
    try:
        faults = unit(world, random.Random(seed * 100_003 + number))  # noqa: S311
    except ChainBroke:
        raise
    except Exception as error:  # whatever it is, the next unit begins with a calm world
        if not world.chain_is_whole:
            raise ChainBroke(f"the contracts are gone ({type(error).__name__})") from error
        report(f"#{number} {name}: WRONG: {type(error).__name__}: {error}")
        world.calm_down()
        return [], Loss(name, seed, (str(error) or type(error).__name__).splitlines()[0], isinstance(error, Doubled))
    slowest = max(fault.recovery for fault in faults)
    report(f"#{number} {name}: right; {time.monotonic() - began:.0f} s, recovered within {slowest:.1f} s")
    return faults, None
