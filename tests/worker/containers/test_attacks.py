# SPDX-License-Identifier: Apache-2.0
"""What a stranger's container tries, each in a real one: contained, reported with a reason, and the worker goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from gpubond.errors import BadInput
from gpubond.jobs.spec import JobSpec, load_job_file

from ..bench import log_of
from .conftest import ContainerBench
from .images import file, layer, members

PAGE = Path(__file__).resolve().parents[3] / "docs" / "containers.md"


class Attack(NamedTuple):
    """contained: by what. script: run by busybox. reason: how the attempt must end. limits: of the job."""

    contained: str
    script: str
    reason: str
    limits: Mapping[str, int] = MappingProxyType({})


# Each script writes out.txt if it did not get what it wanted, and exits with 9 if it did.
ATTACKS = {
    "fork bomb": Attack(
        "limit on processes (group or rlimit); the time limit ends it",
        "bomb() { bomb | bomb & }; bomb; sleep 1; echo > out.txt; sleep 60",
        "timeout",
        {"seconds": 4},
    ),
    "memory bomb": Attack(
        "limit on memory (group, else the watch)",
        "x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done",
        "out_of_memory",
        {"memory_mib": 256},
    ),
    "memory in /tmp": Attack(
        "`/tmp` holds a quarter of `limits.memory_mib`",
        "dd if=/dev/zero of=/tmp/x bs=1M count=400; [ $(wc -c < /tmp/x) -lt 400000000 ] && echo > out.txt",
        "ok",
        {"memory_mib": 256},
    ),
    "disk filler": Attack(
        "file size limit, and the watch over the job's folder",
        "dd if=/dev/zero of=/job/x bs=1M; sleep 30",
        "disk_limit",
        {"disk_mib": 16},
    ),
    "disk filler by many files": Attack(
        "the watch over the job's folder",
        "i=0; while true; do i=$((i+1)); dd if=/dev/zero of=/job/$i bs=1M count=1 2>/dev/null; done",
        "disk_limit",
        {"disk_mib": 16},
    ),
    "output flood": Attack(
        "the log is cut, the pipe is read on",
        "i=0; while [ $i -lt 20000 ]; do echo flood flood; i=$((i+1)); done; echo > out.txt",
        "ok",
    ),
    "endless loop": Attack("the time limit", "while true; do :; done", "timeout", {"seconds": 2}),
    "ignored SIGTERM": Attack(
        "it ends by SIGKILL to its first process",
        "trap '' TERM INT HUP; while true; do sleep 1; done",
        "timeout",
        {"seconds": 2},
    ),
    "write to the image": Attack(
        "read-only root", "(echo > /bin/new || echo > /etc/new || mkdir /new) && exit 9; echo > out.txt", "ok"
    ),
    "write to an input": Attack(
        "inputs are mounted read-only", "echo > in.txt && exit 9; rm -f in.txt; echo > out.txt", "ok"
    ),
    "mount": Attack(
        "no capabilities, seccomp",
        "mount -t tmpfs none /tmp && exit 9; mount --bind / /tmp && exit 9; echo > out.txt",
        "ok",
    ),
    "new user namespace": Attack(
        "seccomp",
        "busybox unshare -U /bin/true && exit 9; busybox unshare -r -m /bin/true && exit 9; echo > out.txt",
        "ok",
    ),
    "device node": Attack(
        "no capabilities, `nodev`",
        "mknod /tmp/disk b 254 0 && exit 9; mknod disk b 254 0 && exit 9; echo > out.txt",
        "ok",
    ),
    "host's processes": Attack(
        "own process namespace",
        "for f in /proc/[0-9]*; do [ ${f#/proc/} -gt 100 ] && exit 9; done; cat /proc/1/environ | wc -c > out.txt",
        "ok",
    ),
    "kernel's settings": Attack(
        "`/proc/sys` is read-only, no capabilities",
        "echo 1 > /proc/sys/kernel/panic && exit 9; echo b > /proc/sysrq-trigger && exit 9; echo > out.txt",
        "ok",
    ),
    "cgroup escape": Attack(
        "groups are mounted read-only, own group namespace",
        "for f in /sys/fs/cgroup/*/ /sys/fs/cgroup/; do mkdir $f/x && exit 9; echo 0 > $f/tasks && exit 9; done;"
        "echo > out.txt",
        "ok",
    ),
    "symbolic link as output": Attack("links are not followed", "ln -s /etc/shadow out.txt", "output_invalid"),
    "hard link as output": Attack("a file with several names is refused", "echo > a; ln a out.txt", "output_invalid"),
    "pipe as output": Attack("plain files only", "mknod out.txt p", "output_invalid"),
    "directory as output": Attack("plain files only", "mkdir out.txt", "output_invalid"),
}


def table() -> str:
    """The table of docs/containers.md."""
    heads = ["| attack | contained by | how the run ends |", "|---|---|---|"]
    rows = [f"| {name} | {attack.contained} | `{attack.reason}` |" for name, attack in ATTACKS.items()]
    return "\n".join([*heads, *rows]) + "\n"


def test_the_page_lists_what_is_tried() -> None:
    assert table() in PAGE.read_text(), table()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_contained(bench: ContainerBench, name: str) -> None:
    attack = ATTACKS[name]
    attempt = bench.shell(attack.script, files={"in.txt": "input"}, **{"seconds": 60, "processes": 64, **attack.limits})
    assert attempt.reason == attack.reason, log_of(attempt)
    assert attempt.log_path.stat().st_size < 128 << 10
    assert bench.executor.engine().ask("ps", "--all", "--quiet").stdout == ""
    if attack.reason != "ok":  # else it has just been seen that the worker goes on
        assert bench.shell("echo > out.txt", job="b2").reason == "ok"


def test_no_network(bench: ContainerBench) -> None:
    """Neither the host's loopback nor its abstract sockets can be reached, and there is no other interface."""
    attempt = bench.shell("ls /sys/class/net > out.txt; cat /proc/net/unix /proc/net/route >> out.txt")
    assert attempt.reason == "ok", log_of(attempt)
    assert attempt.outputs["out.txt"].read_text().split()[0] == "lo"
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        port = listener.getsockname()[1]
        attempt = bench.shell(f"busybox wget -T 2 -O got http://127.0.0.1:{port}/ && exit 9; echo > out.txt")
        assert attempt.reason == "ok", log_of(attempt)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    finally:
        listener.close()


