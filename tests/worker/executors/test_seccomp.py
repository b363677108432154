# SPDX-License-Identifier: Apache-2.0
"""The filter of system calls: its numbers are the kernel's, it decides as its table says, and the kernel obeys it."""

from __future__ import annotations

import errno
import json
import platform
import re
import struct
import subprocess

import pytest

from gpubond.jobs.reasons import Reason
from gpubond.provider.executors import seccomp

from ..bench import Bench, log_of

HEADERS = {
    "x86_64": "#include <asm/unistd_64.h>\n",
    # What aarch64's own header says, on any machine.
    "aarch64": "#define __BITS_PER_LONG 64\n#define __ARCH_WANT_SYS_CLONE3\n#define __ARCH_WANT_MEMFD_SECRET\n"
    "#include <asm-generic/unistd.h>\n",
}
ALLOW, ERRNO, KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000


def decision(machine: str, number: int, *arguments: int, architecture: int | None = None) -> str:
    """What the filter says of a call: the kernel's rules for classic BPF, as far as the filter uses them."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack(
        "<IIQ6Q", number & 0xFFFF_FFFF, architecture or seccomp.ARCHITECTURES[machine], 0, *padded
    )  # struct seccomp_data
    program = seccomp.program(machine)
    assert program is not None
    listing = list(struct.iter_unpack("=HBBI", program))
    at, word = 0, 0
    while True:
        code, if_true, if_false, operand = listing[at]
        at += 1
        if code == 0x20:
            [word] = struct.unpack_from("<I", data, operand)
        elif code == 0x06:
            if operand == ALLOW:
                return "allowed"
            if operand == KILL:
                return "ended"
            assert operand & 0xFFFF_0000 == ERRNO
            return errno.errorcode[operand & 0xFFFF]
        else:
            holds = {0x15: word == operand, 0x25: word > operand, 0x45: bool(word & operand)}[code]
            at += if_true if holds else if_false


def numbers(machine: str) -> dict[str, int]:
    column = list(seccomp.ARCHITECTURES).index(machine)
    tables = [*(group.calls for group in seccomp.REFUSED), seccomp.EXAMINED]
    return {name: both[column] for table in tables for name, both in table.items()}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    done = subprocess.run(
        ["g++", "-E", "-dM", "-x", "c", "-"], input=HEADERS[machine], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"no headers of {machine} here: {done.stderr.strip()[:200]}")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", done.stdout))
    assert len(defined) > 250
    expected = {name: int(defined.get(name, -1)) for name in numbers(machine)}
    assert numbers(machine) == expected


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_every_refused_call_is_refused_and_no_other(machine: str) -> None:
    column = list(seccomp.ARCHITECTURES).index(machine)
    refused = {both[column]: errno.errorcode[group.error] for group in seccomp.REFUSED for both in group.calls.values()}
    examined = {both[column] for both in seccomp.EXAMINED.values()}
    for number in range(seccomp.NEWEST + 1):
        if number not in examined:
            assert decision(machine, number) == refused.get(number, "allowed"), number
    for number in (seccomp.NEWEST + 1, 470, 0x4000_0000, 0x4000_0000 | 101, 0xFFFF_FFFF):
        assert decision(machine, number) == "ENOSYS"
    assert decision(machine, 0, architecture=0x4000_0003) == "ended", "i386"


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("clone", (0x11,), "allowed"),
        ("clone", (0x3D0F00,), "allowed"),  # a thread
        *[("clone", (1 << bit,), "EPERM") for bit in (17, 25, 26, 27, 28, 29, 30)],
        ("ioctl", (0, 0x5401), "allowed"),
        ("ioctl", (0, 0x5412), "EPERM"),
        ("ioctl", (0, 0x541C), "EPERM"),
        # The kernel looks at the low half only.
        ("ioctl", (0, (1 << 32) | 0x5412), "EPERM"),
        ("socket", (1, 1, 0), "allowed"),
        ("socket", (2, 1, 0), "allowed"),
        ("socket", (10, 2, 17), "allowed"),
        ("socket", (2, 5, 132), "EPROTONOSUPPORT"),  # SCTP
        ("socket", (10, 3, 255), "EPROTONOSUPPORT"),
        ("socket", (16, 3, 0), "allowed"),
        ("socket", (16, 3, 12), "EPROTONOSUPPORT"),  # netfilter
        *[("socket", (family, 1, 0), "EAFNOSUPPORT") for family in (0, 3, 15, 17, 38, 40, 44)],
        ("socketpair", (1, 1, 0), "allowed"),
        ("socketpair", (30, 1, 0), "EAFNOSUPPORT"),
        ("personality", (0xFFFF_FFFF,), "allowed"),
        ("personality", (0,), "allowed"),
        ("personality", (0x0400_0000,), "EPERM"),
    ],
)
def test_calls_that_are_refused_by_what_they_ask(
    machine: str, call: str, arguments: tuple[int, ...], expected: str
) -> None:
    assert decision(machine, numbers(machine)[call], *arguments) == expected


def test_other_architectures_have_no_filter_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seccomp.program("riscv64") is None
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert "no seccomp filter" in seccomp.words()


def test_the_kernel_refuses_what_the_table_says(bench: Bench) -> None:
    """Each call of the table, made by a job. Without the filter, a call with such arguments would do no harm."""
    column = list(seccomp.ARCHITECTURES).index(platform.machine())
    table = {
        name: [both[column], errno.errorcode[group.error]]
        for group in seccomp.REFUSED
        for name, both in group.calls.items()
        if both[column] >= 0
    }
    script = """
