# SPDX-License-Identifier: Apache-2.0
"""What the worker costs its owner and its buyers: waiting, overhead, catching up, a thousand jobs, idleness."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.limits import beside_limits, publish, with_former  # noqa: E402
from benchmarks.worker_history import history  # noqa: E402
from benchmarks.worker_load import Counting, idle, many  # noqa: E402
from benchmarks.worker_market import blocks_of_one_second, note, running_worker, start_market  # noqa: E402
from benchmarks.worker_speed import overhead, starts  # noqa: E402
from demo.processes import StepFailed  # noqa: E402
from gpubond.anvil import find_anvil  # noqa: E402
from gpubond.errors import GpuBondError  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "worker.json"
ANVIL_CACHE = ROOT / ".cache" / "anvil"

# Figure -> most that it may be (or, negative, the least), and its unit.
LIMITS = {
    "start_p50_ms": (150, "ms"),
    "start_p95_ms": (500, "ms"),
    "submit_to_running_p50_s": (1.5, "s"),
    "overhead_60s_percent": (1.0, "%"),
    "catchup_events_per_s": (-5_000, "events/s"),
    "jobs_1000_lost": (0, "jobs"),
    "idle_cpu_percent": (1.0, "%"),
}

EXAMPLE = """\
example:
  python benchmarks/worker.py                    everything, into benchmarks/results/worker.json (a quarter of an hour)
  python benchmarks/worker.py --quick --json     fewer jobs and events, JSON on standard output, no file
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and keep; returns 1 if a figure misses its limit, 2 if nothing could be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON and nothing else")
    parser.add_argument("--quick", action="store_true", help="a small run that checks the script, not the worker")
    parser.add_argument("--only", choices=("starts", "load", "history", "idle"), action="append", help="these parts")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (--quick, --only: nowhere)")
    options = parser.parse_args(arguments)
    partial = options.quick or options.only
    output = options.output or (None if partial else RESULTS)
    try:
        figures = run(options.quick, options.only or ("starts", "load", "history", "idle"))
    except (StepFailed, GpuBondError, RuntimeError) as error:
        print(f"worker: nothing was measured: {error}", file=sys.stderr)
        return 2
    if options.only and output is not None:
        figures = with_former(figures, output)
    results = {"environment": _environment(), **figures, "limits": beside_limits(figures, LIMITS)}
    return publish(results, output, as_json=options.json)


def run(quick: bool, parts: Sequence[str]) -> dict[str, Any]:
    """All figures, by part."""
    anvil = find_anvil(ANVIL_CACHE)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gpubond-worker-") as directory:
        for part in parts:
            note(f"a market for: {part}")
            with start_market(Path(directory) / part, anvil) as place:
                if part == "starts":
                    home, buyer = place.provider("provider", slots=4), place.buyer("buyer")
                    with running_worker(home):
                        figures["starts"] = starts(place, home, buyer, 6 if quick else 60)
                        figures["overhead"] = overhead(place, home, buyer, 3 if quick else 60)
                elif part == "load":
                    slots = 32
                    home, buyer = place.provider("provider", slots=slots), place.buyer("buyer")
                    blocks_of_one_second(place.devnet.url)
                    with running_worker(home) as worker:
                        figures["load"] = many(place, worker, buyer, 40 if quick else 1_000, slots)
                elif part == "history":
                    figures["history"] = history(place, 2_000 if quick else 100_000)
                else:
                    counting = Counting(place.devnet.url)
                    home = place.provider("provider", slots=1, rpc_url=counting.url)
                    blocks_of_one_second(place.devnet.url)
                    figures["idle"] = idle(place, home, counting, 10 if quick else 120)
                    counting.close()
    return figures


def _environment() -> dict[str, Any]:
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "blocks": "one a second, no confirmations; node, worker, jobs and buyer share the machine",
    }


if __name__ == "__main__":
    sys.exit(main())
