# SPDX-License-Identifier: Apache-2.0
"""A provider's manifest is believed only as far as it is what was ordered."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpubond.buyer.outputs import require_free, require_ordered
from gpubond.errors import BadInput, JobFailed
from gpubond.jobs.manifest import Manifest
from gpubond.jobs.spec import JobSpec

SPEC = JobSpec.model_validate(
    {
        "version": 1,
        "name": "x",
        "runtime": "python",
        "inputs": [{"path": "a.py", "sha256": "00" * 32, "size": 1}],
        "outputs": ["b.npy", "a.npy"],
        "limits": {"disk_mib": 1},
        "python": {"script": "a.py"},
    }
)


def record(status: int) -> Any:
    return SimpleNamespace(job="0x12", report={"exit_status": status})


def manifest(*paths: str, code: int = 0, size: int = 1) -> Manifest:
    files = [{"path": path, "sha256": "00" * 32, "size": size} for path in sorted(paths)]
    reason = "ok" if code == 0 else "nonzero_exit"
    exit_ = {"code": code, "reason": reason}
    return Manifest.model_validate_json(
        json.dumps({"version": 1, "job": "0x12", "exit": exit_, "seconds": 1, "device": "cpu", "files": files})
    )


def test_what_was_ordered_passes() -> None:
    require_ordered(record(0), SPEC, manifest("a.npy", "b.npy"))
    require_ordered(record(3), SPEC, manifest(code=3))


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (0, manifest()),
        (0, manifest("a.npy")),
        (0, manifest("a.npy", "b.npy", ".git/hooks/pre-commit")),
        (0, manifest("a.npy", "b.npy", size=1 << 20)),
        (1, manifest("a.npy", "b.npy")),
        (0, manifest(code=1)),
        (1, manifest("a.npy", code=1)),
    ],
)
def test_anything_else_is_refused(status: int, shown: Manifest) -> None:
    with pytest.raises(JobFailed, match="not what the job asks for"):
        require_ordered(record(status), SPEC, shown)


def test_no_file_of_the_buyers_is_replaced(tmp_path: Path) -> None:
    require_free(tmp_path, manifest("a.npy"))
    (tmp_path / "a.npy").symlink_to("nowhere")
    with pytest.raises(BadInput, match="replace"):
        require_free(tmp_path, manifest("a.npy"))