import ctypes, errno, json, sys
libc = ctypes.CDLL(None, use_errno=True)
found = {}
for name, (number, _) in json.load(open("table.json")).items():
    result = libc.syscall(number, -1, -1, -1, -1, -1, -1)
    found[name] = errno.errorcode[ctypes.get_errno()] if result == -1 else "done"
mode = [line.split()[1] for line in open("/proc/self/status") if line.startswith("Seccomp:")]
json.dump({"mode": mode, "found": found}, open("out.txt", "w"))
"""
    attempt = bench.python(script, files={"table.json": json.dumps(table)})
    assert attempt.reason is Reason.OK, log_of(attempt)
    result = json.loads(attempt.outputs["out.txt"].read_text())
    assert result["mode"] == ["2"]
    assert result["found"] == {name: error for name, (_, error) in table.items()}


def test_what_jobs_need_goes_on_working(bench: Bench) -> None:
    script = """
import asyncio, multiprocessing, multiprocessing.shared_memory, os, socket, subprocess, tempfile, threading
import concurrent.futures
import numpy
def square(x):
    return x * x
if __name__ == "__main__":
    done = []
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        done.append(pool.map(square, [1, 2]))
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        done.append(list(pool.map(square, [3])))
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=1 << 16); memory.close(); memory.unlink()
    thread = threading.Thread(target=done.append, args=("thread",)); thread.start(); thread.join()
    done.append(asyncio.run(asyncio.sleep(0, "loop")))
    done.append(subprocess.run(["/bin/sh", "-c", "echo shell | cat"], capture_output=True, text=True).stdout.strip())
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname(), 10); server.accept()
    socket.socketpair(); socket.if_nameindex(); os.pipe(); os.sched_setaffinity(0, os.sched_getaffinity(0))
    a = numpy.random.default_rng(0).random((300, 300)); done.append(bool(numpy.isfinite(a @ a).all()))
    numpy.save("/tmp/a.npy", a); numpy.load("/tmp/a.npy", mmap_mode="r").sum()
    open("out.txt", "w").write(repr(done))
"""
    attempt = bench.python(script)
    assert attempt.reason is Reason.OK, log_of(attempt)
    assert attempt.outputs["out.txt"].read_text() == "[[1, 4], [9], 'thread', 'loop', 'shell', True]"
