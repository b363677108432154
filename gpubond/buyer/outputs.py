# SPDX-License-Identifier: Apache-2.0
"""What a buyer accepts from a provider: the outputs that were ordered, and no file of the buyer's replaced."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gpubond.chain.index import JobRecord
from gpubond.errors import BadInput, JobFailed
from gpubond.jobs.manifest import Manifest
from gpubond.jobs.spec import JobSpec


def require_ordered(record: JobRecord, spec: JobSpec, manifest: Manifest) -> None:
    """Passes a manifest that holds just the outputs of the specification and the exit status on chain.

    Raises:
        JobFailed: it does not; nothing was fetched and nothing should be paid.
    """
    status = None if record.report is None else record.report["exit_status"]
    expected = sorted(spec.outputs) if manifest.exit.code == 0 else []
    total = sum(item.size for item in manifest.files)
    if (
        manifest.exit.code != status
        or sorted(item.path for item in manifest.files) != expected
        or total > spec.limits.disk_mib << 20
    ):
        raise JobFailed(
            "the provider's manifest is not what the job asks for and the chain reports",
            field="manifest",
            value=record.job,
            remedy="do not release the payment: the provider did not deliver what was ordered",
        )


def require_free(directory: Path, manifest: Manifest) -> None:
    """`require_places` for all files of a manifest."""
    require_places(directory, [item.path for item in manifest.files])


def require_places(directory: Path, paths: Iterable[str]) -> None:
    """Passes a folder in which no output would replace a file.

    Raises:
        BadInput: naming the first that would be replaced.
    """
    for path in paths:
        target = directory / path
        if os.path.lexists(target):
            raise BadInput(
                "an output would replace a file of yours",
                field="--to",
                value=str(target),
                remedy="fetch into a new folder",
            )
