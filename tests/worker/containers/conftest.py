# SPDX-License-Identifier: Apache-2.0
"""A provider's container executor, a registry on loopback, and a busybox image in it.

Skipped, with the reason, where no container engine works.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubond.errors import MissingTool
from gpubond.provider.executors.container_engine import find_engine

from .bench import ContainerBench, remove_store
from .images import RegistryServer, Shelf, busybox_layer


@pytest.fixture(scope="session")
def engine_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    store = tmp_path_factory.mktemp("containers")
    try:
        engine = find_engine(store, "podman")
    except MissingTool as missing:
        pytest.skip(f"no container engine: {missing.message}")
    yield store
    remove_store(engine)


@pytest.fixture(scope="session")
def busybox() -> bytes:
    found = busybox_layer()
    if found is None:
        pytest.skip("busybox is not installed: no image can be made of it")
    return found


@pytest.fixture(scope="session")
def registry(busybox: bytes) -> Iterator[RegistryServer]:
    server = RegistryServer(Shelf())
    yield server
    server.stop()


@pytest.fixture
def bench(tmp_path: Path, engine_store: Path, registry: RegistryServer, busybox: bytes) -> ContainerBench:
    return ContainerBench(tmp_path, engine_store, registry, registry.name(registry.shelf.image(busybox)))
