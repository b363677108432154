# SPDX-License-Identifier: Apache-2.0
"""CUDA jobs: compiled by NVRTC always; run on the GPU where there is one, else through the host shim."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest

from gpubond.errors import BadInput
from gpubond.jobs.cuda_check import precheck_cuda
from gpubond.jobs.cuda_section import CudaSection, source_without_comments
from gpubond.jobs.reasons import Reason
from gpubond.provider import devices, runtimes
from gpubond.provider.devices import class_of

from ..bench import Bench, array_of, log_of, npy

SCALE = """
extern "C" __global__ void scale(const float* a, float* b, float factor, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) b[i] = a[i] * factor;
}
"""
SCALE_BUFFERS: dict[str, dict[str, Any]] = {
    "a": {"dtype": "float32", "shape": [10], "from": "a.npy"},
    "b": {"dtype": "float32", "shape": [10], "to": "b.npy"},
}


def launch(kernel: str, *args: dict[str, Any], grid: int = 1, block: int = 32) -> dict[str, Any]:
    return {"kernel": kernel, "grid": [grid, 1, 1], "block": [block, 1, 1], "args": list(args)}


def buffer(name: str) -> dict[str, Any]:
    return {"buffer": name}


SCALE_LAUNCH = launch("scale", buffer("a"), buffer("b"), {"f32": 2.5}, {"i32": 10})


def test_kernel_runs_and_says_on_what(bench: Bench) -> None:
    a = np.arange(10, dtype=np.float32)
    source = SCALE + "// not compiled by another test"
    attempt = bench.cuda(source, SCALE_BUFFERS, [SCALE_LAUNCH], files={"a.npy": npy(a)})
    assert np.array_equal(array_of(attempt, "b.npy"), a * np.float32(2.5))
    assert attempt.device == devices.device_name()
    log = log_of(attempt)
    assert "compiling kernel.cu (NVRTC" in log
    assert "launch 1/1: scale" in log
    assert ("device: cpu-sim" in log) == (not devices.has_gpu())


def test_barriers_and_shared_memory(bench: Bench) -> None:
    source = """
__global__ void sum(const int* values, int* sums, int n) {
  __shared__ int part[256];
  const int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
  part[t] = i < n ? values[i] : 0;
  __syncthreads();
  for (int step = blockDim.x / 2; step > 0; step /= 2) {
    if (t < step) part[t] += part[t + step];
    __syncthreads();
  }
  if (t == 0) sums[blockIdx.x] = part[0];
}
"""
    values = np.random.default_rng(1).integers(-1000, 1000, 5000).astype(np.int32)
    buffers = {
        "values": {"dtype": "int32", "shape": [5000], "from": "v.npy"},
        "sums": {"dtype": "int32", "shape": [20], "to": "s.npy"},
    }
    launches = [launch("sum", buffer("values"), buffer("sums"), {"i32": 5000}, grid=20, block=256)]
    attempt = bench.cuda(source, buffers, launches, files={"v.npy": npy(values)})
    expected = np.append(values, np.zeros(120, np.int32)).reshape(20, 256).sum(axis=1)
    assert np.array_equal(array_of(attempt, "s.npy"), expected)


def test_threads_that_return_early_do_not_hold_up_a_barrier(bench: Bench) -> None:
    source = """
__global__ void f(int* out) {
  __shared__ int seen;
  if (threadIdx.x == 0) seen = 0;
  __syncthreads();
  if (threadIdx.x >= 48) return;
  atomicAdd(&seen, 1);
  __syncthreads();
  out[threadIdx.x] = seen;
}
"""
    buffers = {"out": {"dtype": "int32", "shape": [48], "to": "o.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("out"), block=64)])
    assert np.array_equal(array_of(attempt, "o.npy"), np.full(48, 48))


def test_warp_functions(bench: Bench) -> None:
    source = """
