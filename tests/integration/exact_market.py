# SPDX-License-Identifier: Apache-2.0
"""Jobs of tier EXACT for tests: an honest provider, one whose runs have a bit flipped, and who watches them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from gpubond.jobs.template import write_job

from .marketplace import PROGRAM, Marketplace, wait_until

ROOT = Path(__file__).resolve().parents[2]
COLLATERAL = "100"
WINDOW = 1500
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


def faulty_package(directory: Path, step: int) -> Path:
    """A folder with a copy of the package whose exact runs go wrong at a step."""
    target = directory / "gpubond"
    shutil.copytree(ROOT / "gpubond", target, ignore=shutil.ignore_patterns("__pycache__"))
    main = target / "provider" / "runtimes" / "exact_main.py"
    text = main.read_text()
    place = "    task = load_task(section"
    assert text.count(place) == 1
    main.write_text(text.replace(place, _FAULT.replace("STEP", str(step)) + place))
    return directory


def start_worker_of(market: Marketplace, home: Path, package: Path) -> subprocess.Popen[bytes]:
    """A worker of another copy of the package."""
    log = home / "worker.log"
    before = log.read_text().count("is up") if log.exists() else 0
    with log.open("ab") as output:
        worker = subprocess.Popen(
            [*PROGRAM, "provider", "run", "--home", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=package,
        )
    market.workers.append(worker)
    wait_until(lambda: log.read_text().count("is up") > before or worker.poll() is not None)
    assert worker.poll() is None, log.read_text()
    return worker


def spawn(market: Marketplace, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Another command as a process of its own, ended with the market."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gpubond.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    market.workers.append(process)
    return process
