# SPDX-License-Identifier: Apache-2.0
"""Processes whose arithmetic something has changed: the NumPy engine sets it right for itself, or refuses."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from gpubond.exact import float_environment
from gpubond.exact.numpy_engine import NumpyEngine
from gpubond.exact.reference import ReferenceEngine
from gpubond.exact.refusal import Refused
from tests.exact.programs import differences, every_operation

T = TypeVar("T")
needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="sets the control word of x86-64")
FLUSH, UPWARD, DOWNWARD, TO_ZERO = 0x8040, 0x4000, 0x2000, 0x6000
_MXCSR_WORD = 7  # in glibc's fenv_t on x86-64


def control(bits: int) -> int:
    """Sets bits of this thread's MXCSR; gives what it was."""
    libm = ctypes.CDLL("libm.so.6")
    environment = (ctypes.c_uint32 * 16)()
    assert libm.fegetenv(environment) == 0
    before = int(environment[_MXCSR_WORD])
    environment[_MXCSR_WORD] = before | bits
    assert libm.fesetenv(environment) == 0
    return before


def in_thread(work: Callable[[], T]) -> T:
    """The result of a thread of its own, whose arithmetic ends with it."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    assert found, "the thread failed"
    return found[0]


def test_an_ordinary_process_is_right() -> None:
    assert float_environment.probe() is None


@needs_x86
@pytest.mark.parametrize("bits", [FLUSH, 0x8000, 0x0040, UPWARD, DOWNWARD, TO_ZERO])
def test_a_changed_control_word_is_found_set_right_and_put_back(bits: int) -> None:
    case = every_operation()

    def work() -> tuple[str | None, list[str], int]:
        control(bits)
        found = float_environment.probe()
        wrong = differences(NumpyEngine(), ReferenceEngine(), case, 3)
        return found, wrong, control(0) & bits

    found, wrong, after = in_thread(work)
    assert found is not None
    assert wrong == []
    assert after == bits


@needs_x86
def test_the_callback_may_raise_and_the_control_word_is_put_back() -> None:
    case = every_operation()

    def stop(_: int, output: object) -> None:
        raise KeyboardInterrupt

    def work() -> object:
        control(FLUSH)
        with pytest.raises(KeyboardInterrupt):
            NumpyEngine().prepare(case.program).step(case.state, case.data, 0, stop)
        return control(0) & FLUSH

    assert in_thread(work) == FLUSH


@needs_x86
def test_it_is_refused_where_it_cannot_be_set_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float_environment, "_LIBRARY", None)
    case = every_operation()
    prepared = NumpyEngine().prepare(case.program)

    def work() -> object:
        control(FLUSH)
        with pytest.raises(Refused, match="IEEE 754") as refused:
            prepared.step(case.state, case.data, 0)
        return refused.value.field

    assert in_thread(work) == "engine.arithmetic"


_UNDER_OFAST = """
import ctypes, sys
ctypes.CDLL(sys.argv[1])
from gpubond.exact import float_environment
from gpubond.exact.numpy_engine import NumpyEngine
from gpubond.exact.reference import ReferenceEngine
from tests.exact.programs import differences, every_operation
assert float_environment.probe() is not None, "the library changed nothing"
assert differences(NumpyEngine(), ReferenceEngine(), every_operation(), 3) == []
"""


@needs_x86
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_library_built_for_speed_changes_nothing(tmp_path: Path) -> None:
    source, library = tmp_path / "fast.c", tmp_path / "fast.so"
    source.write_text("float twice(float x) { return x + x; }\n")
    subprocess.run(["gcc", "-Ofast", "-shared", "-fPIC", "-o", library, source], check=True)
    if b"set_fast_math" not in subprocess.run(["nm", library], capture_output=True, check=True).stdout:
        # Newer compilers leave it out of shared libraries; older ones, and -mdaz-ftz, put it in.
        subprocess.run(["gcc", "-Ofast", "-mdaz-ftz", "-shared", "-fPIC", "-o", library, source], check=True)
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", _UNDER_OFAST, str(library)], check=True, cwd=root)
