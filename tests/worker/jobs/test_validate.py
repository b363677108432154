# SPDX-License-Identifier: Apache-2.0
"""A job file is checked whole, without key, node or home folder; a written job is one that passes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpubond.errors import BadInput
from gpubond.jobs.spec import load_job_file
from gpubond.jobs.template import COMPLETE, write_job
from gpubond.jobs.validate import validate_job_file

PROGRAM = [sys.executable, "-m", "gpubond.cli.main", "job"]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`gpubond job …` in a process whose home is empty."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=folder,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_job_for_a_container_names_an_image_by_digest(tmp_path: Path) -> None:
    image = f"docker.io/library/busybox@sha256:{'ab' * 32}"
    for wrong in (None, "docker.io/library/busybox:latest"):
        with pytest.raises(BadInput) as caught:
            write_job(tmp_path / "new", "container", wrong)
        assert (caught.value.field, "digest" in caught.value.message) == ("--image", True)
    with pytest.raises(BadInput):
        write_job(tmp_path / "new", "python", image)
    assert not (tmp_path / "new").exists()
    written = run(tmp_path, "init", "--template", "container", "--image", image, "new")
    assert written.returncode == 0, written
    checked = run(tmp_path, "validate", "new/job.json", "--json")
    assert checked.returncode == 0, checked
    spec, files = load_job_file(tmp_path / "new" / "job.json")
    assert spec.container is not None and spec.container.image == image
    assert len(files) == 2


@pytest.mark.parametrize("template", COMPLETE)
def test_a_written_job_is_valid_and_nothing_is_replaced(template: str, tmp_path: Path) -> None:
    written = run(tmp_path, "init", "--template", template, "new/job")
    assert written.returncode == 0, written
    assert "Next: `gpubond job validate new/job/job.json`" in written.stdout
    before = {path: path.read_bytes() for path in (tmp_path / "new" / "job").iterdir()}
    assert len(before) == (5 if template == "exact" else 3)
    again = run(tmp_path, "init", "new/job", "--json")
    assert again.returncode == 2
    error = json.loads(again.stdout)["error"]
    assert error["field"] == "DIR" and error["remedy"]
    assert {path: path.read_bytes() for path in (tmp_path / "new" / "job").iterdir()} == before

    checked = run(tmp_path, "validate", "new/job/job.json", "--json")
    assert checked.returncode == 0, checked
    document = json.loads(checked.stdout)
    spec, files = load_job_file(tmp_path / "new" / "job" / "job.json")
    assert document["spec_hash"] == spec.hash().hex()
    assert document["spec_bytes"] == len(spec.canonical())
    assert document["input_bytes"] == sum(path.stat().st_size for path in files.values())
    shown = run(tmp_path, "validate", "new/job/job.json")
    assert shown.returncode == 0 and spec.hash().hex() in shown.stdout
    # No home folder came into being.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


def test_one_file_in_the_way_is_enough(tmp_path: Path) -> None:
    (tmp_path / "square.py").write_text("mine")
    with pytest.raises(BadInput, match="replaced"):
        write_job(tmp_path, "python")
    assert [path.name for path in tmp_path.iterdir()] == ["square.py"]


def write(folder: Path, **changes: Any) -> Path:
    path = write_job(folder / "job", "python")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        colour="red",
        limits={"seconds": "60", "memory_mib": 1},
        inputs=[{"path": "square.py"}, {"path": "gone.npy"}, {"path": "numbers.npy", "sha256": "00" * 32}, 7],
        outputs=["/etc/passwd"],
    )
    report = validate_job_file(path)
    assert not report.ok and report.spec is None
    fields = [problem.field for problem in report.problems]
    for field in ("colour", "limits.seconds", "limits.memory_mib", "inputs.1.path", "inputs.2.sha256", "outputs.0"):
        assert field in fields, fields
    assert len(fields) == len(set(fields))
    assert all(problem.remedy for problem in report.problems)
    ran = run(tmp_path, "validate", str(path), "--json")
    assert ran.returncode == 2
    document = json.loads(ran.stdout)
    assert [problem["field"] for problem in document["problems"]] == fields
    text = run(tmp_path, "validate", str(path))
    assert text.returncode == 2 and "Nothing is wrong" not in text.stdout
    assert all(str(field) in text.stderr for field in fields)


@pytest.mark.parametrize("content", ["{", "[]", "7", '{"a": 1, "a": 2}', "[" * 1000, "\x00"])
def test_what_is_no_job_file_at_all(content: str, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(content)
    report = validate_job_file(tmp_path / "job.json")
    assert len(report.problems) >= 1
    assert all(problem.field and problem.remedy for problem in report.problems)
    assert not validate_job_file(tmp_path / "none.json").ok


def test_cuda_source_is_compiled(tmp_path: Path) -> None:
    path = write_job(tmp_path, "cuda")
    source = tmp_path / "square.cu"
    source.write_text(source.read_text().replace("number * number", "nonsense"))
    (problem,) = validate_job_file(path).problems
    assert problem.field == "cuda.source"
    assert "nonsense" in problem.message and "square.cu" in problem.message


def test_the_library_has_the_names_of_the_commands() -> None:
    import gpubond
    from gpubond.cli.job import group

    commands = set(group.commands) - {"reasons"}
    assert {"init", "validate", "quote", "submit", "status", "logs", "fetch", "cancel", "release", "list"} <= commands
    assert [name for name in commands if not callable(getattr(gpubond.Buyer, name, None))] == []


def test_the_package_is_imported_without_what_only_the_buyer_needs() -> None:
    check = (
        "import sys, gpubond; assert 'web3' not in sys.modules; from gpubond import Buyer; assert 'web3' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
