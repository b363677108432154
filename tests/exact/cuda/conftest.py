# SPDX-License-Identifier: Apache-2.0
"""Devices for the kernels: the processor, by the shim of class `cpu-sim`, and a GPU where there is one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from gpubond.exact.cuda.build import Compiled, compile_kernels
from gpubond.exact.cuda.device import Device, Gpu
from gpubond.exact.refusal import Refused

from .simulated_gpu import SimulatedGpu, build_library, kernels_of

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


@cache
def compiled(architecture: str) -> Compiled:
    return compile_kernels(architecture)


@pytest.fixture(scope="session", params=ARCHITECTURES)
def code(request: pytest.FixtureRequest) -> Compiled:
    """The kernels, compiled for each kind of GPU."""
    return compiled(request.param)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels, compiled for this processor."""
    return build_library(tmp_path_factory.mktemp("simulated"), kernels_of(compiled(ARCHITECTURES[0]).ptx))


@pytest.fixture(scope="session")
def simulated(library: Path) -> SimulatedGpu:
    return SimulatedGpu(library)


@pytest.fixture(scope="session")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Gpu:
    """The GPU; skips, saying why, where there is none."""
    try:
        return Gpu(tmp_path_factory.mktemp("cubins"))
    except Refused as refused:
        pytest.skip(refused.reason)


@pytest.fixture(scope="session", params=["simulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Device:
    """Each device in turn."""
    found: Device = request.getfixturevalue(request.param)
    return found
