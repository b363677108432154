# SPDX-License-Identifier: Apache-2.0
"""`gpubond exact` as it is typed: what it prints, what it leaves, and with which exit code it ends."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gpubond.cli.main import main
from gpubond.exact import c_library, measure
from gpubond.exact.checkpoints import checkpoint_path
from gpubond.exact.manifest import JOURNAL
from gpubond.exact.tensors import DATA, STATE, write_tensors

from .small import flip, learner_task, walker_task

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A program that learns, its files beside it."""
    task = learner_task()
    (tmp_path / "learn.gpx").write_bytes(task.program.encode())
    (tmp_path / "learn.json").write_text('{"metrics": {"loss": "state.1"}}')
    write_tensors(tmp_path / "initial.safetensors", STATE, task.initial)
    write_tensors(tmp_path / "data.safetensors", DATA, task.data)
    return tmp_path


def typed(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and error of a command line."""
    with pytest.raises(SystemExit) as ended:
        main.main([str(word) for word in words], prog_name="gpubond")
    seen = capsys.readouterr()
    return int(ended.value.code or 0), seen.out, seen.err


def document(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> Any:
    found, out, _ = typed(capsys, *words, "--json")
    assert found == code, out
    return json.loads(out)


def run_words(folder: Path, *more: object) -> tuple[object, ...]:
    return ("exact", "run", folder / "learn.gpx", "--steps", 4, "--interval", 2, "--to", folder / "run", *more)


def test_run_trace_verify_and_a_flipped_bit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = document(capsys, 0, *run_words(folder))
    assert Path(made["state"]) == checkpoint_path(folder / "run", 4)
    assert made["metrics"].keys() == {"loss"}
    program = ("--program", folder / "learn.gpx")
    right = document(capsys, 0, "exact", "verify", folder / "run", *program)
    assert (right["run"], right["difference"], right["end"]) == (made["run"], None, 4)
    where = ("--step", 3, "--op", 0, "--element", 4)
    document(capsys, 0, "exact", "trace", folder / "run", *program, *where)
    shutil.copytree(folder / "run", folder / "copy")
    flip(folder / "copy" / "trace" / "step-3" / "op-0-element-4.safetensors", -4 * 7)
    wrong = document(capsys, 10, "exact", "verify", folder / "copy", *program)
    found = wrong["difference"]
    assert (found["step"], found["op"], found["element"], found["micro_step"]) == (3, 0, 4, 521 - 7)
    assert wrong["error"]["code"] == "differs"
    code, _, told = typed(capsys, "exact", "verify", folder / "copy", *program)
    assert code == 10
    for word in ("step 3", "operation 0 (MATMUL_NT)", "element 4", "micro-step 514", found["ours"], found["theirs"]):
        assert word in told
    code, out, _ = typed(capsys, "exact", "verify", folder / "run", *program, "--first", 1)
    assert code == 0
    assert "steps 2 to 4 of 4" in out and "Every bit agrees." in out


@pytest.mark.parametrize("kind", ["c", "numpy", "reference"])
def test_every_engine_gives_the_same_run(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = document(capsys, 0, *run_words(folder, "--engine", kind))
    code, out, _ = typed(capsys, "exact", "verify", folder / "run", "--program", folder / "learn.gpx")
    assert code == 0 and made["run"] in out
    assert made["engine"].startswith(kind)


def test_a_finished_run_is_shown_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = document(capsys, 0, *run_words(folder))
    code, out, _ = typed(capsys, *run_words(folder))
    assert code == 0
    assert made["run"] in out and made["statement"] in out


def test_inspect_shows_programs_tensors_and_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = document(capsys, 0, "exact", "inspect", folder / "learn.gpx")
    assert [row["operation"] for row in program["ops"]][:3] == ["MATMUL_NT", "SUM", "SUM"]
    assert program["ops"][0]["fmas"] == 3 * 2 * 520
    assert program["ops"][0]["inputs"] == ["data.0", "state.0"]
    assert program["state"][1] == {"shape": [], "next": "op.2"}
    made = document(capsys, 0, *run_words(folder))
    assert program["program"] == made["program"]
    state = document(capsys, 0, "exact", "inspect", folder / "initial.safetensors")
    assert state["state"] == made["initial"]
    assert document(capsys, 0, "exact", "inspect", folder / "data.safetensors")["data"] == made["data"]
    shown = document(capsys, 0, "exact", "inspect", folder / "run")
    assert (shown["run"], shown["agrees_with_itself"]) == (made["run"], True)
    assert document(capsys, 0, "exact", "inspect", folder / "run" / "manifest.json") == shown
    for path in ("learn.gpx", "initial.safetensors", "run"):
        code, out, _ = typed(capsys, "exact", "inspect", folder / path)
        assert code == 0
        assert made["program" if path != "initial.safetensors" else "initial"] in out
    lie = json.loads((folder / "run" / "manifest.json").read_text()) | {"run": "ab" * 32}
    (folder / "run" / "manifest.json").write_text(json.dumps(lie))
    assert "not that of its own checkpoints" in typed(capsys, "exact", "inspect", folder / "run")[1]


@pytest.mark.parametrize(
    ("words", "code", "field"),
    [
        ("run absent.gpx --steps 1 --to {run}", 3, "file"),
        ("run {program} --steps 0 --to {run}", 2, "--steps"),
        ("run {program} --steps 1 --state {data} --to {run}", 2, "data.safetensors.state.0"),
        ("run {program} --steps 1 --data {state} --to {run}", 2, "initial.safetensors.data.0"),
        ("run {program} --steps 1 --to {folder}", 2, "folder"),
        ("run {state} --steps 1 --to {run}", 2, "program.length"),
        ("run {program} --steps 1 --to {program}", 2, "--to"),
        ("run {program} --steps 1000000000000 --interval 1 --to {run}", 5, "disk"),
        ("run {large} --steps 1 --memory-mib 1 --to {run}", 5, "memory"),
        ("verify {folder} --program {program}", 3, "file"),
        ("inspect absent.gpx", 3, "file"),
        ("inspect {folder}", 3, "file"),
        ("inspect {names}", 2, "PATH"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_begins(
    words: str, code: int, field: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "large.gpx").write_bytes(walker_task(1, 1, size=1 << 20).program.encode())
    names = {"program": "learn.gpx", "large": "large.gpx", "state": "initial.safetensors", "data": "data.safetensors"}
    places = {name: folder / path for name, path in names.items()}
    places |= {"folder": folder, "names": folder / "learn.json", "run": folder / "fresh"}
    before = sorted(folder.iterdir())
    found = document(capsys, code, "exact", *words.format(**places).split())
    assert found["error"]["field"] == field, found
    assert found["error"]["remedy"]
    assert sorted(item for item in folder.iterdir() if item.name != "lock") == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_between_steps_and_it_goes_on(number: int, tmp_path: Path) -> None:
    task = walker_task(1, 1)
    (tmp_path / "walk.gpx").write_bytes(task.program.encode())
    write_tensors(tmp_path / "initial.safetensors", STATE, task.initial)
    words = ["exact", "run", str(tmp_path / "walk.gpx"), "--steps", "400", "--interval", "5", "--engine", "reference"]
    command = [sys.executable, "-m", "gpubond.cli.main", *words, "--to"]
    process = subprocess.Popen([*command, str(tmp_path / "run")], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "run" / JOURNAL
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 3):
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "it goes on from the newest checkpoint" in told
    for name in ("run", "whole"):
        subprocess.run([*command, str(tmp_path / name)], cwd=ROOT, check=True, timeout=120, capture_output=True)
    assert (tmp_path / "run" / "manifest.json").read_bytes() == (tmp_path / "whole" / "manifest.json").read_bytes()


@pytest.mark.skipif(not c_library.available(), reason="neither library nor compiler of the C engine is here")
def test_bench_measures_what_it_is_asked_to(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("exact", "bench", "--seconds", 0.01, "--threads", 1, "--only", "perceptron", "--only", "products")
    found = document(capsys, 0, *words)
    sizes = found["products"]["1"]["sizes"]
    assert [tuple(map(int, size.split("x"))) for size in sizes] == list(measure.SHORT)
    assert all(each["ours_gflops"] > 0 and each["openblas_gflops"] > 0 for each in sizes.values())
    assert found["networks"].keys() == {"perceptron"}
    assert found["networks"]["perceptron"]["1"]["trace_over_step"] > 1
    code, out, _ = typed(capsys, *words)
    assert code == 0 and "1024 x 1024 x 1024" in out and "perceptron" in out


def test_bench_of_an_instruction_set_that_there_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUBOND_EXACT_SET", "altivec")
    assert document(capsys, 2, "exact", "bench")["error"]["field"] == "instructions"
