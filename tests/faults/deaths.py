# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at every named boundary: in chains, one death after another in one job, or in a scene of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sized
from functools import partial

from gpubond.chain.development import advance_time
from gpubond.chain.market import Status
from gpubond.errors import Unreachable
from gpubond.store.boundaries import names

from . import scenes
from .world import BUYER, Job, World

# Each chain is one job, and each of its boundaries a death in it, in the order in which the job comes to them. A
# death behind a write makes the restarted worker skip what led to it, so neighbours are in different chains.
CHAINS: dict[str, tuple[str, ...]] = {
    "before": (
        *("watch:seen", "adopt:before", "move:before:awaiting_inputs", "inputs:complete", "move:before:running"),
        *("run:before_start", "run:during", "run:kept", "send:tried:commit", "send:in_store:commit"),
        *("send:broadcast:commit", "receipt:before:commit", "mined:in_store:commit", "move:before:committed"),
        *("send:tried:settle", "send:in_store:settle", "send:broadcast:settle", "move:before:settled"),
        *("receipt:before:settle", "mined:in_store:settle"),
    ),
    "after": (
        *("watch:in_store", "adopt:in_store", "move:after:awaiting_inputs", "move:before:ready", "inputs:noted"),
        *("move:after:running", "run:started", "run:ended", "move:before:executed", "send:stored:commit"),
        *("move:before:committing", "receipt:read:commit", "mined:stored:commit", "move:after:committed"),
        *("send:stored:settle", "move:before:settling", "move:after:settled", "receipt:read:settle"),
        "mined:stored:settle",
    ),
    "between": (
        *("watch:stored", "adopt:after", "move:after:ready", "move:after:executed", "move:after:committing"),
        "move:after:settling",
    ),
    "decline before": (
        *("move:before:declining", "send:tried:decline", "send:in_store:decline", "send:broadcast:decline"),
        *("move:before:declined", "receipt:before:decline", "mined:in_store:decline"),
    ),
    "decline after": (
        *("move:after:declining", "send:stored:decline", "move:after:declined", "receipt:read:decline"),
        "mined:stored:decline",
    ),
}


def chain(world: World, chained: tuple[str, ...], *, declined: bool = False) -> dict[str, float]:
    """One job during which the worker dies at each boundary; returns seconds from each death to the next step that
    was come to: the next boundary, for the last the job's end."""
    if world.worker is not None:
        world.kill_worker()
    died: list[float] = []
    world.on_death = lambda: died.append(time.monotonic())
    world.to_die_at = list(chained[1:])
    try:
        world.start_worker(chained[0])
        job = world.hire(0.5, memory=8192 if declined else 256)
        for number, name in enumerate(chained):
            world.wait(partial(_more_than, died, number), f"the worker to come to {name}")
        when = world.finish(job, Status.DECLINED if declined else Status.SETTLED)
    finally:
        world.on_death, world.to_die_at = None, []
    return {name: later - at for name, at, later in zip(chained, died, [*died[1:], max(when, died[-1])], strict=True)}


def _more_than(found: Sized, count: int) -> bool:
    return len(found) > count


# What a worker does on rare occasions only: boundary -> the scene in which it comes to it.
Scene = Callable[[World, str], tuple[Job, Status]]


def alone(world: World, name: str) -> float:
    """One death in its own scene; returns seconds from it to the job's right end."""
    if world.worker is not None:
        world.kill_worker()
    deaths = world.deaths
    first, _, last = name.partition(":")
    job, end = SCENES[last.rpartition(":")[2] if first == "move" else first](world, name)
    world.wait(lambda: world.deaths > deaths, f"the worker to come to {name}")
    return world.finish(job, end) - world.died_at


def _confirmed(world: World, name: str) -> tuple[Job, Status]:
    world.start_worker(name, {"GPUBOND_CHAIN__CONFIRMATIONS": "4"})
    return world.hire(), Status.SETTLED


def _rolled_back(world: World, name: str) -> tuple[Job, Status]:
    world.start_worker(name)
    job = world.hire(3)
    world.wait_state(job, "running")
    for _ in range(30):
        if world.tend_worker():
            break
        world.reorg_from(max(job.block + 1, world.node.eth.block_number - 1))
        time.sleep(0.5)
    return job, Status.SETTLED


def _overdue(world: World, armed: str | None) -> Job:
    """A job that the worker took up and whose deadline passed while no worker ran."""
    world.start_worker()
    job = world.hire(upload=False)
    world.wait_state(job, "awaiting_inputs")
    world.kill_worker()
    advance_time(world.node, job.terms.deliver_by - world.contracts.now() + 1)
    if armed is not None:
        world.start_worker(armed)
    return job


def _expired(world: World, name: str) -> tuple[Job, Status]:
    job = _overdue(world, None)
    world.send(BUYER, world.contracts.expire(job.terms))
    world.start_worker(name)
    return job, Status.EXPIRED


def _abandoned(world: World, name: str) -> tuple[Job, Status]:
    job = _overdue(world, name)
    world.wait(lambda: world.armed is None and world.state(job) == "abandoned", "the job to be given up")
    world.send(BUYER, world.contracts.expire(job.terms))
    return job, Status.EXPIRED


def _reopened(world: World, name: str) -> tuple[Job, Status]:
    job = _overdue(world, None)
    receipt = world.send(BUYER, world.contracts.expire(job.terms))
    world.start_worker(name)
    world.wait(lambda: world.state(job) == "expired", "the job's end")
    world.reorg_from(receipt["blockNumber"])
    world.wait(lambda: world.armed is None, "the death when it was opened again")
    world.send(BUYER, world.contracts.expire(job.terms))
    return job, Status.EXPIRED


def _cancelled(world: World, name: str) -> tuple[Job, Status]:
    world.start_worker(name)
    job = world.hire(60)
    world.wait_state(job, "running")
    # It may die before it answers, but not before the wish is stored.
    with contextlib.suppress(Unreachable), world.gateway(job) as gateway:
        assert gateway.cancel()["acknowledged"] is True
    return job, Status.DECLINED


def _unmined(world: World, name: str) -> tuple[Job, Status]:
    world.start_worker(name)
    job = world.hire()
    world.wait_state(job, "committed")
    world.reorg_from(world.events("JobCommitted", job)[0]["blockNumber"])
    return job, Status.SETTLED


def _bumped(world: World, name: str) -> tuple[Job, Status]:
    world.start_worker(name)
    return scenes.stuck_by_price(world), Status.SETTLED


def _displaced(world: World, name: str) -> tuple[Job, Status]:
    world.start_worker(name)
    return scenes.nonce_taken(world, replace=False), Status.SETTLED


def _gap(world: World, name: str) -> tuple[Job, Status]:
    world.start_worker(name)
    return scenes.gap_before(world), Status.SETTLED


SCENES: dict[str, Scene] = {
    "confirmed": _confirmed,
    "rollback": _rolled_back,
    "expired": _expired,
    "abandoned": _abandoned,
    "hired": _reopened,
    "cancelling": _cancelled,
    "unmined": _unmined,
    "bump": _bumped,
    "displaced": _displaced,
    "gap": _gap,
}


def alone_names() -> list[str]:
    """Boundaries that are in no chain."""
    chained = {name for names_of_one in CHAINS.values() for name in names_of_one}
    return [name for name in names() if name not in chained]
