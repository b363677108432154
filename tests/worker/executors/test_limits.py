# SPDX-License-Identifier: Apache-2.0
"""Jobs that want too much, or do not want to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from gpubond.errors import BadInput
from gpubond.jobs.reasons import Reason
from gpubond.provider.executors import usage

from ..bench import Bench, log_of


def marked(mark: str) -> list[int]:
    """Processes whose command line holds `mark`."""
    result = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if mark in (process.info["cmdline"] or []):
            result.append(process.info["pid"])
    return result


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_time_out_ends_a_job_that_ignores_signals(bench: Bench) -> None:
    mark = f"mark-{os.getpid()}-timeout"
    script = """
import os, signal, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
os.fork()
os.setsid() if os.getpid() != 2 else None
print("begun", flush=True)
while True:
    time.sleep(1)
"""
    attempt = bench.python(script, args=[mark], seconds=2)
    assert (attempt.reason, attempt.exit_code) == (Reason.TIMEOUT, 124)
    assert attempt.seconds >= 2
    assert attempt.outputs == {}
    assert "begun" in log_of(attempt)
    assert marked(mark) == []


def test_cancel_from_another_thread(bench: Bench) -> None:
    mark = f"mark-{os.getpid()}-cancel"
    spec = bench.spec(
        "python",
        {"main.py": "import time; print('begun', flush=True); time.sleep(600)"},
        outputs=["out.txt"],
        python={"script": "main.py", "args": [mark]},
    )
    begun = threading.Event()
    threading.Thread(target=lambda: (begun.wait(30), bench.cancel.set())).start()
    attempt = bench.executor.run(
        "a1", spec, bench.blobs, cancel=bench.cancel, on_log=lambda piece: begun.set() if b"begun" in piece else None
    )
    assert attempt.reason is Reason.CANCELLED
    assert attempt.exit_code != 0
    assert marked(mark) == []


def test_forks_stop_at_the_limit_and_all_end(bench: Bench) -> None:
    mark = f"mark-{os.getpid()}-forks"
    script = """
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(600)
        count += 1
except BlockingIOError:
    open("out.txt", "w").write(str(count))
"""
    attempt = bench.python(script, args=[mark], processes=20)
    assert attempt.reason is Reason.OK, log_of(attempt)
    assert 10 <= int(attempt.outputs["out.txt"].read_text()) < 20
    assert marked(mark) == []


@pytest.mark.parametrize(
    "script",
    [
        "f = open('big', 'wb')\nwhile True: f.write(bytes(1 << 20)); f.flush()",
        "n = 0\nwhile True:\n  n += 1\n  open(f'f{n}', 'wb').write(bytes(1 << 20))",
        "import os\nf = open('x', 'wb'); os.unlink('x'); h = [f]\nwhile True:\n"
        "  for i in range(3): f.write(bytes(1 << 20)); f.flush()\n"
        "  f = open('x', 'wb'); os.unlink('x'); h.append(f)",
        "n = 0\nwhile True: n += 1; open(f'f{n}', 'w')",
        "import os\nwhile True: os.mkdir('d'); os.chdir('d')",
    ],
    ids=["one file", "many files", "deleted files", "empty files", "deep directories"],
)
def test_disk_fillers_are_ended(bench: Bench, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MAX_FILES", 2000)
    attempt = bench.python(script, disk_mib=8)
    assert attempt.reason in (Reason.DISK_LIMIT, Reason.NONZERO_EXIT), log_of(attempt)
    if attempt.reason is Reason.NONZERO_EXIT:
        # The limit on one file's size came first: Python sees EFBIG.
        assert "File too large" in log_of(attempt)
    bench.executor.wipe("a1")
    assert list((bench.root / "work").iterdir()) == []


def test_disk_filled_quickly_just_before_the_end_counts(bench: Bench) -> None:
    script = "open('a', 'wb').write(bytes(5 << 20)); open('b', 'wb').write(bytes(5 << 20)); open('out.txt', 'w')"
    assert bench.python(script, disk_mib=8).reason is Reason.DISK_LIMIT
    assert bench.python(script, disk_mib=16).reason is Reason.OK


@pytest.mark.parametrize(
    "script",
    [
        "import numpy; numpy.ones(1 << 32)",
        "import os, time\nfor i in range(3): os.fork()\nx = bytearray(100 << 20)\ntime.sleep(600)",
        "import time\nf = open('/tmp/x', 'wb')\nf.write(bytes(60 << 20)); f.flush()\n"
        "g = open('/dev/shm/x', 'wb')\ng.write(bytes(60 << 20)); g.flush()\nx = bytearray(200 << 20)\ntime.sleep(600)",
    ],
    ids=["one allocation", "many processes", "tmpfs"],
)
def test_memory_beyond_the_limit_ends_the_job(bench: Bench, script: str) -> None:
    attempt = bench.python(script, memory_mib=256)
    assert (attempt.reason, attempt.exit_code) == (Reason.OUT_OF_MEMORY, 122), log_of(attempt)
    assert attempt.reason.fault == "workload"


def test_log_is_cut_at_its_limit_and_the_job_goes_on(bench: Bench) -> None:
    attempt = bench.python("print('x' * (1 << 20)); print('last'); open('out.txt', 'w').write('done')")
    assert attempt.reason is Reason.OK
    assert attempt.log_truncated
    assert attempt.log_path.stat().st_size < (64 << 10) + 500
    assert "log limit reached" in log_of(attempt)
    assert "last" not in log_of(attempt)
    assert not bench.python("print('short'); open('out.txt', 'w')").log_truncated


def test_log_flows_while_the_job_runs(bench: Bench) -> None:
    seen: list[str] = []

    def look(piece: bytes) -> None:
        # The job waits for this file, so it can only end if its line came through before.
        if b"ready" in piece:
            seen.append(log_path.read_text())
            (bench.root / "work" / "a1" / "job" / "go").touch()

    log_path = bench.executor.log_path("a1")
    script = """