__global__ void f(int* sums, unsigned* ballots, int* up, int* firsts, int* counts) {
  const int t = threadIdx.x;
  int v = t;
  for (int step = 16; step > 0; step /= 2) v += __shfl_down_sync(0xffffffffu, v, step);
  if (t % 32 == 0) sums[t / 32] = v;
  const unsigned b = __ballot_sync(0xffffffffu, t % 3 == 0);
  if (t % 32 == 0) ballots[t / 32] = b;
  up[t] = __shfl_up_sync(0xffffffffu, t, 1);
  firsts[t] = __shfl_sync(0xffffffffu, t, 0, 8) + 1000 * __shfl_xor_sync(0xffffffffu, t, 1);
  counts[t] = __syncthreads_count(t % 5 == 0);
}
"""
    shapes = {"sums": 2, "ballots": 2, "up": 64, "firsts": 64, "counts": 64}
    buffers = {
        name: {"dtype": "uint32" if name == "ballots" else "int32", "shape": [n], "to": f"{name}.npy"}
        for name, n in shapes.items()
    }
    attempt = bench.cuda(source, buffers, [launch("f", *map(buffer, shapes), block=64)])
    t = np.arange(64)
    assert array_of(attempt, "sums.npy").tolist() == [sum(range(32)), sum(range(32, 64))]
    ballots = [sum(1 << i for i in range(32) if (w * 32 + i) % 3 == 0) for w in range(2)]
    assert array_of(attempt, "ballots.npy").tolist() == ballots
    assert np.array_equal(array_of(attempt, "up.npy"), np.where(t % 32 == 0, t, t - 1))
    assert np.array_equal(array_of(attempt, "firsts.npy"), t // 8 * 8 + 1000 * (t ^ 1))
    assert np.array_equal(array_of(attempt, "counts.npy"), np.full(64, 13))


def test_buffers_and_device_variables_are_kept_between_launches(bench: Bench) -> None:
    source = """
__device__ int calls = 0;
__global__ void add(float* x, float y) { x[threadIdx.x] += y; if (threadIdx.x == 0) calls++; }
__global__ void square(float* x, int* n) { x[threadIdx.x] *= x[threadIdx.x]; if (threadIdx.x == 0) *n = calls; }
"""
    buffers = {
        "x": {"dtype": "float32", "shape": [4], "from": "x.bin", "to": "y.bin"},
        "n": {"dtype": "int32", "shape": [1], "to": "n.npy"},
    }
    launches = [
        launch("add", buffer("x"), {"f32": 0.1}, block=4),
        launch("add", buffer("x"), {"f32": 1}, block=4),
        launch("square", buffer("x"), buffer("n"), block=4),
    ]
    x = np.arange(4, dtype=np.float32)
    attempt = bench.cuda(source, buffers, launches, files={"x.bin": x.tobytes()})
    assert array_of(attempt, "n.npy").tolist() == [2]
    y = np.frombuffer(attempt.outputs["y.bin"].read_bytes(), np.float32)
    assert np.array_equal(y, (x + np.float32(0.1) + np.float32(1)) ** 2)
    assert "launch 3/3: square" in log_of(attempt)


def test_every_scalar_type_arrives_exactly(bench: Bench) -> None:
    source = """
__global__ void f(int a, unsigned b, long long c, unsigned long long d, float e, double g, double* out) {
  out[0] = a; out[1] = b; out[2] = (double)c; out[3] = (double)d; out[4] = e; out[5] = g;
}
"""
    values = [-(1 << 31), (1 << 32) - 1, -(1 << 53) + 1, (1 << 53) - 1, 0.1, 1e-310]
    kinds = ["i32", "u32", "i64", "u64", "f32", "f64"]
    args = [{kind: value} for kind, value in zip(kinds, values, strict=True)]
    buffers = {"out": {"dtype": "float64", "shape": [6], "to": "o.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", *args, buffer("out"), block=1)])
    expected = [*values[:4], float(np.float32(0.1)), 1e-310]
    assert array_of(attempt, "o.npy").tolist() == expected


def test_three_dimensions_atomics_constants_and_templates(bench: Bench) -> None:
    source = """
