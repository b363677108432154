# SPDX-License-Identifier: Apache-2.0
"""The result commitment: one 32-byte root for how a job ended and every byte that it wrote.

Manifest: canonical JSON (RFC 8785), UTF-8:

    {"version": 1, "job": "<job id, hex>", "exit": {"code": 0..255, "reason": "<reason code>"},
     "seconds": n, "device": "...", "files": [{"path", "sha256", "size"}, ...],
     "energy": {"joules": n, "average_watts": n, "source": "counter" | "samples"}}
    with files sorted by path (as bytes), and without energy where none was measured

Bundle: the manifest's bytes, then the bytes of each file in the manifest's order, nothing between them. It is
cut into chunks of 4096 bytes, the last one padded by zeros; `gpubond.jobs.merkle` defines the tree over them.

Result root (what goes on chain), all integers big-endian, 64 bytes hashed in all:

    SHA-256("GPUBOND-RESULT-1" || u64 bundle length || u64 manifest length || Merkle root)

A chunk is proved by: index, the chunk (padded to 4096 bytes), bundle length, manifest length, the siblings.
The number of chunks is ceil(bundle length / 4096), and the path's length must be depth(number of chunks).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from gpubond.errors import JobFailed
from gpubond.jobs import merkle
from gpubond.jobs.model import Model, bad_input, read_json
from gpubond.jobs.paths import JobPath, find_clash
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import MAX_BLOB_BYTES, Sha256Hex, Version

TAG = b"GPUBOND-RESULT-1"
MAX_MANIFEST_BYTES = 1 << 20
_READ = merkle.CHUNK_BYTES * 256


class OutputFile(Model):
    """One output: its path in the job, SHA-256 and size (bytes)."""

    path: JobPath
    sha256: Sha256Hex
    size: Annotated[int, Field(strict=True, ge=0, le=MAX_BLOB_BYTES)]


class Exit(Model):
    """How the job ended: exit code (0 only with reason `ok`) and reason code."""

    code: Annotated[int, Field(strict=True, ge=0, le=255)]
    reason: Reason

    @model_validator(mode="after")
    def _agree(self) -> Exit:
        if (self.code == 0) != (self.reason is Reason.OK):
            raise ValueError(f"exit code {self.code} does not go with reason {self.reason.value!r}")
        return self


class Energy(Model):
    """What the job's GPU consumed while it ran, the GPU's idle power included, as the provider's driver said.

    joules; average_watts over that time; source: the GPU's own counter, or its power read twice a second.
    """

    joules: Annotated[int, Field(strict=True, ge=0, le=1 << 48)]
    average_watts: Annotated[int, Field(strict=True, ge=0, le=1 << 32)]
    source: Literal["counter", "samples"]


class Manifest(Model):
    """What a provider commits to. `seconds` of wall clock, rounded up; `device` as the receipt shows it; `energy` only
    if it was measured."""

    version: Version
    job: Annotated[str, StringConstraints(strict=True, pattern=r"^(0x)?[0-9a-f]{1,64}$")]
    exit: Exit
    seconds: Annotated[int, Field(strict=True, ge=0, le=1 << 32)]
    device: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=128)]
    files: tuple[OutputFile, ...]
    energy: Energy | None = None

    @model_validator(mode="after")
    def _files_sorted(self) -> Manifest:
        paths = [item.path.encode() for item in self.files]
        if paths != sorted(paths):
            raise ValueError("files must be sorted by path")
        if find_clash(item.path for item in self.files) is not None:
            raise ValueError("files must not hold a path twice, or a path below another")
        return self

    @property
    def bundle_size(self) -> int:
        """Bytes of the bundle."""
        return len(self.canonical()) + sum(item.size for item in self.files)

    @staticmethod
    def parse(data: bytes) -> Manifest:
        """Read canonical manifest bytes. Raises JobFailed: the other party sent them."""
        try:
            if len(data) > MAX_MANIFEST_BYTES:
                raise ValueError("it is too long")
            manifest = Manifest.model_validate(read_json(data, "manifest"))
        except ValidationError as error:
            raise _bad_result(str(bad_input(error, "manifest"))) from error
        except Exception as error:
            raise _bad_result(f"the manifest cannot be read: {error}") from error
        if manifest.canonical() != data:
            raise _bad_result("the manifest is not in canonical form")
        return manifest


@dataclass(frozen=True)
class ResultCommitment:
    """The root for the chain, the manifest's bytes, and what a proof needs: sizes in bytes and chunks."""

    root: bytes
    manifest: bytes
    bundle_size: int
    chunk_count: int


@dataclass(frozen=True)
class ChunkProof:
    """One chunk of a bundle (4096 bytes, padded) and its siblings, from the leaf upwards."""

    index: int
    chunk: bytes
    bundle_size: int
    manifest_size: int
    path: tuple[bytes, ...]


def _bad_result(message: str) -> JobFailed:
    return JobFailed(
        message,
        field="result",
        remedy="fetch again; if it stays so, the provider does not serve what it committed to",
    )


def _root(bundle_size: int, manifest_size: int, merkle_root: bytes) -> bytes:
    header = TAG + bundle_size.to_bytes(8, "big") + manifest_size.to_bytes(8, "big")
    return hashlib.sha256(header + merkle_root).digest()


