# SPDX-License-Identifier: Apache-2.0
"""What a stranger's container tries, each in a real one: contained, reported with a reason, and the worker goes on."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from gpubond.errors import BadInput
from gpubond.jobs.spec import JobSpec, load_job_file

from ..bench import log_of
from ..executors.attack_table import Attack, all_attacks
from ..executors.attacks import expected_outcome, outcome_of
from .bench import ContainerBench
from .image_attacks import IMAGE_ATTACKS, ImageAttack
from .images import file, layer, members


@pytest.mark.parametrize("attack", all_attacks(), ids=lambda attack: attack.name)
def test_an_attack_is_contained(bench: ContainerBench, attack: Attack) -> None:
    assert outcome_of(bench, attack) == expected_outcome(attack).container
    assert bench.executor.engine().ask("ps", "--all", "--quiet").stdout == ""


@pytest.mark.parametrize("attack", IMAGE_ATTACKS, ids=lambda attack: attack.name)
def test_what_a_job_brings_and_asks_for_is_contained(bench: ContainerBench, attack: ImageAttack) -> None:
    assert attack.run(bench) == attack.expected
    assert bench.executor.engine().ask("ps", "--all", "--quiet").stdout == ""


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
