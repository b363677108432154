# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubond.errors import JobFailed
from gpubond.jobs import merkle
from gpubond.jobs.manifest import (
    Energy,
    Manifest,
    ResultCommitment,
    commit_outputs,
    prove_chunk,
    prove_chunks,
    verify_chunk,
    verify_outputs,
)
from gpubond.jobs.reasons import Reason

Write = Callable[..., dict[str, Path]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(**contents: bytes) -> dict[str, Path]:
        result = {}
        for name, content in contents.items():
            result[name] = tmp_path / name
            result[name].write_bytes(content)
        return result

    return written


def commit(files: dict[str, Path]) -> ResultCommitment:
    return commit_outputs(job="ab" * 32, exit_code=0, reason=Reason.OK, seconds=3, device="cpu-sim (host)", files=files)


def plain_root(leaves: list[bytes]) -> bytes:
    """The root by the definition: pad with zero leaves to a power of two, hash level by level."""
    level = leaves + [bytes(32)] * ((1 << (len(leaves) - 1).bit_length()) - len(leaves))
    while len(level) > 1:
        level = [hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level), 2)]
    return level[0]


def test_root_is_as_the_format_says(write: Write) -> None:
    contents = {"b": b"B" * 10000, "a": b"A" * 5, "c": b""}
    files = write(**contents)
    result = commit(files)
    manifest = json.dumps(
        {
            "device": "cpu-sim (host)",
            "exit": {"code": 0, "reason": "ok"},
            "files": [
                {"path": name, "sha256": hashlib.sha256(contents[name]).hexdigest(), "size": len(contents[name])}
                for name in "abc"
            ],
            "job": "ab" * 32,
            "seconds": 3,
            "version": 1,
        },
        separators=(",", ":"),
    ).encode()
    assert result.manifest == manifest
    bundle = manifest + contents["a"] + contents["b"] + contents["c"]
    assert result.bundle_size == len(bundle)
    chunks = [bundle[i : i + 4096].ljust(4096, b"\0") for i in range(0, len(bundle), 4096)]
    assert result.chunk_count == len(chunks) == 3
    root = plain_root([hashlib.sha256(b"\0" + chunk).digest() for chunk in chunks])
    header = b"GPUBOND-RESULT-1" + len(bundle).to_bytes(8, "big") + len(manifest).to_bytes(8, "big")
    assert result.root == hashlib.sha256(header + root).digest()
    assert verify_outputs(result.root, result.manifest, files) == Manifest.parse(manifest)


@given(st.integers(1, 70), st.data())
def test_fold_equals_the_definition_and_every_path_leads_to_the_root(count: int, data: st.DataObject) -> None:
    leaves = [hashlib.sha256(bytes([number])).digest() for number in range(count)]
    index = data.draw(st.integers(0, count - 1))
    root, path = merkle.fold(iter(leaves), count, index)
    assert root == plain_root(leaves)
    assert len(path) == merkle.depth(count)
    assert merkle.root_from_path(leaves[index], index, path) == root


def test_fold_refuses_another_number_of_leaves() -> None:
    for count in (2, 4):
        with pytest.raises(ValueError, match="leaves"):
            merkle.fold(iter([bytes(32)] * 3), count)


def test_every_chunk_is_proved_and_nothing_else(write: Write) -> None:
    files = write(a=b"".join(hashlib.sha256(bytes([number])).digest() * 80 for number in range(8)))
    result = commit(files)
    assert result.chunk_count == 6
    for index in range(result.chunk_count):
        proof = prove_chunk(result.manifest, files, index)
        assert verify_chunk(result.root, proof)
        assert not verify_chunk(bytes(32), proof)
        assert not verify_chunk(result.root, replace(proof, index=(index + 1) % 6))
        assert not verify_chunk(result.root, replace(proof, chunk=bytes([proof.chunk[0] ^ 1]) + proof.chunk[1:]))
        assert not verify_chunk(result.root, replace(proof, path=proof.path[:-1]))
        assert not verify_chunk(result.root, replace(proof, path=(*proof.path, bytes(32))))
        assert not verify_chunk(result.root, replace(proof, bundle_size=proof.bundle_size + 1))
        assert not verify_chunk(result.root, replace(proof, manifest_size=proof.manifest_size + 1))
    for beyond in (-1, 6, 7):
        with pytest.raises(ValueError, match="6 chunks"):
            prove_chunk(result.manifest, files, beyond)


def test_proofs_made_together_are_those_made_one_by_one(write: Write) -> None:
    files = write(a=b"A" * 30_000, b=b"B" * 5000)
    result = commit(files)
    made = prove_chunks(result.manifest, files, (0, 3, result.chunk_count - 1))
    assert made == {index: prove_chunk(result.manifest, files, index) for index in made}
    assert sorted(made) == [0, 3, result.chunk_count - 1]
    assert all(verify_chunk(result.root, proof) for proof in made.values())
    with pytest.raises(ValueError, match="no chunk"):
        prove_chunks(result.manifest, files, (0, result.chunk_count))


