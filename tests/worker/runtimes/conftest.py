# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from gpubond.provider import devices

from ..bench import Bench


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many tests run the same source with other data, and need not wait for compilers each time."""
    return tmp_path_factory.mktemp("builds")


@pytest.fixture
def bench(tmp_path: Path, builds: Path) -> Bench:
    return Bench(tmp_path, builds)


@pytest.fixture
def gpu() -> str:
    """The GPU's name; skips, saying why, where there is none."""
    if not devices.has_gpu():
        pytest.skip(f"no GPU: {devices.no_gpu_reason()}")
    return devices.device_name()


@pytest.fixture
def no_gpu() -> None:
    """For what holds of class cpu-sim only."""
    if devices.has_gpu():
        pytest.skip(f"this machine has a GPU: {devices.device_name()}")