def test_a_setuid_program_gives_nothing(bench: ContainerBench, busybox: bytes) -> None:
    content = next(content for entry, content in members(busybox) if entry.name == "bin/busybox")
    program = file("usr/busybox", content, 0o4755)
    image = bench.registry.name(bench.registry.shelf.image(busybox, layer([program])))
    attempt = bench.section({"image": image, "command": ["/bin/sh", "-c", "/usr/busybox id -u > out.txt"]})
    assert attempt.reason == "ok", log_of(attempt)
    assert attempt.outputs["out.txt"].read_text() == "1000\n"


def test_an_image_that_wants_root_and_volumes_gets_neither(bench: ContainerBench, busybox: bytes) -> None:
    settings = {"User": "root", "Volumes": {"/var/data": {}}}
    image = bench.registry.name(bench.registry.shelf.image(busybox, settings=settings))
    script = "id -u > out.txt; mount | busybox grep ' /var/data ' && exit 9; exit 0"
    attempt = bench.section({"image": image, "command": ["/bin/sh", "-c", script]})
    if bench.executor.engine().kind == "docker":
        assert (attempt.reason, "volumes" in attempt.detail) == ("image_invalid", True)
    else:
        assert attempt.reason == "ok", log_of(attempt)
        assert attempt.outputs["out.txt"].read_text() == "1000\n"


DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"image": "docker.io/library/python:3.12"}, "by digest"),
        ({"image": "docker.io/library/python"}, "by digest"),
        ({"image": f"docker.io/library/python:3.12@sha256:{DIGEST}"}, "without a tag"),
        ({"image": f"python@sha256:{DIGEST}"}, "with the registry"),
        ({"image": f"library/python@sha256:{DIGEST}"}, "must begin with a registry"),
        ({"image": f"docker.io/library/python@sha256:{DIGEST[1:]}"}, "64 hex digits"),
        ({"image": f"https://docker.io/python@sha256:{DIGEST}"}, "must be registry"),
        ({"image": f"docker.io/../python@sha256:{DIGEST}"}, "must be registry"),
        ({"privileged": True}, "no container is privileged"),
        ({"cap_add": ["SYS_ADMIN"]}, "all capabilities are dropped"),
        ({"network": "host"}, "there is no network"),
        ({"volumes": ["/:/host"]}, "nothing of the machine is shown"),
        ({"user": "root"}, "never as root"),
        ({"devices": ["/dev/mem"]}, "no other device"),
        ({"pid": "host"}, "its own processes"),
        ({"entrypoint": ["/usr/bin/sudo", "sh"]}, "asks for privileges"),
        ({"command": ["nsenter", "-t", "1"]}, "asks for privileges"),
        ({"environment": {"HF_TOKEN": "hf_x"}}, "sounds like a secret"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": "x"}}, "sounds like a secret"),
        ({"environment": {"A B": "x"}}, "container.environment"),
        ({"workdir": "job"}, "must be absolute"),
        ({"workdir": "/job/../.."}, "'..' is not allowed"),
        ({"command": []}, "container.command"),
    ],
)
def test_what_a_job_may_not_ask_for_is_refused_before_it_is_paid(
    tmp_path: Path, section: dict[str, Any], words: str
) -> None:
    path = tmp_path / "job.json"
    container = {"image": f"docker.io/library/python@sha256:{DIGEST}", **section}
    raw = {"version": 1, "name": "x", "runtime": "container", "inputs": [], "outputs": ["out"], "container": container}
    path.write_text(json.dumps(raw))
    with pytest.raises(BadInput) as caught:
        load_job_file(path)
    assert words in str(caught.value)


def test_names_that_only_resemble_secrets_are_fine() -> None:
    environment = {"TOKENIZERS_PARALLELISM": "false", "KEYBOARD": "us", "MONKEY": "1"}
    container = {"image": f"docker.io/library/python@sha256:{DIGEST}", "environment": environment}
    raw = {"version": 1, "name": "x", "runtime": "container", "inputs": [], "outputs": ["out"], "container": container}
    spec = JobSpec.model_validate(raw)
    assert spec.container is not None
    assert (spec.container.workdir, spec.container.command) == ("/job", None)
