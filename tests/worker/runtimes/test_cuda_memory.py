# SPDX-License-Identifier: Apache-2.0
"""Shared memory, constants, files of tensors and the bounds of a device's memory, on the GPU where there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import load, save

from gpubond.errors import BadInput
from gpubond.jobs.cuda_check import precheck_cuda
from gpubond.jobs.cuda_section import CudaSection
from gpubond.jobs.reasons import Reason
from gpubond.provider.runtimes.cuda_translate import translated

from ..bench import Bench, array_of, log_of, npy
from .test_cuda import SCALE, SCALE_BUFFERS, SCALE_LAUNCH, buffer, launch

REVERSE = """
namespace my { extern __shared__ __align__(16) unsigned char raw[]; }
template <class T> __global__ void reverse(T* x) {
  extern __shared__ float not_this_one[];
  T* part = reinterpret_cast<T*>(my::raw);
  part[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = part[blockDim.x - 1 - threadIdx.x];
}
"""


def numbers(dtype: str, count: int, **fields: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [count], **fields}


def test_shared_memory_of_a_size_set_at_launch(bench: Bench) -> None:
    buffers = {"x": numbers("float64", 1024, **{"from": "x.npy", "to": "y.npy"}), "z": numbers("int32", 32, to="z.npy")}
    launches = [
        launch("reverse<double>", buffer("x"), block=1024) | {"shared_bytes": 8192},
        launch("reverse<int>", buffer("z"), block=32) | {"shared_bytes": 128},
    ]
    x = np.random.default_rng(3).normal(size=1024)
    attempt = bench.cuda(REVERSE, buffers, launches, files={"x.npy": npy(x)})
    assert np.array_equal(array_of(attempt, "y.npy"), x[::-1])
    assert not array_of(attempt, "z.npy").any()


def test_more_shared_memory_than_a_kernel_has_unasked(bench: Bench) -> None:
    source = """
__global__ void fill(int* x, int n) {
  extern __shared__ int cells[];
  for (int i = threadIdx.x; i < n; i += blockDim.x) cells[i] = i;
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) x[i] = cells[n - 1 - i];
}
"""
    count = 16000  # 62.5 KiB
    buffers = {"x": numbers("int32", count, to="x.npy")}
    launches = [launch("fill", buffer("x"), {"i32": count}, block=64) | {"shared_bytes": 4 * count}]
    attempt = bench.cuda(source, buffers, launches)
    assert np.array_equal(array_of(attempt, "x.npy"), np.arange(count)[::-1])


def test_who_writes_beyond_shared_memory_is_ended(bench: Bench) -> None:
    source = """
__global__ void f(int* x, int at) {
  extern __shared__ int cells[];
  cells[at] = threadIdx.x;
  x[0] = cells[at / 2];
}
"""
    buffers = {"x": numbers("int32", 1, to="x.npy")}
    launches = [launch("f", buffer("x"), {"i32": 1 << 14}, block=1) | {"shared_bytes": 256}]
    attempt = bench.cuda(source, buffers, launches)
    assert attempt.reason is Reason.LAUNCH_ERROR, log_of(attempt)
    assert attempt.reason.fault == "workload"


def test_lines_keep_their_numbers_when_shared_memory_is_translated() -> None:
    source = (
        "int a;\nextern __shared__ __align__(8)\n  unsigned\n  char s[];\nint b;\nextern __shared__ my::v<3> t[];\n"
    )
    changed = translated(source)
    assert "extern" not in changed
    assert changed.count("\n") == source.count("\n")
    assert changed.splitlines()[4] == "int b;"
    assert "v<3>* const t" in changed
    assert translated("__shared__ float x[4]; extern int y[];") == "__shared__ float x[4]; extern int y[];"


def test_a_barrier_in_a_header_is_seen(bench: Bench) -> None:
    header = "__device__ void wait() { __syncthreads(); }\n"
    source = """
#include "lib/wait.cuh"
__global__ void f(int* x) {
  extern __shared__ int s[];
  s[threadIdx.x] = threadIdx.x;
  wait();
  x[threadIdx.x] = s[(threadIdx.x + 1) % blockDim.x];
}
"""
    buffers = {"x": numbers("int32", 64, to="x.npy")}
    launches = [launch("f", buffer("x"), block=64) | {"shared_bytes": 256}]
    attempt = bench.cuda(source, buffers, launches, files={"lib/wait.cuh": header})
    assert np.array_equal(array_of(attempt, "x.npy"), (np.arange(64) + 1) % 64)


def test_constants_are_filled_from_inputs(bench: Bench) -> None:
    source = """
