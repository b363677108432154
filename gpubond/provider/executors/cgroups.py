# SPDX-License-Identifier: Apache-2.0
"""Control groups of the sandboxes: memory, processes and processors of all of a job's processes together.

The kernel has them in version 1, 2 or both at once (hybrid: each controller belongs to one of the two), and may let
this worker make groups or not. So each controller is tried; where one cannot be had, the limits of each process and
the watch over all of them remain, and `words` says so. A group carries the mark of its sandbox in its name, by which
the next worker finds what a killed one left.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

CONTROLLERS = ("memory", "pids", "cpu")
# The kernel charges memory in batches, so a group that is full may read a little less than its limit.
BATCH_BYTES = 4 << 20
PREFIX = "gpubond-"
# Where the worker moves itself in version 2, in which a group with controllers holds groups or processes, not both.
WORKER_GROUP = "gpubond-worker"

# What the sandbox's own programs and the kernel (page tables, pipes) need, beside the job.
MEMORY_SLACK = 48 << 20
PROCESS_SLACK = 4
_REMOVE_SECONDS = 5.0
_setting_up = threading.Lock()
_found: dict[str, Places] = {}


@dataclass(frozen=True)
class Places:
    """Where groups can be made: controller -> directory and version of it; and why not, for the others."""

    directories: dict[str, Path] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What is in force, for people."""
        if not self.directories:
            why = "; ".join(sorted(set(self.missing.values()))) or "the kernel has none"
            return f"no control groups ({why}): limits of each process, and a watch over all of them"
        parts = []
        for version in sorted(set(self.versions.values())):
            names = sorted(name for name, of in self.versions.items() if of == version)
            parts.append(f"control groups v{version} ({', '.join(names)})")
        parts += [f"{name} by limits of each process and a watch ({why})" for name, why in self.missing.items()]
        return ", ".join(parts)


class Group:
    """The groups of one sandbox, one directory for each hierarchy."""

    def __init__(self, places: Places, name: str) -> None:
        self._places = places
        self._name = name
        self._memory_bytes = 0
        self._directories: list[Path] = []
        # File, and what is written to it: an amount of its own, or the limit of this name.
        self._limits: list[tuple[Path, int | str]] = []

    @classmethod
    def make(cls, mark: str) -> Group | None:
        """A group without limits yet, or None where none can be made.

        What cannot be made now, though it could at first, is no reason to refuse a job: the watch is there.
        """
        group = cls(find(), PREFIX + mark)
        try:
            group._make()
        except OSError:
            group.remove()
            return None
        return group if group._directories else None

    def limit(self, *, memory_bytes: int, processes: int) -> None:
        """Bound what all of its processes use together. Raises OSError if it is no more."""
        self._memory_bytes = memory_bytes + MEMORY_SLACK
        values: dict[int | str, int] = {"memory": self._memory_bytes, "pids": processes + PROCESS_SLACK}
        for file, value in self._limits:
            _write(file, values.get(value, value))
        # The processor's share stays as it is made: all of a job's processes together weigh as much as the worker.

    @property
    def limits_memory(self) -> bool:
        """Whether the kernel itself sees to the limit on memory."""
        return "memory" in self._places.directories

    @property
    def entrances(self) -> list[str]:
        """Files into which a process writes its number to join."""
        return [str(directory / "cgroup.procs") for directory in self._directories]

    def processes(self) -> list[int]:
        """Process ids (the host's) of all that are in it: they are in each of its directories."""
        for directory in self._directories[:1]:
            with contextlib.suppress(OSError):
                return sorted(int(line) for line in (directory / "cgroup.procs").read_text().split())
        return []

    def killed_for_memory(self) -> str | None:
        """Whose memory ran out when the kernel ended a process of this group: "job" if the job's limit was reached,
        "machine" if not; None if no process was ended for memory, or nobody can tell."""
        if not self.limits_memory:
            return None
        directory = self._places.directories["memory"] / self._name
        if self._places.versions["memory"] == 2:
            events = _numbers(directory / "memory.events")
            if not events.get("oom_kill"):
                return None
            return "job" if events.get("oom") else "machine"
        if not _numbers(directory / "memory.oom_control").get("oom_kill"):
            return None
        highest = _number(directory / "memory.max_usage_in_bytes")
        return "job" if highest >= self._memory_bytes - BATCH_BYTES else "machine"

    def kill(self) -> None:
        """End all that is in it."""
        _kill(self._directories)

    def remove(self) -> None:
        """Remove it; its processes are to be gone, which takes the kernel a moment to see."""
        _remove(self._directories)

    def _make(self) -> None:
        for base in self._places.directories.values():
            directory = base / self._name
            if directory not in self._directories:
                directory.mkdir(mode=0o755)
                self._directories.append(directory)
        for controller, base in self._places.directories.items():
            self._limits += _limits_of(controller, self._places.versions[controller], base / self._name)


def _limits_of(controller: str, version: int, directory: Path) -> list[tuple[Path, int | str]]:
    """The files that limit a group, in the order in which the kernel wants them; swap only if the kernel counts it."""
    if controller == "pids":
        return [(directory / "pids.max", "pids")]
    if controller != "memory":
        return []
    if version == 1:
        swap = directory / "memory.memsw.limit_in_bytes"
        return [(directory / "memory.limit_in_bytes", "memory"), *([(swap, "memory")] if swap.exists() else [])]
    swap = directory / "memory.swap.max"
    # All of the job ends, not whichever process is largest.
    together = (directory / "memory.oom.group", 1)
    return [(directory / "memory.max", "memory"), together, *([(swap, 0)] if swap.exists() else [])]


def find() -> Places:
    """Where this process can make groups. Asked once; moves this process within its group in version 2."""
    with _setting_up:
        if "here" not in _found:
            _found["here"] = look(
                Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text(), os.getpid()
            )
        return _found["here"]


