# SPDX-License-Identifier: Apache-2.0
"""What a job can see and reach: every test runs a real job that tries."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from gpubond.errors import BadSettings, MissingTool
from gpubond.jobs.reasons import Reason
from gpubond.provider.executors.process import ProcessExecutor
from gpubond.provider.executors.sandbox import python_roots

from ..bench import Bench, log_of

REPORT = "import json; json.dump(found, open('out.txt', 'w'))\n"


def found(bench: Bench, script: str, **arguments: object) -> object:
    """What the job's `found` holds at its end."""
    attempt = bench.python(script + "\n" + REPORT, **arguments)  # type: ignore[arg-type]
    assert attempt.reason is Reason.OK, log_of(attempt)
    return json.loads(attempt.outputs["out.txt"].read_text())


def test_no_network_not_even_the_hosts_loopback(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        # The server is there for others.
        socket.create_connection(("127.0.0.1", port)).close()
        script = """
import socket
found = {"interfaces": [name for _, name in socket.if_nameindex()]}
for host in ("127.0.0.1", "192.0.2.1"):
    try:
        socket.create_connection((host, int(sys.argv[1])), timeout=5)
        found[host] = "connected"
    except OSError as error:
        found[host] = error.errno
"""
        result = found(bench, "import sys" + script, args=[str(port)])
    assert result == {"interfaces": ["lo"], "127.0.0.1": 111, "192.0.2.1": 101}


def test_abstract_unix_sockets_of_the_host_are_out_of_reach(bench: Bench) -> None:
    name = f"\0gpubond-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        script = """
import socket, sys
try:
    socket.socket(socket.AF_UNIX).connect("\\0" + sys.argv[1])
    found = "connected"
except OSError as error:
    found = error.errno
"""
        assert found(bench, script, args=[name[1:]]) == 111


def test_home_store_and_other_files_of_the_host_are_invisible(bench: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    places = [str(secret), str(bench.blobs.root), str(bench.root / "work"), str(Path.home() / ".bashrc")]
    places += ["/home", "/var", "/etc/passwd", "/etc/shadow", "/sys", "/mnt", "/opt"]
    script = f"import os; found = [place for place in {places!r} if os.path.lexists(place)]"
    assert found(bench, script) == []
    # Of home there is at most the way to the interpreter.
    script = f"import os; home = {str(Path.home())!r}; found = os.listdir(home) if os.path.exists(home) else []"
    inside = {part for root in python_roots() if root.is_relative_to(Path.home()) for part in root.parts}
    assert set(found(bench, script)) <= inside  # type: ignore[call-overload]


def test_environment_of_the_worker_is_not_handed_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUBOND_SECRET", "s3cret")
    script = """
import os, glob
found = {"names": sorted(os.environ), "anywhere": any(
    b"s3cret" in open(path, "rb").read() for path in glob.glob("/proc/[0-9]*/environ"))}
"""
    result = found(bench, script)
    assert result == {
        "names": sorted(
            [
                *("PATH", "HOME", "TMPDIR", "LANG", "PWD"),
                *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
            ]
        ),
        "anywhere": False,
    }


def test_processes_of_the_host_are_invisible(bench: Bench) -> None:
    script = """
import os
found = sorted(open(f"/proc/{name}/comm").read().strip() for name in os.listdir("/proc") if name.isdigit())
"""
    # bubblewrap's first process, and the job.
    assert len(found(bench, script)) == 2  # type: ignore[arg-type]


def test_everything_but_the_job_and_tmp_is_read_only(bench: Bench) -> None:
    script = f"""
import errno, os
found = {{}}
for place in ["/", "/usr", "/usr/bin", "/etc", "/run/gpubond", "/dev", {str(python_roots()[-1])!r}]:
    try:
        open(os.path.join(place, "written"), "w")
        found[place] = "written"
    except OSError as error:
        found[place] = errno.errorcode[error.errno]
for place in ["/job", "/tmp", "/dev/shm"]:
    open(os.path.join(place, "written"), "w").write("x")
"""
    result = found(bench, script)
    assert isinstance(result, dict)
    assert set(result.values()) <= {"EROFS", "EACCES"}
    assert len(result) == 7


def test_inputs_cannot_be_changed_and_the_store_stays_whole(bench: Bench) -> None:
    script = """
import os
found = []
for attempt in (lambda: open("data/x", "w"), lambda: os.unlink("data/x"), lambda: os.rename("data/x", "y"),
                lambda: os.chmod("data/x", 0o777), lambda: os.truncate("data/x", 0)):
    try:
        attempt()
        found.append("done")
    except OSError:
        found.append("refused")
found.append(open("data/x").read())
"""
    assert found(bench, script, files={"data/x": "original"}) == ["refused"] * 5 + ["original"]
    [entry] = bench.add({"x": "original"})
    assert bench.blobs.path(entry["sha256"]).read_text() == "original"


def test_tmp_is_the_jobs_own_and_gone_afterwards(bench: Bench) -> None:
    marker = Path("/tmp", f"gpubond-{os.getpid()}")  # noqa: S108 - the question is whether it appears there
    script = f"import os; open({str(marker)!r}, 'w').write('x'); found = os.listdir('/tmp')"
    # A clone or Python below the host's /tmp has its mount points there, and nothing else of the host's appears.
    shown = (Path(path) for path in (sys.prefix, sys.base_prefix, __file__))
    mounts = {path.parts[2] for path in shown if path.is_relative_to("/tmp")}  # noqa: S108
    assert set(found(bench, script)) == mounts | {marker.name}
    assert not marker.exists()
    assert set(found(bench, "import os; found = os.listdir('/tmp')")) == mounts


def test_job_has_no_privileges_and_cannot_get_any(bench: Bench) -> None:
    script = """
import ctypes, os
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
libc = ctypes.CDLL(None, use_errno=True)
found = {
    "uid": os.getuid(), "gid": os.getgid(), "groups": [g for g in os.getgroups() if g != 65534],
    "capabilities": status["CapEff"].strip() + status["CapBnd"].strip(), "locked": status["NoNewPrivs"].strip(),
    "new user namespace": libc.unshare(0x10000000), "mount": libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
    "setuid": libc.setuid(0), "host name": os.uname().nodename,
    "handles": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
}
"""
    assert found(bench, script) == {
        "uid": 1000,
        "gid": 1000,
        "groups": [],
        "capabilities": "0" * 32,
        "locked": "1",
        "new user namespace": -1,
        "mount": -1,
        "setuid": -1,
        "host name": "job",
        "handles": [0, 1, 2],
    }


def test_outside_the_job_is_not_root(bench: Bench, tmp_path: Path) -> None:
    owners: list[int] = []
    done = threading.Event()

    def look(_: bytes) -> None:
        if not done.is_set():
            owners.append((bench.root / "work" / "a1" / "job" / "mine").stat().st_uid)
            done.set()

    script = "open('mine', 'w').write('x'); print('go', flush=True); open('out.txt', 'w')"
    spec = bench.spec("python", {"main.py": script}, outputs=["out.txt"], python={"script": "main.py"})
    attempt = bench.executor.run("a1", spec, bench.blobs, cancel=bench.cancel, on_log=look)
    assert attempt.reason is Reason.OK
    assert owners
    assert owners[0] != 0


def test_check_passes_here(bench: Bench) -> None:
    bench.executor.check()
    assert list((bench.root / "work").iterdir()) == []


def test_without_bubblewrap_nothing_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="not installed") as caught:
        bench.executor.check()
    assert "apt-get install bubblewrap" in str(caught.value)
    with pytest.raises(MissingTool):
        bench.python("open('out.txt', 'w')")


def test_bubblewrap_that_cannot_make_a_sandbox_is_reported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    (tools / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with pytest.raises(MissingTool, match="No permissions to create new namespace") as caught:
        bench.executor.check()
    assert "max_user_namespaces" in str(caught.value)
    attempt = bench.python("open('out.txt', 'w')")
    assert attempt.reason is Reason.SANDBOX_FAILURE
    assert attempt.reason.fault == "machine"


def test_worker_data_that_jobs_could_read_is_refused() -> None:
    with pytest.raises(BadSettings, match="must not lie below"):
        ProcessExecutor(python_roots()[-1] / "work").check()
