# SPDX-License-Identifier: Apache-2.0
"""A provider's container executor with a registry on loopback, to run jobs in real containers."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpubond.errors import MissingTool
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.spec import JobSpec
from gpubond.provider.executors.attempt import Attempt
from gpubond.provider.executors.container import ContainerExecutor
from gpubond.provider.executors.container_engine import Engine, Kind, find_engine, volatile_folder

from ..bench import Bench
from .images import RegistryServer, Shelf, busybox_layer, file, layer, members, python_layer

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

    def python(
        self,
        script: str,
        *,
        outputs: Sequence[str] = ("out.txt",),
        files: Mapping[str, bytes | str] | None = None,
        args: Sequence[str] = (),
        job: str = "a1",
        cancel: threading.Event | None = None,
        on_log: Callable[[bytes], None] | None = None,
        **limits: int,
    ) -> Attempt:
        """Run a Python script in an image with this machine's Python; as `Bench.python`."""
        command = ["/usr/bin/python", "-I", "-u", "main.py", *args]
        section = {"image": self.python_image, "command": command}
        spec = self.spec(section, outputs=outputs, files={"main.py": script, **(files or {})}, **limits)
        executor = self.with_limits(512 * MIB, 1024 * MIB)
        return executor.run(job, spec, self.blobs, cancel=cancel or self.cancel, on_log=on_log)

    @property
    def python_image(self) -> str:
        """With Python and, as a set-user-id program of root's, `id`."""
        self.registry.python = self.registry.python or _python_digest(self.registry.shelf)
        return self.registry.name(self.registry.python)

    def section(self, section: Mapping[str, Any], *, job: str = "a1", **fields: Any) -> Attempt:
        """Run a job with this `container` section."""
        return self.executor.run(job, self.spec(section, **fields), self.blobs, cancel=self.cancel)

    def shell(self, script: str, **fields: Any) -> Attempt:
        """Run a shell script in the busybox image."""
        return self.section({"command": ["/bin/sh", "-c", script]}, **fields)


def _python_digest(shelf: Shelf) -> str:
    """Puts the image with Python on a shelf; its digest."""
    busybox = busybox_layer()
    assert busybox is not None, "busybox is not installed"
    content = next(content for entry, content in members(busybox) if entry.name == "bin/busybox")
    return shelf.image(layer([*members(busybox), file("usr/bin/id", content, 0o4755)]), python_layer())


@contextmanager
def open_bench(root: Path) -> Iterator[ContainerBench]:
    """A bench in the new folder `root`, for what is no test. Raises MissingTool: there is no podman here."""
    root.mkdir()
    busybox = busybox_layer()
    if busybox is None:
        raise MissingTool("busybox is not installed", field="busybox", remedy="apt-get install busybox-static")
    engine = find_engine(root / "engine", "podman")
    registry = RegistryServer(Shelf())
    try:
        yield ContainerBench(root, engine.store, registry, registry.name(registry.shelf.image(busybox)))
    finally:
        registry.stop()
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
