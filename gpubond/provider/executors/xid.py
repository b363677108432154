# SPDX-License-Identifier: Apache-2.0
"""Faults of a GPU as NVIDIA's driver reports them in the kernel's log: "NVRM: Xid (PCI:0000:3b:00): 79, ...".

Not every machine lets its users read that log; then nothing is known, and nothing is said.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from gpubond.jobs.causes import XIDS, Xid

KERNEL_LOG = Path("/dev/kmsg")
_LINE = re.compile(r"NVRM: Xid \(PCI:(?P<device>[0-9a-fA-F:.]+)\): (?P<number>\d+)")
_RECORD_BYTES = 8192


@dataclass(frozen=True)
class Report:
    """One line of the driver's: the device by its PCI address, and what happened."""

    device: str
    xid: Xid

    @property
    def words(self) -> str:
        """For people."""
        return f"Xid {self.xid.number} of the GPU at {self.device}: {self.xid.meaning}"

    def is_of(self, address: str) -> bool:
        """Whether it is of the GPU with that PCI address, however the driver writes it; "" means any."""
        return not address or _place(self.device) == _place(address)


class KernelLog:
    """Reports from the moment of its making on. `path` is another file in tests."""

    def __init__(self, path: Path = KERNEL_LOG) -> None:
        self._handle: int | None = None
        with contextlib.suppress(OSError):
            self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._handle, 0, os.SEEK_END)

    @property
    def readable(self) -> bool:
        """Whether faults would be seen."""
        return self._handle is not None

    def reports(self) -> list[Report]:
        """What has come since the last call."""
        text = ""
        while self._handle is not None:
            try:
                piece = os.read(self._handle, _RECORD_BYTES)
            except BlockingIOError:
                break
            except BrokenPipeError:
                # Lines were overwritten before they were read; the next read goes on after them.
                continue
            except OSError:
                break
            if not piece:
                break
            text += piece.decode(errors="replace")
        return parse(text)

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def parse(text: str) -> list[Report]:
    """Reports in lines of the kernel's log."""
    found = []
    for match in _LINE.finditer(text):
        number = int(match["number"])
        found.append(Report(match["device"], XIDS.get(number, Xid(number, "not in our table", None))))
    return found


def _place(address: str) -> list[int]:
    """Domain, bus and device of `0000:3b:00` or `00000000:3B:00.0`."""
    return [int(part, 16) for part in address.partition(".")[0].split(":") if part]
