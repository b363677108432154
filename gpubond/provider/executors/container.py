# SPDX-License-Identifier: Apache-2.0
"""The `container` executor: one attempt at a job in a container of an image that the job names by digest.

No network, a read-only root, no capabilities, no new privileges, the engine's seccomp filter, users that are nobody
outside, gVisor where it is installed. Memory and processes are limited by the kernel's groups where the worker may make
them; disk, and memory where it may not, by a watch that ends the container, as for processes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from gpubond.errors import MissingTool
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.container_section import JOB_DIRECTORY, ContainerSection
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider import devices, runtimes
from gpubond.provider.executors.attempt import Attempt
from gpubond.provider.executors.container_engine import (
    INNER_USER,
    OUTER_BASE,
    Engine,
    EngineFailure,
    Kind,
    cdi_has_gpu,
    find_engine,
)
from gpubond.provider.executors.container_images import Images
from gpubond.provider.executors.container_run import Container, ContainerRun, end_leftovers
from gpubond.provider.executors.log import MAX_LOG_BYTES, JobLog
from gpubond.provider.executors.registry import ImageProblem, Registry
from gpubond.provider.executors.supervise import Bounds, Ending
from gpubond.provider.executors.workplace import FLOOR_BYTES, Workplace, attempt_of, judged, rlimits_of, wrong_input
from gpubond.provider.gpus.allocation import Gpus, Share

_MIB = 1 << 20


class ContainerExecutor(Workplace):
    """Runs `container` jobs below `work_root`, one directory a job; see `Executor`.

    Args:
        store: the folder of the images and of what the engine keeps.
        private_registries: host[:port] of registries reached on private addresses and by plain http.
        max_image_bytes: of one image, unpacked. cache_bytes: of all.
        image_seconds: that an image may take until it is here and unpacked.
        images: the folder of the list of images, by default `store`.
        engine: podman or docker; None for the first that works.
        floor_bytes: a job that fails while less is free, and less than it may still use, fails by the machine's fault.
    """

    def __init__(
        self,
        work_root: Path,
        store: Path,
        *,
        images: Path | None = None,
        private_registries: Sequence[str] = (),
        max_image_bytes: int,
        cache_bytes: int,
        image_seconds: float,
        engine: Kind | None = None,
        max_log_bytes: int = MAX_LOG_BYTES,
        floor_bytes: int = FLOOR_BYTES,
        gpus: Gpus | None = None,
    ) -> None:
        super().__init__(work_root, OUTER_BASE + INNER_USER if os.geteuid() == 0 else None)
        self._store = store.resolve()
        self._kind = engine
        self._images = Images(
            images or self._store, Registry(private_registries, max_image_bytes), cache_bytes, image_seconds
        )
        self._max_log_bytes = max_log_bytes
        self._floor_bytes = max(floor_bytes, FLOOR_BYTES)
        self._gpus = Gpus() if gpus is None else gpus

    @property
    def images(self) -> Images:
        """What is kept."""
        return self._images

    def check(self) -> None:
        """Make a container. Raises MissingTool if this machine cannot, or cannot show its GPU to one."""
        self.engine()
        if devices.has_gpu() and not cdi_has_gpu():
            raise MissingTool(
                "this machine has a GPU that its containers would not see",
                field="CDI",
                remedy="nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml (package nvidia-container-toolkit)",
            )

    def engine(self) -> Engine:
        """What runs the containers here. Raises MissingTool."""
        return find_engine(self._store, self._kind)

    def end_leftovers(self) -> int:
        """Removes containers of a worker that died, and half-fetched images; returns how many containers that were."""
        ended = end_leftovers(self.engine(), self.root)
        self._images.tidy(self.engine())
        return ended

    def run(
        self,
        job_id: str,
        spec: JobSpec,
        blobs: BlobStore,
        *,
        cancel: threading.Event,
        on_log: Callable[[bytes], None] | None = None,
    ) -> Attempt:
        """Fetch the image, run the job to its end; see `Executor`. The seconds that the image takes are not counted.

        Raises: BadInput for a job id unfit for a directory or an input that is not in `blobs`; MissingTool.
        Everything else is in the attempt's reason.
        """
        section = spec.container
        assert section is not None  # noqa: S101  # by the specification's own rules
        engine = self.engine()
        inputs = {item.path: blobs.path(item.sha256) for item in spec.inputs}
        directory = self.fresh(job_id)
        log = JobLog(directory / "log.txt", on_log, self._max_log_bytes)
        share = Share()
        outputs: dict[str, Path] = {}
        try:
            wrong = wrong_input(spec, blobs)
            if wrong is not None:
                return attempt_of(log, wrong, "cpu", {})
            self.lay_out(directory, spec)
            try:
                with self._images.use(engine, section.image, log.remark, cancel) as image:
                    share = self._gpus.share(devices.has_gpu(), cancel, log)
                    container = _container(directory, spec, section, image.id, inputs, share.cdi_name)
                    limits = spec.limits
                    bounds = Bounds(limits.seconds, limits.memory_mib * _MIB, limits.disk_mib * _MIB, self._floor_bytes)
                    share.start()
                    run = ContainerRun(engine, container, directory, self.root, log, bounds)
                    ending = share.refusal or run.run(cancel)
            except ImageProblem as problem:
                ending = Ending(0, problem.reason, str(problem), 1)
            except InterruptedError:
                ending = Ending(0, Reason.CANCELLED, "ended from outside", 1)
            except EngineFailure as failure:
                ending = Ending(0, Reason.SANDBOX_FAILURE, str(failure), 1)
            reason = runtimes.reason_of_exit(spec, ending.code, gpu=share.cdi_name is not None, log_tail=log.tail)
            ending, outputs = judged(ending, reason, spec, directory)
            ending, outputs = share.finish(ending, outputs)
            attempt = attempt_of(log, ending, share.device("cpu"), outputs)
            return replace(attempt, energy=share.energy, gpu_class=share.gpu_class)
        finally:
            share.release()
            log.close()


def _container(
    directory: Path,
    spec: JobSpec,
    section: ContainerSection,
    image: str,
    inputs: dict[str, Path],
    gpu: str | None,
) -> Container:
    limits = spec.limits
    threads = str(runtimes.cpu_count())
    environment = {f"{name}_NUM_THREADS": threads for name in ("OMP", "OPENBLAS", "MKL")}
    return Container(
        image=image,
        entrypoint=section.entrypoint,
        command=section.command or (),
        environment={**environment, "HOME": "/tmp", **section.environment},  # noqa: S108 - the container's own
        workdir=section.workdir,
        job_directory=directory / JOB_DIRECTORY.strip("/"),
        inputs=inputs,
        rlimits=rlimits_of(spec),
        processes=limits.processes,
        tmp_bytes=limits.memory_mib * _MIB // 4,
        gpu=gpu,
    )