namespace filter { __constant__ float taps[2][3]; }
__constant__ int shift;
__global__ void f(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x] * filter::taps[1][threadIdx.x % 3] + shift;
}
"""
    buffers = {"x": numbers("float32", 9, **{"from": "x.npy"}), "y": numbers("float32", 9, to="y.npy")}
    constants = {
        "filter::taps": {"dtype": "float32", "shape": [2, 3], "from": "w.safetensors", "tensor": "taps"},
        "shift": {"dtype": "int32", "shape": [1], "from": "shift.bin"},
    }
    taps = np.arange(6, dtype=np.float32).reshape(2, 3) / 2
    x = np.arange(9, dtype=np.float32)
    spec = bench.spec(
        "cuda",
        {
            "k.cu": source,
            "x.npy": npy(x),
            "w.safetensors": save({"taps": taps}),
            "shift.bin": np.array([7], np.int32).tobytes(),
        },
        outputs=["y.npy"],
        cuda={
            "source": "k.cu",
            "buffers": buffers,
            "constants": constants,
            "launches": [launch("f", buffer("x"), buffer("y"), block=9)],
        },
    )
    attempt = bench.executor.run("c1", spec, bench.blobs, cancel=bench.cancel)
    assert np.array_equal(array_of(attempt, "y.npy"), x * taps[1, np.arange(9) % 3] + 7)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("__constant__ float w[3];", "cuda.constants.w: the variable has another size than the 16 bytes"),
        ("__constant__ int w[4];", "cuda.constants.w: the variable does not hold float32"),
        ("__constant__ float other[4];", '"w" is undefined'),
    ],
)
def test_constant_that_does_not_fit_its_variable_does_not_compile(declared: str, said: str) -> None:
    section = {
        "source": "k.cu",
        "buffers": SCALE_BUFFERS,
        "launches": [SCALE_LAUNCH],
        "constants": {"w": {"dtype": "float32", "shape": [4], "from": "w.bin"}},
    }
    cuda = CudaSection.model_validate(section)
    assert precheck_cuda("__constant__ float w[4];" + SCALE, cuda) is True
    with pytest.raises(BadInput) as caught:
        precheck_cuda(declared + SCALE, cuda)
    assert said in str(caught.value)


def test_tensors_in_one_file_go_in_and_out(bench: Bench) -> None:
    source = """
