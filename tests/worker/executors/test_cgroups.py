# SPDX-License-Identifier: Apache-2.0
"""Control groups: found where they are, in force where they can be made, gone afterwards; and doing without."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubond.jobs.reasons import Reason
from gpubond.provider.executors import cgroups
from gpubond.provider.executors.cgroups import CONTROLLERS, Group, Places, look
from gpubond.provider.executors.leftovers import end_leftovers, new_mark

from ..bench import Bench, log_of

# As a machine with both versions shows it.
MOUNTS = """\
25 1 0:21 / {root} rw - tmpfs tmpfs rw
26 25 0:22 / {root}/memory rw,nosuid - cgroup cgroup rw,memory
27 25 0:23 / {root}/pids rw - cgroup cgroup rw,pids
28 25 0:24 / {root}/unified rw - cgroup2 cgroup2 rw
"""
UNIFIED = "28 25 0:24 / {root} rw - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.fixture
def without_groups(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine where this worker may make none."""
    monkeypatch.setitem(cgroups._found, "here", Places(missing=dict.fromkeys(CONTROLLERS, "not this time")))
    yield


def need(*controllers: str) -> None:
    """The test needs groups with these, which not every machine lets its users make."""
    missing = {name: cgroups.find().missing[name] for name in controllers if name in cgroups.find().missing}
    if missing:
        pytest.skip(f"no control groups here: {missing}")


def directories(mark: str) -> list[Path]:
    bases = set(cgroups.find().directories.values())
    return [base / f"gpubond-{mark}" for base in bases if (base / f"gpubond-{mark}").exists()]


def test_a_job_runs_in_groups_with_its_limits_and_leaves_none(bench: Bench) -> None:
    need("memory", "pids")
    seen: list[tuple[str, str]] = []

    def look_at(_: bytes) -> None:
        for base in set(cgroups.find().directories.values()):
            for directory in base.glob("gpubond-*"):
                for name in ("pids.max", "memory.limit_in_bytes", "memory.max"):
                    with contextlib.suppress(OSError):
                        if (directory / "cgroup.procs").read_text():
                            seen.append((name, (directory / name).read_text().strip()))
        (bench.root / "work" / "a1" / "job" / "seen").touch()

    # It stays until it was looked at.
    script = """
import os, time
print("here", flush=True)
while not os.path.exists("seen"):
    time.sleep(0.02)
open("out.txt", "w").write(open("/proc/self/cgroup").read())
"""
    spec = bench.spec(
        "python",
        {"main.py": script},
        outputs=["out.txt"],
        python={"script": "main.py"},
        limits={"memory_mib": 333, "processes": 33},
    )
    attempt = bench.executor.run("a1", spec, bench.blobs, cancel=bench.cancel, on_log=look_at)
    assert attempt.reason is Reason.OK, log_of(attempt)
    assert ("pids.max", str(33 + cgroups.PROCESS_SLACK)) in seen
    assert str((333 << 20) + cgroups.MEMORY_SLACK) in {value for _, value in seen}
    # Inside, its own group is the root of all that it knows.
    assert "gpubond" not in attempt.outputs["out.txt"].read_text()
    mine = f"gpubond-{new_mark(bench.root / 'work').split('.')[0]}"

    def left() -> list[Path]:
        return [item for base in set(cgroups.find().directories.values()) for item in base.glob(f"{mine}*")]

    assert len({item.name for item in left()}) == 1, "of the program that waits for the next job"
    bench.executor.close()
    assert left() == []


def test_a_child_that_the_kernel_ends_for_memory_ends_the_job(bench: Bench) -> None:
    """Although the job itself would go on, and end well."""
    need("memory")
    script = """
import os, time
if os.fork() == 0:
    kept = []
    while True:
        handle = os.memfd_create("x")
        os.write(handle, bytes(8 << 20))
os.wait()
open("out.txt", "w").write("as if nothing had happened")
"""
    attempt = bench.python(script, memory_mib=256, disk_mib=4096)
    assert (attempt.reason, attempt.detail) == (Reason.OUT_OF_MEMORY, "used more than 256 MiB of memory")


