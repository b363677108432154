# SPDX-License-Identifier: Apache-2.0
"""What the sandboxes cost: their start over that of a bare process, and how much slower a job of 30 seconds is.

Bare and sandboxed runs take turns, so that whatever else the machine does meets both alike. The slowdown is of
processor time, the worker's watch included, which on a busy machine tells more than the clock; that is given too.
Parts with scripts of their own (containers, `cpu-sim`) print their figures as JSON and are taken in from there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.limits import beside_limits, publish, with_former  # noqa: E402
from gpubond.errors import MissingTool  # noqa: E402
from gpubond.provider.executors import defences  # noqa: E402
from gpubond.provider.executors.launcher import Launcher, Launchers  # noqa: E402
from gpubond.provider.executors.log import JobLog  # noqa: E402
from gpubond.provider.executors.sandbox import Sandbox, outer_user  # noqa: E402
from gpubond.provider.executors.supervise import Bounds, Supervisor  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "sandbox.json"
# Figure -> most that it may be (or, negative, the least), and its unit.
LIMITS: dict[str, tuple[float, str]] = {
    "bwrap_over_bare_ms": (15, "ms"),
    "slowdown_percent": (1.0, "%"),
    "container_start_ms": (250, "ms"),
    "container_slowdown_percent": (1.0, "%"),
    "cpu_sim_matmul_gflops": (-1.0, "GFLOP/s"),
}
# Part -> its script, arguments of a whole run, and of a quick one.
SCRIPTS: dict[str, tuple[Path, list[str], list[str]]] = {
    "container": (ROOT / "benchmarks" / "sandbox_container.py", [], ["--seconds", "2"]),
    "cpu_sim": (ROOT / "benchmarks" / "sandbox_cuda.py", [], ["--rounds", "1"]),
}
PARTS = ("start", "slowdown", *SCRIPTS)
# Integers and floats in pure Python, so many rounds as its argument says. Prints the processor time it took.
WORK = """
import sys, time
x, y = 1, 0.5
for i in range(int(sys.argv[1])):
    x = (x * 1103515245 + 12345) % 2147483648
    y = y * 0.999 + x * 1e-9