#include "weights.cuh"
namespace my {
template <typename T, int N> __global__ void f(T* sum, unsigned* seen) {
  int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  int z = blockIdx.z * blockDim.z + threadIdx.z;
  atomicAdd(sum, (T)(weights[z] * N));
  atomicMax(&seen[0], (unsigned)x); atomicMax(&seen[1], (unsigned)y); atomicMax(&seen[2], (unsigned)z);
  atomicAdd(&seen[3], FACTOR);
}
}
"""
    header = "__constant__ float weights[4] = {1, 2, 3, 4};\n"
    buffers = {
        "sum": {"dtype": "float32", "shape": [1], "to": "sum.npy"},
        "seen": {"dtype": "uint32", "shape": [4], "to": "seen.npy"},
    }
    launches = [
        {
            "kernel": "my::f<float, 2>",
            "grid": [3, 2, 2],
            "block": [4, 3, 2],
            "args": [buffer("sum"), buffer("seen")],
        }
    ]
    attempt = bench.cuda(
        source, buffers, launches, files={"weights.cuh": header}, options={"define": {"FACTOR": "2u"}, "std": "c++20"}
    )
    assert array_of(attempt, "sum.npy").tolist() == [12 * 6 * 2.0 * (1 + 2 + 3 + 4)]
    assert array_of(attempt, "seen.npy").tolist() == [11, 5, 3, 2 * 12 * 24]


def test_fma_is_one_rounding_and_nothing_contracts_without_leave(bench: Bench) -> None:
    source = """
