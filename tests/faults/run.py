# SPDX-License-Identifier: Apache-2.0
"""The whole schedule: `python -m tests.faults.run --faults 300`; see `--help`. It needs about half an hour."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import queue
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gpubond.devnet import find_anvil

from . import report
from .schedule import Fault, Loss, play, units
from .world import REPOSITORY, ChainBroke, WentWrong, World

# Chains that begin in one second are the same to the lock of a key.
APART_SECONDS = 2.5
# Of one lane. What was played on a chain that anvil itself lost says nothing about the worker.
MAX_BROKEN_CHAINS = 5


def small_disk_refusal(directory: Path) -> str | None:
    """Why no small file system can be mounted for the worker here; None if it can."""
    if os.geteuid() != 0:
        return "a full disk needs a mount, and that needs root"
    place = directory / "probe"
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode != 0:
        return f"a full disk needs a mount, which is refused: {done.stderr.decode(errors='replace').strip()}"
    subprocess.run(["umount", str(place)], check=True)
    return None


def _lane(lane: int, directory: str, seed: int, faults: int, tmpfs: bool, todo: Any, results: Any) -> None:
    """One process with a world of its own; takes units until none is left."""
    time.sleep(lane * APART_SECONDS)
    planned = units(seed, faults, tmpfs=tmpfs)
    anvil = find_anvil(REPOSITORY / ".cache" / "anvil")
    starts, broken = 0, 0

    def tell(line: str) -> None:
        results.put(("line", f"[{lane}] {line}"))

    def new_world() -> World:
        return World(Path(directory) / f"lane-{lane}-{broken}", anvil, seed + lane, mount=tmpfs)

    world = new_world()
    try:
        while (number := todo.get()) is not None:
            _, name, unit = planned[number]
            while True:
                try:
                    found, loss = play(world, number, seed, name, unit, tell)
                    break
                except ChainBroke as error:
                    broken += 1
                    if broken > MAX_BROKEN_CHAINS:
                        raise
                    tell(f"#{number} {name}: not played: anvil broke: {error}; again on a new chain")
                    starts += world.starts
                    world.close()
                    world = new_world()
            results.put(("done", number, found, loss))
        if world.worker is None:
            world.start_worker()
        try:
            world.judge_all()
            results.put(("end", lane, starts + world.starts, broken, None))
        except WentWrong as error:
            results.put(("end", lane, starts + world.starts, broken, str(error)))
    except BaseException as error:
        results.put(("end", lane, starts + world.starts, broken, f"{type(error).__name__}: {error}"))
        raise
    finally:
        world.close()


class Memory:
    """What is done of a schedule, so that a run that was cut off goes on; other code starts it anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        digest = hashlib.sha256()
        for folder in ("gpubond", "tests/faults"):
            for source in sorted((REPOSITORY / folder).rglob("*.py")):
                digest.update(source.read_bytes())
        self._code = digest.hexdigest()

    def load(self) -> tuple[list[Fault], list[Loss], set[int]]:
        """Faults, losses and the numbers of the units that are done."""
        faults: list[Fault] = []
        losses: list[Loss] = []
        over: set[int] = set()
        lines = self._path.read_text().splitlines() if self._path.is_file() else []
        for line in map(json.loads, lines):
            if line["code"] != self._code:
                continue
            over.add(line["unit"])
            faults += [Fault(**fault) for fault in line["faults"]]
            losses += [Loss(**line["loss"])] if line["loss"] else []
        return faults, losses, over

    def add(self, unit: int, faults: list[Fault], loss: Loss | None) -> None:
        """Notes a unit that is done."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = {
            "code": self._code,
            "unit": unit,
            "faults": [asdict(fault) for fault in faults],
            "loss": asdict(loss) if loss else None,
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


@click.command()
@click.option("--faults", type=click.IntRange(1), default=300, show_default=True, help="At least so many.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the schedule.")
@click.option("--jobs", type=click.IntRange(1), default=3, show_default=True, help="Worlds at once; they wait a lot.")
@click.option("--minutes", type=click.FloatRange(1), default=50, show_default=True, help="Begin nothing new then.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the results there, as JSON.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Write the page there, from them.")
@click.option("--note", default="", help="A remark on the machine, for the page.")
def main(  # noqa: PLR0912  # one loop over messages
    faults: int, seed: int, jobs: int, minutes: float, output: Path | None, page: Path | None, note: str
) -> None:
    """Plays a seeded schedule of faults; every job must come to its right end, once. Goes on where it stopped.

    Example: python -m tests.faults.run --faults 300 --seed 1
    """
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="gpubond-faults-"))
    refusal = small_disk_refusal(directory)
    if refusal:
        click.echo(f"skipped: disk:full: {refusal}")
    planned = units(seed, faults, tmpfs=refusal is None)
    spawn = multiprocessing.get_context("spawn")
    todo, results = spawn.Queue(), spawn.Queue()
    lanes = [
        spawn.Process(target=_lane, args=(lane, str(directory), seed, faults, refusal is None, todo, results))
        for lane in range(jobs)
    ]
    for process in lanes:
        process.start()
    memory = Memory(REPOSITORY / ".cache" / f"faults-{seed}-{faults}.jsonl")
    found, losses, over = memory.load()
    if over:
        click.echo(f"goes on where it stopped: {len(over)} of {len(planned)} units are done")
    left = [number for number in range(len(planned)) if number not in over]
    ends, starts, broken = 0, 0, 0
    given, finished = 0, len(over)
    for number in left[: 2 * jobs]:
        todo.put(number)
        given += 1
    closed = False
    while ends < jobs:
        late = time.monotonic() - began > minutes * 60
        if not closed and (given == len(left) or late):
            closed = True
            for _ in lanes:
                todo.put(None)
        try:
            message = results.get(timeout=1)
        except queue.Empty:
            if not any(process.is_alive() for process in lanes):
                break
            continue
        match message:
            case ("line", line):
                click.echo(f"{time.monotonic() - began:5.0f} s {len(found):3}/{faults} {line}")
            case ("done", number, more, loss):
                memory.add(number, more, loss)
                found += more
                finished += 1
                losses += [loss] if loss else []
                if not closed and given < len(left):
                    todo.put(left[given])
                    given += 1
            case ("end", lane, count, chains, wrong):
                ends += 1
                starts += count
                broken += chains
                if wrong:
                    losses.append(report.at_the_end(f"end of lane {lane}", seed, wrong))
                    click.echo(f"[{lane}] WRONG at the end: {wrong}")
    for process in lanes:
        process.join()
    shutil.rmtree(directory, ignore_errors=True)
    results_json = report.results(
        found,
        losses,
        seed=seed,
        units=finished,
        worker_starts=starts,
        chains_broken=broken,
        seconds=time.monotonic() - began,
        lanes=jobs,
        skipped=refusal,
        note=note,
        planned=faults,
    )
    if output is not None:
        output.write_text(json.dumps(results_json, indent=1) + "\n")
    if page is not None:
        page.write_text(report.page(results_json))
    click.echo(f"{len(found)} faults, {len(losses)} of {finished} units wrong, {time.monotonic() - began:.0f} s")
    if losses or ends < jobs:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
