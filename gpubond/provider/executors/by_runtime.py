# SPDX-License-Identifier: Apache-2.0
"""The executors of a worker, as one: each job goes to the one for its runtime."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.spec import JobSpec
from gpubond.provider.executors.attempt import Attempt, Executor
from gpubond.provider.executors.container import ContainerExecutor
from gpubond.provider.executors.process import ProcessExecutor
from gpubond.provider.gpus.allocation import Gpus
from gpubond.settings import Home, OfferSettings, ProviderSettings

_MIB = 1 << 20


class Executors:
    """Runs jobs of every runtime that the worker serves, in folders below one place.

    Args:
        home: whose `work` and `containers`.
        provider: which runtimes are served, and how large images may be.
        offer: how much time there is besides the run.
        bare: processes run without a sandbox, see `ProcessExecutor`; containers are what they are.
    """

    def __init__(self, home: Home, provider: ProviderSettings, offer: OfferSettings, *, bare: bool = False) -> None:
        self._gpus = Gpus(offer.resource_class)
        self._process = ProcessExecutor(home.work, floor_bytes=provider.min_free_mib * _MIB, bare=bare, gpus=self._gpus)
        self._container = (
            container_executor(home, provider, offer, self._gpus) if "container" in provider.runtimes else None
        )
        all_of_them: tuple[Executor | None, ...] = (self._process, self._container)
        self._all = [executor for executor in all_of_them if executor is not None]

    def start(self) -> None:
        """Begins to listen to the errors of GPUs."""
        self._gpus.start()

    def close(self) -> None:
        """Ends that, and what waits for the next job. No attempt may be running."""
        self._process.close()

    def check(self) -> None:
        """Raise MissingTool if this machine cannot run jobs of a runtime that is served."""
        for executor in self._all:
            executor.check()

    def end_leftovers(self) -> int:
        """Ends what a worker that died left running; returns how many processes and containers that were."""
        return sum(executor.end_leftovers() for executor in self._all)

    def log_path(self, job_id: str) -> Path:
        """Where the log of the job's latest attempt lies, or will lie."""
        return self._process.log_path(job_id)

    def wipe(self, job_id: str) -> None:
        """Remove everything of the job's attempts. No attempt may be running."""
        self._process.wipe(job_id)

    def has_room(self, spec: JobSpec) -> bool:
        """Whether the disk has as much room as the job may use."""
        return self._of(spec).has_room(spec)

    def run(
        self,
        job_id: str,
        spec: JobSpec,
        blobs: BlobStore,
        *,
        cancel: threading.Event,
        on_log: Callable[[bytes], None] | None = None,
    ) -> Attempt:
        """Run the job to its end and report; see `Executor`."""
        return self._of(spec).run(job_id, spec, blobs, cancel=cancel, on_log=on_log)

    def _of(self, spec: JobSpec) -> Executor:
        # Policy declines what is not served, so without containers nothing comes here that needs them.
        return self._process if spec.container is None or self._container is None else self._container


def container_executor(
    home: Home, provider: ProviderSettings, offer: OfferSettings, gpus: Gpus | None = None
) -> ContainerExecutor:
    """The executor of `container` jobs for one home folder. gpus: shared with other executors, if there are any."""
    return ContainerExecutor(
        home.work,
        home.directory / "containers",
        private_registries=provider.private_registries,
        max_image_bytes=provider.max_image_mib * _MIB,
        cache_bytes=provider.image_cache_mib * _MIB,
        # Half of the margin: the other is for the commitment, and for what else may hold a run up.
        image_seconds=offer.delivery_margin / 2,
        engine=provider.container_engine,
        floor_bytes=provider.min_free_mib * _MIB,
        gpus=gpus,
    )
