# SPDX-License-Identifier: Apache-2.0
"""Barriers and warp functions: on the GPU where there is one, else by the fibers of class cpu-sim."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from gpubond.jobs.cuda_section import CudaSection
from gpubond.jobs.reasons import Reason
from gpubond.provider.runtimes.cuda_compile import compile_host
from gpubond.provider.runtimes.cuda_sim import load

from ..bench import Bench, array_of, log_of, npy
from .test_cuda import buffer, launch

# Prefix sums of a block by Hillis and Steele; every fourth thread leaves early, which no barrier may wait for.
SCAN = """
__global__ void scan(const int* x, int* y, int n) {
  __shared__ int part[2][1024];
  const int count = blockDim.x * blockDim.y, t = threadIdx.y * blockDim.x + threadIdx.x;
  const int at = blockIdx.x * count + t;
  int now = 0;
  part[now][t] = at < n ? x[at] : 0;
  __syncthreads();
  for (int step = 1; step < count; step *= 2) {
    part[1 - now][t] = part[now][t] + (t >= step ? part[now][t - step] : 0);
    now = 1 - now;
    __syncthreads();
  }
  if (at < n) y[at] = part[now][t];
}
"""


def scans(x: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    padded = np.append(x, np.zeros(-len(x) % count, x.dtype)).reshape(-1, count)
    result: np.ndarray[Any, Any] = padded.cumsum(axis=1).ravel()[: len(x)]
    return result


def test_blocks_of_many_shapes_one_after_another(bench: Bench) -> None:
    x = np.random.default_rng(7).integers(-99, 99, 5000).astype(np.int32)
    shapes = [(32, 1), (1024, 1), (7, 5), (64, 16), (5, 7), (1, 1), (33, 31)]
    buffers: dict[str, dict[str, Any]] = {"x": {"dtype": "int32", "shape": [5000], "from": "x.npy"}}
    launches = []
    for number, (width, height) in enumerate(shapes):
        buffers[f"y{number}"] = {"dtype": "int32", "shape": [5000], "to": f"y{number}.npy"}
        grid = [-(-5000 // (width * height)), 1, 1]
        args = [buffer("x"), buffer(f"y{number}"), {"i32": 5000}]
        launches.append({"kernel": "scan", "grid": grid, "block": [width, height, 1], "args": args})
    attempt = bench.cuda(SCAN, buffers, launches, files={"x.npy": npy(x)})
    for number, (width, height) in enumerate(shapes):
        assert np.array_equal(array_of(attempt, f"y{number}.npy"), scans(x, width * height)), (width, height)


def test_votes_matches_and_sums_of_warps(bench: Bench) -> None:
    source = """
__global__ void f(int* counts, int* ands, unsigned* matches, int* sums, unsigned* odd, unsigned* halves) {
  const int t = threadIdx.x;
  counts[t] = 0;
  for (int i = 0; i < 5; i++) counts[t] += __syncthreads_count(t < i * 10);
  ands[t] = 10 * __syncthreads_and(t < 64) + 100 * __syncthreads_and(t < 63) + __syncthreads_or(t == 40);
  matches[t] = __match_any_sync(0xffffffffu, t % 4);
  sums[t] = __reduce_add_sync(0xffffffffu, t) + 10000 * __reduce_max_sync(0xffffffffu, t % 7);
  odd[t] = 0;
  if (t % 2) odd[t] = __ballot_sync(0xaaaaaaaau, t % 3 == 0);
  halves[t] = (t & 16) ? __ballot_sync(0xffff0000u, 1) : __ballot_sync(0x0000ffffu, 1);
}
"""
    names = ["counts", "ands", "matches", "sums", "odd", "halves"]
    buffers = {
        name: {"dtype": "int32" if name in ("counts", "ands", "sums") else "uint32", "shape": [64], "to": f"{name}.npy"}
        for name in names
    }
    attempt = bench.cuda(source, buffers, [launch("f", *map(buffer, names), block=64)])
    t = np.arange(64)
    assert np.array_equal(array_of(attempt, "counts.npy"), np.full(64, 10 + 20 + 30 + 40))
    assert np.array_equal(array_of(attempt, "ands.npy"), np.full(64, 11))
    assert np.array_equal(array_of(attempt, "matches.npy"), 0x11111111 << (t % 4))
    lows = np.where(t < 32, sum(range(32)), sum(range(32, 64)))
    assert np.array_equal(array_of(attempt, "sums.npy"), lows + 60000)
    masks = [sum(1 << i for i in range(1, 32, 2) if (w * 32 + i) % 3 == 0) for w in range(2)]
    assert np.array_equal(array_of(attempt, "odd.npy"), np.where(t % 2, np.array(masks)[t // 32], 0))
    assert np.array_equal(array_of(attempt, "halves.npy"), np.where(t & 16, 0xFFFF0000, 0xFFFF))


def test_a_lock_among_the_threads_of_a_grid(bench: Bench) -> None:
    source = """
__device__ int taken = 0;
__global__ void f(int* sum) {
  __syncthreads();
  bool done = false;
  while (!done) {
    if (atomicCAS(&taken, 0, 1) == 0) {
      __threadfence();
      *(volatile int*)sum = *(volatile int*)sum + 1;
      __threadfence();
      atomicExch(&taken, 0);
      done = true;
    }
  }
}
"""
    buffers = {"sum": {"dtype": "int32", "shape": [1], "to": "s.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("sum"), grid=8, block=64)])
    assert array_of(attempt, "s.npy").tolist() == [512]


def test_a_thread_that_overruns_its_stack_is_ended(bench: Bench, no_gpu: None) -> None:
    source = """
__device__ int deep(int n, volatile int* x) { return n == 0 ? x[0] : deep(n - 1, x) + x[n % 2]; }
__global__ void f(int* x) { __syncthreads(); x[1] = deep(x[0] + (1 << 26), x); }
"""
    buffers = {"x": {"dtype": "int32", "shape": [2], "to": "x.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("x"), block=32)])
    assert attempt.reason is Reason.LAUNCH_ERROR, log_of(attempt)


def test_a_thread_outside_of_its_own_mask_is_ended(bench: Bench, no_gpu: None) -> None:
    source = "__global__ void f(int* x) { x[threadIdx.x] = __shfl_sync(0xffff0000u, 1, 16); }"
    buffers = {"x": {"dtype": "int32", "shape": [32], "to": "x.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("x"))])
    assert attempt.reason is Reason.LAUNCH_ERROR, log_of(attempt)
    assert "a mask that it is not in" in log_of(attempt)


@pytest.mark.parametrize("extra", [(), ("-DGPUBOND_UCONTEXT",)], ids=["own switch", "ucontext"])
def test_both_ways_to_change_fibers_agree(extra: tuple[str, ...]) -> None:
    """Processors without a switch of our own take ucontext."""
    entry = {"kernel": "scan", "grid": [3, 1, 1], "block": [96, 2, 1], "args": [buffer("x"), buffer("y"), {"i32": 500}]}
    buffers = {name: {"dtype": "int32", "shape": [500], "to": name} for name in "xy"}
    cuda = CudaSection.model_validate({"source": "k.cu", "buffers": buffers, "launches": [entry, entry]})
    library = load(compile_host(SCAN, cuda, {}, *extra))
    x, y = np.arange(500, dtype=np.int32), np.zeros(500, np.int32)
    for _ in range(3):
        y[:] = 0
        library.gpubond_launch_0((ctypes.c_void_p * 2)(x.ctypes.data, y.ctypes.data))
        assert np.array_equal(y, scans(x, 192))
