# SPDX-License-Identifier: Apache-2.0
"""Runs: what they leave, that they go on to the same bits after any stop, and what is refused before the start."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpubond.exact import commitments, tensors
from gpubond.exact.checkpoints import checkpoint_path
from gpubond.exact.engine import Array, OnOutput, Prepared
from gpubond.exact.manifest import JOURNAL, MANIFEST, Manifest, read_manifest
from gpubond.exact.memory import plan_memory, state_bytes
from gpubond.exact.metrics import METRICS, Metrics
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Progress, Stopped, Task, Unsteady, run

from .small import flip, learner_task, ready, run_to, walker, walker_task

ROOT = Path(__file__).resolve().parents[2]


def left(folder: Path) -> dict[str, bytes]:
    """All that a run left, but for the lock."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "lock"}


@pytest.fixture(scope="module")
def task() -> Task:
    return walker_task(steps=11, interval=3)


@pytest.fixture(scope="module")
def whole(task: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted run leaves."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_to(folder, task)
    return left(folder)


def test_a_run_is_its_steps_one_after_another(tmp_path: Path) -> None:
    task = learner_task(steps=5, interval=2)
    seen: list[Progress] = []
    manifest = run(ready(task), task, tmp_path / "run", watch=seen.append)
    prepared = ready(task)
    state: Any = task.initial
    states = []
    for step in range(5):
        state = prepared.step(state, task.data, step)
        states.append(state)
    assert [item.step for item in manifest.checkpoints] == [2, 4, 5]
    assert [item.state for item in manifest.checkpoints] == [commitments.state(states[at]) for at in (1, 3, 4)]
    assert manifest.run == commitments.run([item.state for item in manifest.checkpoints])
    assert read_manifest(tmp_path / "run") == manifest
    manifest.check(commitments.statement(task.program, task.initial, task.data, 5, 2))
    losses = [float(state[1]) for state in states]
    assert [item.metrics for item in seen] == [{}, *({"loss": loss} for loss in losses)]
    lines = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert lines == [{"step": at + 1, "loss": loss} for at, loss in enumerate(losses)]
    kept = tensors.read_state(checkpoint_path(tmp_path / "run", 5), task.program)
    assert [array.tobytes() for array in kept] == [array.tobytes() for array in states[-1]]


def test_a_run_that_has_ended_is_not_made_again(task: Task, whole: dict[str, bytes], tmp_path: Path) -> None:
    run_to(tmp_path / "run", task)
    seen: list[Progress] = []
    run(ready(task), task, tmp_path / "run", watch=seen.append)
    assert [item.step for item in seen] == [11]
    assert left(tmp_path / "run") == whole


@pytest.mark.parametrize("steps", range(12))
def test_a_run_that_was_stopped_goes_on(steps: int, task: Task, whole: dict[str, bytes], tmp_path: Path) -> None:
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > steps

    if steps < 11:
        with pytest.raises(Stopped) as stopped:
            run(ready(task), task, tmp_path / "run", stop=stop)
        assert stopped.value.step == steps
        begun = read_manifest(tmp_path / "run")
        assert (len(begun.checkpoints), begun.run) == (steps // 3, None)
    run_to(tmp_path / "run", task)
    assert left(tmp_path / "run") == whole


def in_child(work: Callable[[], object]) -> int | None:
    """Does something in a child process; how that ended."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    return child.exitcode


def run_until_write(folder: Path, task: Task, number: int, *, after: bool) -> None:
    """A run that kills its process at the so-many-th moment at which something becomes durable or gets its name."""
    count = 0

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments)
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return called

    os.fsync = dying(os.fsync)
    Path.replace = dying(Path.replace)  # type: ignore[method-assign]
    run_to(folder, task)


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_every_write_loses_nothing(after: bool, task: Task, whole: dict[str, bytes], tmp_path: Path) -> None:
    number, killed = 0, 0
    ended: int | None = -signal.SIGKILL
    while ended == -signal.SIGKILL:
        number += 1
        folder = tmp_path / str(number)
        ended = in_child(lambda folder=folder, number=number: run_until_write(folder, task, number, after=after))  # type: ignore[misc]
        killed += ended == -signal.SIGKILL
        run_to(folder, task)
        assert left(folder) == whole
    # Of each of the four checkpoints five, and those of journal and manifest.
    assert ended == 0 and killed >= 20


def test_a_run_that_is_killed_again_and_again_comes_to_the_same_end(tmp_path: Path) -> None:
    """A real process, real SIGKILLs at moments by chance, each once it has come further than the one before."""
    steps, interval = 240, 4
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "tests.exact.walk", str(folder), str(steps), str(interval)]
    chance = random.Random(3)  # noqa: S311
    kills = 0
    for _ in range(6):
        before = lines_of(folder)
        process = subprocess.Popen(command, cwd=ROOT)
        while process.poll() is None and lines_of(folder) < before + 3:
            time.sleep(0.002)
        time.sleep(chance.random() / 50)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 3
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    run_to(tmp_path / "whole", walker_task(steps, interval))
    assert left(folder) == left(tmp_path / "whole")


def lines_of(folder: Path) -> int:
    path = folder / JOURNAL
    return path.read_bytes().count(b"\n") if path.exists() else 0


def interrupted(folder: Path, task: Task) -> None:
    """A run that has taken ten of its steps."""
    left_steps = iter([False] * 10 + [True])
    with pytest.raises(Stopped):
        run(ready(task), task, folder, stop=lambda: next(left_steps))


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "empty"])
@pytest.mark.parametrize("files", [1, 2, 3])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(
    damage: str, files: int, task: Task, whole: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    interrupted(folder, task)
    for step in (9, 6, 3)[:files]:
        path = checkpoint_path(folder, step)
        if damage == "cut":
            os.truncate(path, path.stat().st_size - 1)
        elif damage == "flipped":
            flip(path, -1)
        elif damage == "gone":
            path.unlink()
        else:
            path.write_bytes(b"")
    seen: list[Progress] = []
    run(ready(task), task, folder, watch=seen.append)
    notes = [item for item in seen if item.note]
    assert [item.step for item in notes] == ([] if damage == "gone" else [9, 6, 3][:files])
    assert next(item.step for item in seen if not item.note) == 9 - 3 * files
    assert left(folder) == whole


def test_a_journal_whose_last_line_was_cut_off_at_any_place(
    task: Task, whole: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    interrupted(folder, task)
    journal = (folder / JOURNAL).read_bytes()
    last = journal.rstrip(b"\n").rindex(b"\n") + 1
    for length in range(last, len(journal)):
        (folder / JOURNAL).write_bytes(journal[:length])
        (folder / MANIFEST).unlink(missing_ok=True)
        run_to(folder, task)
        assert left(folder) == whole


def test_metrics_of_steps_that_do_not_count_are_cut(task: Task, whole: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    interrupted(folder, task)
    with (folder / METRICS).open("a") as stream:
        stream.write('{"step": 10, "count": 7}\n{"step": 11, "cou')
    run_to(folder, task)
    assert left(folder) == whole


class Trembling:
    """An engine whose memory is faulty: from some call on it gives other bits."""

    def __init__(self, inner: Prepared, calls: int) -> None:
        self.memory_bytes = inner.memory_bytes
        self._inner = inner
        self._calls = calls

    def step(self, state: Any, data: Any, step: int, on_output: OnOutput | None = None) -> list[Array]:
        self._calls -= 1
        found = self._inner.step(state, data, step, on_output)
        if self._calls < 0:
            found[0].view(np.uint32)[5] ^= 1
        return found


class Striding:
    """An engine that takes several steps at once, as a GPU does."""

    def __init__(self, inner: Prepared) -> None:
        self.memory_bytes = inner.memory_bytes
        self._inner = inner
        self.strides: list[int] = []

    def step(self, state: Any, data: Any, step: int, on_output: OnOutput | None = None) -> list[Array]:
        return self._inner.step(state, data, step, on_output)

    def steps(self, state: Any, data: Any, first: int, count: int) -> list[Array]:
        self.strides.append(count)
        for step in range(first, first + count):
            state = self._inner.step(state, data, step)
        return list(state)


@pytest.mark.parametrize(("every", "strides"), [(1, [1] * 11), (2, [2, 1, 1, 2, 2, 1, 1, 1]), (100, [3, 3, 3, 2])])
def test_steps_are_taken_together_up_to_the_next_checkpoint_or_metrics(
    every: int, strides: list[int], task: Task, whole: dict[str, bytes], tmp_path: Path
) -> None:
    seldom = Task(**(dict(vars(task)) | {"every": every}))
    engine = Striding(ready(task))
    run(engine, seldom, tmp_path / "run")
    assert engine.strides == strides
    found = left(tmp_path / "run")
    told = [json.loads(line)["step"] for line in found.pop(METRICS).splitlines()]
    assert told == [step for step in range(1, 12) if step % every == 0 or step == 11]
    assert found == {name: content for name, content in whole.items() if name != METRICS}
    run(ready(task), seldom, tmp_path / "stepwise")
    assert left(tmp_path / "stepwise").pop(METRICS) == (tmp_path / "run" / METRICS).read_bytes()


def test_metrics_each_no_step_are_refused(task: Task) -> None:
    with pytest.raises(Refused) as refused:
        Task(**(dict(vars(task)) | {"every": 0}))
    assert refused.value.field == "every"


def test_a_machine_that_computes_one_thing_in_two_ways_is_told(task: Task, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    interrupted(folder, task)
    flip(checkpoint_path(folder, 9), -1)
    with pytest.raises(Unsteady, match="after step 9"):
        run(Trembling(ready(task), 2), task, folder)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"steps": 12}, "journal.steps"),
        ({"interval": 4}, "journal.interval"),
        ({"initial": [np.ones(70, np.float32), *walker_task(1, 1).initial[1:]]}, "journal.initial"),
    ],
)
def test_the_folder_of_another_run_is_left_alone(
    other: dict[str, Any], field: str, task: Task, whole: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run_to(folder, task)
    changed = Task(**(dict(vars(task)) | other))
    with pytest.raises(Refused) as refused:
        run_to(folder, changed)
    assert refused.value.field == field
    assert left(folder) == whole


def test_a_folder_with_something_else_is_left_alone(task: Task, tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(Refused) as refused:
        run_to(tmp_path, task)
    assert refused.value.field == "folder"
    assert left(tmp_path) == {"letters.txt": b"mine"}


def test_two_processes_do_not_work_in_one_folder(task: Task, tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="another process"):
            run_to(tmp_path, task)
    run_to(tmp_path, task)


def test_more_memory_than_allowed_is_refused_before_anything_is_made(task: Task, tmp_path: Path) -> None:
    peak = plan_memory(task.program, ready(task)).peak
    assert peak >= 3 * state_bytes(task.program)
    with pytest.raises(Refused, match=str(peak)) as refused:
        run(ready(task), task, tmp_path / "run", memory_bytes=peak - 1)
    assert refused.value.field == "memory"
    assert not (tmp_path / "run").exists()
    run(ready(task), task, tmp_path / "run", memory_bytes=peak)


def test_a_disk_budget_holds_at_every_step(tmp_path: Path) -> None:
    task = walker_task(steps=20, interval=1)
    size = tensors.file_bytes([tensor.shape for tensor in task.program.state])
    for files in (3, 4, 5, 8, 19, 20):
        folder = tmp_path / str(files)
        most = 0

        def watch(progress: Progress, folder: Path = folder) -> None:
            nonlocal most
            sizes = []
            for path in folder.glob("checkpoint-*"):
                # Another thread writes and removes them meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    sizes.append(path.stat().st_size)
            most = max(most, sum(sizes))

        manifest = run(ready(task), task, folder, disk_bytes=files * size, watch=watch)
        watch(Progress(20, 20, {}))
        assert len(manifest.checkpoints) == 20
        assert most <= files * size
        kept = sorted(path.name for path in folder.glob("checkpoint-*"))
        assert {checkpoint_path(folder, step).name for step in (19, 20)} <= set(kept)
        assert len(kept) == 20 if files == 20 else 2 <= len(kept) < files


def test_a_disk_budget_that_is_too_small_is_refused(task: Task, tmp_path: Path) -> None:
    size = tensors.file_bytes([tensor.shape for tensor in task.program.state])
    with pytest.raises(Refused) as refused:
        run(ready(task), task, tmp_path / "run", disk_bytes=3 * size - 1)
    assert refused.value.field == "disk"
    assert str(3 * size) in refused.value.remedy


def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(task: Task, whole: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
        try:
            run_to(folder, task)
        except OSError:
            sys.exit(7)

    assert in_child(limited) == 7
    assert not list(folder.glob("*.part"))
    run_to(folder, task)
    assert left(folder) == whole


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ("{", "walk.json"),
        ("[]", "walk.json.metrics"),
        ('{"metrics": []}', "walk.json.metrics"),
        ('{"metrics": {"loss": 2}}', "walk.json.metrics.loss"),
        ('{"metrics": {"loss": "state.3"}}', "walk.json.metrics.loss"),
        ('{"metrics": {"loss": "state.0"}}', "walk.json.metrics.loss"),
    ],
)
def test_a_wrong_side_car_is_refused(raw: str, field: str, tmp_path: Path) -> None:
    (tmp_path / "walk.json").write_text(raw)
    with pytest.raises(Refused) as refused:
        Metrics.beside(tmp_path / "walk.gpx", walker())
    assert refused.value.field == field


def test_a_side_car_names_metrics(tmp_path: Path) -> None:
    assert Metrics.beside(tmp_path / "walk.gpx", walker()) == Metrics()
    (tmp_path / "walk.json").write_text('{"metrics": {"count": "state.2"}, "made by": "a test"}')
    assert Metrics.beside(tmp_path / "walk.gpx", walker()) == Metrics({"count": 2})


def test_infinite_metrics_are_words(tmp_path: Path) -> None:
    task = walker_task(3, 3)
    infinite = [*task.initial[:2], np.array(np.inf, np.float32)]
    run_to(tmp_path, Task(task.program, infinite, [], 3, 3, task.metrics))
    assert (tmp_path / METRICS).read_text().splitlines()[0] == '{"step": 1, "count": "inf"}'


def manifest_of(task: Task) -> dict[str, Any]:
    said = commitments.statement(task.program, task.initial, task.data, task.steps, task.interval)
    states = [bytes([at]) * 32 for at in range(4)]
    items = [{"step": step, "state": state.hex()} for step, state in zip((3, 6, 9, 11), states, strict=True)]
    begun = Manifest.begin(said).as_dict()
    return begun | {"checkpoints": items, "run": commitments.run(states).hex()}


FIELDS = ("version", "statement", "steps", "interval", "program", "initial", "data", "checkpoints")
WRONG = (None, 0, -1, 1 << 64, True, 1.5, "00", "Z" * 64, {}, [1], [{}], ["a" * 64])


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", WRONG)
def test_each_field_of_a_manifest_that_was_changed_is_named(name: str, value: Any, task: Task) -> None:
    with pytest.raises(Refused) as refused:
        Manifest.parse(manifest_of(task) | {name: value})
    assert refused.value.field.startswith(f"manifest.{name}")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": 10}, "manifest.checkpoints[3].step"),
        ({"interval": 2}, "manifest.checkpoints[0].step"),
        ({"program": "ab" * 32}, "manifest.program"),
        ({"initial": "ab" * 32}, "manifest.initial"),
        ({"data": "ab" * 32}, "manifest.data"),
        ({"statement": "ab" * 32}, "manifest.statement"),
        ({"run": "ab" * 32}, "manifest.run"),
        ({"checkpoints": []}, "manifest.checkpoints"),
    ],
)
def test_a_manifest_that_lies_about_its_run_is_refused(change: dict[str, Any], field: str, task: Task) -> None:
    said = commitments.statement(task.program, task.initial, task.data, task.steps, task.interval)
    Manifest.parse(manifest_of(task)).check(said)
    with pytest.raises(Refused) as refused:
        Manifest.parse(manifest_of(task) | change).check(said)
    assert refused.value.field == field