def test_a_machine_without_memory_is_told_from_a_job_that_is_too_large(tmp_path: Path) -> None:
    """Both files as the kernel writes them in version 2; version 1 has been tried for real above."""
    group = Group(Places({"memory": tmp_path}, {"memory": 2}), "gpubond-x")
    (tmp_path / "gpubond-x").mkdir()
    events = tmp_path / "gpubond-x" / "memory.events"
    for text, expected in (
        ("low 0\nhigh 0\nmax 12\noom 0\noom_kill 0\n", None),
        ("low 0\nhigh 0\nmax 90\noom 1\noom_kill 1\noom_group_kill 1\n", "job"),
        ("low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\n", "machine"),
    ):
        events.write_text(text)
        assert group.killed_for_memory() == expected
    assert Reason.MACHINE_OUT_OF_MEMORY.on_record
    assert not Reason.OUT_OF_MEMORY.on_record


@pytest.mark.usefixtures("without_groups")
def test_without_groups_the_watch_does_it(bench: Bench) -> None:
    assert Group.make(new_mark(bench.root)) is None
    script = "import os, time\nfor i in range(3): os.fork()\nx = bytearray(100 << 20)\ntime.sleep(600)"
    attempt = bench.python(script, memory_mib=256)
    assert attempt.reason is Reason.OUT_OF_MEMORY, log_of(attempt)
    assert "not this time" in cgroups.find().words
    assert "watch" in cgroups.find().words


def test_a_kill_is_explained_where_groups_can_tell(bench: Bench) -> None:
    need("memory")
    killed = bench.python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (killed.reason, killed.exit_code) == (Reason.NONZERO_EXIT, 137)


@pytest.mark.usefixtures("without_groups")
def test_a_kill_that_nobody_can_explain_is_on_nobodys_record(bench: Bench) -> None:
    killed = bench.python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (killed.reason, killed.exit_code) == (Reason.KILLED, 112)
    assert (killed.reason.fault, killed.reason.on_record) == ("unknown", False)


def test_a_group_that_cannot_be_made_now_is_no_reason_to_refuse_a_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = Places({"memory": tmp_path / "gone", "pids": tmp_path / "gone"}, {"memory": 2, "pids": 2})
    monkeypatch.setitem(cgroups._found, "here", gone)
    attempt = bench.python("open('out.txt', 'w')")
    assert attempt.reason is Reason.OK, log_of(attempt)


WORKER = """
import os, subprocess, sys
from pathlib import Path
from gpubond.provider.executors.cgroups import Group
from gpubond.provider.executors.leftovers import new_mark
mark = new_mark(Path(sys.argv[1]))
group = Group.make(mark)
group.limit(memory_bytes=1 << 30, processes=10)
# Without the mark in its environment: found by its group alone.
sleeper = subprocess.Popen(["/bin/sleep", "600"], env={}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
for entrance in group.entrances:
    Path(entrance).write_text(str(sleeper.pid))
print(mark, sleeper.pid, flush=True)
sys.stdin.read()
"""


def test_groups_of_a_dead_worker_are_emptied_and_removed_and_others_left_alone(tmp_path: Path) -> None:
    need("pids")
    workers = {}
    for name in ("dead", "alive"):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        mark, sleeper = process.stdout.readline().split()
        workers[name] = (process, mark, int(sleeper))
    handles = {name: os.pidfd_open(sleeper) for name, (_, _, sleeper) in workers.items()}
    try:
        dead = workers["dead"][0]
        dead.kill()
        dead.communicate()
        assert directories(workers["dead"][1])
        end_leftovers(tmp_path)
        assert directories(workers["dead"][1]) == []
        assert select.select([handles["dead"]], [], [], 30)[0], "ended"
        assert directories(workers["alive"][1])
        assert not select.select([handles["alive"]], [], [], 0)[0], "goes on"
    finally:
        for name, (process, _, _) in workers.items():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handles[name], signal.SIGKILL)
            process.kill()
            process.communicate()
            os.close(handles[name])
        end_leftovers(tmp_path)
    assert directories(workers["alive"][1]) == []


