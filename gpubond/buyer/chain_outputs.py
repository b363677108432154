# SPDX-License-Identifier: Apache-2.0
"""Outputs out of the chain: the chunks that a provider's answers show, and the files that all of them make."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from gpubond.buyer.outputs import require_free, require_ordered
from gpubond.chain.demand_index import Demand, DemandState
from gpubond.chain.demands import DataDemands
from gpubond.chain.index import JobRecord
from gpubond.errors import JobFailed
from gpubond.jobs.manifest import ChunkProof, Manifest, verify_chunk, verify_outputs
from gpubond.jobs.spec import JobSpec


def read_chunks(contract: DataDemands, record: JobRecord, demands: Iterable[Demand]) -> dict[int, ChunkProof]:
    """The chunks that answers have shown, by index, each checked against the committed root.

    One that the node does not show, or that does not fit, is left out: nothing that a node says is taken on trust.
    """
    found: dict[int, ChunkProof] = {}
    if record.commitment is None:
        return found
    for demand in demands:
        if demand.state is not DemandState.ANSWERED or demand.answer_tx is None or demand.chunk in found:
            continue
        shown = contract.shown_in(demand.answer_tx, record.job_id, demand.lane)
        if shown is None:
            continue
        proof = ChunkProof(demand.chunk, *shown)
        if verify_chunk(record.commitment.result_root, proof):
            found[demand.chunk] = proof
    return found


def write_outputs(record: JobRecord, spec: JobSpec, chunks: Mapping[int, ChunkProof], directory: Path) -> Manifest:
    """Makes the outputs of all chunks of a result; nothing appears in the folder that was not verified.

    Args:
        record: a job with a commitment.
        spec: what was ordered.
        chunks: every chunk of the result, verified.
        directory: where the outputs go.

    Raises:
        JobFailed: the provider committed to something else than the outputs that were ordered.
        BadInput: an output would replace a file.
    """
    assert record.commitment is not None  # noqa: S101  # the chunks were verified against it
    first = chunks[0]
    bundle = b"".join(chunks[index].chunk for index in range(record.commitment.chunks))[: first.bundle_size]
    data = bundle[: first.manifest_size]
    manifest = Manifest.parse(data)
    if manifest.job != record.job or manifest.bundle_size != first.bundle_size:
        raise JobFailed(
            "the provider committed to the result of another job, or of another size",
            field="job",
            value=manifest.job,
            remedy="do not release the payment: the provider did not deliver what was ordered",
        )
    require_ordered(record, spec, manifest)
    directory.mkdir(parents=True, exist_ok=True)
    require_free(directory, manifest)
    incoming = directory / f".incoming-{record.job[2:18]}"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir()
    try:
        files: dict[str, Path] = {}
        start = first.manifest_size
        for number, item in enumerate(manifest.files):
            files[item.path] = incoming / str(number)
            files[item.path].write_bytes(bundle[start : start + item.size])
            start += item.size
        verify_outputs(record.commitment.result_root, data, files)
        for path, source in files.items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    if not (directory / "manifest.json").exists():
        (directory / "manifest.json").write_bytes(data)
    return manifest


def write_chunks(record: JobRecord, chunks: Mapping[int, ChunkProof], directory: Path) -> list[Path]:
    """Writes verified chunks as they are, for a result of which not all are known; returns the files.

    A chunk has 4096 bytes of the bundle, which is the manifest and then the outputs in its order.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for index in sorted(chunks):
        path = directory / f"{record.job[2:18]}-chunk-{index}.bin"
        path.write_bytes(chunks[index].chunk)
        written.append(path)
    return written
