# SPDX-License-Identifier: Apache-2.0
"""The long fuzz run: `python -m tests.stateful.run --calls 1000000`; see `--help`."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boa
import click

from .actions import Actions
from .harness import Episode, Mismatch, Tally, World
from .reasons import REASONS

STEPS = 600
FULL_CHECK_EVERY = 50


def play(world: World, seed: int, tally: Tally, steps: int = STEPS) -> None:
    """One episode from the world's beginning, which it leaves as it was.

    Raises: Mismatch, with the seed and the last calls.
    """
    with boa.env.anchor():
        episode = Episode(world, seed, tally)
        try:
            episode.sync_clock()
            actions = Actions(episode)
            actions.prepare()
            for number in range(steps):
                actions.step()
                if number % FULL_CHECK_EVERY == 0:
                    episode.check_all()
            episode.wind_down()
        except Exception as mismatch:
            raise Mismatch(
                f"seed {seed}: {type(mismatch).__name__}: {mismatch}; the last calls:\n  {episode.last_calls()}\n"
                f"again: python -m tests.stateful.run --replay {seed} --calls 1"
            ) from mismatch


def play_many(first_seed: int, calls: int, on_episode: Callable[[Tally], None] | None = None) -> Tally:
    """Episodes with successive seeds until so many calls were made."""
    world, tally, seed = World(), Tally(), first_seed
    while sum(tally.calls.values()) < calls:
        play(world, seed, tally)
        seed += 1
        if on_episode is not None:
            on_episode(tally)
    return tally


def summary(tally: Tally, *, seed: int, seconds: float) -> dict[str, Any]:
    """The figures of a run, JSON-ready."""
    calls = sum(tally.calls.values())
    return {
        "calls": calls,
        "succeeded": sum(tally.succeeded.values()),
        "refused": sum(tally.refused.values()),
        "full_comparisons": tally.full_checks,
        "episodes": tally.episodes,
        "jobs": tally.jobs,
        "jobs_paid": tally.paid,
        "jobs_slashed": tally.slashed,
        "seed": seed,
        "seconds": round(seconds),
        "calls_per_second": round(calls / max(seconds, 1e-9)),
        "mismatches": 0,
        "succeeded_by_function": dict(sorted(tally.succeeded.items())),
        "refused_by_reason": dict(sorted(tally.refused.items())),
        "never_succeeded": sorted(set(REASONS) - set(tally.succeeded)),
        "never_refused_with": never_refused(tally),
    }


def never_refused(tally: Tally) -> list[str]:
    """Refusals of the specification that no call met."""
    pairs = (f"{function}: {reason}" for function, reasons in REASONS.items() for reason in reasons)
    return sorted(set(pairs) - set(tally.refused))


@click.command()
@click.option("--calls", type=click.IntRange(1), default=1_000_000, show_default=True, help="Calls in all.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same calls.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Where the figures go as JSON.")
@click.option("--replay", type=int, help="Plays one episode by its own seed, as a failure names it.")
def main(calls: int, seed: int, jobs: int, output: Path | None, replay: int | None) -> None:
    """Random calls against contracts and model; stops at the first difference.

    Example: python -m tests.stateful.run --calls 1000000 --seed 1 --jobs 2
    """
    if replay is not None:
        tally = Tally()
        play(World(), replay, tally)
        click.echo(f"{tally.calls.total()} calls, no difference")
        return
    started, total, done = time.monotonic(), Tally(), 0
    # Pieces of some minutes each, so that progress shows and no process grows old.
    pieces = max(jobs, calls // 10_000)
    share = -(-calls // pieces)
    work = [(seed * 1_000_000 + 10_000 * piece, share) for piece in range(pieces)]
    # Not ProcessPoolExecutor: Python 3.11's hangs when it replaces a process that has done its share.
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=20) as pool:
        try:
            for tally in pool.imap_unordered(_play_piece, work):
                total.add(tally)
                done += 1
                _write(total, seed, started, output)  # what is there if the run is stopped
                made, passed = sum(total.calls.values()), time.monotonic() - started
                click.echo(f"{made:,} calls, {made / passed:,.0f} a second, {done} of {pieces} pieces", err=True)
        except Mismatch as mismatch:
            raise click.ClickException(str(mismatch)) from None
    click.echo(_write(total, seed, started, output))


def _play_piece(piece: tuple[int, int]) -> Tally:
    return play_many(*piece)


def _write(tally: Tally, seed: int, started: float, output: Path | None) -> str:
    text = json.dumps(summary(tally, seed=seed, seconds=time.monotonic() - started), indent=2)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n")
    return text


if __name__ == "__main__":
    main()
