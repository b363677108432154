# SPDX-License-Identifier: Apache-2.0
"""What it costs a run to be held to account: checkpoints at the default interval, a trace of one step, memory.

Each network is measured in a process of its own. A checkpoint's cost is the whole time that hashing a state and
writing it takes, as if nothing of it went on beside the next steps. The bound of memory is what a step's tensors need
at once, and three states: the one before a step, the one after it, and the one that is hashed meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.limits import Limits, beside_limits, publish  # noqa: E402
from gpubond.exact import commitments  # noqa: E402
from gpubond.exact import measure as measuring  # noqa: E402
from gpubond.exact.build import build, data_tensors, initial_state  # noqa: E402
from gpubond.exact.c_engine import CEngine  # noqa: E402
from gpubond.exact.live import live_bytes  # noqa: E402
from gpubond.exact.memory import STATES_HELD, state_bytes  # noqa: E402
from gpubond.exact.models import perceptron_step  # noqa: E402
from gpubond.exact.optimizers import SGD  # noqa: E402
from gpubond.exact.runner import Task, run  # noqa: E402

LIMITS: Limits = {
    "commit_overhead_percent": (2.0, "%"),
    "trace_over_step": (4.0, "x"),
    "memory_over_bound": (1.2, "x"),
}


def measure(name: str, threads: int, quick: bool) -> dict[str, Any]:
    """All figures of one network; in a process of its own, as what it ever held counts."""
    program, state, data = measuring.task_of(name)
    engine = CEngine(threads)
    with tempfile.TemporaryDirectory(prefix="gpubond-exact-") as directory:
        folder = Path(directory)
        # What a process holds that has run anything is not this run's: code, threads, buffers of a fixed size.
        _run_something_small(engine, folder / "small")
        commitments.state(state)
        before = _held()
        # From here on the kernel notes the most that is held anew.
        Path("/proc/self/clear_refs").write_text("5")
        prepared = engine.prepare(program)
        # The runner first, for its memory: three checkpoints, close to each other.
        run(prepared, Task(program, state, data, 6, 2), folder / "run")
        most = _most_held() - before
        bound = live_bytes(program) + STATES_HELD * state_bytes(program)
        costs = measuring.accountability(program, prepared, state, data, folder, 3 if quick else 15)
    return {
        **costs,
        "memory_mib": round(most / 2**20, 1),
        "bound_mib": round(bound / 2**20, 1),
        "memory_over_bound": round(most / bound, 3),
        "planned_over_live": round(prepared.memory_bytes / max(live_bytes(program), 1), 3),
        "traced_over_live": round(prepared.traced_bytes / max(live_bytes(program, whole=True), 1), 3),
        "engine": engine.name,
    }


def figures_of(quick: bool) -> dict[str, Any]:
    """The worst of all networks, with each beside."""
    threads = len(os.sched_getaffinity(0))
    found: dict[str, Any] = {}
    for name in measuring.NETWORKS:
        command = [sys.executable, __file__, "--network", name, "--threads", str(threads), *(["--quick"] * quick)]
        found[name] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {
        "commit_overhead_percent": max(each["overhead_percent"] for each in found.values()),
        "trace_over_step": max(each["trace_over_step"] for each in found.values()),
        "memory_over_bound": max(each["memory_over_bound"] for each in found.values()),
        "load": round(os.getloadavg()[0], 2),
        "by_network": found,
    }


def _run_something_small(engine: CEngine, folder: Path) -> None:
    graph = perceptron_step((8, 8, 2), 4, slices=1, optimizer=SGD(0.01))
    program = build(graph).program
    data = data_tensors(graph, {"images": np.ones((1, 4, 8), np.float32), "labels": np.zeros((1, 4), np.float32)})
    run(engine.prepare(program), Task(program, initial_state(graph, 1), data, 6, 2), folder)


def _held() -> int:
    """Bytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _most_held() -> int:
    """The most bytes of memory that this process held since that was last cleared."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and keep; returns 1 if a figure misses its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  python benchmarks/exact_commitments.py --json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON and nothing else")
    parser.add_argument("--quick", action="store_true", help="a small run that checks the script")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes, if anywhere")
    parser.add_argument("--network", choices=tuple(measuring.NETWORKS), help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.network:
        print(json.dumps(measure(options.network, options.threads, options.quick)))
        return 0
    figures = {"commitments": figures_of(options.quick)}
    environment = {"python": sys.version.split()[0], "cores": os.cpu_count()}
    results = {"environment": environment, **figures, "limits": beside_limits(figures, LIMITS)}
    return publish(results, options.output, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
