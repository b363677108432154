# SPDX-License-Identifier: Apache-2.0
"""What jobs drew, by class of GPU: measured on recorded machines, kept with the jobs, averaged, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gpubond.provider.gpus.consumption import Consumption
from gpubond.provider.work import WorkLog
from gpubond.store.database import Database

from .machine import Machine
from .measured import MEASURE

# Each of these: joules by the GPU's counter, seconds of the run, exit code, and where the job stands.
RUNS = """
for job, (joules, seconds, code, state) in enumerate([
    (3000, 10, 0, "settled"), (1000, 10, 0, "committed"), (9000, 10, 7, "settled"), (9000, 10, 0, "running")
]):
    measured(f"0x{job:064x}", joules, seconds, code, WorkState(state))
gpus.stop()
print(json.dumps(work.drawn(10)))
"""


def by_class(home: Path) -> list[dict[str, object]]:
    with Database(home / "store.sqlite") as database:
        consumption = Consumption(WorkLog(database))
        consumption.look()
        return consumption.by_class()


def test_good_runs_that_were_delivered_and_measured_count_by_class(
    machine_with: Callable[[str], Machine], tmp_path: Path
) -> None:
    machine = machine_with("h100x2")
    drawn = machine.run(MEASURE + RUNS, str(tmp_path))
    # The meter's watts are those of the moment that the test took; here they count by the runs' stated seconds.
    assert [(name, seconds) for name, _, seconds in drawn] == [("nvidia-h100-80gb-hbm3", 10)] * 2
    watts = [each for _, each, _ in drawn]
    assert all(each > 0 for each in watts)
    assert by_class(tmp_path) == [{"class": "nvidia-h100-80gb-hbm3", "average_watts": round(sum(watts) / 2), "jobs": 2}]


def test_longer_runs_weigh_more(tmp_path: Path) -> None:
    with Database(tmp_path / "store.sqlite") as database:
        work = WorkLog(database)
        for job, (name, watts, seconds) in enumerate([("a", 100, 30), ("a", 400, 10), ("b", 7, 1)]):
            work.adopt(str(job))
            result = {"exit_code": 0, "seconds": seconds, "energy": {"class": name, "average_watts": watts}}
            work.move(str(job), "settled", result=result)  # type: ignore[arg-type]
    assert by_class(tmp_path) == [
        {"class": "a", "average_watts": 175, "jobs": 2},
        {"class": "b", "average_watts": 7, "jobs": 1},
    ]


@pytest.mark.parametrize("recording", ["a100-mig", "none"])
def test_where_nothing_is_measured_nothing_is_said(
    machine_with: Callable[[str], Machine], tmp_path: Path, recording: str
) -> None:
    """Slices have no figure of their own, and a machine without a GPU has none at all."""
    if recording == "none":
        with Database(tmp_path / "store.sqlite") as database:
            work = WorkLog(database)
            work.adopt("0x1")
            work.move("0x1", "settled", result={"exit_code": 0, "seconds": 9, "device": "cpu"})  # type: ignore[arg-type]
    else:
        script = MEASURE + 'measured("0x1", 500, 10, 0, WorkState.SETTLED)\ngpus.stop()\nprint("[]")'
        machine_with(recording).run(script, str(tmp_path))
    assert by_class(tmp_path) == []
