# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import io
import os
import threading
from pathlib import Path

import pytest

from gpubond.errors import BadInput, Refused
from gpubond.jobs.blobs import BlobStore

DATA = b"0123456789" * 1000
NAME = hashlib.sha256(DATA).hexdigest()


def files_below(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_what_is_put_can_be_read_and_deleted(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    path = store.put(io.BytesIO(DATA), NAME, len(DATA))
    assert path == store.path(NAME)
    assert store.has(NAME)
    assert store.size(NAME) == len(DATA) == store.used_bytes
    with store.open(NAME) as stream:
        assert stream.read() == DATA
    assert path.stat().st_mode & 0o777 == 0o444
    assert store.delete(NAME)
    assert not store.delete(NAME)
    assert not store.has(NAME)
    assert store.used_bytes == 0


def test_empty_blob(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.put([], hashlib.sha256(b"").hexdigest(), 0)
    assert store.size(hashlib.sha256(b"").hexdigest()) == 0


@pytest.mark.parametrize(
    ("data", "limit"), [(DATA[:-1] + b"x", len(DATA)), (DATA, len(DATA) - 1), (DATA[:-1], 1 << 20)]
)
def test_wrong_or_too_long_stream_leaves_nothing(tmp_path: Path, data: bytes, limit: int) -> None:
    store = BlobStore(tmp_path)
    with pytest.raises(BadInput):
        store.put([data], NAME, limit)
    assert not store.has(NAME)
    assert files_below(tmp_path) == []
    assert store.used_bytes == 0


def test_stream_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)

    def broken() -> object:
        yield DATA[:100]
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        store.put(broken(), NAME, len(DATA))  # type: ignore[arg-type]
    assert files_below(tmp_path) == []
    assert store.used_bytes == 0


def test_quota_counts_blobs_and_uploads_and_survives_a_restart(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, quota_bytes=len(DATA) + 100)
    store.put([DATA], NAME, len(DATA))
    other = b"z" * 101
    with pytest.raises(Refused, match="full"):
        store.put([other], hashlib.sha256(other).hexdigest(), len(other))
    store.put([other[:100]], hashlib.sha256(other[:100]).hexdigest(), 100)
    again = BlobStore(tmp_path, quota_bytes=len(DATA) + 100)
    assert again.used_bytes == len(DATA) + 100
    with pytest.raises(Refused), again.writer(NAME, 1) as writer:
        writer.write(b"x")


def test_concurrent_puts_of_one_blob_agree(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    barrier = threading.Barrier(8)
    failures: list[BaseException] = []

    def put() -> None:
        try:
            barrier.wait()
            store.put([DATA[:5000], DATA[5000:]], NAME, len(DATA))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.path(NAME).read_bytes() == DATA
    assert len(files_below(tmp_path)) == 1
    assert store.used_bytes == len(DATA)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", NAME.upper(), NAME + "\n", NAME[:-1]])
def test_name_that_is_no_hash_is_refused(tmp_path: Path, name: str) -> None:
    store = BlobStore(tmp_path)
    for call in (store.has, store.path, store.delete):
        with pytest.raises(BadInput, match="not a SHA-256"):
            call(name)
    with pytest.raises(BadInput, match="not a SHA-256"):
        store.put([b""], name, 1)


def test_absent_blob_has_no_path(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not in the store"):
        BlobStore(tmp_path).path(NAME)


def test_stale_uploads_are_removed_fresh_ones_kept(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    stale, fresh = store.incoming / "stale", store.incoming / "fresh"
    stale.write_bytes(b"x")
    fresh.write_bytes(b"x")
    os.utime(stale, (0, 0))
    BlobStore(tmp_path)
    assert not stale.exists()
    assert fresh.exists()


def test_put_file_names_a_local_file(tmp_path: Path) -> None:
    source = tmp_path / "f"
    source.write_bytes(DATA)
    store = BlobStore(tmp_path / "store")
    assert store.put_file(source) == NAME == store.put_file(source)
    assert store.used_bytes == len(DATA)
