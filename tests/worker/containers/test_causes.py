# SPDX-License-Identifier: Apache-2.0
"""Why a container's run ended is judged as a process's is: signals, memory, and a full disk, a small real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubond.jobs.reasons import Reason
from gpubond.provider.executors.container_engine import find_engine
from gpubond.provider.executors.memory_group import MemoryGroup

from ..bench import log_of
from ..executors.test_full_disk import SIZE_MIB, WRITES
from ..small_disk import small_disk
from .bench import MIB, ContainerBench, remove_store
from .images import RegistryServer, file, layer

RUN = {"command": ["/bin/sh", "-c", "echo > out.txt"]}


@pytest.mark.parametrize(
    ("signal", "expected"),
    [("SIGXCPU", Reason.TIMEOUT), ("SIGXFSZ", Reason.DISK_LIMIT), ("SIGSYS", Reason.FORBIDDEN_CALL)],
)
def test_a_signal_alone_tells(bench: ContainerBench, signal: str, expected: Reason) -> None:
    # The first process of a container takes no such signal; its shell hands on what became of the second.
    script = f"import os, signal; signal.signal(signal.{signal}, signal.SIG_DFL); os.kill(os.getpid(), signal.{signal})"
    section = {"image": bench.python_image, "command": ["-c", "python -I kill.py; exit $?"], "entrypoint": ["/bin/sh"]}
    bench.executor = bench.with_limits(512 * MIB, 1024 * MIB)
    attempt = bench.section({**section, "environment": {"PATH": "/usr/bin:/bin"}}, files={"kill.py": script})
    assert (attempt.reason, attempt.exit_code) == (expected, expected.exit_code), log_of(attempt)


def test_a_kill_from_inside_is_no_lack_of_memory_where_groups_would_tell(bench: ContainerBench) -> None:
    attempt = bench.shell("sh -c 'kill -KILL $$'; exit $?")
    expected = Reason.NONZERO_EXIT if bench.executor.engine().cgroups else Reason.KILLED
    assert attempt.reason is expected, log_of(attempt)
    assert not attempt.reason.on_record


def group(folder: Path, **files: str) -> MemoryGroup:
    """A group of the kernel's as its files tell of it; no machine can be made to run out of memory for a test."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    found = MemoryGroup(0)
    found._folder = folder
    found.look()
    return found


def test_a_machine_without_memory_is_told_from_a_job_that_is_too_large(tmp_path: Path) -> None:
    large = group(tmp_path / "v2", memory__events="low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n")
    machine = group(tmp_path / "v2m", memory__events="low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\n")
    assert (large.killed, large.met, machine.killed, machine.met) == (True, True, True, False)
    kill = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"
    large = group(tmp_path / "v1", memory__oom_control=kill, memory__failcnt="9")
    limit, below = str(256 * MIB), str(200 * MIB)
    uncounted = group(
        tmp_path / "v1u",
        memory__oom_control=kill,
        memory__failcnt="0",
        memory__limit_in_bytes=limit,
        memory__max_usage_in_bytes=limit,
    )
    machine = group(
        tmp_path / "v1m",
        memory__oom_control=kill,
        memory__failcnt="0",
        memory__limit_in_bytes=limit,
        memory__max_usage_in_bytes=below,
    )
    assert uncounted.met
    assert (large.killed, large.met, machine.killed, machine.met) == (True, True, True, False)


@pytest.fixture
def small(bench: ContainerBench, tmp_path: Path) -> Iterator[ContainerBench]:
    """A bench whose jobs' directories lie on a disk of 24 MiB."""
    with small_disk(tmp_path / "work", SIZE_MIB):
        yield bench


