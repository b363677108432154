# SPDX-License-Identifier: Apache-2.0
"""Jobs in real containers: what they get, what they leave, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpubond.errors import BadInput
from gpubond.jobs.spec import JobSpec
from gpubond.provider.executors.container import ContainerExecutor
from gpubond.provider.executors.container_engine import Engine, find_engine
from gpubond.provider.executors.leftovers import end_leftovers

from ..bench import log_of
from .bench import MIB, ContainerBench, remove_store
from .images import python_layer


def containers(engine: Engine) -> str:
    return engine.ask("ps", "--all", "--quiet").stdout


def test_inputs_come_in_and_outputs_come_out(bench: ContainerBench) -> None:
    attempt = bench.shell(
        "wc -c < data/in.txt > sub/out.txt; echo done; echo problem >&2",
        files={"data/in.txt": "twelve bytes"},
        outputs=["sub/out.txt"],
    )
    assert (attempt.reason, attempt.exit_code) == ("ok", 0), log_of(attempt)
    assert attempt.outputs["sub/out.txt"].read_text() == "12\n"
    assert "done\nproblem\n[gpubond] ended" in log_of(attempt)
    assert attempt.device == "cpu"
    assert containers(bench.executor.engine()) == ""


def test_a_program_is_an_unprivileged_user_in_an_empty_place(bench: ContainerBench) -> None:
    attempt = bench.shell("id -u; pwd; env; cat /proc/self/status; cat /etc/resolv.conf; echo > out.txt")
    said = log_of(attempt)
    assert said.startswith("[gpubond] ")
    assert "\n1000\n/job\n" in said
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in said
    names = {line.partition("=")[0] for line in said.splitlines() if "=" in line and " " not in line}
    assert not names & set(os.environ) - {"PATH", "HOME", "HOSTNAME", "PWD", "SHLVL", "TERM", "OMP_NUM_THREADS"}


def test_entrypoint_environment_and_workdir(bench: ContainerBench) -> None:
    section = {
        "entrypoint": ["/bin/sh", "-c"],
        "command": ['echo "$WHO $(pwd)" > /job/out.txt'],
        "environment": {"WHO": 'a, "b" = c'},
        "workdir": "/tmp",  # noqa: S108 - the container's own
    }
    attempt = bench.section(section)
    assert attempt.reason == "ok", log_of(attempt)
    assert attempt.outputs["out.txt"].read_text() == 'a, "b" = c /tmp\n'


def test_the_images_own_program_runs_where_none_is_named(bench: ContainerBench, busybox: bytes) -> None:
    settings = {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo $OF > out.txt"], "Env": ["PATH=/bin", "OF=image"]}
    image = bench.registry.name(bench.registry.shelf.image(busybox, settings=settings))
    attempt = bench.section({"image": image})
    assert attempt.reason == "ok", log_of(attempt)
    assert attempt.outputs["out.txt"].read_text() == "image\n"


def test_a_python_image(bench: ContainerBench) -> None:
    image = bench.registry.name(bench.registry.shelf.image(python_layer()))
    bench.executor = bench.with_limits(512 * MIB, 1024 * MIB)
    attempt = bench.section(
        {"image": image, "command": ["/usr/bin/python", "-I", "sum.py"]},
        files={"sum.py": "import json, math\njson.dump(math.fsum([0.1] * 10), open('out.txt', 'w'))\n"},
    )
    assert attempt.reason == "ok", log_of(attempt)
    assert json.loads(attempt.outputs["out.txt"].read_text()) == 1.0


@pytest.mark.parametrize(
    ("script", "reason", "code"),
    [
        ("exit 7", "nonzero_exit", 7),
        ("exit 125", "nonzero_exit", 125),
        ("sh -c 'kill -KILL $$'; exit $?", "nonzero_exit", 137),
        ("true", "output_missing", 117),
    ],
)
def test_how_a_program_ends(bench: ContainerBench, script: str, reason: str, code: int) -> None:
    attempt = bench.shell(script)
    assert (attempt.reason, attempt.exit_code) == (reason, code), log_of(attempt)
    assert f"{reason}: " in log_of(attempt)


def test_a_program_that_the_image_lacks(bench: ContainerBench) -> None:
    attempt = bench.section({"command": ["/bin/missing"]})
    # 126 from a rootless runc.
    assert attempt.reason == "nonzero_exit" and attempt.exit_code in (126, 127)
    assert "no such program" in attempt.detail


def test_an_input_of_another_size_than_stated(bench: ContainerBench) -> None:
    spec = bench.spec({"command": ["/bin/true"]}, files={"in.txt": "abc"})
    raw = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    raw["inputs"][0]["size"] = 4
    attempt = bench.executor.run("a1", JobSpec.model_validate(raw), bench.blobs, cancel=bench.cancel)
    assert attempt.reason == "input_invalid"
    with pytest.raises(BadInput):
        bench.executor.run("../a1", spec, bench.blobs, cancel=bench.cancel)


def test_a_cancelled_job_ends(bench: ContainerBench) -> None:
    spec = bench.spec({"command": ["/bin/sh", "-c", "trap '' TERM; echo up; while true; do sleep 1; done"]})

    def on_log(piece: bytes) -> None:
        if b"up" in piece.splitlines():
            bench.cancel.set()

    attempt = bench.executor.run("a1", spec, bench.blobs, cancel=bench.cancel, on_log=on_log)
    assert attempt.reason == "cancelled"
    assert containers(bench.executor.engine()) == ""


def test_a_job_that_is_cancelled_before_it_begins(bench: ContainerBench) -> None:
    bench.cancel.set()
    attempt = bench.shell("echo > out.txt")
    assert attempt.reason == "cancelled"
    assert containers(bench.executor.engine()) == ""


_WORKER = """
import sys, threading
from pathlib import Path
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.spec import JobSpec
from gpubond.provider.executors.container import ContainerExecutor
root, store, registry, spec = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
executor = ContainerExecutor(
    root / "work", store, private_registries=[registry], max_image_bytes=1 << 26, cache_bytes=1 << 27,
    image_seconds=120
)
def show(piece):
    sys.stdout.buffer.write(piece); sys.stdout.buffer.flush()
