# SPDX-License-Identifier: Apache-2.0
"""Nonces count once: across restarts and torn writes, within bounds, and whatever the wall clock does."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpubond.jobs import nonces
from gpubond.jobs.nonces import BUCKET_SECONDS, NonceLog, NoncesFull, Replayed

BUYER, OTHER = b"b" * 20, b"o" * 20
NOW = 1_000_000
MAX_AGE = 600


def use(log: NonceLog, nonce: bytes, *, signer: bytes = BUYER, expires: int = NOW + 300, now: int = NOW) -> None:
    log.use(signer, nonce, expires, now, durable=True)


def test_a_nonce_counts_once_across_restarts(tmp_path: Path) -> None:
    use(NonceLog(tmp_path, max_age=MAX_AGE), b"1")
    again = NonceLog(tmp_path, max_age=MAX_AGE)
    with pytest.raises(Replayed):
        use(again, b"1")
    use(again, b"2")
    with pytest.raises(Replayed):
        use(NonceLog(tmp_path, max_age=MAX_AGE), b"2")


def test_the_same_nonce_of_another_signer_is_another(tmp_path: Path) -> None:
    log = NonceLog(tmp_path, max_age=MAX_AGE)
    use(log, b"1")
    use(log, b"1", signer=OTHER)
    assert len(log) == 2


def test_a_torn_write_is_no_use_and_spoils_nothing(tmp_path: Path) -> None:
    use(NonceLog(tmp_path, max_age=MAX_AGE), b"1")
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for kept in range(1, len(whole)):
        file.write_bytes(whole + whole[:kept])
        log = NonceLog(tmp_path, max_age=MAX_AGE)
        assert len(log) == 1
        use(log, b"2")
        with pytest.raises(Replayed):
            use(NonceLog(tmp_path, max_age=MAX_AGE), b"2")
        file.write_bytes(whole)


def test_one_signer_is_full_before_all_are() -> None:
    log = NonceLog(None, max_age=MAX_AGE, limit=5, limit_of_one=3)
    for nonce in (b"1", b"2", b"3"):
        use(log, nonce)
    with pytest.raises(NoncesFull) as caught:
        use(log, b"4")
    assert caught.value.of_signer
    for nonce in (b"1", b"2"):
        use(log, nonce, signer=OTHER)
    with pytest.raises(NoncesFull) as caught:
        use(log, b"3", signer=b"t" * 20)
    assert not caught.value.of_signer
    assert len(log) == 5


def test_expired_nonces_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(nonces.time, "monotonic", lambda: clock[0])
    log = NonceLog(tmp_path, max_age=MAX_AGE, limit_of_one=1)
    use(log, b"1")
    clock[0] += MAX_AGE + 1
    later = NOW + MAX_AGE + BUCKET_SECONDS
    use(log, b"2", expires=later + 300, now=later)
    assert len(log) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_wall_clock_that_jumps_ahead_and_back_revives_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(nonces.time, "monotonic", lambda: clock[0])
    log = NonceLog(tmp_path, max_age=MAX_AGE)
    use(log, b"1")
    clock[0] += 10
    hour = NOW + 3600
    use(log, b"2", expires=hour + 300, now=hour)
    clock[0] += 10
    with pytest.raises(Replayed):
        use(log, b"1", now=NOW + 20)
