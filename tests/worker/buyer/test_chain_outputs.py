# SPDX-License-Identifier: Apache-2.0
"""Outputs out of chunks: verified as a whole, and nothing of a liar's on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpubond.buyer.chain_outputs import write_chunks, write_outputs
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Commitment, Status
from gpubond.errors import BadInput, JobFailed
from gpubond.jobs.manifest import ChunkProof, commit_outputs, prove_chunks
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec

from .test_job_view import record

JOB = record(Status.COMMITTED).job


def spec(*outputs: str) -> JobSpec:
    """A job that orders these outputs."""
    return JobSpec.model_validate(
        {
            "version": 1,
            "name": "x",
            "runtime": "python",
            "inputs": [{"path": "a.py", "sha256": "00" * 32, "size": 1}],
            "outputs": list(outputs),
            "limits": {"disk_mib": 16},
            "python": {"script": "a.py"},
        }
    )


def made(folder: Path, job: str = JOB, **contents: bytes) -> tuple[JobRecord, dict[int, ChunkProof]]:
    """A job whose provider committed to these outputs, and all chunks of them."""
    folder.mkdir()
    files = {}
    for name, content in contents.items():
        files[name] = folder / name
        files[name].write_bytes(content)
    result = commit_outputs(job=job, exit_code=0, reason=Reason.OK, seconds=1, device="cpu-sim (host)", files=files)
    found = replace(record(Status.COMMITTED), commitment=Commitment(result.root, result.chunk_count, 1, 1))
    return found, prove_chunks(result.manifest, files, range(result.chunk_count))


def test_all_chunks_make_the_outputs(tmp_path: Path) -> None:
    contents = {"a": b"A" * 9000, "b": b""}
    found, chunks = made(tmp_path / "made", **contents)
    manifest = write_outputs(found, spec("a", "b"), chunks, tmp_path / "out")
    assert [item.path for item in manifest.files] == ["a", "b"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a", "b", "manifest.json"}
    assert all((tmp_path / "out" / name).read_bytes() == content for name, content in contents.items())


def test_the_result_of_another_job_is_no_result(tmp_path: Path) -> None:
    found, chunks = made(tmp_path / "made", job="0x" + "cd" * 32, a=b"A" * 9000)
    with pytest.raises(JobFailed, match="another job"):
        write_outputs(found, spec("a"), chunks, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_outputs_that_were_not_ordered_are_refused(tmp_path: Path) -> None:
    found, chunks = made(tmp_path / "made", a=b"A", evil=b"E")
    with pytest.raises(JobFailed, match="not what the job asks for"):
        write_outputs(found, spec("a"), chunks, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_chunks_that_do_not_make_the_committed_root_leave_nothing(tmp_path: Path) -> None:
    found, chunks = made(tmp_path / "made", a=b"A" * 9000)
    chunks[1] = replace(chunks[1], chunk=b"Z" * 4096)
    with pytest.raises(JobFailed):
        write_outputs(found, spec("a"), chunks, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_no_file_of_the_buyers_is_replaced(tmp_path: Path) -> None:
    found, chunks = made(tmp_path / "made", a=b"A")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("mine")
    with pytest.raises(BadInput):
        write_outputs(found, spec("a"), chunks, tmp_path / "out")
    assert (tmp_path / "out" / "a").read_text() == "mine"


def test_single_chunks_are_written_as_they_are(tmp_path: Path) -> None:
    found, chunks = made(tmp_path / "made", a=b"A" * 9000)
    del chunks[0]
    written = write_chunks(found, chunks, tmp_path / "out")
    assert [path.read_bytes() for path in written] == [chunks[1].chunk, chunks[2].chunk]
