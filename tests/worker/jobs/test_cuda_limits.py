# SPDX-License-Identifier: Apache-2.0
"""What devices can launch, what NVRTC's machine code says of itself, and for what it is made."""

from __future__ import annotations

from typing import Any

import pytest

from gpubond.errors import BadInput, MissingTool
from gpubond.jobs.cuda_check import precheck_cuda
from gpubond.jobs.cuda_image import image_needs, is_cubin
from gpubond.jobs.cuda_limits import CPU_SIM_LIMITS, limits_of, refusals
from gpubond.jobs.cuda_program import best_architecture, choose_architecture, compile_program, nvrtc_version
from gpubond.jobs.cuda_section import CudaSection
from gpubond.jobs.spec import JobSpec
from gpubond.provider.device_policy import DRIVER_MIB, refusal_of_device

NVRTC = (13, 2)
KNOWN = [75, 80, 86, 90, 100, 120]

SOURCE = """
__constant__ float w[16];
__device__ float big[1024];
template <int N> __global__ void f(float* x) {
  __shared__ float s[100 * N];
  s[threadIdx.x] = x[threadIdx.x] * w[threadIdx.x & 15] + big[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = s[(threadIdx.x * 7) % 100];
}
"""


def section(**launch: Any) -> CudaSection:
    entry = {"kernel": "f<2>", "grid": [1, 1, 1], "block": [32, 1, 1], "args": [{"buffer": "x"}]} | launch
    buffers = {"x": {"dtype": "float32", "shape": [100], "to": "x.bin"}}
    return CudaSection.model_validate({"source": "k.cu", "buffers": buffers, "launches": [entry]})


def many_registers(bounds: str = "") -> str:
    """A kernel whose 200 values are all needed at its end."""
    lines = "".join(f"  float v{i} = x[{i}] * {i + 1}.5f;\n" for i in range(200))
    total = " + ".join(f"v{i} * v{(i * 7 + 3) % 200}" for i in range(200))
    return f"__global__ void {bounds} g(volatile float* x) {{\n{lines}  __syncthreads();\n  x[0] = {total};\n}}"


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_89", "sm_90", "sm_100", "sm_120"])
def test_machine_code_tells_what_its_kernels_need(architecture: str) -> None:
    compiled = compile_program(SOURCE, section(), architecture)
    assert is_cubin(compiled.image)
    needs = image_needs(compiled.image, compiled.symbols)
    assert needs.kernels["f<2>"].shared_bytes == 800
    assert 8 <= needs.kernels["f<2>"].registers <= 40
    assert 4096 <= needs.global_bytes < 4096 + 256


def test_ptx_is_no_machine_code() -> None:
    assert not is_cubin(compile_program(SOURCE, section(), "compute_90").image)


@pytest.mark.parametrize("cut", [0, 10, 63, 64, 1000])
def test_damaged_machine_code_is_no_crash(cut: int) -> None:
    compiled = compile_program(SOURCE, section(), "sm_80")
    with pytest.raises(ValueError, match="damaged"):
        image_needs(compiled.image[:cut], compiled.symbols)


@pytest.mark.parametrize(
    ("capability", "shared_bytes", "fits"),
    [(90, 200_000, True), (80, 150_000, True), (80, 170_000, False), (89, 101_376, True), (89, 101_377, False)],
)
def test_shared_memory_by_compute_capability(capability: int, shared_bytes: int, fits: bool) -> None:
    limits = limits_of(capability)
    assert limits is not None
    found = refusals(section(shared_bytes=shared_bytes), limits)
    assert bool(found) != fits
    if found:
        assert found == [
            f"cuda.launches.0 (f<2>): {shared_bytes} bytes of shared memory in a block, compute capability"
            f" {capability // 10}.{capability % 10} has {limits.shared_bytes}"
        ]


def test_what_a_kernel_declares_and_what_its_launch_adds_count_together() -> None:
    cuda = section(shared_bytes=101_376 - 800 + 1)
    compiled = compile_program(SOURCE, cuda, "sm_89")
    limits = limits_of(89)
    assert limits is not None
    assert refusals(cuda, limits) == []
    assert "101377 bytes" in refusals(cuda, limits, image_needs(compiled.image, compiled.symbols))[0]