__global__ void f(const float* a, const float* b, const float* c, float* fused, float* plain) {
  int i = threadIdx.x;
  fused[i] = fmaf(a[i], b[i], c[i]);
  plain[i] = a[i] * b[i] + c[i];
}
"""
    random = np.random.default_rng(5)
    arrays = {name: random.normal(size=64).astype(np.float32) for name in "abc"}
    arrays["c"] = (-arrays["a"] * arrays["b"]).astype(np.float32)
    buffers: dict[str, dict[str, Any]] = {
        name: {"dtype": "float32", "shape": [64], "from": f"{name}.npy"} for name in "abc"
    }
    buffers |= {name: {"dtype": "float32", "shape": [64], "to": f"{name}.npy"} for name in ("fused", "plain")}
    attempt = bench.cuda(
        source,
        buffers,
        [launch("f", *map(buffer, buffers), block=64)],
        files={f"{name}.npy": npy(array) for name, array in arrays.items()},
        options={"fmad": False},
    )
    exact = arrays["a"].astype(np.float64) * arrays["b"].astype(np.float64) + arrays["c"]
    assert np.array_equal(array_of(attempt, "fused.npy"), exact.astype(np.float32))
    assert np.any(exact != 0)
    assert not np.any(array_of(attempt, "plain.npy"))


def test_compilers_own_message_reaches_the_log(bench: Bench) -> None:
    source = SCALE.replace("a[i] * factor", "a[i] * faktor")
    attempt = bench.cuda(source, SCALE_BUFFERS, [SCALE_LAUNCH], files={"a.npy": npy(np.zeros(10, np.float32))})
    assert (attempt.reason, attempt.exit_code) == (Reason.COMPILE_ERROR, 120)
    assert attempt.reason.fault == "workload"
    assert 'kernel.cu(4): error: identifier "faktor" is undefined' in log_of(attempt)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([buffer("a"), buffer("b"), {"f32": 1}], "takes another number of arguments than the 3 given"),
        ([buffer("a"), {"f32": 1}, buffer("b"), {"i32": 1}], "argument 1 of the kernel is not f32"),
        ([buffer("a"), buffer("b"), {"f64": 1}, {"i32": 1}], "argument 2 of the kernel is not f64"),
        ([buffer("a"), buffer("b"), {"f32": 1}, {"u32": 1}], "argument 3 of the kernel is not u32"),
        ([buffer("n"), buffer("b"), {"f32": 1}, {"i32": 1}], "is not a pointer to int32 (buffer n)"),
    ],
)
def test_launch_that_does_not_fit_its_kernel_does_not_compile(args: list[dict[str, Any]], said: str) -> None:
    buffers = {**SCALE_BUFFERS, "n": {"dtype": "int32", "shape": [4]}}
    cuda = CudaSection.model_validate(
        {"source": "kernel.cu", "buffers": buffers, "launches": [SCALE_LAUNCH, launch("scale", *args)]}
    )
    with pytest.raises(BadInput) as caught:
        precheck_cuda(SCALE, cuda)
    assert said in str(caught.value)
    assert "cuda.launches.1 (scale)" in str(caught.value)
    right = CudaSection.model_validate({"source": "kernel.cu", "buffers": buffers, "launches": [SCALE_LAUNCH]})
    assert precheck_cuda(SCALE, right) is True


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SCALE.replace("b[i] =", "c[i] ="), 'identifier "c" is undefined'),
        (SCALE.replace("scale", "other"), "scale"),
        ("#include <vector>\n" + SCALE, "vector"),
        ("\nextern __shared__ float x[];\n" + SCALE, "kernel.cu(2): error: no launch says how large this array is"),
        ("texture<float> t;\n" + SCALE, "kernel.cu(1): error: jobs do not support textures"),
        ("/* a\n b */ __device__ float f(cudaTextureObject_t t);\n" + SCALE, "kernel.cu(2): error: jobs do not"),
        (SCALE + "__device__ float f(int t) { return tex2D<float>(t, 0.0f, 0.0f); }", "do not support textures"),
        (SCALE + "__device__ void f(int s) { surf2Dwrite(1, s, 0, 0); }", "do not support textures and surfaces"),
        ("surface<void, 2> s;\n" + SCALE, "do not support textures and surfaces"),
        (SCALE + "void f() { scale<<<1, 1>>>(0, 0, 0, 0); }", "do not support launches from source"),
        ("#include <cooperative_groups.h>\nusing namespace cooperative_groups;\n" + SCALE, "cooperative groups"),
        (SCALE.replace("void scale", "__cluster_dims__(2) void scale"), "do not support clusters of blocks"),
    ],
)
def test_precheck_refuses_before_any_money_moves(source: str, said: str) -> None:
    cuda = CudaSection.model_validate({"source": "kernel.cu", "buffers": SCALE_BUFFERS, "launches": [SCALE_LAUNCH]})
    with pytest.raises(BadInput) as caught:
        precheck_cuda(source, cuda)
    assert said in str(caught.value)
    assert caught.value.field == "cuda.source"


def test_precheck_says_when_it_cannot_check(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = CudaSection.model_validate({"source": "kernel.cu", "buffers": SCALE_BUFFERS, "launches": [SCALE_LAUNCH]})
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert importlib.util.find_spec("cuda") is not None
    assert precheck_cuda(SCALE, cuda) is False


def test_words_in_comments_and_strings_are_not_code() -> None:
    text = source_without_comments('a /* __syncthreads() */ b // <<<\n"<<< \\" //" c')
    assert "<<<" not in text
    assert "syncthreads" not in text
    assert [word for word in text.split() if word.isalpha()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy(np.zeros(10, np.float64)), "holds <f8, the specification says float32"),
        (npy(np.zeros(10, ">f4")), "holds >f4"),
        (npy(np.zeros((2, 5), np.float32)), "has the shape [2, 5], the specification says [10]"),
        (npy(np.zeros(10, np.float32))[:-1], "not a .npy file"),
        (b"junk", "not a .npy file"),
        (npy(np.zeros(1, np.float32)).replace(b"<f4", b"|O "), "not a .npy file"),
    ],
    ids=["type", "byte order", "shape", "cut", "junk", "pickle"],
)
def test_input_that_is_not_as_specified(bench: Bench, content: bytes, said: str) -> None:
    attempt = bench.cuda(SCALE, SCALE_BUFFERS, [SCALE_LAUNCH], files={"a.npy": content})
    assert (attempt.reason, attempt.exit_code) == (Reason.INPUT_INVALID, 119)
    assert said in log_of(attempt)
    assert "buffer a: a.npy" in log_of(attempt)


def test_raw_input_of_another_size(bench: Bench) -> None:
    buffers = {**SCALE_BUFFERS, "a": {"dtype": "float32", "shape": [10], "from": "a.bin"}}
    attempt = bench.cuda(SCALE, buffers, [SCALE_LAUNCH], files={"a.bin": bytes(39)})
    assert attempt.reason is Reason.INPUT_INVALID
    assert "has 39 bytes, the specification says 40" in log_of(attempt)


def test_wild_pointer_is_the_workloads_fault(bench: Bench) -> None:
    source = "__global__ void f(int* x) { x[1ll << 40] = 1; }"
    buffers = {"x": {"dtype": "int32", "shape": [1], "to": "x.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("x"), block=1)])
    assert attempt.reason is Reason.LAUNCH_ERROR, log_of(attempt)
    assert attempt.exit_code != 0


def test_host_code_cannot_claim_a_fault_of_the_machine(bench: Bench, no_gpu: None) -> None:
    source = """
