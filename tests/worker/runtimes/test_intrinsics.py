# SPDX-License-Identifier: Apache-2.0
"""CUDA's intrinsics are exact: the same on a GPU and on class cpu-sim. Values by hand or by Python's integers."""

from __future__ import annotations

import numpy as np

from gpubond.jobs.reasons import Reason

from ..bench import Bench, array_of, log_of
from .test_cuda import buffer, launch

BIG = (1 << 63) - 1
# Expression in CUDA C++ -> its value as a signed number of 64 bits.
WHOLE = {
    "__popc(0xf0f0u)": 8,
    "__popcll(~0ull)": 64,
    "__clz(1)": 31,
    "__clz(0)": 32,
    "__clzll(1ll)": 63,
    "__ffs(8)": 4,
    "__ffsll(1ll << 40)": 41,
    "__brev(1u)": 1 << 31,
    "__brev(0x12345678u)": 0x1E6A2C48,
    "(long long)__brevll(2ull)": 1 << 62,
    "__byte_perm(0x33221100u, 0x77665544u, 0x7531u)": 0x77553311,
    "__byte_perm(0x000000f0u, 0u, 0x8888u)": 0xFFFFFFFF,
    "__funnelshift_l(0x80000000u, 1u, 1u)": 3,
    "__funnelshift_r(2u, 1u, 1u)": 0x80000001,
    "__mul24(-3, 5)": -15,
    "__umul24(0x1000003u, 2u)": 6,
    "__mulhi(1 << 30, -8)": -2,
    "__umulhi(0xffffffffu, 0xffffffffu)": 0xFFFFFFFE,
    "__mul64hi(1ll << 62, -8ll)": -2,
    "(long long)__umul64hi(1ull << 63, 6ull)": 3,
    "__sad(-2000000000, 2000000000, 1u)": 4000000001,
    "__usad(1u, 5u, 10u)": 14,
    "__hadd(-3, -4)": -4,
    "__rhadd(-3, -4)": -3,
    "__uhadd(0xffffffffu, 0xffffffffu)": 0xFFFFFFFF,
    "__urhadd(0xfffffffeu, 0xffffffffu)": 0xFFFFFFFF,
    "__dp4a(0x01ff0203, 0x04050607, 100)": 100 + 1 * 4 - 1 * 5 + 2 * 6 + 3 * 7,
    "__dp4a(0x01ff0203u, 0x04050607u, 100u)": 100 + 1 * 4 + 255 * 5 + 2 * 6 + 3 * 7,
    "__float2int_rn(2.5f)": 2,
    "__float2int_rn(3.5f)": 4,
    "__float2int_rz(-2.9f)": -2,
    "__float2int_ru(2.1f)": 3,
    "__float2int_rd(-2.1f)": -3,
    "__float2int_rz(3e9f)": 2147483647,
    "__float2int_rz(-3e9f)": -2147483648,
    "__float2uint_rz(-5.0f)": 0,
    "__float2uint_rz(5e9f)": 4294967295,
    "__double2int_rn(-2.5)": -2,
    "__double2ll_rz(1e300)": BIG,
    "__double2ll_rd(-1.5)": -2,
    "__double2hiint(1.0)": 0x3FF00000,
    "__double2loint(-0.0)": 0,
    "__double_as_longlong(__hiloint2double(0x40000000, 1))": 0x4000000000000001,
    "__float_as_int(__int2float_rn(16777217))": 0x4B800000,
    "__float_as_int(__frcp_rn(3.0f))": 0x3EAAAAAB,
    "__float_as_int(__fsqrt_rn(2.0f))": 0x3FB504F3,
    "__double_as_longlong(__dsub_rn(1.0, 0.5))": 0x3FE0000000000000,
    "__float_as_int(__double2float_rn(0.1))": 0x3DCCCCCD,
    "__ldcg(&table[1]) + __ldg(&table[2])": 50,
    "atomicAdd_block(&table[3], 1)": 40,
    "atomicMax_system(&table[3], 7)": 41,
}


def test_whole_numbers_and_bits(bench: Bench) -> None:
    lines = "".join(f"  out[{number}] = (long long)({text});\n" for number, text in enumerate(WHOLE))
    source = f"__device__ int table[4] = {{10, 20, 30, 40}};\n__global__ void f(long long* out) {{\n{lines}}}\n"
    buffers = {"out": {"dtype": "int64", "shape": [len(WHOLE)], "to": "o.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("out"), block=1)])
    found = dict(zip(WHOLE, array_of(attempt, "o.npy").tolist(), strict=True))
    assert found == WHOLE


def test_a_thread_that_waits_for_a_flag_lets_the_others_on(bench: Bench) -> None:
    source = """
__global__ void f(volatile int* flag) {
  if (threadIdx.x == 0) while (flag[0] == 0) __nanosleep(20);
  if (threadIdx.x == 33) flag[0] = 1;
  flag[1 + threadIdx.x] = flag[0];
}
"""
    buffers = {"flag": {"dtype": "int32", "shape": [65], "to": "f.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("flag"), block=64)])
    assert array_of(attempt, "f.npy")[:2].tolist() == [1, 1]


def test_a_failed_assertion_names_its_line_and_thread(bench: Bench) -> None:
    source = "__global__ void f(int* x) {\n  assert(threadIdx.x < 5);\n  x[threadIdx.x] = 1;\n}\n"
    buffers = {"x": {"dtype": "int32", "shape": [8], "to": "x.npy"}}
    attempt = bench.cuda(source, buffers, [launch("f", buffer("x"), block=8)])
    assert attempt.reason is Reason.LAUNCH_ERROR, log_of(attempt)
    log = log_of(attempt)
    assert "kernel.cu:2:" in log
    assert "thread: [5,0,0] Assertion `threadIdx.x < 5` failed." in log


def test_intrinsics_of_single_precision_agree_with_numpy(bench: Bench) -> None:
    source = """
__global__ void f(const float* x, float* y) {
  const int i = threadIdx.x;
  y[i] = __fdiv_rn(__fadd_rn(x[i], 1.5f), __fsqrt_rn(__fmul_rn(x[i], x[i]) + 1.0f));
}
"""
    x = np.random.default_rng(2).normal(size=64).astype(np.float32)
    buffers = {
        "x": {"dtype": "float32", "shape": [64], "from": "x.bin"},
        "y": {"dtype": "float32", "shape": [64], "to": "y.npy"},
    }
    attempt = bench.cuda(
        source, buffers, [launch("f", buffer("x"), buffer("y"), block=64)], files={"x.bin": x.tobytes()}
    )
    expected = (x + np.float32(1.5)) / np.sqrt(x * x + np.float32(1))
    # The sum behind the product may be contracted on a GPU.
    assert np.allclose(array_of(attempt, "y.npy"), expected, rtol=1e-6)
