# SPDX-License-Identifier: Apache-2.0
"""What a running sandbox uses: memory of all its processes, and disk in its directory."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

MAX_FILES = 100_000
MAX_DEPTH = 64


class TooManyFiles(Exception):
    """The directory holds too many or too deeply nested files, or hides some, so that it cannot be measured."""


def processes_of(init: int) -> list[int]:
    """Process ids (the host's) in the process namespace of `init`, itself included; empty when it is gone."""
    try:
        namespace = os.readlink(f"/proc/{init}/ns/pid")  # noqa: PTH115 - not a path
    except OSError:
        return []
    members = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - only names are wanted
        if not entry.isdigit():
            continue
        # Others may be gone by now, or belong to other users.
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{entry}/ns/pid") == namespace:  # noqa: PTH115
                members.append(int(entry))
    return members


def descendants_of(process: int) -> list[int]:
    """Process ids of `process` and all that it started, as far as they have not changed hands."""
    found = [process]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):  # noqa: PTH208
                found += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
    return found


def memory_bytes(processes: list[int], init: int | None) -> int:
    """Anonymous and shared memory of the processes, and what lies in /tmp and /dev/shm of the sandbox of `init`."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) * 1024
    for place in ("tmp", "dev/shm") if init is not None else ():
        with contextlib.suppress(OSError):
            info = os.statvfs(f"/proc/{init}/root/{place}")
            total += (info.f_blocks - info.f_bfree) * info.f_frsize
    return total


def deleted_bytes(processes: list[int]) -> int:
    """Disk held by files that the processes have open but deleted, which no walk over a directory finds."""
    found: dict[tuple[int, int], int] = {}
    for process in processes:
        handles = f"/proc/{process}/fd"
        with contextlib.suppress(OSError):
            for handle in os.listdir(handles):  # noqa: PTH208
                with contextlib.suppress(OSError):
                    info = os.stat(f"{handles}/{handle}")  # noqa: PTH116
                    if info.st_nlink == 0 and stat.S_ISREG(info.st_mode):
                        found[info.st_dev, info.st_ino] = info.st_blocks * 512
    return sum(found.values())


def free_bytes(place: Path) -> int:
    """What a job can still write where its directory lies; 0 if no more files can be made there."""
    info = os.statvfs(place)
    return 0 if info.f_files and not info.f_favail else info.f_bavail * info.f_frsize


def directory_bytes(root: Path) -> int:
    """Disk used below `root`. Raises TooManyFiles beyond 100,000 entries or 64 levels.

    The tree may change while it is walked, and its owner may be hostile: no recursion, no following of links.
    """
    total, count = 0, 0
    pending = [(str(root), 0)]
    while pending:
        directory, level = pending.pop()
        if level > MAX_DEPTH:
            raise TooManyFiles(f"directories more than {MAX_DEPTH} deep")
        try:
            entries = os.scandir(directory)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:  # no permission, or a path longer than the kernel takes
            raise TooManyFiles(f"a directory that cannot be read ({error.strerror})") from error
        with entries:
            for entry in entries:
                count += 1
                if count > MAX_FILES:
                    raise TooManyFiles(f"more than {MAX_FILES} files")
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise TooManyFiles(f"a file that cannot be read ({error.strerror})") from error
                total += info.st_blocks * 512
                if stat.S_ISDIR(info.st_mode):
                    pending.append((entry.path, level + 1))
    return total
