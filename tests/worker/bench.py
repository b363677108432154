# SPDX-License-Identifier: Apache-2.0
"""A provider's executor and blob store in a test's directory, and jobs made from text and arrays."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.spec import JobSpec
from gpubond.provider.executors.attempt import Attempt
from gpubond.provider.executors.process import ProcessExecutor

LIMITS = {"seconds": 60, "memory_mib": 1024, "disk_mib": 64, "processes": 64}


def npy(array: np.ndarray[Any, Any]) -> bytes:
    """The bytes of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


class Bench:
    """Runs jobs in the real sandbox. builds: where compiled sources are kept, by default below `root`."""

    def __init__(self, root: Path, builds: Path | None = None) -> None:
        self.root = root
        self.blobs = BlobStore(root / "store")
        self.executor = ProcessExecutor(root / "work", max_log_bytes=64 << 10, builds=builds)
        self.cancel = threading.Event()

    def add(self, files: Mapping[str, bytes | str]) -> list[dict[str, Any]]:
        """Store files; their entries for `inputs`."""
        entries = []
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            source = self.root / "upload"
            source.write_bytes(data)
            entries.append({"path": path, "sha256": self.blobs.put_file(source), "size": len(data)})
        return entries

    def spec(self, runtime: str, files: Mapping[str, bytes | str], **fields: Any) -> JobSpec:
        limits = {**LIMITS, **fields.pop("limits", {})}
        return JobSpec.model_validate(
            {
                "version": 1,
                "name": "test",
                "runtime": runtime,
                "inputs": self.add(files),
                "limits": limits,
                **fields,
            }
        )

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
        """Run a Python script as a job."""
        spec = self.spec(
            "python",
            {"main.py": script, **(files or {})},
            outputs=list(outputs),
            limits=limits,
            python={"script": "main.py", "args": list(args)},
        )
        return self.executor.run(job, spec, self.blobs, cancel=cancel or self.cancel, on_log=on_log)

    def cuda(
        self,
        source: str,
        buffers: dict[str, dict[str, Any]],
        launches: list[dict[str, Any]],
        *,
        files: Mapping[str, bytes | str] | None = None,
        options: dict[str, Any] | None = None,
        **limits: int,
    ) -> Attempt:
        """Run CUDA source as a job; outputs are the targets of the buffers."""
        spec = self.spec(
            "cuda",
            {"kernel.cu": source, **(files or {})},
            outputs=[buffer["to"] for buffer in buffers.values() if "to" in buffer],
            limits=limits,
            cuda={"source": "kernel.cu", "options": options or {}, "buffers": buffers, "launches": launches},
        )
        return self.executor.run("c1", spec, self.blobs, cancel=self.cancel)


def log_of(attempt: Attempt) -> str:
    return attempt.log_path.read_text(errors="replace")


def array_of(attempt: Attempt, path: str) -> np.ndarray[Any, Any]:
    """A .npy output; shows the log if the job failed."""
    assert attempt.reason == "ok", log_of(attempt)
    result: np.ndarray[Any, Any] = np.load(attempt.outputs[path], allow_pickle=False)
    return result
