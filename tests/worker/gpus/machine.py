# SPDX-License-Identifier: Apache-2.0
"""A machine with GPUs as a process sees it: NVIDIA's two libraries, which answer from a recording.

The recordings have the values that documentation and published reports give for such machines; none is of a card that
these tests ran on. The libraries are real ones, built from C and loaded by the real nvidia-ml-py, in a process whose
LD_LIBRARY_PATH names them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RECORDINGS = HERE / "recordings"
ROOT = HERE.parents[2]
LIBRARIES = {"libnvidia-ml.so.1": "libnvidia_ml.c", "libcuda.so.1": "libcuda.c"}
MIB = 1 << 20
# Not one piece, so that it takes several to overwrite it.
MEMORY_BYTES = 22 * MIB


def build(directory: Path) -> Path:
    """Compiles both libraries into a directory."""
    for library, source in LIBRARIES.items():
        command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", f"-Wl,-soname,{library}"]
        subprocess.run([*command, str(HERE / source), "-o", str(directory / library), "-ldl"], check=True)
    return directory


class Machine:
    """One recorded machine in a directory of its own; tests may change what it answers while it is asked."""

    def __init__(self, libraries: Path, directory: Path, recording: str) -> None:
        self.directory = directory
        directory.mkdir()
        for library in LIBRARIES:
            shutil.copy(libraries / library, directory / library)
        self.recording = directory / "recording.tsv"
        shutil.copy(RECORDINGS / f"{recording}.tsv", self.recording)
        self.memory = directory / "memory"
        self.memory.write_bytes(b"\xa5" * MEMORY_BYTES)
        # Its /dev: what a job may open says which node it is.
        self.dev = directory / "dev"
        (self.dev / "nvidia-caps").mkdir(parents=True)
        for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
            (self.dev / name).write_text(name)
        self.mig_minors = directory / "mig-minors"

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that runs on this machine."""
        return {"LD_LIBRARY_PATH": str(self.directory)}

    @property
    def visible(self) -> list[str]:
        """The devices that processes which overwrote memory asked for, in order."""
        file = self.directory / "visible"
        return file.read_text().splitlines() if file.exists() else []

    def cut(self, minors: dict[str, int]) -> None:
        """Makes the device nodes of MIG instances: capability -> minor."""
        self.mig_minors.write_text("".join(f"{name} {minor}\n" for name, minor in minors.items()))
        for minor in minors.values():
            name = f"nvidia-cap{minor}"
            (self.dev / "nvidia-caps" / name).write_text(name)

    def says(self, thing: str, key: str, value: object) -> None:
        """From now on the machine answers so; None: it does not know."""
        lines = [line for line in self.recording.read_text().splitlines() if line.split("\t")[:2] != [thing, key]]
        if value is not None:
            lines.append(f"{thing}\t{key}\t{value}")
        self._replace(lines)

    def _replace(self, lines: list[str]) -> None:
        new = self.recording.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        new.replace(self.recording)

    def run(self, script: str, *arguments: str) -> Any:
        """What a Python script on this machine writes to its standard output, as JSON; `machine` is this there."""
        begin = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from tests.worker.gpus.machine import there
machine = there({str(self.directory)!r})
"""
        done = subprocess.run(
            [sys.executable, "-c", begin + script, *arguments],
            capture_output=True,
            env={**os.environ, **self.environment},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)


def there(directory: str) -> Machine:
    """The machine, in a process that runs on it: its device nodes are found where it has them."""
    from gpubond.provider.gpus import units

    machine = Machine.__new__(Machine)
    machine.directory = Path(directory)
    machine.recording = machine.directory / "recording.tsv"
    machine.memory = machine.directory / "memory"
    machine.dev = units.DEV = machine.directory / "dev"
    machine.mig_minors = units.MIG_MINORS = machine.directory / "mig-minors"
    return machine


def happens(machine: Machine, gpu: int, kind: int, data: int, instance: int = -1) -> None:
    """The driver reports an event: kind 8 is an Xid, 2 an ECC error."""
    machine._replace([*machine.recording.read_text().splitlines(), f"event\tat\t{gpu} {kind} {data} {instance}"])
