# SPDX-License-Identifier: Apache-2.0
"""Builds of `cuda` jobs that are kept: who gets one, who does not, and that no job has a hand in another's."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider import devices, runtimes
from gpubond.provider.executors import compile as compile_module
from gpubond.provider.executors.builds import BuildCache, build_key
from gpubond.provider.executors.process import ProcessExecutor

from ..bench import Bench, array_of, log_of, npy

SOURCE = """
#include "factor.cuh"
__global__ void f(const int* x, int* y) { y[threadIdx.x] = x[threadIdx.x] * FACTOR + MORE; }
"""
BUFFERS: dict[str, dict[str, Any]] = {
    "x": {"dtype": "int32", "shape": [4], "from": "x.npy"},
    "y": {"dtype": "int32", "shape": [4], "to": "y.npy"},
}
LAUNCHES = [{"kernel": "f", "grid": [1, 1, 1], "block": [4, 1, 1], "args": [{"buffer": "x"}, {"buffer": "y"}]}]
X = np.arange(4, dtype=np.int32)


def job(bench: Bench, source: str = SOURCE, factor: int = 3, more: str = "1", x: Any = X, **fields: Any) -> JobSpec:
    section = {
        "source": "k.cu",
        "options": {"define": {"MORE": more}},
        "buffers": BUFFERS,
        "launches": LAUNCHES,
        **fields.pop("cuda", {}),
    }
    files = {"k.cu": source, "factor.cuh": f"#define FACTOR {factor}\n", "x.npy": npy(x)}
    return bench.spec("cuda", files, outputs=["y.npy"], cuda=section, **fields)


def run(bench: Bench, spec: JobSpec) -> Any:
    return bench.executor.run("c1", spec, bench.blobs, cancel=bench.cancel)


def builds(bench: Bench) -> list[Path]:
    return sorted((bench.root / "work" / ".builds").iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_same_source_is_compiled_once_for_whatever_data(bench: Bench) -> None:
    first = run(bench, job(bench))
    assert "compiling k.cu" in log_of(first)
    assert np.array_equal(array_of(first, "y.npy"), X * 3 + 1)
    again = run(bench, job(bench, x=X + 5))
    assert "compiling" not in log_of(again)
    assert "k.cu was compiled before" in log_of(again)
    assert np.array_equal(array_of(again, "y.npy"), (X + 5) * 3 + 1)
    assert len(builds(bench)) == 1


def test_whatever_decides_the_code_decides_the_name(bench: Bench) -> None:
    target = runtimes.compile_target()
    grid = [{**LAUNCHES[0], "grid": [2, 1, 1]}]
    others = [
        job(bench, SOURCE + " "),
        job(bench, factor=4),
        job(bench, more="2"),
        job(bench, cuda={"options": {"define": {"MORE": "1"}, "fmad": False}}),
        job(bench, cuda={"launches": grid}),
        job(bench, limits={"memory_mib": 999}),
    ]
    names = {build_key(spec, target) for spec in [job(bench), *others]}
    assert len(names) == 1 + len(others)
    assert build_key(job(bench), ["90", "13000"]) not in names
    assert build_key(job(bench, x=X + 1), target) == build_key(job(bench), target)
    assert build_key(job(bench, limits={"seconds": 9}), target) == build_key(job(bench), target)


def test_a_job_cannot_write_what_another_one_runs(bench: Bench) -> None:
    """On class cpu-sim the job's own code tries; on a GPU none of it runs on the machine."""
    hostile = """
#ifdef __CUDACC_RTC__
__global__ void f(const int* x, int* y) { y[0] = 1; }
#else
__global__ void f(const int* x, int* y) {
  FILE* build = fopen("/run/gpubond/build", "r+");
  y[0] = build != nullptr;
  y[1] = unlink("/run/gpubond/build") == 0 || rename("/job/x.npy", "/run/gpubond/build") == 0;
  FILE* kept = fopen("/job/../.builds/x", "w");
  y[2] = kept != nullptr;
  y[3] = getenv("HOME") != nullptr;
}
#endif
"""
    assert array_of(run(bench, job(bench)), "y.npy").tolist() == [1, 4, 7, 10]
    before = {path: path.read_bytes() for path in builds(bench)}
    attempt = run(bench, job(bench, hostile))
    if not devices.has_gpu():
        assert array_of(attempt, "y.npy").tolist() == [0, 0, 0, 1]
    assert before.items() <= {path: path.read_bytes() for path in builds(bench)}.items()
    again = run(bench, job(bench))
    assert "was compiled before" in log_of(again)
    assert array_of(again, "y.npy").tolist() == [1, 4, 7, 10]


def test_a_source_sees_no_other_input_while_it_is_compiled(bench: Bench, tmp_path: Path) -> None:
    """Else what it compiles to would depend on more than its name tells. It is compiled by the host's compiler only."""
    source = """
#ifndef __CUDACC_RTC__
#if __has_include("x.npy") || __has_include("/job/x.npy") || __has_include("secret.txt")
#define SEEN 1
#endif
#endif
#ifndef SEEN
#define SEEN 0
#endif
__global__ void f(const int* x, int* y) { y[threadIdx.x] = SEEN; }
"""
    assert array_of(run(bench, job(bench, source)), "y.npy").tolist() == [0] * 4