import os, sys, time
print("ready")
print("to stderr", file=sys.stderr)
while not os.path.exists("go"):
    time.sleep(0.01)
open("out.txt", "w").write("x")
"""
    spec = bench.spec("python", {"main.py": script}, outputs=["out.txt"], python={"script": "main.py"})
    attempt = bench.executor.run("a1", spec, bench.blobs, cancel=bench.cancel, on_log=look)
    assert attempt.reason is Reason.OK
    assert seen
    assert "ready" in seen[0]
    assert log_of(attempt).splitlines()[:2] == ["ready", "to stderr"]


def test_daemons_that_a_job_leaves_behind_end_with_it(bench: Bench) -> None:
    mark = f"mark-{os.getpid()}-daemon"
    script = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
open("out.txt", "w").write("x")
"""
    attempt = bench.python(script, args=[mark])
    assert attempt.reason is Reason.OK
    assert attempt.seconds < 60
    assert marked(mark) == []


def test_sandbox_ends_when_the_worker_is_killed_and_the_next_attempt_starts_clean(bench: Bench, tmp_path: Path) -> None:
    mark = f"mark-{os.getpid()}-orphan"
    script = "import time; open('stale', 'w'); print('begun', flush=True); time.sleep(600)"
    spec = bench.spec("python", {"main.py": script}, outputs=["out.txt"], python={"script": "main.py", "args": [mark]})
    (tmp_path / "spec.json").write_bytes(spec.canonical())
    worker = """
import sys, threading
from pathlib import Path
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.spec import JobSpec
from gpubond.provider.executors.process import ProcessExecutor
root = Path(sys.argv[1])
spec = JobSpec.model_validate_json((root / "spec.json").read_bytes())
show = lambda piece: (sys.stdout.buffer.write(piece), sys.stdout.buffer.flush())
ProcessExecutor(root / "work").run("a1", spec, BlobStore(root / "store"), cancel=threading.Event(), on_log=show)
"""
    process = subprocess.Popen([sys.executable, "-c", worker, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    assert marked(mark)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert eventually(lambda: marked(mark) == [])
    # As the next worker does; here it finds nothing but the control groups.
    bench.executor.end_leftovers()
    assert (bench.root / "work" / "a1" / "job" / "stale").exists()
    attempt = bench.python("import os; open('out.txt', 'w').write(repr(sorted(os.listdir())))")
    assert attempt.outputs["out.txt"].read_text() == "['main.py', 'out.txt']"


@pytest.mark.parametrize("job", ["", "..", "a/b", "/tmp/x", "a\n", ".hidden", "x" * 81])  # noqa: S108
def test_job_id_unfit_for_a_directory_is_refused(bench: Bench, job: str) -> None:
    with pytest.raises(BadInput, match="not a job id"):
        bench.python("pass", job=job)
