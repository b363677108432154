# SPDX-License-Identifier: Apache-2.0
"""The processor's state that could change results: flushing of subnormals, and the rounding mode.

A library built with -Ofast that anything loads into the process turns flushing on for the thread that loads it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from gpubond.exact.refusal import Refused

_ENVIRONMENT_BYTES = 512  # more than any fenv_t
_DEFAULT = ctypes.c_void_p(-1)  # FE_DFL_ENV of glibc and musl, on x86-64 and Arm
_REPEAT = 37  # so that both the vector loop and what it leaves over are tried


def _library() -> ctypes.CDLL | None:
    for name in (None, "libm.so.6"):
        try:
            library = ctypes.CDLL(name)
            if library.fegetenv and library.fesetenv:
                return library
        except (OSError, AttributeError):
            continue
    return None


_LIBRARY = _library()


@contextmanager
def standard() -> Iterator[None]:
    """Within it this thread rounds to nearest and keeps subnormals; afterwards all is as it was.

    Raises Refused if that cannot be had.
    """
    saved = ctypes.create_string_buffer(_ENVIRONMENT_BYTES)
    changed = _LIBRARY is not None and _LIBRARY.fegetenv(saved) == 0 and _LIBRARY.fesetenv(_DEFAULT) == 0
    try:
        wrong = probe()
        if wrong is not None:
            raise Refused(
                "engine.arithmetic",
                wrong,
                "this thread's arithmetic is not that of IEEE 754",
                "start a process that loads no library built with -Ofast or -ffast-math, and sets no rounding mode",
            )
        yield
    finally:
        if changed and _LIBRARY is not None:
            _LIBRARY.fesetenv(saved)


def probe() -> str | None:
    """What of this thread's arithmetic is wrong, as NumPy carries it out; None if nothing is."""
    with np.errstate(all="ignore"):
        for name, left, right, operation, wanted in _CASES:
            found = operation(_single(left), _single(right)).view(np.uint32)
            if (found != wanted).any():
                return name
        least = np.full(_REPEAT, 0x36A0000000000000, dtype=np.uint64).view(np.float64)  # 2^-149
        if (least.astype(np.float32).view(np.uint32) != 1).any():
            return "results that are subnormal are flushed to zero"
        if (_single(1).astype(np.float64) != least).any():
            return "operands that are subnormal are taken as zero"
        halfway = np.full(_REPEAT, 0x3FF0000030000000, dtype=np.uint64).view(np.float64)  # 1 + 3 * 2^-24
        if (halfway.astype(np.float32).view(np.uint32) != 0x3F800002).any():
            return "conversions do not round to nearest even"
    return None


def _single(bits: int) -> npt.NDArray[np.float32]:
    return np.full(_REPEAT, bits, dtype=np.uint32).view(np.float32)


_CASES = (
    ("results that are subnormal are flushed to zero", 0x00800000, 0x3F000000, np.multiply, 0x00400000),
    ("operands that are subnormal are taken as zero", 0x00400000, 0x40000000, np.multiply, 0x00800000),
    # 1 + 2^-24, 1 + 2^-24 + 2^-25 and their negatives: nearest even, and no other mode, gives these.
    ("additions do not round to nearest even", 0x3F800000, 0x33800000, np.add, 0x3F800000),
    ("additions do not round to nearest even", 0x3F800000, 0x33C00000, np.add, 0x3F800001),
    ("additions do not round to nearest even", 0xBF800000, 0xB3800000, np.add, 0xBF800000),
    ("additions do not round to nearest even", 0xBF800000, 0xB3C00000, np.add, 0xBF800001),
    ("divisions are not rounded as they must be", 0x3F800000, 0x40400000, np.divide, 0x3EAAAAAB),
)