#ifdef __CUDACC_RTC__
__global__ void f(int* x) { x[0] = 1; }
#else
__global__ void f(int* x) { _exit(126); }
#endif
"""
    buffers = {"x": {"dtype": "int32", "shape": [1], "to": "x.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("x"), block=1)])
    assert (attempt.reason, attempt.exit_code) == (Reason.NONZERO_EXIT, 126)
    assert attempt.reason.fault == "workload"


def test_divergent_barriers_end_as_an_error_not_a_hang(bench: Bench, no_gpu: None) -> None:
    source = """
__global__ void f(int* x) { if (threadIdx.x < 16) __syncthreads(); else __syncwarp(); x[threadIdx.x] = 1; }
"""
    buffers = {"x": {"dtype": "int32", "shape": [32], "to": "x.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("x"))])
    assert attempt.reason is Reason.LAUNCH_ERROR, log_of(attempt)
    assert "different barriers" in log_of(attempt)


def test_endless_kernel_is_ended(bench: Bench) -> None:
    source = "__global__ void f(volatile int* x) { while (x[0] == 0) {} }"
    buffers = {"x": {"dtype": "int32", "shape": [1], "to": "x.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("x"), block=1)], seconds=3)
    assert attempt.reason is Reason.TIMEOUT, log_of(attempt)


def test_inline_ptx_is_refused_by_cpu_sim_in_words(bench: Bench, no_gpu: None) -> None:
    source = '__global__ void f(int* x) { int y; asm("mov.u32 %0, %laneid;" : "=r"(y)); x[0] = y; }'
    buffers = {"x": {"dtype": "int32", "shape": [1], "to": "x.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("x"), block=1)])
    assert attempt.reason is Reason.COMPILE_ERROR
    assert "inline PTX cannot run on class cpu-sim" in log_of(attempt)


def test_device_printf_reaches_the_log(bench: Bench) -> None:
    source = '__global__ void f(int* x) { printf("thread %d\\n", threadIdx.x); x[0] = 1; }'
    buffers = {"x": {"dtype": "int32", "shape": [1], "to": "x.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("x"), block=2)])
    assert attempt.reason is Reason.OK, log_of(attempt)
    assert "thread 0\nthread 1\n" in log_of(attempt)


def test_only_a_gpus_runner_may_name_a_fault_of_the_machine(bench: Bench) -> None:
    spec = bench.spec(
        "cuda",
        {"k.cu": SCALE, "a.npy": b""},
        outputs=["b.npy"],
        cuda={"source": "k.cu", "buffers": SCALE_BUFFERS, "launches": [SCALE_LAUNCH]},
    )
    assert runtimes.reason_of_exit(spec, 126, gpu=True, log_tail=b"") is Reason.INTERNAL
    assert runtimes.reason_of_exit(spec, 126, gpu=False, log_tail=b"") is Reason.NONZERO_EXIT
    assert runtimes.reason_of_exit(spec, 139, gpu=False, log_tail=b"") is Reason.LAUNCH_ERROR


def test_class_follows_the_drivers_name() -> None:
    assert class_of("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert class_of("Tesla T4") == "nvidia-tesla-t4"
    assert (devices.device_class() == "cpu-sim") == (not devices.has_gpu())
    assert bool(devices.no_gpu_reason()) == (not devices.has_gpu())


@pytest.mark.gpu
def test_gpu_is_what_ran_the_job(bench: Bench, gpu: str) -> None:
    a = np.arange(10, dtype=np.float32)
    attempt = bench.cuda(SCALE, SCALE_BUFFERS, [SCALE_LAUNCH], files={"a.npy": npy(a)})
    assert np.array_equal(array_of(attempt, "b.npy"), a * np.float32(2.5))
    assert attempt.device == gpu
    assert f"device: {gpu}" in log_of(attempt)


@pytest.mark.gpu
def test_block_with_more_registers_than_there_are(bench: Bench, gpu: str) -> None:
    lines = "".join(f"  float v{i} = x[{i}] * {i + 1}.5f;\n" for i in range(200))
    total = " + ".join(f"v{i} * v{(i * 7 + 3) % 200}" for i in range(200))
    source = f"__global__ void f(volatile float* x) {{\n{lines}  __syncthreads();\n  x[0] = {total};\n}}"
    buffers = {"x": {"dtype": "float32", "shape": [200], "to": "x.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("x"), block=1024)])
    assert attempt.reason is Reason.LAUNCH_ERROR
    assert "threads in a block here" in log_of(attempt)