def test_padding_beyond_the_last_chunk_cannot_be_proved(write: Write) -> None:
    files = write(a=b"a" * 10000)
    result = commit(files)
    proof = prove_chunk(result.manifest, files, result.chunk_count - 1)
    assert not verify_chunk(result.root, replace(proof, index=result.chunk_count))


def test_result_without_files_is_one_chunk() -> None:
    result = commit_outputs(job="1", exit_code=124, reason=Reason.TIMEOUT, seconds=9, device="cpu", files={})
    assert result.chunk_count == 1
    proof = prove_chunk(result.manifest, {}, 0)
    assert proof.path == ()
    assert verify_chunk(result.root, proof)
    assert verify_outputs(result.root, result.manifest, {}).exit.reason is Reason.TIMEOUT


def test_altered_missing_surplus_or_exchanged_outputs_are_found(write: Write, tmp_path: Path) -> None:
    files = write(a=b"one", b=b"two")
    result = commit(files)
    files["a"].write_bytes(b"onE")
    with pytest.raises(JobFailed, match="SHA-256"):
        verify_outputs(result.root, result.manifest, files)
    files["a"].write_bytes(b"one and more")
    with pytest.raises(JobFailed, match="bytes committed"):
        verify_outputs(result.root, result.manifest, files)
    files["a"].write_bytes(b"one")
    with pytest.raises(JobFailed, match="missing"):
        verify_outputs(result.root, result.manifest, {"b": files["b"]})
    with pytest.raises(JobFailed, match="does not name 'c'"):
        verify_outputs(result.root, result.manifest, {**files, "c": files["a"]})
    with pytest.raises(JobFailed):
        verify_outputs(result.root, result.manifest, {"a": files["b"], "b": files["a"]})
    other = commit_outputs(job="2", exit_code=0, reason=Reason.OK, seconds=3, device="cpu", files=files)
    with pytest.raises(JobFailed, match="not the committed"):
        verify_outputs(result.root, other.manifest, files)
    verify_outputs(result.root, result.manifest, files)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.replace(b'"seconds":3', b'"seconds": 3'),
        lambda m: m.replace(b'"seconds":3', b'"seconds":"3"'),
        lambda m: m.replace(b'"path":"a"', b'"path":"../a"'),
        lambda m: m.replace(b'"path":"a"', b'"path":"b"'),
        lambda m: m.replace(b'"path":"a"', b'"path":"z"'),
        lambda m: m.replace(b'"code":0', b'"code":1'),
        lambda m: m.replace(b'"version":1', b'"version":1,"x":1'),
        lambda m: m[:-1],
        lambda m: b"",
    ],
)
def test_malformed_manifest_is_refused(write: Write, change: Callable[[bytes], bytes]) -> None:
    result = commit(write(a=b"one", b=b"two"))
    assert change(result.manifest) != result.manifest
    with pytest.raises(JobFailed):
        Manifest.parse(change(result.manifest))


def test_exit_code_and_reason_must_agree() -> None:
    for code, reason in ((1, Reason.OK), (0, Reason.TIMEOUT)):
        with pytest.raises(ValueError, match="does not go with"):
            commit_outputs(job="1", exit_code=code, reason=reason, seconds=1, device="cpu", files={})


def test_every_failure_has_its_own_exit_code() -> None:
    codes = [reason.exit_code for reason in Reason if reason.is_failure]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes
    assert all(reason.meaning and reason.remedy for reason in Reason)


def test_energy_is_committed_where_it_was_measured_and_absent_else() -> None:
    energy = Energy(joules=41_250, average_watts=412, source="counter")
    plain = commit_outputs(job="1", exit_code=0, reason=Reason.OK, seconds=100, device="cpu", files={})
    measured = commit_outputs(
        job="1", exit_code=0, reason=Reason.OK, seconds=100, device="cpu", files={}, energy=energy
    )
    assert b"energy" not in plain.manifest and plain.root != measured.root
    assert b'"energy":{"average_watts":412,"joules":41250,"source":"counter"}' in measured.manifest
    assert verify_outputs(measured.root, measured.manifest, {}).energy == energy
    assert verify_outputs(plain.root, plain.manifest, {}).energy is None
    # What is shown is what was committed: another number has another root.
    with pytest.raises(JobFailed, match="not the committed"):
        verify_outputs(measured.root, measured.manifest.replace(b"41250", b"41251"), {})
    for broken in (b'"joules":-1', b'"joules":1.5', b'"joules":"1"'):
        with pytest.raises(JobFailed):
            Manifest.parse(measured.manifest.replace(b'"joules":41250', broken))