def _chunk_count(bundle_size: int) -> int:
    return -(-bundle_size // merkle.CHUNK_BYTES)


def _pieces(manifest: Manifest, data: bytes, files: Mapping[str, Path]) -> Iterator[bytes]:
    """The bundle's bytes; raises JobFailed if a file is not what the manifest says."""
    yield data
    for item in manifest.files:
        digest, size = hashlib.sha256(), 0
        try:
            with files[item.path].open("rb") as stream:
                while piece := stream.read(_READ):
                    size += len(piece)
                    if size > item.size:
                        break
                    digest.update(piece)
                    yield piece
        except (KeyError, OSError) as error:
            raise _bad_result(f"the output {item.path!r} is missing or cannot be read") from error
        if size != item.size:
            raise _bad_result(f"the output {item.path!r} has another size than the {item.size} bytes committed")
        if digest.hexdigest() != item.sha256:
            raise _bad_result(f"the output {item.path!r} has another SHA-256 than committed: {digest.hexdigest()}")


def _chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        rest += piece
        whole = len(rest) - len(rest) % merkle.CHUNK_BYTES
        for start in range(0, whole, merkle.CHUNK_BYTES):
            yield rest[start : start + merkle.CHUNK_BYTES]
        rest = rest[whole:]
    if rest:
        yield rest.ljust(merkle.CHUNK_BYTES, b"\0")


def _commit(manifest: Manifest, files: Mapping[str, Path]) -> ResultCommitment:
    data = manifest.canonical()
    size = manifest.bundle_size
    count = _chunk_count(size)
    leaves = map(merkle.leaf_hash, _chunks(_pieces(manifest, data, files)))
    merkle_root, _ = merkle.fold(leaves, count)
    return ResultCommitment(_root(size, len(data), merkle_root), data, size, count)


def _describe(path: str, local: Path) -> OutputFile:
    digest, size = hashlib.sha256(), 0
    with local.open("rb") as stream:
        while piece := stream.read(_READ):
            digest.update(piece)
            size += len(piece)
    return OutputFile(path=path, sha256=digest.hexdigest(), size=size)


def commit_outputs(
    *,
    job: str,
    exit_code: int,
    reason: Reason,
    seconds: int,
    device: str,
    files: Mapping[str, Path],
    energy: Energy | None = None,
) -> ResultCommitment:
    """Commit to how a job ended and to its outputs.

    Args:
        job: job id, hex.
        exit_code: 0 to 255; 0 exactly when `reason` is ok.
        seconds: wall clock, rounded up.
        files: path in the job -> local file. They are read twice, in pieces; memory stays bounded.
        energy: what was measured, None for nothing.
    """
    manifest = Manifest(
        version=1,
        job=job,
        exit=Exit(code=exit_code, reason=reason),
        seconds=seconds,
        device=device,
        files=tuple(_describe(path, files[path]) for path in sorted(files, key=str.encode)),
        energy=energy,
    )
    return _commit(manifest, files)


def verify_outputs(root: bytes, manifest: bytes, files: Mapping[str, Path]) -> Manifest:
    """Check fetched outputs against the committed root; return the manifest.

    Args:
        root: 32 bytes, from the chain.
        manifest: the manifest's bytes as fetched.
        files: path in the job -> fetched file; files that the manifest does not name are an error.

    Raises: JobFailed, saying what differs.
    """
    parsed = Manifest.parse(manifest)
    surplus = set(files) - {item.path for item in parsed.files}
    if surplus:
        raise _bad_result(f"the manifest does not name {min(surplus)!r}")
    found = _commit(parsed, files)
    if found.root != root:
        raise _bad_result(f"the outputs have the root {found.root.hex()}, not the committed {root.hex()}")
    return parsed


def prove_chunks(manifest: bytes, files: Mapping[str, Path], indexes: Collection[int]) -> dict[int, ChunkProof]:
    """Proofs for chunks of the bundle, by index.

    Reads the bundle once and keeps 32 bytes of each chunk. Raises ValueError for an index beyond it, JobFailed if
    a file is not what the manifest says.
    """
    parsed = Manifest.parse(manifest)
    size = parsed.bundle_size
    count = _chunk_count(size)
    for index in indexes:
        if not 0 <= index < count:
            raise ValueError(f"the bundle has {count} chunks; there is no chunk {index}")
    kept: dict[int, bytes] = {}
    leaves = bytearray()
    for number, chunk in enumerate(_chunks(_pieces(parsed, manifest, files))):
        if number in indexes:
            kept[number] = chunk
        leaves += merkle.leaf_hash(chunk)

    def path_of(index: int) -> tuple[bytes, ...]:
        hashes = (bytes(leaves[start : start + 32]) for start in range(0, len(leaves), 32))
        return tuple(merkle.fold(hashes, count, index)[1])

    return {index: ChunkProof(index, kept[index], size, len(manifest), path_of(index)) for index in sorted(kept)}


def prove_chunk(manifest: bytes, files: Mapping[str, Path], index: int) -> ChunkProof:
    """Proof for one chunk of the bundle; see `prove_chunks`."""
    return prove_chunks(manifest, files, (index,))[index]


def verify_chunk(root: bytes, proof: ChunkProof) -> bool:
    """Whether the proof shows a chunk of the bundle behind `root` (32 bytes); as a contract checks it."""
    index, chunk, path = proof.index, proof.chunk, proof.path
    bundle_size, manifest_size = proof.bundle_size, proof.manifest_size
    if not 0 < manifest_size <= bundle_size < 1 << 52 or len(chunk) != merkle.CHUNK_BYTES:
        return False
    count = _chunk_count(bundle_size)
    if not 0 <= index < count or len(path) != merkle.depth(count) or any(len(item) != 32 for item in path):
        return False
    if index == count - 1 and any(chunk[bundle_size - index * merkle.CHUNK_BYTES :]):
        return False
    return _root(bundle_size, manifest_size, merkle.root_from_path(merkle.leaf_hash(chunk), index, path)) == root
