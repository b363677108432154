# SPDX-License-Identifier: Apache-2.0
"""Every kind of fault: what it does to one job, and how long after its end the job came to its right end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gpubond.chain.market import Status

from . import gateway_peers
from .scenes import gap_before, nonce_taken, stuck_by_price
from .world import CLOCK_FOLDER, Job, WentWrong, World

# Returns seconds from the fault's end to the right end of all jobs that met it.
Play = Callable[[World, random.Random], float]


@dataclass(frozen=True)
class Kind:
    """A kind of fault; `group` is a row of the report."""

    name: str
    group: str
    words: str
    play: Play


def _since(world: World, ended: float, *jobs: Job, end: Status = Status.SETTLED) -> float:
    return max(world.finish(job, end) for job in jobs) - ended


def _up(world: World) -> None:
    if world.worker is None:
        world.start_worker()


# Between worker and node


def through_proxy(world: World, rng: random.Random, faults: list[str]) -> list[float]:
    """One job that meets up to four faults of the node, one after the other, at moments of its life; returns seconds
    from each fault's end until the worker follows the chain again."""
    assert world.proxy is not None
    proxy = world.proxy
    _up(world)
    recoveries: list[float] = []
    job: Job | None = None
    moments: list[tuple[str, ...]] = [
        (),
        ("awaiting_inputs", "ready", "running"),
        ("executed", "committing", "committed"),
        ("committed", "settling"),
    ]
    for moment, fault in zip(moments[-len(faults) :] if len(faults) < 3 else moments, faults, strict=False):
        if job is None and moment:
            job = world.hire(1.0)
        if job is not None:
            world.wait_state(job, *moment)
        proxy.begin(fault)
        try:
            if job is None:
                job = world.hire(1.0)
            time.sleep(rng.uniform(0.3, 2.5))
        finally:
            proxy.end()
        ended, head = time.monotonic(), world.node.eth.block_number
        world.wait(partial(_follows, world, head), "the worker to follow the chain again")
        recoveries.append(time.monotonic() - ended)
    assert job is not None
    world.finish(job)
    return recoveries


def _follows(world: World, block: int) -> bool:
    return world.followed >= block


# Deaths


def kill_at_random(world: World, rng: random.Random) -> float:
    _up(world)
    job = world.hire(rng.uniform(0.2, 2.0))
    time.sleep(rng.uniform(0.0, 5.0))
    world.kill_worker()
    died = time.monotonic()
    world.start_worker()
    return _since(world, died, job)


def kill_twice(world: World, rng: random.Random) -> float:
    """Two jobs at once, and the worker dies twice in quick succession."""
    _up(world)
    jobs = [world.hire(rng.uniform(0.5, 2.0)) for _ in range(2)]
    for _ in range(2):
        time.sleep(rng.uniform(0.5, 2.5))
        world.kill_worker()
        died = time.monotonic()
        world.start_worker()
    return _since(world, died, *jobs)


def restart_by_signal(world: World, rng: random.Random) -> float:
    _up(world)
    job = world.hire(rng.uniform(0.2, 2.0))
    time.sleep(rng.uniform(0.0, 4.0))
    world.kill_worker(signal.SIGTERM)
    ended = time.monotonic()
    world.start_worker()
    return _since(world, ended, job)


# Reorgs


def reorg_hire(back: bool) -> Play:
    def play(world: World, rng: random.Random) -> float:
        _up(world)
        job = world.hire(rng.uniform(0.3, 1.5))
        world.wait_state(job, rng.choice(("hired", "awaiting_inputs", "running")))
        before = job.job
        world.reorg_from(job.block, *([job.raw] if back else []))
        ended = time.monotonic()
        if world.follow_hire(job):
            return _since(world, ended, job)
        if back:
            raise WentWrong("the hire did not come back")
        other = world.hire()
        done = _since(world, ended, other)
        # The worker's own record may say more: it may have been at the job's end already when the reorg came.
        if world.events("JobCommitted", job):
            raise WentWrong(f"{before} was committed to although nobody hires for it")
        return done

    return play


def reorg_event(event: str, *, back: bool, end: Status = Status.SETTLED) -> Play:
    """Removes the block of a step of the worker's; `back`: its transaction is in another block at once."""

    def play(world: World, rng: random.Random) -> float:
        _up(world)
        job = world.hire(memory=8192 if end is Status.DECLINED else 256)
        world.wait(lambda: world.events(event, job), f"{event} of {job.job}")
        if rng.random() < 0.5:
            states = {"JobCommitted": "committed", "JobSettled": "settled", "JobDeclined": "declined"}
            world.wait(lambda: world.state(job) in (states[event], "settled"), "the worker to note it")
        found = world.events(event, job)[0]
        raw = world.rpc("eth_getRawTransactionByHash", found["transactionHash"].to_0x_hex())
        world.reorg_from(found["blockNumber"], *([raw] if back else []))
        return _since(world, time.monotonic(), job, end=end)

    return play