executor.run(
    "a1", JobSpec.model_validate_json(spec.read_bytes()), BlobStore(root / "store"), cancel=threading.Event(),
    on_log=show,
)
"""


def test_what_a_killed_worker_left_is_ended_by_the_next(bench: ContainerBench, tmp_path: Path) -> None:
    engine = bench.executor.engine()
    spec = tmp_path / "spec.json"
    spec.write_bytes(bench.spec({"command": ["/bin/sh", "-c", "echo up; exec sleep 1000"]}).canonical())
    arguments = [str(tmp_path), str(engine.store), bench.registry.host, str(spec)]
    worker = subprocess.Popen([sys.executable, "-c", _WORKER, *arguments], stdout=subprocess.PIPE)
    try:
        assert worker.stdout is not None
        while worker.stdout.readline() != b"up\n":
            assert worker.poll() is None
        # A worker that lives is left alone.
        assert bench.executor.end_leftovers() == 0
        assert containers(engine) != ""
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        # As the worker does it: first what bears the mark (the engine's own processes and the container's), then its
        # record.
        assert end_leftovers(bench.executor.root) > 0
        assert bench.executor.end_leftovers() == 1
        assert containers(engine) == ""
        assert bench.shell("echo > out.txt").reason == "ok"
    finally:
        worker.kill()
        worker.wait()


def test_what_a_worker_killed_while_it_fetched_left_is_deleted(bench: ContainerBench, busybox: bytes) -> None:
    bench.shell("echo > out.txt")
    engine = bench.executor.engine()
    left = engine.store / "fetch-of-a-dead-worker"
    left.mkdir()
    (left / "layer").write_bytes(b"x")
    (engine.store / "unlisted.tar").write_bytes(busybox)
    unlisted = engine.ask("import", str(engine.store / "unlisted.tar")).stdout.strip()
    assert engine.ask("image", "inspect", unlisted, check=False).returncode == 0
    bench.executor.end_leftovers()
    assert not left.exists()
    assert engine.ask("image", "inspect", unlisted, check=False).returncode != 0
    assert "the image is here already" in log_of(bench.shell("echo > out.txt"))


def test_two_jobs_at_once_see_nothing_of_each_other(bench: ContainerBench) -> None:
    ended = threading.Event()
    script = "echo up; ps; ls /job > out.txt; while [ ! -e /job/never ]; do sleep 1; done"
    spec = bench.spec({"command": ["/bin/sh", "-c", script]})
    first_cancel = threading.Event()
    up = threading.Event()

    def first() -> None:
        bench.executor.run(
            "a1", spec, bench.blobs, cancel=first_cancel, on_log=lambda piece: up.set() if b"up" in piece else None
        )
        ended.set()

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert up.wait(60)
        attempt = bench.shell("ps > out.txt; ls / /job >> out.txt", job="b2")
        assert attempt.reason == "ok", log_of(attempt)
        assert "never" not in attempt.outputs["out.txt"].read_text()
        assert not ended.is_set()
    finally:
        first_cancel.set()
        thread.join()


def test_no_folder_on_the_way_is_opened_for_others(bench: ContainerBench, tmp_path: Path) -> None:
    home = tmp_path / "private"
    home.mkdir(mode=0o700)
    executor = ContainerExecutor(
        home / "work",
        home / "containers",
        private_registries=[bench.registry.host],
        max_image_bytes=64 * MIB,
        cache_bytes=64 * MIB,
        image_seconds=120,
        engine="podman",
    )
    spec = bench.spec({"command": ["/bin/sh", "-c", "echo > out.txt"]})
    try:
        attempt = executor.run("a1", spec, bench.blobs, cancel=bench.cancel)
        assert attempt.reason == "ok", log_of(attempt)
        assert home.stat().st_mode & 0o777 == 0o700
        assert (home / "containers").stat().st_mode & 0o777 == 0o700
    finally:
        remove_store(executor.engine())


def test_the_engine_is_asked_once(bench: ContainerBench, engine_store: Path) -> None:
    bench.executor.check()
    engine = find_engine(engine_store, "podman")
    assert engine is bench.executor.engine()
    assert engine.version[0].isdigit()