def test_groups_of_other_data_are_removed_once_they_are_empty(tmp_path: Path) -> None:
    need("pids")
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path / "other")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    mark, sleeper = process.stdout.readline().split()
    handle = os.pidfd_open(int(sleeper))
    process.kill()
    process.communicate()
    try:
        end_leftovers(tmp_path / "mine")
        assert directories(mark), "somebody is in it"
        assert not select.select([handle], [], [], 0)[0]
    finally:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    assert select.select([handle], [], [], 30)[0]
    os.close(handle)
    for _ in range(600):
        end_leftovers(tmp_path / "mine")
        if not directories(mark):
            break
        time.sleep(0.05)
    assert directories(mark) == []


def tree(root: Path, *files: str) -> None:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")


def test_what_is_there_is_said_in_words(tmp_path: Path) -> None:
    """Directories stand in for mounts here: a machine has one layout, and the words are for all."""
    tree(tmp_path, "memory/x", "pids/x", "unified/x")
    text = "2:memory:/\n3:pids:/\n0::/\n"
    found = look(text, MOUNTS.format(root=tmp_path), os.getpid())
    # A group made in a plain directory has no files of the kernel's, so it is not taken for one.
    assert found.directories == {}
    assert set(found.missing) == set(CONTROLLERS)
    nothing = look("0::/user.slice\n", UNIFIED.format(root=tmp_path / "none"), os.getpid())
    assert "the kernel offers no such control group" in nothing.words
    mixed = Places({"memory": tmp_path, "pids": tmp_path}, {"memory": 1, "pids": 2}, {"cpu": "it is not there"})
    assert mixed.words == (
        "control groups v1 (memory), control groups v2 (pids), "
        "cpu by limits of each process and a watch (it is not there)"
    )


def test_a_group_that_others_share_is_not_divided(tmp_path: Path) -> None:
    """Version 2: where controllers cannot be handed on, the reason is given and the worker stays where it is."""
    group = tmp_path / "session"
    tree(tmp_path, "session/cgroup.controllers", "session/cgroup.type", "session/cgroup.procs")
    (group / "cgroup.controllers").write_text("cpu memory pids\n")
    found = look("0::/session\n", UNIFIED.format(root=tmp_path), os.getpid())
    assert found.directories == {}
    assert "not this worker's to divide" in found.missing["memory"]
    assert not (group / cgroups.WORKER_GROUP).exists()


def test_version_2_as_this_kernel_has_it() -> None:
    """A group of version 2 is joined, ended at once and removed; which controllers it has is the machine's affair."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " cgroup2 " in line]
    own = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    if not points or not own:
        pytest.skip("no control groups of version 2 are mounted here")
    base = Path(points[0]) / own[0].lstrip("/")
    # `cpu` needs no file of its own, so it stands for a controller where the machine has bound all to version 1.
    group = Group(Places({"cpu": base}, {"cpu": 2}), f"gpubond-test-{os.getpid()}")
    try:
        group._make()
    except OSError as error:
        pytest.skip(f"no group can be made below {base}: {error.strerror}")
    sleeper = subprocess.Popen(["/bin/sleep", "600"])
    try:
        for entrance in group.entrances:
            Path(entrance).write_text(str(sleeper.pid))
        assert group.processes() == [sleeper.pid]
        group.kill()
        assert sleeper.wait() == -signal.SIGKILL
    finally:
        sleeper.kill()
        sleeper.wait()
        group.remove()
    assert not (base / f"gpubond-test-{os.getpid()}").exists()