print(time.process_time())
"""
_UNBOUNDED = Bounds(3600, 1 << 40, 1 << 40)


class Bench:
    """Runs one command bare or in the sandbox that jobs have."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._runs = 0
        self.launchers = Launchers(directory)
        self._job = directory / "job"
        self._job.mkdir()
        user = outer_user()
        if user is not None:
            os.chown(self._job, user, user)
        (directory / "spec.json").write_text("{}")

    def bare(self, command: list[str]) -> str:
        """Runs it; what it prints."""
        done = subprocess.run(command, check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        return done.stdout

    def sandboxed(self, command: list[str], launcher: Launcher) -> str:
        """Runs it; what it prints."""
        self._runs += 1
        log = JobLog(self._directory / f"log-{self._runs}.txt", None, 4096)
        sandbox = Sandbox(self._job, {}, command, {"core": 0, "nproc": 64}, 1 << 20, self._directory / "spec.json")
        ending = Supervisor(sandbox, launcher, log, _UNBOUNDED, check=True).run(threading.Event())
        log.close()
        if ending.reason is not None or ending.code != 0:
            raise RuntimeError(f"the sandbox ended with {ending}: {log.tail.decode(errors='replace')}")
        return log.tail.decode()


def start(bench: Bench, rounds: int) -> dict[str, Any]:
    """Start to end of /bin/true, as a job: with a launcher that waits, as the worker has, and without."""
    command = ["/bin/true"]
    times: dict[str, list[float]] = {"bare": [], "ready": [], "cold": []}
    for _ in range(rounds):
        bench.launchers.refill()
        # Until it waits for its plan: what it does before that is no part of a job's start.
        time.sleep(0.1)
        launcher = bench.launchers.take()
        times["bare"].append(_seconds(lambda: bench.bare(command)))
        times["ready"].append(_seconds(lambda: bench.sandboxed(command, launcher)))  # noqa: B023 - called here
        times["cold"].append(_seconds(lambda: bench.sandboxed(command, bench.launchers.take())))
    middle = {name: 1000 * statistics.median(values) for name, values in times.items()}
    least = {name: 1000 * min(values) for name, values in times.items()}
    return {
        "rounds": rounds,
        "bare_ms": round(middle["bare"], 2),
        "bwrap_over_bare_ms": round(middle["ready"] - middle["bare"], 2),
        "bwrap_over_bare_least_ms": round(least["ready"] - least["bare"], 2),
        "without_waiting_launcher_ms": round(middle["cold"] - middle["bare"], 2),
    }


def slowdown(bench: Bench, seconds: float, pairs: int) -> dict[str, Any]:
    """A processor-bound job of about `seconds`, bare and in the sandbox in turn."""
    rounds = 2_000_000
    command = _work(int(rounds * seconds / float(bench.bare(_work(rounds)))))
    clock: dict[str, list[float]] = {"bare": [], "sandbox": []}
    processor: dict[str, list[float]] = {"bare": [], "sandbox": []}

    def measure(name: str, what: Callable[[], str]) -> None:
        begin, used = time.perf_counter(), _processor()
        printed = what()
        clock[name].append(time.perf_counter() - begin)
        own = _processor() - used if name == "sandbox" else 0.0
        processor[name].append(float(printed) + own)

    for number in range(pairs):
        print(f"pair {number + 1} of {pairs}", file=sys.stderr)
        turns: list[tuple[str, Callable[[], str]]] = [
            ("bare", lambda: bench.bare(command)),
            ("sandbox", lambda: bench.sandboxed(command, bench.launchers.take())),
        ]
        for name, what in turns if number % 2 == 0 else reversed(turns):
            measure(name, what)
    return {
        "job_seconds": round(statistics.median(clock["bare"]), 1),
        "pairs": pairs,
        "slowdown_percent": _percent(processor),
        "slowdown_by_clock_percent": _percent(clock),
    }


def _percent(times: dict[str, list[float]]) -> float:
    """The median over the pairs."""
    ratios = [box / bare for bare, box in zip(times["bare"], times["sandbox"], strict=True)]
    return round(100 * (statistics.median(ratios) - 1), 2)


def _work(rounds: int) -> list[str]:
    return [sys.executable, "-I", "-c", WORK, str(rounds)]


def _seconds(what: Callable[[], object]) -> float:
    begin = time.perf_counter()
    what()
    return time.perf_counter() - begin


def _processor() -> float:
    """Processor seconds of this process and of what it waited for; bubblewrap leaves out what runs inside of it."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _script(name: str, quick: bool) -> dict[str, Any] | None:
    """What a part's own script prints; None where it does not exist or cannot run here, and stderr says why."""
    path, whole, short = SCRIPTS[name]
    if not path.exists():
        print(f"{name}: no script", file=sys.stderr)
        return None
    done = subprocess.run(
        [sys.executable, str(path), *(short if quick else whole)], stdout=subprocess.PIPE, check=False
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        print(f"{name}: {path.name} ended with {done.returncode} and no figures", file=sys.stderr)
        return None
    return dict(found)


def run(parts: Sequence[str], quick: bool) -> dict[str, Any]:
    """All figures, by part."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gpubond-sandbox-") as directory:
        bench = Bench(Path(directory))
        if "start" in parts:
            figures["start"] = start(bench, 5 if quick else 200)
        if "slowdown" in parts:
            figures["slowdown"] = slowdown(bench, 0.5 if quick else 30.0, 2 if quick else 5)
        bench.launchers.close()
    for name in SCRIPTS:
        found = _script(name, quick) if name in parts else None
        if found is not None:
            figures[name] = found
    return figures


def _environment() -> dict[str, Any]:
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "sandbox": defences.here().words,
        "load_before": round(os.getloadavg()[0], 2),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and keep; returns 1 if a figure misses its limit, 2 if nothing could be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  python benchmarks/sandbox.py --only start --json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON and nothing else")
    parser.add_argument("--quick", action="store_true", help="a small run that checks the script, not the sandbox")
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts; the others stay in the file")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (--quick: nowhere)")
    options = parser.parse_args(arguments)
    output = options.output or (None if options.quick else RESULTS)
    try:
        environment = _environment()
        figures = run(options.only or PARTS, options.quick)
    except (MissingTool, RuntimeError) as error:
        print(f"sandbox: nothing was measured: {error}", file=sys.stderr)
        return 2
    if options.only and output is not None:
        figures = with_former(figures, output)
    results = {"environment": environment, **figures, "limits": beside_limits(figures, LIMITS)}
    return publish(results, output, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