def test_more_registers_than_a_block_has_are_found_before_any_money_moves() -> None:
    launch = {"kernel": "g", "block": [1024, 1, 1]}
    with pytest.raises(BadInput) as caught:
        precheck_cuda(many_registers(), section(**launch))
    assert "1024 threads with" in str(caught.value)
    assert "__launch_bounds__(1024)" in str(caught.value)
    assert caught.value.field == "cuda.launches"
    assert precheck_cuda(many_registers("__launch_bounds__(1024)"), section(**launch)) is True
    assert precheck_cuda(many_registers(), section(**launch | {"block": [128, 1, 1]})) is True


@pytest.mark.parametrize(
    ("capability", "driver", "expected"),
    [
        (90, 13020, "sm_90"),
        (90, 13000, "sm_90"),  # machine code of a newer minor version is loaded
        (90, 14000, "sm_90"),
        (89, 13020, "compute_86"),
        (130, 13020, "compute_120"),
        (130, 14010, "compute_120"),
    ],
)
def test_code_is_made_for_the_device_and_its_driver(capability: int, driver: int, expected: str) -> None:
    assert choose_architecture(capability, driver, NVRTC, KNOWN) == expected


@pytest.mark.parametrize(
    ("capability", "driver", "said", "remedy"),
    [
        (90, 12080, "newer CUDA than the driver's, 12.8", "the NVRTC of the driver's CUDA, 12.8"),
        (89, 13010, "its PTX is newer than the driver", "the NVRTC of the driver's CUDA, 13.1"),
        (61, 13020, "it knows newer devices only", "install an older nvidia-cuda-nvrtc"),
    ],
)
def test_code_that_the_driver_would_not_load_is_not_made(capability: int, driver: int, said: str, remedy: str) -> None:
    with pytest.raises(MissingTool) as caught:
        choose_architecture(capability, driver, NVRTC, KNOWN)
    assert said in str(caught.value)
    assert remedy in caught.value.remedy


def test_the_nvrtc_that_is_installed_is_asked() -> None:
    major, minor = map(int, nvrtc_version().split("."))
    assert best_architecture(9, 0, major * 1000 + minor * 10) == "sm_90"


def spec_of(limits: dict[str, int], **launch: Any) -> JobSpec:
    cuda = section(**launch).model_dump(mode="json", by_alias=True, exclude_none=True)
    cuda["buffers"]["huge"] = {"dtype": "uint8", "shape": [600 << 20]}
    return JobSpec.model_validate(
        {
            "version": 1,
            "name": "t",
            "runtime": "cuda",
            "inputs": [{"path": "k.cu", "sha256": "0" * 64, "size": 0}],
            "outputs": ["x.bin"],
            "limits": limits,
            "cuda": cuda,
        }
    )


def test_a_hire_that_the_device_cannot_do_is_refused_before_it_is_taken() -> None:
    limits = {"memory_mib": 300, "device_memory_mib": 700}
    spec = spec_of(limits, shared_bytes=120_000)
    on_h100 = refusal_of_device(spec, 1000, capability=90, device_memory_mib=80_000)
    assert on_h100 is None
    on_l4 = refusal_of_device(spec, 1000, capability=89, device_memory_mib=23_000)
    assert on_l4 is not None and "120000 bytes of shared memory" in on_l4
    small = refusal_of_device(spec, 1000, capability=90, device_memory_mib=699 + DRIVER_MIB)
    assert small == "the job needs 700 MiB on the device, which has 699 for jobs"
    assert refusal_of_device(spec_of(limits), 1000, capability=None, device_memory_mib=None) is None
    together = refusal_of_device(spec_of(limits), 999, capability=None, device_memory_mib=None)
    assert together is not None and "are 1000 together, beyond this machine's 999" in together
    without = spec_of({"memory_mib": 700})
    less = refusal_of_device(without, 1000, capability=90, device_memory_mib=600 + DRIVER_MIB)
    assert less == "the job needs 601 MiB on the device, which has 600 for jobs"
    flat = refusals(spec_of(limits, grid=[1, 65535, 65535]).cuda or section(), CPU_SIM_LIMITS)
    assert flat == []
