# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from eth_account import Account

from gpubond.chain.keylock import KeyLock
from gpubond.errors import KeyInUse

HOLD = """
import sys, time
from gpubond.chain.keylock import KeyLock
lock = KeyLock(int(sys.argv[1]), sys.argv[2])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def address() -> str:
    return str(Account.create().address)


@pytest.fixture
def other_worker(address: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the key on chain 1."""
    command = [sys.executable, "-c", HOLD, "1", address]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_second_process_is_refused_at_once(address: str, other_worker: subprocess.Popen[str]) -> None:
    with pytest.raises(KeyInUse, match=f"(?i){address}") as refused:
        KeyLock(1, address.lower()).acquire()
    assert refused.value.field == "key"


def test_other_chain_and_other_key_are_free(address: str, other_worker: subprocess.Popen[str]) -> None:
    with KeyLock(2, address), KeyLock(1, Account.create().address):
        pass


def test_lock_vanishes_with_a_killed_process(address: str, other_worker: subprocess.Popen[str]) -> None:
    os.kill(other_worker.pid, signal.SIGKILL)
    other_worker.wait()
    with KeyLock(1, address) as lock:
        assert lock.held


def test_waits_for_the_other_to_finish(address: str, other_worker: subprocess.Popen[str]) -> None:
    with pytest.raises(KeyInUse):
        KeyLock(1, address, timeout=0.2).acquire()
    assert other_worker.stdin is not None
    other_worker.stdin.close()
    with KeyLock(1, address, timeout=30):
        pass


def test_released_lock_can_be_taken_again(address: str) -> None:
    first, second = KeyLock(1, address), KeyLock(1, address)
    first.acquire()
    first.acquire()
    with pytest.raises(KeyInUse):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    assert not first.held and not second.held
