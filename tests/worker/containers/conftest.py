# SPDX-License-Identifier: Apache-2.0
"""A provider's container executor, a registry on loopback, and a busybox image in it.

Skipped, with the reason, where no container engine works.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpubond.errors import MissingTool
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.spec import JobSpec
from gpubond.provider.executors.attempt import Attempt
from gpubond.provider.executors.container import ContainerExecutor
from gpubond.provider.executors.container_engine import Engine, Kind, find_engine, volatile_folder

from ..bench import Bench
from .images import RegistryServer, Shelf, busybox_layer

MIB = 1 << 20


class ContainerBench:
    """Runs jobs in real containers."""

    def __init__(self, root: Path, store: Path, registry: RegistryServer, image: str, engine: Kind = "podman") -> None:
        self.root = root
        self.registry = registry
        self.image = image
        self._bench = Bench(root)
        self.blobs: BlobStore = self._bench.blobs
        self._store = store
        self._engine: Kind = engine
        self.executor = self.with_limits(64 * MIB, 256 * MIB)
        self.cancel = threading.Event()

    def apart(
        self, root: Path, *, cache_bytes: int = 256 * MIB, registries: Sequence[str] | None = None
    ) -> ContainerBench:
        """The same engine and registry with a list of images of its own."""
        root.mkdir()
        other = ContainerBench(root, self._store, self.registry, self.image, self._engine)
        other.executor = other.with_limits(64 * MIB, cache_bytes, root / "images", registries)
        return other

    def with_limits(
        self,
        max_image_bytes: int,
        cache_bytes: int,
        images: Path | None = None,
        registries: Sequence[str] | None = None,
    ) -> ContainerExecutor:
        """An executor that takes images of other sizes."""
        return ContainerExecutor(
            self.root / "work",
            self._store,
            images=images,
            engine=self._engine,
            private_registries=[self.registry.host] if registries is None else registries,
            max_image_bytes=max_image_bytes,
            cache_bytes=cache_bytes,
            image_seconds=120,
            max_log_bytes=64 << 10,
        )

    def spec(
        self,
        section: Mapping[str, Any],
        *,
        outputs: Sequence[str] = ("out.txt",),
        files: Mapping[str, bytes | str] | None = None,
        **limits: int,
    ) -> JobSpec:
        container = {"image": self.image, **section}
        return self._bench.spec("container", files or {}, outputs=list(outputs), limits=limits, container=container)

    def section(self, section: Mapping[str, Any], *, job: str = "a1", **fields: Any) -> Attempt:
        """Run a job with this `container` section."""
        return self.executor.run(job, self.spec(section, **fields), self.blobs, cancel=self.cancel)

    def shell(self, script: str, **fields: Any) -> Attempt:
        """Run a shell script in the busybox image."""
        return self.section({"command": ["/bin/sh", "-c", script]}, **fields)


@pytest.fixture(scope="session")
def engine_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    store = tmp_path_factory.mktemp("containers")
    try:
        engine = find_engine(store, "podman")
    except MissingTool as missing:
        pytest.skip(f"no container engine: {missing.message}")
    yield store
    remove_store(engine)


def remove_store(engine: Engine) -> None:
    """Takes away what the engine keeps outside of the store, and its mounts."""
    if engine.kind == "podman":
        images = volatile_folder(engine.store) / "images"
        for place in (images / "overlay", images, engine.store / "images" / "overlay"):
            subprocess.run(["umount", "-l", str(place)], stderr=subprocess.DEVNULL, check=False)
        if not images.is_mount():
            shutil.rmtree(volatile_folder(engine.store), ignore_errors=True)
    else:
        names = engine.ask("image", "ls", "--quiet", "--no-trunc").stdout.split()
        engine.ask("image", "rm", "--force", *dict.fromkeys(names), check=False)


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