def test_a_full_disk_is_the_machines_fault_and_a_job_above_its_limit_is_to_blame(small: ContainerBench) -> None:
    attempt = small.python(WRITES, args=["40"], disk_mib=64)
    assert (attempt.reason, attempt.exit_code, attempt.reason.fault) == (Reason.DISK_FULL, 116, "machine")
    assert "exit 1" in attempt.detail and attempt.outputs == {}
    assert small.python(WRITES, args=["20"], disk_mib=8).reason == Reason.DISK_LIMIT
    attempt = small.python(WRITES, args=["2", "3"], disk_mib=16)
    assert (attempt.reason, attempt.exit_code) == (Reason.NONZERO_EXIT, 3)
    (small.root / "work" / "filler").write_bytes(bytes((SIZE_MIB - 4) * MIB))
    assert small.python(WRITES, args=["8"], disk_mib=16).reason == Reason.DISK_FULL
    assert small.python(WRITES, args=["1"], disk_mib=16).reason == Reason.OK


def test_a_disk_without_room_for_the_image_is_the_machines_fault(bench: ContainerBench, tmp_path: Path) -> None:
    apart = bench.apart(tmp_path / "apart")
    with small_disk(tmp_path / "apart" / "images", 24):
        attempt = apart.section(RUN)
        assert (attempt.reason, attempt.reason.fault) == (Reason.DISK_FULL, "machine"), log_of(attempt)


def test_a_disk_that_fills_while_an_image_is_fetched_is_the_machines_fault(
    bench: ContainerBench, tmp_path: Path
) -> None:
    apart = bench.apart(tmp_path / "apart")
    folder = tmp_path / "apart" / "images"
    big = apart.registry.shelf.image(layer([file("big", bytes(20 * MIB))]), packed=None)
    with small_disk(folder, 600):
        filler = folder / "filler"

        def fill(piece: bytes) -> None:
            """Somebody else writes until nothing is left, once the first layer is on its way."""
            if b"fetching 1 layers" in piece:
                with filler.open("wb") as stream:
                    try:
                        while stream.write(bytes(MIB)):
                            stream.flush()
                    except OSError:
                        pass

        spec = apart.spec({"image": apart.registry.name(big), "command": ["/bin/true"]})
        attempt = apart.executor.run("a1", spec, apart.blobs, cancel=apart.cancel, on_log=fill)
        assert (attempt.reason, attempt.reason.fault) == (Reason.DISK_FULL, "machine"), log_of(attempt)
        filler.unlink()
        assert apart.section(RUN).reason == Reason.OK


@pytest.mark.parametrize("full", [True, False])
def test_an_image_that_cannot_be_unpacked_is_to_blame_unless_the_disk_is_full(
    bench: ContainerBench, tmp_path: Path, full: bool
) -> None:
    apart = bench.apart(tmp_path / "apart")
    folder = tmp_path / "apart" / "images"
    broken = apart.registry.shelf.image(b"no archive" * 100)
    with small_disk(folder, 600):

        def fill(piece: bytes) -> None:
            if full and b"unpacking the image" in piece:
                (folder / "filler").write_bytes(bytes(200 * MIB))

        spec = apart.spec({"image": apart.registry.name(broken), "command": ["/bin/true"]})
        attempt = apart.executor.run("a1", spec, apart.blobs, cancel=apart.cancel, on_log=fill)
        assert attempt.reason == (Reason.DISK_FULL if full else Reason.IMAGE_INVALID), log_of(attempt)


def test_an_image_of_more_files_than_the_disk_can_hold_is_to_blame(
    registry: RegistryServer, busybox: bytes, tmp_path: Path
) -> None:
    """On a disk with room for 70,000 names, of which 50,000 must stay free, an image of 30,000 empty files."""
    many = registry.shelf.image(busybox, layer([file(f"many/{number}", b"") for number in range(30_000)]))
    with small_disk(tmp_path / "store", 900, mode="0711", files=70_000):
        engine = find_engine(tmp_path / "store", "podman")
        try:
            bench = ContainerBench(tmp_path, engine.store, registry, registry.name(many))
            attempt = bench.shell("echo > out.txt")
            assert (attempt.reason, "too many" in attempt.detail) == (Reason.IMAGE_INVALID, True), log_of(attempt)
            bench.image = registry.name(registry.shelf.image(busybox))
            assert bench.shell("echo > out.txt").reason == Reason.OK
        finally:
            remove_store(engine)
