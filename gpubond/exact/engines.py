# SPDX-License-Identifier: Apache-2.0
"""Which implementation computes: the fastest that is here, or the one that is asked for. All give the same bits."""

from __future__ import annotations

import os
from pathlib import Path

from gpubond.exact import c_library
from gpubond.exact.c_engine import CEngine
from gpubond.exact.engine import Engine
from gpubond.exact.numpy_engine import NumpyEngine
from gpubond.exact.reference import ReferenceEngine
from gpubond.exact.refusal import Refused

AUTO = "auto"
KINDS = (AUTO, "c", "cuda", "numpy", "reference")


def best(threads: int | None = None, kind: str = AUTO) -> Engine:
    """An engine.

    threads: for `c`; all processors by default. kind: one of KINDS; `auto` is C, or NumPy (with a warning that says how
    slow) where there is neither library nor compiler. `cuda` is taken only if asked for.

    Raises: Refused if what is asked for is not to be had here.
    """
    if threads is not None and threads < 1:
        raise Refused("threads", threads, "must be at least 1")
    if kind == "numpy":
        return NumpyEngine()
    if kind == "reference":
        return ReferenceEngine()
    if kind == "cuda":
        from gpubond.exact.cuda_engine import CudaEngine

        return CudaEngine.open(_kernels())
    if kind not in KINDS:
        raise Refused("engine", kind, f"must be one of {', '.join(KINDS)}")
    if kind == AUTO:
        return CEngine(threads) if c_library.available() else NumpyEngine()
    try:
        return CEngine(threads)
    except c_library.Unavailable as error:
        raise Refused("engine", kind, str(error), "install gcc, or take another engine") from None


def _kernels() -> Path | None:
    """Where compiled kernels are kept; nowhere if that folder cannot be made."""
    home = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(home) if home else Path.home() / ".cache") / "gpubond" / "exact-cuda"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder
