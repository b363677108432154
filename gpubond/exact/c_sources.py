# SPDX-License-Identifier: Apache-2.0
"""The C sources of the engine and how they are compiled. Read by setup.py too, so it imports nothing of ours."""

from __future__ import annotations

import hashlib
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent / "native"
SOURCE = DIRECTORY / "exact.c"
# Nothing here lets a compiler change a bit: the last three are about errno, traps and the types of pointers.
FLAGS = (
    "-std=gnu11",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
    "-fno-semantic-interposition",
)
LIBRARIES = ("m", "pthread")


def fingerprint() -> str:
    """Names the sources and flags: 16 hex digits. A library built from others is not used."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in sorted(DIRECTORY.iterdir()):
        if path.suffix in (".c", ".h"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
