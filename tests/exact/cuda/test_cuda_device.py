# SPDX-License-Identifier: Apache-2.0
"""The GPU by the driver API: refusals where there is none, and every call against a driver that has the processor's
kernels. Where there is a GPU it took part in the tests of kernels and engine."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpubond.exact.cuda import build
from gpubond.exact.cuda.build import cached_kernels
from gpubond.exact.cuda.device import Gpu
from gpubond.exact.cuda_engine import CudaEngine
from gpubond.exact.refusal import Refused
from gpubond.provider import devices

REPOSITORY = Path(__file__).resolve().parents[3]
Run = Callable[..., subprocess.CompletedProcess[str]]

RUN = """
import sys, threading
from pathlib import Path
from gpubond.exact.cuda_engine import CudaEngine
from gpubond.exact.numpy_engine import NumpyEngine
from tests.exact.programs import differences, every_operation

engine = CudaEngine.open(Path(sys.argv[1]))
print(engine.name)
wrong = differences(engine, NumpyEngine(), every_operation(), steps=3)
# Another thread has no context of its own yet.
one = threading.Thread(target=lambda: wrong.extend(differences(engine, NumpyEngine(), every_operation())))
one.start()
one.join()
print(wrong or "the same bits")
"""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a libcuda.so.1 that has this machine's processor for a GPU."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None
    directory = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("libcuda.c")
    command = [
        compiler,
        "-O1",
        "-Wall",
        "-Werror",
        "-fPIC",
        "-shared",
        str(source),
        "-o",
        str(directory / "libcuda.so.1"),
    ]
    subprocess.run([*command, "-ldl"], check=True)
    return directory


@pytest.fixture
def run(driver: Path, library: Path) -> Run:
    """Runs a program of this machine's Python with that driver."""

    def started(text: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(driver),
            "SIMULATED_GPU": str(library),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
            **variables,
        }
        command = [sys.executable, "-c", text, str(driver / "cubins")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return started


@pytest.mark.gpu
def test_the_gpu_took_part(gpu: Gpu) -> None:
    """It is one of the devices of this folder's other tests."""
    assert gpu.processors > 0 and gpu.architecture in gpu.name


def test_without_a_gpu_the_engine_says_so() -> None:
    if devices.has_gpu():
        pytest.skip(f"this machine has a GPU: {devices.device_name()}")
    with pytest.raises(Refused) as refused:
        CudaEngine.open()
    assert refused.value.field == "engine" and refused.value.value == "cuda"
    assert "there is no CUDA GPU to be used" in refused.value.reason and "processor" in refused.value.remedy


def test_every_call_of_the_driver(run: Run) -> None:
    done = run(RUN)
    assert done.stdout.splitlines() == ["cuda (Simulated, sm_90)", "the same bits"], done.stderr


@pytest.mark.parametrize(
    ("function", "status", "message"),
    [
        ("cuInit", "100", "Refused: engine = 'cuda': there is no CUDA GPU to be used: cuInit: CUDA_ERROR_NO_DEVICE"),
        (
            "cuModuleLoadData",
            "222",
            "does not load code for sm_90: CUDA_ERROR_UNSUPPORTED_PTX_VERSION; install the nvidia",
        ),
        ("cuMemAlloc", "2", "MemoryError: the program needs "),
        ("cuMemAlloc", "999", "DeviceFailed: cuMemAlloc: CUDA_ERROR_UNKNOWN: as the test wanted"),
        ("cuMemcpyHtoD", "700", "DeviceFailed: cuMemcpyHtoD: CUDA_ERROR_ILLEGAL_ADDRESS"),
        ("cuMemcpyDtoH", "719", "DeviceFailed: cuMemcpyDtoH: CUDA_ERROR_LAUNCH_FAILED"),
        ("cuMemcpyDtoD", "1", "DeviceFailed: cuMemcpyDtoD: CUDA_ERROR_INVALID_VALUE"),
        ("cuModuleGetFunction", "500", "DeviceFailed: kernel fill: CUDA_ERROR_NOT_FOUND"),
        ("cuLaunchKernel", "701", "DeviceFailed: launch of fill: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"),
    ],
)
def test_failures_of_the_driver_are_told(run: Run, function: str, status: str, message: str) -> None:
    done = run(RUN, FAIL=function, FAIL_WITH=status)
    assert done.returncode == 1 and message in done.stderr


def test_a_device_that_no_code_can_be_made_for_is_refused(run: Run) -> None:
    done = run(RUN, CAPABILITY="70")
    assert "engine.capability = 70: this NVRTC makes code for" in done.stderr


def test_a_later_device_of_a_known_generation_gets_that_ones_code() -> None:
    assert build.architecture_for(90) == "sm_90"
    assert build.architecture_for(99) == "sm_90"


def test_compiled_kernels_are_kept_and_believed_only_with_their_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cached_kernels("sm_90", tmp_path / "new")
    assert made.startswith(b"\x7fELF")
    (file,) = (tmp_path / "new").iterdir()
    assert file.read_bytes() == hashlib.sha256(made).digest() + made
    for broken in (file.read_bytes()[:-1], file.read_bytes()[:100] + b"\xff" + file.read_bytes()[101:]):
        file.write_bytes(broken)
        assert cached_kernels("sm_90", tmp_path / "new") == made
        assert file.read_bytes()[32:] == made
    # From now on whoever compiles fails.
    monkeypatch.setattr(build, "compile_kernels", None)
    assert cached_kernels("sm_90", tmp_path / "new") == made
    with pytest.raises(TypeError):
        cached_kernels("sm_80", tmp_path / "new")
    monkeypatch.setattr(build, "OPTIONS", (*build.OPTIONS, "--maxrregcount=64"))
    with pytest.raises(TypeError):
        cached_kernels("sm_90", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == [file]


def test_nothing_is_kept_where_no_directory_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cached_kernels("sm_80", None).startswith(b"\x7fELF")
    assert list(tmp_path.iterdir()) == []


def test_source_that_does_not_compile_is_told_with_the_compilers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {**build.sources(), build.SOURCE: '#include "exact_core.h"\nint f() { return missing; }'}
    monkeypatch.setattr(build, "sources", lambda: broken)
    with pytest.raises(RuntimeError, match='identifier "missing" is undefined'):
        build.compile_kernels("sm_90")
