# SPDX-License-Identifier: Apache-2.0
"""Compiled `cuda` jobs, kept: who sends the same source again does not wait for the compilers.

Each build is one file named by the hash of all that it was made of. Only the worker writes here, and only what a
sandbox made that held that source, its headers and nothing else: so a job cannot change what another one runs, and a
source that deceives a compiler deceives nobody but who sends this very source.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
from functools import lru_cache
from pathlib import Path

import gpubond
from gpubond.jobs.cuda_check import HEADER_SUFFIXES
from gpubond.jobs.spec import JobSpec

MAX_BYTES = 512 << 20
_DIGEST_BYTES = 32


@lru_cache(maxsize=1)
def _toolchain() -> list[str]:
    """What besides a job decides how it is compiled here; a change of any makes all builds strange."""
    facts = [platform.machine(), platform.python_version()]
    package = Path(gpubond.__file__).parent
    for file in sorted([*package.glob("jobs/cuda_*.py"), *package.glob("provider/runtimes/cuda_*")]):
        facts.append(hashlib.sha256(file.read_bytes()).hexdigest())
    for name in ("nvidia-cuda-nvrtc", "cuda-bindings"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts.append(f"{name} {importlib.metadata.version(name)}")
    for compiler in ("g++", "c++", "clang++"):
        found = shutil.which(compiler)
        if found is not None:
            real = Path(found).resolve()
            facts.append(f"{real} {real.stat().st_size} {real.stat().st_mtime_ns}")
    with contextlib.suppress(OSError):
        # Machine code for this processor; a virtual machine may wake up on another one.
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        facts += [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return facts


def build_key(spec: JobSpec, target: list[str]) -> str:
    """The name of what `spec` compiles to for `target`, 64 hex digits. The specification has a `cuda` section."""
    assert spec.cuda is not None  # noqa: S101 - for the type checker
    texts = {
        item.path: item.sha256
        for item in spec.inputs
        if item.path == spec.cuda.source or item.path.endswith(HEADER_SUFFIXES)
    }
    memory = spec.limits.device_memory_mib or spec.limits.memory_mib
    facts = [target, _toolchain(), texts, memory, spec.cuda.canonical().decode()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class BuildCache:
    """Builds in `directory`, up to `max_bytes` in all; the ones used longest ago go first. Safe among threads and
    processes: files appear whole and are never changed."""

    def __init__(self, directory: Path, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes

    def get(self, key: str, target: Path) -> bool:
        """Copies a build to the new file `target`, if it is here and whole; whether it was."""
        file = self._directory / key
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return False
        digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(code).digest() != digest:
            # Cut off by a crash, or by the disk.
            file.unlink(missing_ok=True)
            return False
        target.write_bytes(code)
        target.chmod(0o444)
        with contextlib.suppress(FileNotFoundError):
            os.utime(file)
        return True

    def put(self, key: str, build: Path) -> None:
        """Keeps a copy of `build`, unless it alone is too large."""
        code = build.read_bytes()
        if len(code) + _DIGEST_BYTES > self._max_bytes:
            return
        draft = self._directory / f"{key}.{os.getpid()}.{os.urandom(8).hex()}.draft"
        # A full disk is no fault of the job's, which has its build all the same.
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                draft.write_bytes(hashlib.sha256(code).digest() + code)
                draft.replace(self._directory / key)
            finally:
                draft.unlink(missing_ok=True)
            self._make_room()

    def _make_room(self) -> None:
        found = []
        for file in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                info = file.stat()
                found.append((info.st_mtime_ns, info.st_size, file))
        total = sum(size for _, size, _ in found)
        for _, size, file in sorted(found):
            if total <= self._max_bytes:
                break
            file.unlink(missing_ok=True)
            total -= size
