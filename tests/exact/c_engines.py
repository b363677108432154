# SPDX-License-Identifier: Apache-2.0
"""The C engines that this machine has: every instruction set with 1, 2 and 3 threads. Where there is none, tests that
need one are skipped with the reason."""

from __future__ import annotations

import pytest

from gpubond.exact import c_library
from gpubond.exact.c_engine import CEngine

try:
    SETS = tuple(c_library.load().sets())
except c_library.Unavailable as error:
    pytest.skip(f"no C engine: {error}", allow_module_level=True)
ENGINES = [CEngine(threads, name) for threads in (1, 2, 3) for name in SETS]
# One of each instruction set, and one of each number of threads.
SOME = [CEngine(1 + at, name) for at, name in enumerate(SETS)]
by_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: str(engine.name))
by_set = pytest.mark.parametrize("engine", SOME, ids=lambda engine: str(engine.name))
# One of each instruction set, with one thread.
by_single = pytest.mark.parametrize("engine", ENGINES[: len(SETS)], ids=lambda engine: str(engine.name))
