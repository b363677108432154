# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .machine import Machine, build


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvidia"))


@pytest.fixture
def machine_with(libraries: Path, tmp_path: Path) -> Callable[[str], Machine]:
    """Makes the machine of a recording."""
    return lambda recording: Machine(libraries, tmp_path / recording, recording)
