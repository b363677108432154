# SPDX-License-Identifier: Apache-2.0
"""Blobs in parts: any order, across restarts, and no wrong part poisons one for ever."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from pathlib import Path

import pytest

from gpubond.errors import BadInput
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.quota import DiskFloor, Quota, StorageFull
from gpubond.jobs.uploads import PART_BYTES, PartialUpload, Uploads

DATA = random.Random(7).randbytes(3 * PART_BYTES + 12_345)  # noqa: S311  # the same bytes each time
NAME = hashlib.sha256(DATA).hexdigest()


def begin(root: Path, **options: int) -> tuple[BlobStore, Uploads]:
    store = BlobStore(root, **options)  # type: ignore[arg-type]
    return store, Uploads(store)


def send(upload: PartialUpload, index: int, data: bytes = DATA) -> bool:
    first, last = upload.bounds(index)
    piece = data[first : last + 1]
    with upload.writer(first, last, hashlib.sha256(piece).digest()) as writer:
        writer.write(piece[:1000])
        writer.write(piece[1000:])
        return writer.commit()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (0, 0, 2, 1, 2, 3)])
def test_parts_in_any_order_make_the_blob(tmp_path: Path, order: tuple[int, ...]) -> None:
    store, uploads = begin(tmp_path)
    upload = uploads.begin(NAME, len(DATA))
    outcomes = [send(upload, index) for index in order]
    assert outcomes == [False] * (len(order) - 1) + [True]
    assert store.path(NAME).read_bytes() == DATA
    assert list(store.incoming.iterdir()) == []
    assert store.used_bytes == len(DATA)
    assert uploads.get(NAME) is None


def test_an_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    _, uploads = begin(tmp_path)
    upload = uploads.begin(NAME, len(DATA))
    send(upload, 2)
    send(upload, 0)
    store, uploads = begin(tmp_path)
    assert store.used_bytes == len(DATA)
    going_on = uploads.get(NAME)
    assert going_on is not None
    assert going_on.ranges() == [(0, PART_BYTES - 1), (2 * PART_BYTES, 3 * PART_BYTES - 1)]
    send(going_on, 3)
    assert send(going_on, 1)
    assert store.path(NAME).read_bytes() == DATA


@pytest.mark.parametrize("torn", [1, 2, 3])
def test_a_torn_list_of_parts_loses_one_part_at_most(tmp_path: Path, torn: int) -> None:
    _, uploads = begin(tmp_path)
    upload = uploads.begin(NAME, len(DATA))
    send(upload, 0)
    send(upload, 1)
    (parts,) = tmp_path.glob("incoming/*.parts")
    os.truncate(parts, 8 - torn)
    store, uploads = begin(tmp_path)
    going_on = uploads.begin(NAME, len(DATA))
    assert going_on.ranges() == [(0, PART_BYTES - 1)]
    assert [send(going_on, index) for index in (1, 2, 3)] == [False, False, True]
    assert store.path(NAME).read_bytes() == DATA


def test_data_that_the_disk_lost_is_found_out(tmp_path: Path) -> None:
    _, uploads = begin(tmp_path)
    send(uploads.begin(NAME, len(DATA)), 0)
    (data,) = tmp_path.glob("incoming/*.data")
    os.truncate(data, 0)
    os.truncate(data, len(DATA))  # as after a power cut: the list was written, the bytes were not
    store, uploads = begin(tmp_path)
    upload = uploads.begin(NAME, len(DATA))
    send(upload, 1)
    send(upload, 2)
    with pytest.raises(BadInput, match="all of them were dropped"):
        send(upload, 3)
    upload = uploads.begin(NAME, len(DATA))
    assert [send(upload, index) for index in range(4)][-1]
    assert store.path(NAME).read_bytes() == DATA


def test_a_wrong_part_is_dropped_with_all_others_and_the_next_try_is_clean(tmp_path: Path) -> None:
    store, uploads = begin(tmp_path)
    upload = uploads.begin(NAME, len(DATA))
    wrong = b"x" * len(DATA)
    send(upload, 1, wrong)  # its own digest is right, the part is not
    for index in (0, 2):
        send(upload, index)
    with pytest.raises(BadInput, match="dropped"):
        send(upload, 3)
    assert not store.has(NAME)
    assert store.used_bytes == 0
    with pytest.raises(BadInput, match="dropped"):
        send(upload, 0)
    upload = uploads.begin(NAME, len(DATA))
    assert [send(upload, index) for index in range(4)] == [False, False, False, True]


def test_a_part_in_place_is_never_written_again(tmp_path: Path) -> None:
    store, uploads = begin(tmp_path)
    upload = uploads.begin(NAME, len(DATA))
    send(upload, 0)
    send(upload, 0, b"y" * len(DATA))
    for index in (1, 2):
        send(upload, index)
    assert send(upload, 3)
    assert store.path(NAME).read_bytes() == DATA


def test_a_blob_that_was_deleted_can_be_sent_again(tmp_path: Path) -> None:
    store, uploads = begin(tmp_path)
    for _ in range(2):
        upload = uploads.begin(NAME, len(DATA))
        assert [send(upload, index) for index in range(4)] == [False, False, False, True]
        assert send(upload, 0)  # one that was late
        assert store.delete(NAME)
        with pytest.raises(BadInput):
            send(upload, 0)
        assert store.used_bytes == 0


def test_a_damaged_short_or_long_part_leaves_the_others(tmp_path: Path) -> None:
    store, uploads = begin(tmp_path)
    upload = uploads.begin(NAME, len(DATA))
    send(upload, 0)
    first, last = upload.bounds(1)
    piece = DATA[first : last + 1]
    digest = hashlib.sha256(piece).digest()
    for wrong in (piece[:-1] + bytes([piece[-1] ^ 1]), piece[:-1], piece + b"x", b""):
        with pytest.raises(BadInput), upload.writer(first, last, digest) as writer:
            writer.write(wrong)
            writer.commit()
    assert upload.ranges() == [(0, PART_BYTES - 1)]
    assert store.used_bytes == len(DATA)
    assert [path.suffix for path in sorted(store.incoming.iterdir())] == [".data", ".parts"]


@pytest.mark.parametrize(
    ("first", "last"),
    [(1, PART_BYTES), (0, PART_BYTES), (0, 5), (0, len(DATA) - 1), (4 * PART_BYTES, 5 * PART_BYTES - 1), (10**17, 1)],
)
def test_bytes_that_are_no_part_are_refused(tmp_path: Path, first: int, last: int) -> None:
    _, uploads = begin(tmp_path)
    with pytest.raises(BadInput, match="not one part"):
        uploads.begin(NAME, len(DATA)).writer(first, last, bytes(32))


def test_the_whole_counts_from_the_first_part_on(tmp_path: Path) -> None:
    store, uploads = begin(tmp_path, quota_bytes=len(DATA) + 10)
    uploads.begin(NAME, len(DATA))
    with pytest.raises(StorageFull):
        uploads.begin("ab" * 32, 11)
    # A restart with a smaller quota starts all the same; only new ones are refused.
    store, uploads = begin(tmp_path, quota_bytes=10)
    assert store.used_bytes == len(DATA)
    assert uploads.get(NAME) is not None
    assert uploads.drop_stale(-1) == 1
    assert store.used_bytes == 0
    assert list(store.incoming.iterdir()) == []


def test_many_senders_at_once_agree(tmp_path: Path) -> None:
    store, uploads = begin(tmp_path)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        order = list(range(4))
        random.Random(seed).shuffle(order)  # noqa: S311
        try:
            for index in order:
                send(uploads.begin(NAME, len(DATA)), index) if not store.has(NAME) else None
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.path(NAME).read_bytes() == DATA


def test_a_limit_for_all_bounds_each(tmp_path: Path) -> None:
    total = Quota(100, "the provider's storage")
    one, other = Quota(80, "yours", total), Quota(80, "yours", total)
    one.reserve(60)
    with pytest.raises(StorageFull, match="the provider's storage"):
        other.reserve(60)
    assert (one.used, other.used, total.used) == (60, 0, 60)
    with pytest.raises(StorageFull, match="yours"):
        one.reserve(30)
    one.give_back(60)
    other.reserve(60)
    assert total.used == 60


def test_the_floor_of_the_disk_stops_uploads_and_not_what_is_owed(tmp_path: Path) -> None:
    floor = DiskFloor(tmp_path, 1 << 60)
    assert floor.low
    quota = Quota(None, floor=floor)
    with pytest.raises(StorageFull, match="nearly full"):
        quota.reserve(1)
    quota.reserve(1, beyond=True)
    assert quota.used == 1
