# SPDX-License-Identifier: Apache-2.0
"""The same with docker, where its daemon is installed: one of the test's own, which no container of others is in."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubond.errors import MissingTool
from gpubond.provider.executors.container_engine import find_engine

from ..bench import log_of
from .bench import ContainerBench, remove_store
from .images import RegistryServer


@pytest.fixture(scope="module")
def docker_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    program = shutil.which("dockerd")
    if program is None or os.geteuid() != 0:
        pytest.skip("dockerd is not installed, or this is not root")
    root = tmp_path_factory.mktemp("docker")
    options = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--data-root", str(root / "data")]
    options += ["--exec-root", str(root / "exec"), "--pidfile", str(root / "pid"), "-H", f"unix://{root}/socket"]
    with (root / "log").open("wb") as log:
        daemon = subprocess.Popen([program, *options], stdout=log, stderr=log)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", f"unix://{root}/socket")
            deadline = time.monotonic() + 60
            while "API listen on" not in (root / "log").read_text() and time.monotonic() < deadline:
                if daemon.poll() is not None:
                    pytest.skip("dockerd does not run here")
                time.sleep(0.05)
            store = root / "store"
            try:
                engine = find_engine(store, "docker")
            except MissingTool as missing:
                pytest.skip(f"docker does not work here: {missing.message}")
            yield store
            remove_store(engine)
    finally:
        daemon.terminate()
        daemon.wait()


@pytest.fixture
def docker(tmp_path: Path, docker_store: Path, registry: RegistryServer, busybox: bytes) -> ContainerBench:
    return ContainerBench(tmp_path, docker_store, registry, registry.name(registry.shelf.image(busybox)), "docker")


def test_a_job_runs_in_docker(docker: ContainerBench) -> None:
    attempt = docker.shell(
        "cat in/a > out.txt; id -u; ls /sys/class/net; grep -E 'CapEff|Bnd|NoNew' /proc/self/status;"
        " (echo > /bin/x); exit 0",
        files={"in/a": "input"},
    )
    said = log_of(attempt)
    assert attempt.reason == "ok", said
    assert attempt.outputs["out.txt"].read_text() == "input"
    assert "2000001000\nlo\n" in said
    assert "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1" in said
    assert "Read-only file system" in said
    assert docker.executor.engine().kind == "docker"


@pytest.mark.parametrize(
    ("script", "limits", "reason"),
    [
        ("exit 7", {}, "nonzero_exit"),
        ("x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done", {"memory_mib": 256}, "out_of_memory"),
        ("bomb() { bomb | bomb & }; bomb; sleep 60", {"seconds": 3}, "timeout"),
        ("trap '' TERM; while true; do sleep 1; done", {"seconds": 2}, "timeout"),
        ("dd if=/dev/zero of=x bs=1M; sleep 30", {"disk_mib": 16}, "disk_limit"),
        ("ln -s /etc/passwd out.txt", {}, "output_invalid"),
    ],
)
def test_how_a_job_ends_in_docker(docker: ContainerBench, script: str, limits: dict[str, int], reason: str) -> None:
    attempt = docker.shell(script, **limits)
    assert attempt.reason == reason, log_of(attempt)
    assert docker.executor.engine().ask("ps", "--all", "--quiet").stdout == ""


def test_a_program_that_the_image_lacks_in_docker(docker: ContainerBench) -> None:
    attempt = docker.section({"command": ["/bin/missing"]})
    assert (attempt.reason, attempt.exit_code) == ("nonzero_exit", 127), log_of(attempt)


def test_an_entrypoint_and_a_cancel_in_docker(docker: ContainerBench) -> None:
    attempt = docker.section(
        {"entrypoint": ["/bin/sh", "-c"], "command": ["echo $A > out.txt"], "environment": {"A": "b"}}
    )
    assert attempt.reason == "ok", log_of(attempt)
    spec = docker.spec({"command": ["/bin/sh", "-c", "echo up; exec sleep 1000"]})
    cancel = threading.Event()
    attempt = docker.executor.run(
        "b2", spec, docker.blobs, cancel=cancel, on_log=lambda piece: cancel.set() if b"up\n" in piece else None
    )
    assert attempt.reason == "cancelled"


def test_volumes_are_refused_in_docker(docker: ContainerBench, busybox: bytes) -> None:
    shelf = docker.registry.shelf
    image = docker.registry.name(shelf.image(busybox, settings={"Volumes": {"/data": {}}}))
    attempt = docker.section({"image": image, "command": ["/bin/true"]})
    assert (attempt.reason, "volumes" in attempt.detail) == ("image_invalid", True)
