# SPDX-License-Identifier: Apache-2.0
"""The C library: the one that was installed, or else one built now, once, by the compiler that is there.

GPUBOND_EXACT_LIBRARY names another library file; GPUBOND_EXACT_SET an instruction set: portable, avx2 or avx512.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.machinery
import os
import platform
import shutil
import subprocess
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpubond.exact import c_sources
from gpubond.exact.c_words import PLAN_VERSION

_SETS = ("portable", "avx2", "avx512")
_BUILD_SECONDS = 300


class Unavailable(RuntimeError):
    """There is no C engine here; says why, and what to do."""


class Library:
    """The functions of one library file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._library = ctypes.CDLL(str(path))
            self._library.exact_fingerprint.restype = ctypes.c_char_p
            self.fingerprint = self._library.exact_fingerprint().decode()
            self._hash_pieces = self._library.exact_hash_pieces
            self._hash_tree = self._library.exact_hash_tree
        except (OSError, AttributeError) as error:
            raise Unavailable(f"{path} cannot be loaded: {error}") from error
        if self._library.exact_plan_version() != PLAN_VERSION:
            raise Unavailable(f"{path} carries out plans of another version")
        self._library.exact_matmul_work.restype = ctypes.c_int64
        self._library.exact_matmul_work.argtypes = [ctypes.c_int64] * 4 + [ctypes.c_int] * 2
        place, number = ctypes.c_void_p, ctypes.c_int
        self._hash_pieces.argtypes = [place, ctypes.c_int64, number, number, place, number]
        self._hash_tree.argtypes = [place, ctypes.c_int64, number, number, number, place, number]
        self.run = self._library.exact_run
        self.run.restype = ctypes.c_int64
        self.run.argtypes = [
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.c_int,
            ctypes.c_int,
        ]

    def hash_pieces(self, content: bytes | memoryview, piece: int, tag: int, *, kind: int = 0) -> bytes:
        """SHA-256 of the tag's byte and each piece of a buffer, the last one filled up with zeros; one after another.

        Other Python threads go on meanwhile. piece: bytes, at most 256. kind: 0 the best that this processor has, 1
        plain C, 2 without AVX-512.
        """
        hashes = np.empty(32 * -(-len(content) // piece), np.uint8)
        if len(content) and self._hash_pieces(_of(content), len(content), piece, tag, _address(hashes), kind):
            raise ValueError(f"pieces of {piece} bytes are too long")
        return hashes.tobytes()

    def hash_tree(self, content: bytes | memoryview, piece: int, tag: int, height: int, *, kind: int = 0) -> bytes:
        """The node of a tree so many levels above the leaves in a buffer: at least one, and not more than fit below it.

        piece: bytes of a leaf, at most 256. tag: of leaves; nodes have the next one.
        """
        count = -(-len(content) // piece)
        if not 0 < count <= 1 << height:
            raise ValueError(f"{count} leaves do not fit below height {height}")
        hashes = np.empty(32 * (count + 1), np.uint8)
        if self._hash_tree(_of(content), len(content), piece, tag, height, _address(hashes), kind):
            raise ValueError(f"pieces of {piece} bytes are too long")
        return hashes[:32].tobytes()

    def sets(self) -> Sequence[str]:
        """The instruction sets that this processor has, the best last."""
        return _SETS[: self._library.exact_best_set() + 1]

    def matmul_work(self, sizes: tuple[int, int, int, int], threads: int, number: int) -> int:
        """Floats that a product of batch, m, n and k needs to work in."""
        return int(self._library.exact_matmul_work(*sizes, threads, number))


def _of(content: bytes | memoryview) -> int:
    return _address(np.frombuffer(content, np.uint8))


def _address(array: npt.NDArray[np.uint8]) -> int:
    return int(array.__array_interface__["data"][0])


@functools.cache
def load() -> Library:
    """The library. Raises Unavailable."""
    named = os.environ.get("GPUBOND_EXACT_LIBRARY")
    if named:
        return Library(Path(named))
    wanted = c_sources.fingerprint()
    for path in _installed():
        try:
            library = Library(path)
        except Unavailable:
            continue
        if library.fingerprint == wanted:
            return library
    return Library(build(cache() / f"exact-{wanted}-{platform.machine()}.so"))


def available() -> bool:
    """Whether there is a C engine; if not, warns once, saying what that costs."""
    try:
        load()
    except Unavailable as error:
        _warn(str(error))
        return False
    return True


@functools.cache
def _warn(why: str) -> None:
    warnings.warn(
        f"no C engine for exact programs: {why}. NumPy computes the same bits about a thousand times slower "
        "(0.1 instead of 100 GFLOP/s a core). Install gcc, on Debian and Ubuntu by `apt-get install gcc libc6-dev`, "
        "and start again.",
        RuntimeWarning,
        stacklevel=3,
    )


def cache() -> Path:
    """Where libraries are kept that were built here."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "gpubond"


def compiler() -> list[str] | None:
    """The C compiler's command, if there is one."""
    named = os.environ.get("CC", "").split()
    for command in ([*named], ["cc"], ["gcc"], ["clang"]):
        if command and shutil.which(command[0]):
            return command
    return None


def build(path: Path, extra: Sequence[str] = ()) -> Path:
    """Compiles the library unless it is there. Raises Unavailable. `extra`: flags after ours."""
    if path.exists():
        return path
    command = compiler()
    if command is None:
        raise Unavailable("it was not built when gpubond was installed, and there is no C compiler (cc, gcc, clang)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whoever comes meanwhile sees no file or a whole one.
        with tempfile.TemporaryDirectory(prefix=".build-", dir=path.parent) as directory:
            made = Path(directory) / path.name
            libraries = [f"-l{name}" for name in c_sources.LIBRARIES]
            identity = f'-DEXACT_FINGERPRINT="{c_sources.fingerprint()}"'
            line = [*command, *c_sources.FLAGS, identity, *extra, "-fPIC", "-shared"]
            done = subprocess.run(
                [*line, str(c_sources.SOURCE), "-o", str(made), *libraries],
                capture_output=True,
                text=True,
                timeout=_BUILD_SECONDS,
                check=False,
            )
            if done.returncode != 0:
                raise Unavailable(f"{command[0]} did not compile it: {done.stderr.strip()[-500:]}")
            made.replace(path)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"it could not be built in {path.parent}: {error}") from error
    return path


def _installed() -> Iterator[Path]:
    """Where setuptools puts it."""
    suffixes = [*importlib.machinery.EXTENSION_SUFFIXES, sysconfig.get_config_var("EXT_SUFFIX") or ""]
    for suffix in dict.fromkeys(suffixes):
        path = Path(__file__).resolve().parent / f"_native{suffix}"
        if suffix and path.exists():
            yield path
