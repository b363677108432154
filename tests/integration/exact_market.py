# SPDX-License-Identifier: Apache-2.0
"""Jobs of tier EXACT for tests: an honest provider, one whose runs have a bit flipped, and who watches them."""

from __future__ import annotations

import json
import shutil
import subprocess
import textwrap
from pathlib import Path

from gpubond.chain.market import Status
from gpubond.jobs.template import write_job

from .marketplace import PROGRAM, Marketplace, wait_until

ROOT = Path(__file__).resolve().parents[2]
COLLATERAL = "100"
# Longer than the longest silence of a game, so that others open after it.
WINDOW = 9000
# Put into a copy of the package, where the job's program is made ready: from one step on a bit of the state is wrong.
# Only a copy in pytest's directory has it.
_FAULT = """
    class Flipped:
        def __init__(self, inner):
            self.inner, self.memory_bytes = inner, inner.memory_bytes

        def step(self, state, data, step, *rest):
            found = self.inner.step(state, data, step, *rest)
            if step == STEP:
                import numpy
                found = [numpy.array(each) for each in found]
                found[0].reshape(-1).view(numpy.uint32)[0] ^= 1 << 20
            return found

    prepared = Flipped(prepared)
"""


def exact_provider(market: Marketplace, name: str, owner: int, operator: int, *options: str) -> Path:
    """A provider that has joined and offers tier EXACT beside BASIC; its worker is not running."""
    return market.provider(
        *(name, owner, operator, "--longest-run", "600", "--backed-jobs", "20", "--acknowledge-window", "300"),
        *("--exact-collateral", COLLATERAL, "--exact-window", str(WINDOW), *options),
    )


def exact_job(folder: Path, **changes: object) -> Path:
    """A job of tier EXACT that fits a line to points, in a few hundred steps; returns its job file."""
    path = write_job(folder, "exact")
    job = json.loads(path.read_text()) | {"tier": "exact"}
    job["exact"] |= changes
    path.write_text(json.dumps(job))
    return path


def long_game_job(folder: Path) -> Path:
    """The same with so many checkpoints that a game about it has seven moves, six of which leave events."""
    return exact_job(folder, interval=2)


def faulty_package(directory: Path, step: int, where: str, place: str) -> Path:
    """A folder with a copy of the package whose exact runs go wrong at a step, in one of its modules.

    place: the line before which the fault is put.
    """
    target = directory / "gpubond"
    shutil.copytree(ROOT / "gpubond", target, ignore=shutil.ignore_patterns("__pycache__"))
    module = target / where
    text = module.read_text()
    assert text.count(place) == 1
    indent = place[: len(place) - len(place.lstrip())]
    fault = textwrap.indent(textwrap.dedent(_FAULT.replace("STEP", str(step))), indent)
    module.write_text(text.replace(place, fault + place))
    return directory


def lying_worker(directory: Path, step: int) -> Path:
    """A copy whose worker's runs are wrong."""
    place = "    task = load_task(section"
    return faulty_package(directory, step, "provider/runtimes/exact_main.py", place)


def mistaken_watchtower(directory: Path, step: int) -> Path:
    """A copy that computes runs wrongly again."""
    place = "        manifest = runner.run("
    return faulty_package(directory, step, "disputes/checking.py", place)


def start(market: Marketplace, log: Path, *arguments: str, package: Path = ROOT) -> subprocess.Popen[bytes]:
    """A command as a process of its own, of a copy of the package, ended with the market."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=package
        )
    market.workers.append(process)
    return process


def start_up(market: Marketplace, log: Path, *arguments: str, package: Path = ROOT) -> subprocess.Popen[bytes]:
    """A worker or watchtower; waits until it is up."""
    before = log.read_text().count("is up") if log.exists() else 0
    process = start(market, log, *arguments, package=package)
    wait_until(lambda: log.read_text().count("is up") > before or process.poll() is not None)
    assert process.poll() is None, log.read_text()
    return process


def watcher(market: Marketplace, name: str, account: int) -> Path:
    """A home folder of a watchtower that challenges."""
    home = market.buyer(name, account)
    with (home / "gpubond.toml").open("a") as settings:
        settings.write('\n[watchtower]\nmax_bond = "50"\nfetch_from_private_addresses = true\n')
    return home


def moves(market: Marketplace, job: str) -> int:
    """Moves that were made in games on a job, by the chain."""
    game = market.contracts.at("DisputeGame", str(market.contracts.game_address))
    opened = game.events.GameOpened().get_logs(
        from_block=0, argument_filters={"job": bytes.fromhex(job.removeprefix("0x"))}
    )
    ids = {bytes(log["args"]["game"]) for log in opened}
    made = [
        log
        for name in ("NodesShown", "CheckpointPicked", "BytesShown", "Picked")
        for log in game.events[name]().get_logs(from_block=0)
    ]
    return len(opened) + sum(bytes(log["args"]["game"]) in ids for log in made)


def status_of(market: Marketplace, job: str) -> Status:
    """Where a job stands, by the contract."""
    return Status(market.contracts.job_status(bytes.fromhex(job.removeprefix("0x"))))