def look(membership: str, mounts: str, process: int) -> Places:
    """As `find`, from the text of `process`'s /proc/<n>/cgroup and mountinfo."""
    places = Places()
    unified = ""
    groups: dict[str, str] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            unified = path
        groups.update(dict.fromkeys(controllers.split(","), path))
    for point in _mounts(mounts):
        if point.kind == "cgroup":
            for controller in sorted(set(CONTROLLERS) & point.options & groups.keys()):
                _try(places, controller, 1, point.directory(groups[controller]))
    for point in _mounts(mounts):
        if point.kind == "cgroup2" and unified:
            _look_unified(places, point.directory(unified), process)
    for controller in CONTROLLERS:
        if controller not in places.directories:
            places.missing.setdefault(controller, "the kernel offers no such control group")
    return places


def end_leftovers(is_ours: Callable[[str], bool], is_dead: Callable[[str], bool]) -> int:
    """End and remove the groups of dead workers; returns how many sandboxes they were of.

    is_ours, is_dead: whether a mark is of this worker's data, and whether its worker has gone. Groups of other data are
    removed too once they are empty, but nothing in them is ended.
    """
    found: dict[str, list[Path]] = {}
    for base in set(find().directories.values()):
        with contextlib.suppress(OSError):
            for directory in base.glob(f"{PREFIX}*"):
                mark = directory.name.removeprefix(PREFIX)
                if not is_dead(mark):
                    continue
                if is_ours(mark):
                    found.setdefault(mark, []).append(directory)
                else:
                    _removed(directory)
    for directories in found.values():
        _kill(directories)
        _remove(directories)
    return len(found)


@dataclass(frozen=True)
class _Mount:
    root: str
    point: Path
    kind: str
    options: set[str]

    def directory(self, path: str) -> Path:
        """Where the group `path` of the hierarchy is found; below the mount's root, in a container."""
        inner = os.path.relpath(path, self.root)
        return self.point if inner.startswith("..") else self.point / inner


def _mounts(text: str) -> list[_Mount]:
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if kinds and kinds[0] in ("cgroup", "cgroup2"):
            # The kernel writes a space in a path as \040.
            point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), fields[4])
            found.append(_Mount(fields[3], Path(point), kinds[0], set(kinds[-1].split(","))))
    return found


def _look_unified(places: Places, own: Path, process: int) -> None:
    base = own.parent if own.name == WORKER_GROUP else own
    try:
        there = set((base / "cgroup.controllers").read_text().split()) & set(CONTROLLERS)
    except OSError:
        return
    wanted = sorted(there - places.directories.keys())
    if not wanted:
        return
    why = _enable(base, own, wanted, process)
    for controller in wanted:
        if why is None:
            _try(places, controller, 2, base)
        else:
            places.missing[controller] = why


def _enable(base: Path, own: Path, wanted: list[str], process: int) -> str | None:
    """Let groups below `base` have these controllers; why that cannot be, or None."""
    control = base / "cgroup.subtree_control"
    moved = False
    try:
        if set(wanted) <= set(control.read_text().split()):
            return None
        # Only the root of all groups has no type; it may hold processes too.
        if own == base and (base / "cgroup.type").exists():
            (base / WORKER_GROUP).mkdir(exist_ok=True)
            _write(base / WORKER_GROUP / "cgroup.procs", process)
            moved = True
        _write(control, " ".join(f"+{name}" for name in wanted))
    except OSError as error:
        if moved:
            with contextlib.suppress(OSError):
                _write(base / "cgroup.procs", process)
                (base / WORKER_GROUP).rmdir()
        return f"the group {base} is not this worker's to divide: {error.strerror}"
    return None


def _try(places: Places, controller: str, version: int, base: Path) -> None:
    """Make a group to see whether it can be made."""
    directory = base / f"{PREFIX}try-{os.getpid()}-{controller}"
    needed = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max",), "cpu": ("cgroup.procs",)}
    try:
        directory.mkdir()
        try:
            usable = any((directory / name).exists() for name in needed[controller])
        finally:
            directory.rmdir()
    except OSError as error:
        places.missing[controller] = f"no group can be made below {base}: {error.strerror}"
        return
    if usable:
        places.directories[controller] = base
        places.versions[controller] = version
        places.missing.pop(controller, None)


def _kill(directories: Iterable[Path]) -> None:
    for directory in directories:
        # Version 2 ends all at once; in version 1 a process may be forked between look and blow, hence again.
        with contextlib.suppress(OSError):
            _write(directory / "cgroup.kill", 1)
            continue
        for _ in range(100):
            try:
                numbers = (directory / "cgroup.procs").read_text().split()
            except OSError:
                break
            if not numbers:
                break
            for number in numbers:
                _kill_member(int(number), directory.name)
            time.sleep(0.005)


def _kill_member(process: int, group: str) -> None:
    # By a handle, and asked again: the number may belong to another process by now.
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(process)
        try:
            if f"/{group}\n" in Path(f"/proc/{process}/cgroup").read_text():
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def _remove(directories: Iterable[Path]) -> None:
    end = time.monotonic() + _REMOVE_SECONDS
    for directory in directories:
        while not _removed(directory) and time.monotonic() < end:
            time.sleep(0.005)


def _removed(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _write(file: Path, value: object) -> None:
    # Never made where it is not: that is what a test on another file system would do.
    handle = os.open(file, os.O_WRONLY)
    try:
        os.write(handle, f"{value}".encode())
    finally:
        os.close(handle)


def _number(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def _numbers(file: Path) -> dict[str, int]:
    try:
        pairs = (line.split() for line in file.read_text().splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
    except (OSError, ValueError):
        return {}
