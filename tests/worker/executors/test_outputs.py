# SPDX-License-Identifier: Apache-2.0
"""Outputs as a hostile job may leave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpubond.errors import BadInput
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider.executors import cgroups

from ..bench import Bench, log_of


def test_outputs_are_handed_over_read_only(bench: Bench) -> None:
    script = "open('a/b/c.txt', 'w').write('deep'); open('out.txt', 'w').write('flat')"
    attempt = bench.python(script, outputs=["out.txt", "a/b/c.txt"])
    assert attempt.reason is Reason.OK, log_of(attempt)
    assert {path: file.read_text() for path, file in attempt.outputs.items()} == {
        "out.txt": "flat",
        "a/b/c.txt": "deep",
    }
    for file in attempt.outputs.values():
        assert file.stat().st_mode & 0o777 == 0o400
        assert not file.is_relative_to(bench.root / "work" / "a1" / "job")


def test_missing_output_is_named(bench: Bench) -> None:
    attempt = bench.python("open('out.txt', 'w')", outputs=["out.txt", "second.txt"])
    assert (attempt.reason, attempt.exit_code) == (Reason.OUTPUT_MISSING, 117)
    assert "second.txt" in attempt.detail
    assert "second.txt" in log_of(attempt)
    assert attempt.outputs == {}


@pytest.mark.parametrize(
    "script",
    [
        "import os; os.symlink({secret!r}, 'd/out.txt')",
        "import os; os.symlink('/etc/ld.so.cache', 'd/out.txt')",
        "import os; open('d/real', 'w'); os.symlink('real', 'd/out.txt')",
        "import os; os.rmdir('d'); os.symlink({folder!r}, 'd')",
        "import os; os.mkdir('e'); open('e/out.txt', 'w'); os.rmdir('d'); os.symlink('e', 'd')",
        "import os; open('other', 'w'); os.link('other', 'd/out.txt')",
        "import os; os.mkfifo('d/out.txt')",
        "import os; os.mkdir('d/out.txt')",
        "import socket; socket.socket(socket.AF_UNIX).bind('d/out.txt')",
        "open('d/out.txt', 'w').truncate(65 << 20)",
        "import os; os.rmdir('d'); open('d', 'w')",
    ],
    ids=[
        "link to a secret",
        "link to a system file",
        "link to a file of the job",
        "directory is a link out",
        "directory is a link within",
        "hard link",
        "pipe",
        "directory",
        "socket",
        "sparse",
        "file for a directory",
    ],
)
def test_output_that_is_no_plain_file_is_refused(bench: Bench, tmp_path: Path, script: str) -> None:
    secret = tmp_path / "folder" / "out.txt"
    secret.parent.mkdir()
    secret.write_text("the worker's own")
    attempt = bench.python(script.format(secret=str(secret), folder=str(secret.parent)), outputs=["d/out.txt"])
    assert (attempt.reason, attempt.exit_code) == (Reason.OUTPUT_INVALID, 118), log_of(attempt)
    assert attempt.outputs == {}
    assert secret.read_text() == "the worker's own"


def test_exit_code_of_the_job_is_kept(bench: Bench) -> None:
    attempt = bench.python("import sys; open('out.txt', 'w'); sys.exit(42)")
    assert (attempt.reason, attempt.exit_code) == (Reason.NONZERO_EXIT, 42)
    assert attempt.outputs == {}
    killed = bench.python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    # Only control groups can tell that it was not for memory.
    known = "memory" in cgroups.find().directories
    expected = (Reason.NONZERO_EXIT, 137) if known else (Reason.KILLED, Reason.KILLED.exit_code)
    assert (killed.reason, killed.exit_code) == expected
    # The reserved codes mean nothing in a Python job: it may exit as it likes.
    claimed = bench.python("import sys; sys.exit(126)")
    assert (claimed.reason, claimed.reason.fault) == (Reason.NONZERO_EXIT, "workload")


def test_traceback_reaches_the_log(bench: Bench) -> None:
    attempt = bench.python("def f():\n    raise KeyError('lost')\nf()")
    assert attempt.reason is Reason.NONZERO_EXIT
    assert "KeyError: 'lost'" in log_of(attempt)
    assert "ended after" in log_of(attempt)


def test_input_of_another_size_than_stated(bench: Bench) -> None:
    spec = bench.spec("python", {"main.py": "open('out.txt', 'w')"}, outputs=["out.txt"], python={"script": "main.py"})
    data = spec.model_dump(by_alias=True, exclude_none=True)
    data["inputs"][0]["size"] += 1
    attempt = bench.executor.run("a1", JobSpec.model_validate(data), bench.blobs, cancel=bench.cancel)
    assert attempt.reason is Reason.INPUT_INVALID
    assert "main.py" in attempt.detail


def test_input_that_the_store_lacks(bench: Bench) -> None:
    spec = bench.spec("python", {"main.py": "open('out.txt', 'w')"}, outputs=["out.txt"], python={"script": "main.py"})
    bench.blobs.delete(spec.inputs[0].sha256)
    with pytest.raises(BadInput, match="not in the store"):
        bench.executor.run("a1", spec, bench.blobs, cancel=bench.cancel)