def reorg_from_commit_on(world: World, rng: random.Random) -> float:
    """Commitment and settlement are both gone, after the worker had closed the job."""
    _up(world)
    job = world.hire()
    world.finish(job)
    world.reorg_from(world.events("JobCommitted", job)[0]["blockNumber"])
    ended = time.monotonic()
    world.wait(lambda: world.status(job) is Status.SETTLED, "the settlement to come back")
    return _since(world, ended, job)


def reorg_reorders(world: World, rng: random.Random) -> float:
    _up(world)
    first, second = world.hire(0.5), world.hire(0.5)
    world.wait_state(first, "awaiting_inputs", "ready", "running")
    world.reorg_from(first.block, second.raw, first.raw)
    ended = time.monotonic()
    # One sender's transactions stay in the order of their nonces, so the node may have refused the swap.
    jobs = [job for job in (first, second) if world.follow_hire(job)]
    return _since(world, ended, *jobs, world.hire())


def rollback(world: World, rng: random.Random) -> float:
    """The chain is some blocks shorter, and grows again from there."""
    _up(world)
    job = world.hire(1.0)
    world.wait_state(job, "running", "executed", "committing", "committed")
    depth = min(rng.randint(1, 3), world.node.eth.block_number - job.block)
    if depth:
        world.roll_back(depth)
    return _since(world, time.monotonic(), job)


# Transactions


def stuck(world: World, rng: random.Random) -> float:
    _up(world)
    job = world.hire(0.8)
    world.wait_state(job, "running")
    with world.no_blocks():
        world.wait_state(job, "committing")
        time.sleep(rng.uniform(1, 5))
    return _since(world, time.monotonic(), job)


def dropped(world: World, rng: random.Random) -> float:
    _up(world)
    job = world.hire(0.8)
    world.wait_state(job, "running")
    with world.no_blocks():
        world.wait_state(job, "committing")
        world.rpc("anvil_dropTransaction", world.transaction(f"commit:{job.job}")[0])
    return _since(world, time.monotonic(), job)


def gas_spike(world: World, rng: random.Random) -> float:
    _up(world)
    job = stuck_by_price(world)
    return _since(world, time.monotonic(), job)


def gas_spike_before(world: World, rng: random.Random) -> float:
    """The price jumps between hire and commitment."""
    _up(world)
    job = world.hire(0.8)
    world.wait_state(job, "running")
    for _ in range(rng.randint(1, 4)):
        world.rpc("anvil_setNextBlockBaseFeePerGas", hex(rng.randint(50, 900) * 10**9))
        world.rpc("evm_mine")
        time.sleep(0.3)
    return _since(world, time.monotonic(), job)


def nonce_elsewhere(replace: bool) -> Play:
    def play(world: World, rng: random.Random) -> float:
        _up(world)
        job = nonce_taken(world, replace=replace)
        return _since(world, time.monotonic(), job)

    return play


def nonce_gap(world: World, rng: random.Random) -> float:
    _up(world)
    job = gap_before(world)
    return _since(world, time.monotonic(), job)


def reverts(world: World, rng: random.Random) -> float:
    """The commitment is mined and refused, by a state that is gone a block later."""
    _up(world)
    escrow = str(world.contracts.escrow.address)
    job = world.hire(0.8)
    world.wait_state(job, "running")
    with world.no_blocks():
        world.wait_state(job, "committing")
        code = world.rpc("eth_getCode", escrow, "latest")
        world.rpc("anvil_setCode", escrow, "0x60006000fd")
        try:
            world.rpc("evm_mine")
        finally:
            world.rpc("anvil_setCode", escrow, code)
    return _since(world, time.monotonic(), job)


# The machine