__global__ void swap(float* a, double* b, const unsigned char* c) {
  const float t = a[threadIdx.x];
  a[threadIdx.x] = (float)b[threadIdx.x] + c[threadIdx.x];
  b[threadIdx.x] = t;
}
"""
    buffers = {
        "a": numbers("float32", 6, **{"from": "in.safetensors", "to": "out.safetensors", "tensor": "layer.0/weight"}),
        "b": numbers("float64", 6, **{"from": "in.safetensors", "to": "out.safetensors"}),
        "c": numbers("uint8", 6, **{"from": "in.safetensors", "to": "c.bin"}),
    }
    tensors = {
        "layer.0/weight": np.arange(6, dtype=np.float32),
        "b": np.arange(6, dtype=np.float64) * 10,
        "c": np.arange(6, dtype=np.uint8),
        "unused": np.zeros(3, np.float16),
    }
    spec = bench.spec(
        "cuda",
        {"k.cu": source, "in.safetensors": save(tensors)},
        outputs=["out.safetensors", "c.bin"],
        cuda={
            "source": "k.cu",
            "buffers": buffers,
            "launches": [launch("swap", buffer("a"), buffer("b"), buffer("c"), block=6)],
        },
    )
    attempt = bench.executor.run("c1", spec, bench.blobs, cancel=bench.cancel)
    assert attempt.reason is Reason.OK, log_of(attempt)
    found = load(attempt.outputs["out.safetensors"].read_bytes())
    assert found.keys() == {"layer.0/weight", "b"}
    assert np.array_equal(found["layer.0/weight"], (np.arange(6) * 11).astype(np.float32))
    assert found["b"].dtype == np.float64 and np.array_equal(found["b"], np.arange(6))
    assert attempt.outputs["c.bin"].read_bytes() == bytes(range(6))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (save({"b": np.zeros(10, np.float32)}), "has no tensor 'a'; there are: b"),
        (save({"a": np.zeros(10, np.float16)}), "holds F16, the specification says float32"),
        (save({"a": np.zeros((2, 5), np.float32)}), "has the shape [2, 5], the specification says [10]"),
        (save({"a": np.zeros(10, np.float32)})[:-1], "not a safetensors file"),
        (b"\xff" * 64, "not a safetensors file"),
    ],
    ids=["name", "type", "shape", "cut", "junk"],
)
def test_file_of_tensors_that_is_not_as_specified(bench: Bench, content: bytes, said: str) -> None:
    buffers = {**SCALE_BUFFERS, "a": {"dtype": "float32", "shape": [10], "from": "a.safetensors"}}
    attempt = bench.cuda(SCALE, buffers, [SCALE_LAUNCH], files={"a.safetensors": content})
    assert (attempt.reason, attempt.exit_code) == (Reason.INPUT_INVALID, 119)
    assert said in log_of(attempt)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"buffers": {**SCALE_BUFFERS, "a": {**SCALE_BUFFERS["a"], "tensor": "t"}}}, "tensor names an array in a"),
        ({"launches": [{**SCALE_LAUNCH, "shared_bytes": 227 * 1024 + 1}]}, "less than or equal to 232448"),
        ({"launches": [{**SCALE_LAUNCH, "shared_bytes": 0}]}, "greater than or equal to 1"),
        ({"constants": {"w": {"dtype": "uint8", "shape": [65537], "from": "w"}}}, "__constant__ memory has 65536"),
        ({"constants": {"w[0]": {"dtype": "uint8", "shape": [1], "from": "w"}}}, "should match pattern"),
        ({"constants": {"w": {"dtype": "uint8", "shape": [1]}}}, "Field required"),
    ],
)
def test_sections_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CudaSection.model_validate({"source": "k.cu", "buffers": SCALE_BUFFERS, "launches": [SCALE_LAUNCH], **changes})
    assert said in str(caught.value)


def test_two_buffers_in_one_place_of_a_file_are_refused(bench: Bench) -> None:
    both = {"dtype": "float32", "shape": [10], "to": "o.safetensors", "tensor": "same"}
    section = {"source": "k.cu", "buffers": {"a": both, "b": both}, "launches": [SCALE_LAUNCH]}
    with pytest.raises(ValidationError, match="is written by another buffer already as 'same'"):
        bench.spec("cuda", {"k.cu": SCALE}, outputs=["o.safetensors"], cuda=section)


def test_device_memory_has_a_limit_of_its_own(bench: Bench) -> None:
    section = {
        "source": "k.cu",
        "buffers": {"x": numbers("uint8", 300 << 20), "y": numbers("int32", 1, to="y.npy")},
        "launches": [launch("f", buffer("x"), buffer("y"), block=1)],
    }
    source = "__global__ void f(unsigned char* x, int* y) { x[(300 << 20) - 1] = 5; y[0] = x[(300 << 20) - 1]; }"
    with pytest.raises(ValidationError, match=r"more than limits.memory_mib = 256"):
        bench.spec("cuda", {"k.cu": source}, outputs=["y.npy"], limits={"memory_mib": 256}, cuda=section)
    limits = {"memory_mib": 256, "device_memory_mib": 299}
    with pytest.raises(ValidationError, match=r"more than limits.device_memory_mib = 299"):
        bench.spec("cuda", {"k.cu": source}, outputs=["y.npy"], limits=limits, cuda=section)
    limits["device_memory_mib"] = 301
    spec = bench.spec("cuda", {"k.cu": source}, outputs=["y.npy"], limits=limits, cuda=section)
    attempt = bench.executor.run("c1", spec, bench.blobs, cancel=bench.cancel)
    assert array_of(attempt, "y.npy").tolist() == [5]


def test_variables_on_the_device_count_against_its_memory(bench: Bench) -> None:
    source = "__device__ unsigned char big[300 << 20];\n__global__ void f(int* x) { x[0] = big[x[0]]; }"
    buffers = {"x": numbers("int32", 1, to="x.npy")}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("x"), block=1)], memory_mib=256)
    assert (attempt.reason, attempt.exit_code) == (Reason.OUT_OF_MEMORY, 122)
    assert "__device__ variables hold" in log_of(attempt)


def test_device_memory_is_for_cuda_jobs(bench: Bench) -> None:
    with pytest.raises(ValidationError, match=r"device_memory_mib is for the runtime 'cuda'"):
        bench.spec("python", {"m.py": ""}, outputs=["o"], limits={"device_memory_mib": 1}, python={"script": "m.py"})
