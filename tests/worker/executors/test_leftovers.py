# SPDX-License-Identifier: Apache-2.0
"""Sandboxes that outlived their worker are ended by the next one; all others are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpubond.jobs.reasons import Reason
from gpubond.provider.executors.launcher import Launcher
from gpubond.provider.executors.leftovers import MARK, end_leftovers, end_sandbox, new_mark
from gpubond.provider.executors.log import JobLog
from gpubond.provider.executors.sandbox import Sandbox
from gpubond.provider.executors.supervise import Bounds, Supervisor

# A worker that starts an idle sandbox, says so, and stays until its input ends.
WORKER = f"""
import os, subprocess, sys
from pathlib import Path
from gpubond.provider.executors.launcher import Launcher
from gpubond.provider.executors.leftovers import new_mark
never, keep = os.pipe()
sandbox = subprocess.Popen(
    ["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--block-fd", str(never), "sleep", "600"],
    env={{"PATH": os.environ["PATH"], "{MARK}": new_mark(Path(sys.argv[1]))}}, pass_fds=(never, keep),
    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
)
print(sandbox.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def worker() -> Callable[[Path], tuple[subprocess.Popen[str], int]]:
    def start(root: Path) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    return start


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def marked(root: Path) -> list[int]:
    """Processes that carry a mark for this data."""
    name = f"{MARK}={new_mark(root).partition('.')[0]}.".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and name in (entry / "environ").read_bytes() and lives(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def gone(root: Path) -> bool:
    """Whether all have ended; a killed process takes a moment."""
    for _ in range(600):
        if not marked(root):
            return True
        time.sleep(0.05)
    return False


def test_sandboxes_of_a_dead_worker_are_ended(
    tmp_path: Path, worker: Callable[[Path], tuple[subprocess.Popen[str], int]]
) -> None:
    process, sandbox = worker(tmp_path)
    process.kill()
    process.communicate()
    assert lives(sandbox), "what this test is about"
    assert end_leftovers(tmp_path) >= 1
    assert gone(tmp_path)
    assert end_leftovers(tmp_path) == 0


def test_sandboxes_of_a_worker_that_lives_are_left_alone(
    tmp_path: Path, worker: Callable[[Path], tuple[subprocess.Popen[str], int]]
) -> None:
    process, sandbox = worker(tmp_path / "mine")
    other, foreign = worker(tmp_path / "other")
    try:
        assert end_leftovers(tmp_path / "mine") == 0
        other.kill()
        other.communicate()
        assert end_leftovers(tmp_path / "mine") == 0
        assert lives(sandbox)
        assert lives(foreign), "other data, which another worker looks after"
    finally:
        for one in (sandbox, foreign):
            os.kill(one, signal.SIGKILL)
        process.communicate()
        for root in ("mine", "other"):
            end_leftovers(tmp_path / root)
    assert gone(tmp_path / "mine")
    assert gone(tmp_path / "other")


def test_a_process_number_that_is_used_again_is_told_apart(tmp_path: Path) -> None:
    name, number, started, _ = new_mark(tmp_path).split(".")
    assert int(number) == os.getpid()
    stranger = subprocess.Popen(
        ["sleep", "600"],
        env={"PATH": os.environ["PATH"], MARK: f"{name}.{number}.{int(started) - 1}.0"},
    )
    assert end_leftovers(tmp_path) == 1
    assert stranger.wait() == -signal.SIGKILL


def test_one_sandbox_is_ended_by_its_own_mark(tmp_path: Path) -> None:
    marks = [new_mark(tmp_path) for _ in range(2)]
    assert len(set(marks)) == 2
    first, second = (subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"], MARK: mark}) for mark in marks)
    assert end_sandbox(marks[0]) == 1
    assert first.wait() == -signal.SIGKILL
    assert second.poll() is None
    assert end_sandbox(marks[1]) == 1
    assert second.wait() == -signal.SIGKILL


def test_a_run_that_is_cancelled_as_it_starts_leaves_nothing(tmp_path: Path) -> None:
    """Many times, since it is a race; the sandbox of none may stay, nor count as one that did not end."""
    job = tmp_path / "job"
    job.mkdir()
    spec = tmp_path / "spec.json"
    spec.write_text("{}")
    for number in range(40):
        directory = tmp_path / str(number)
        directory.mkdir()
        sandbox = Sandbox(job, {}, ["/bin/sleep", "600"], {"core": 0}, 1 << 20, spec)
        log = JobLog(directory / "log.txt", None, 4096)
        cancel = threading.Event()
        timer = threading.Timer(0.01 + number / 1000, cancel.set)
        timer.start()
        ending = Supervisor(sandbox, Launcher(tmp_path), log, Bounds(60, 1 << 40, 1 << 40), check=True).run(cancel)
        log.close()
        timer.join()
        assert ending.reason is Reason.CANCELLED, ending.detail
    assert gone(tmp_path)