def store_locked(world: World, rng: random.Random) -> float:
    _up(world)
    job = world.hire(0.5)
    world.wait_state(job, rng.choice(("awaiting_inputs", "running", "committing")))
    with contextlib.closing(sqlite3.connect(world.store, timeout=60, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(rng.uniform(1, 6))
        other.execute("ROLLBACK")
    return _since(world, time.monotonic(), job)


def log_torn(world: World, rng: random.Random) -> float:
    """The worker dies, and the last page that it wrote to the write-ahead log is torn."""
    _up(world)
    job = world.hire(0.5)
    world.wait_state(job, rng.choice(("awaiting_inputs", "running", "committing", "settling")))
    world.kill_worker()
    log = world.store.with_name(world.store.name + "-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > 8192:
        with log.open("r+b") as file:
            if rng.random() < 0.5:
                file.truncate(size - rng.randint(1, 4000))
            else:
                file.seek(size - 2000)
                file.write(rng.randbytes(rng.randint(1, 2000)))
    ended = time.monotonic()
    world.start_worker()
    return _since(world, ended, job)


def disk_full(world: World, rng: random.Random) -> float:
    _up(world)
    job = world.hire(0.8)
    phase = rng.choice(("hired", "running", "committing"))
    world.wait_state(job, phase)
    filler = world.home / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(1 << 16))
    with filler.open("ab") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(16))
    time.sleep(rng.uniform(1, 4))
    filler.unlink()
    return _since(world, time.monotonic(), job)


def clock_off(seconds: int) -> Play:
    def play(world: World, rng: random.Random) -> float:
        if world.worker is not None:
            world.kill_worker()
        path = os.pathsep.join(filter(None, (str(CLOCK_FOLDER), os.environ.get("PYTHONPATH"))))
        world.start_worker(None, {"PYTHONPATH": path, "FAULTS_CLOCK_OFFSET": str(seconds)})
        job = world.hire()
        world.wait_state(job, "awaiting_inputs")
        time.sleep(rng.uniform(1, 3))
        world.kill_worker()
        ended = time.monotonic()
        world.start_worker()
        return _since(world, ended, job)

    return play


def bad_peer(play_peer: Callable[[World, Job, random.Random], None]) -> Play:
    def play(world: World, rng: random.Random) -> float:
        _up(world)
        job = world.hire(upload=False)
        world.wait_state(job, "awaiting_inputs")
        play_peer(world, job, rng)
        job.uploading = True
        return _since(world, time.monotonic(), job)

    return play


def kinds(*, tmpfs: bool) -> list[Kind]:
    """All kinds; those that need a small disk of their own only where one was mounted."""
    settled, committed, declined = "JobSettled", "JobCommitted", "JobDeclined"
    rows: list[tuple[str, str, str, Play]] = [
        ("kill:random", "worker", "SIGKILL at a random moment", kill_at_random),
        ("kill:twice", "worker", "SIGKILL twice, two jobs at once", kill_twice),
        ("kill:term", "worker", "SIGTERM and a new start", restart_by_signal),
        ("reorg:hire_back", "reorg", "the hire comes back in another block", reorg_hire(True)),
        ("reorg:hire_gone", "reorg", "the hire is gone", reorg_hire(False)),
        ("reorg:commit", "reorg", "the commitment is removed", reorg_event(committed, back=False)),
        ("reorg:commit_back", "reorg", "the commitment is in another block", reorg_event(committed, back=True)),
        ("reorg:settle", "reorg", "the settlement is removed", reorg_event(settled, back=False)),
        ("reorg:settle_back", "reorg", "the settlement is in another block", reorg_event(settled, back=True)),
        ("reorg:both", "reorg", "commitment and settlement are removed", reorg_from_commit_on),
        ("reorg:decline", "reorg", "the decline is removed", reorg_event(declined, back=False, end=Status.DECLINED)),
        ("reorg:reorder", "reorg", "two hires change places", reorg_reorders),
        ("reorg:rollback", "reorg", "the chain gets shorter", rollback),
        ("tx:stuck", "transaction", "nothing is mined for a while", stuck),
        ("tx:dropped", "transaction", "the pool drops it", dropped),
        ("tx:gas_spike", "transaction", "the gas price rises above its offer", gas_spike),
        ("tx:gas_before", "transaction", "the gas price jumps before it is signed", gas_spike_before),
        ("tx:replaced", "transaction", "another machine with the key outbids it", nonce_elsewhere(True)),
        ("tx:nonce", "transaction", "another machine uses its nonce", nonce_elsewhere(False)),
        ("tx:gap", "transaction", "the nonce before it is forgotten by all", nonce_gap),
        ("tx:reverts", "transaction", "it is mined and refused", reverts),
        ("store:locked", "machine", "another process locks the store", store_locked),
        ("store:torn", "machine", "the last page of the store's log is torn", log_torn),
        ("clock:ahead", "machine", "the clock is an hour ahead", clock_off(3600)),
        ("clock:behind", "machine", "the clock is an hour behind", clock_off(-3600)),
        ("peer:slow", "gateway peer", "an upload that crawls", bad_peer(gateway_peers.slow)),
        ("peer:endless", "gateway peer", "an upload without end", bad_peer(gateway_peers.endless)),
        ("peer:wrong", "gateway peer", "an upload of other bytes", bad_peer(gateway_peers.wrong)),
        ("peer:gone", "gateway peer", "an upload that breaks off", bad_peer(gateway_peers.gone)),
    ]
    if tmpfs:
        rows.append(("disk:full", "machine", "the disk is full", disk_full))
    return [Kind(*row) for row in rows]
