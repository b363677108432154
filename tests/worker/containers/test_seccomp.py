# SPDX-License-Identifier: Apache-2.0
"""System calls that no job needs are refused in a container; those that programs live by are not."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from gpubond.provider.executors.container_seccomp import REFUSED, narrower, write_narrower

from ..bench import log_of
from .bench import MIB, ContainerBench
from .images import python_layer

# Of x86-64; the arguments would be good enough for a user without privileges where the call is allowed.
CALLS = {
    "unshare": (272, 0x10000000),
    "clone": (56, 0x10000011),
    "clone3": (435, 0),
    "keyctl": (250, 0, -3, 1),
    "ptrace": (101, 0),
    "io_uring_setup": (425, 1, 0),
    "userfaultfd": (323, 1),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
}
PROGRAM = """
import ctypes, json, subprocess, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
found = {}
for name, call in json.load(open("calls.json")).items():
    result = libc.syscall(*map(ctypes.c_long, call))
    found[name] = 0 if result >= 0 else ctypes.get_errno()
done = []
thread = threading.Thread(target=done.append, args=[1])
thread.start()
thread.join()
child = subprocess.run(["/usr/bin/python", "-I", "-c", "print(6 * 7)"], capture_output=True)
json.dump({"calls": found, "thread": done, "child": child.stdout.decode()}, open("out.txt", "w"))
"""


def test_calls_that_no_job_needs_are_refused(bench: ContainerBench) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the numbers of the calls are those of x86-64")
    engine = bench.executor.engine()
    assert engine.seccomp is not None, "podman uses no file that could be narrowed"
    bench.executor = bench.with_limits(512 * MIB, 1024 * MIB)
    attempt = bench.section(
        {
            "image": bench.registry.name(bench.registry.shelf.image(python_layer())),
            "command": ["/usr/bin/python", "-I", "calls.py"],
        },
        files={"calls.py": PROGRAM, "calls.json": json.dumps(CALLS)},
    )
    assert attempt.reason == "ok", log_of(attempt)
    found = json.loads(attempt.outputs["out.txt"].read_text())
    assert found["calls"] == {name: 38 if name in ("clone", "clone3") else 1 for name in CALLS}
    assert (found["thread"], found["child"]) == ([1], "42\n")


def test_a_profile_loses_what_is_refused_and_nothing_else() -> None:
    allowed = {"names": ["read", "mount", "clone", "clone3", "socket"], "action": "SCMP_ACT_ALLOW", "args": []}
    architectures = {"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]}
    calls = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [allowed, {**allowed, "names": ["mount"]}]}
    kept = narrower(calls | architectures)
    assert kept["defaultAction"] == "SCMP_ACT_ERRNO"
    assert kept["archMap"] == [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}]
    first, clone, *sockets, refused, clone3 = kept["syscalls"]
    assert first == {**allowed, "names": ["read"]}
    assert (clone["names"], len(clone["args"])) == (["clone"], 1)
    # Unix, internet with TCP or UDP, netlink for routes.
    assert [[pair["value"] for pair in rule["args"]] for rule in sockets] == [
        *([1], [2, 0], [2, 6], [2, 17], [10, 0], [10, 6], [10, 17], [16, 0])
    ]
    assert "architectures" not in kept
    assert (set(refused["names"]), refused["action"]) == (set(REFUSED), "SCMP_ACT_ERRNO")
    assert (clone3["names"], clone3["action"]) == (["clone3"], "SCMP_ACT_ERRNO")


def test_what_is_no_profile_is_left_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    assert not write_narrower(source, target)
    for content in ("no JSON", "{}", '{"syscalls": [1]}'):
        source.write_text(content)
        assert not write_narrower(source, target)
    assert not target.exists()