def test_what_does_not_compile_is_not_kept_and_says_the_line(bench: Bench) -> None:
    attempt = run(bench, job(bench, SOURCE.replace("FACTOR", "FAKTOR")))
    assert (attempt.reason, attempt.exit_code) == (Reason.COMPILE_ERROR, 120)
    assert 'k.cu(3): error: identifier "FAKTOR" is undefined' in log_of(attempt)
    assert not (bench.root / "work" / ".builds").exists()


def test_an_error_of_the_hosts_compiler_names_the_line_too(bench: Bench) -> None:
    if devices.has_gpu():
        pytest.skip(f"this machine has a GPU: {devices.device_name()}")
    source = SOURCE + "#ifndef __CUDACC_RTC__\nint wrong = here;\n#endif\n"
    attempt = run(bench, job(bench, source))
    assert attempt.reason is Reason.COMPILE_ERROR
    assert "k.cu:5:13: error:" in log_of(attempt)


def bomb() -> str:
    """A few lines that mean a table of 2**40 numbers."""
    lines = ["#define T0 1,", *(f"#define T{n + 1} T{n} T{n}" for n in range(40))]
    return "\n".join([*lines, "__device__ int table[] = {T40 1};", SOURCE])


def test_a_source_that_is_compiled_for_ever_is_ended_in_time(bench: Bench) -> None:
    attempt = run(bench, job(bench, bomb(), limits={"seconds": 3}))
    assert attempt.reason is Reason.TIMEOUT, log_of(attempt)
    assert "while compiling: still running" in attempt.detail


def test_a_source_that_eats_memory_while_it_is_compiled_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "COMPILE_MEMORY_BYTES", 300 << 20)
    attempt = run(bench, job(bench, bomb()))
    assert attempt.reason is Reason.OUT_OF_MEMORY, log_of(attempt)
    assert "while compiling: used" in attempt.detail


def test_code_that_is_too_large_is_not_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module, "MAX_BUILD_BYTES", 1 << 20)
    assert run(bench, job(bench)).reason is Reason.OK
    attempt = run(bench, job(bench, SOURCE + "__device__ unsigned char table[2 << 20] = {1};\n"))
    assert attempt.reason is Reason.COMPILE_ERROR, log_of(attempt)
    assert "while compiling: the code is larger than 1 MiB" in attempt.detail


def test_a_cancelled_compilation_ends_at_once(bench: Bench) -> None:
    bench.cancel.set()
    assert run(bench, job(bench)).reason is Reason.CANCELLED


def test_without_a_sandbox_nothing_is_kept(bench: Bench) -> None:
    """On development chains: there a job could write what another one runs."""
    bench.executor = ProcessExecutor(bench.root / "work", bare=True)
    for _ in range(2):
        attempt = run(bench, job(bench))
        assert array_of(attempt, "y.npy").tolist() == [1, 4, 7, 10]
        assert "compiling k.cu" in log_of(attempt)
    assert not (bench.root / "work" / ".builds").exists()


def test_a_damaged_build_is_made_again(bench: Bench) -> None:
    run(bench, job(bench))
    (kept,) = builds(bench)
    kept.write_bytes(kept.read_bytes()[:-1])
    attempt = run(bench, job(bench))
    assert "compiling k.cu" in log_of(attempt)
    assert array_of(attempt, "y.npy").tolist() == [1, 4, 7, 10]


def test_the_ones_used_longest_ago_go_first(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path / "builds", max_bytes=400)
    made = tmp_path / "made"
    for number in range(4):
        made.write_bytes(bytes([number]) * 68)  # 100 with its digest
        cache.put(f"{number}", made)
        os.utime(tmp_path / "builds" / f"{number}", ns=(number, number))
    assert cache.get("0", tmp_path / "got")  # so it is the one used last
    assert (tmp_path / "got").read_bytes() == bytes(68)
    cache.put("4", made)
    assert sorted(path.name for path in (tmp_path / "builds").iterdir()) == ["0", "2", "3", "4"]
    made.write_bytes(bytes(500))
    cache.put("5", made)
    assert not cache.get("5", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_many_at_once_leave_whole_builds(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path / "builds", max_bytes=1000)
    wrong: list[str] = []

    def use(worker: int) -> None:
        made, got = tmp_path / f"made-{worker}", tmp_path / f"got-{worker}"
        for number in range(40):
            key = str(number % 7)
            made.write_bytes(key.encode() * 200)
            cache.put(key, made)
            got.unlink(missing_ok=True)
            if cache.get(key, got) and got.read_bytes() != key.encode() * 200:
                wrong.append(key)

    threads = [threading.Thread(target=use, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not list((tmp_path / "builds").glob("*.draft"))
