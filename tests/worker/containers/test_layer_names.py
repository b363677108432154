# SPDX-License-Identifier: Apache-2.0
"""How many files a layer can make is counted so that none can hide, whatever the form of the archive."""

from __future__ import annotations

import io
import tarfile

import pytest

from gpubond.provider.executors.layer_names import NameCounter


def archive(names: list[str], form: int, content: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as opened:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            opened.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def counted(data: bytes, step: int) -> int:
    counter = NameCounter()
    for at in range(0, len(data), step):
        counter.add(data[at : at + step])
    return counter.names


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("step", [100, 512, 1 << 20])
def test_every_file_and_folder_on_its_way_counts(form: int, step: int) -> None:
    assert counted(archive([f"f{n}" for n in range(50)], form), step) == 50
    assert counted(archive(["a/b/c/d"], form, b"x" * 5000), step) == 4


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_folders_of_a_path_that_only_fits_into_an_entry_of_its_own_count(form: int) -> None:
    assert counted(archive(["/".join("d" * 400)], form), 700) >= 400


def test_old_archives_without_a_sign_and_files_in_files_count() -> None:
    data = bytearray(archive(["a", "b"], tarfile.USTAR_FORMAT))
    for at in (0, 512):
        head = bytearray(data[at : at + 512])
        head[257:265] = bytes(8)
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
        data[at : at + 512] = head
    assert counted(bytes(data), 512) == 2
    # A parser that is led astray finds what another takes for content: it counts.
    assert counted(archive(["outer"], tarfile.USTAR_FORMAT, archive(["x", "y"], tarfile.USTAR_FORMAT)), 512) == 3
    assert counted(bytes(1 << 20), 4096) == 0
