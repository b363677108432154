# SPDX-License-Identifier: Apache-2.0
"""What exact programs cost: products beside OpenBLAS, training beside torch, commitments beside the training itself.

Each part has a script of its own, whose figures as JSON are taken in here, and its peers run in the same process or in
turns with it. Ratios of products and of `digits` are better when greater; the others when smaller.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.limits import Limits, beside_limits, publish, with_former  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "exact.json"
LIMITS: Limits = {
    "sgemm_1t_median_ratio": (-0.93, "x"),
    "sgemm_2t_median_ratio": (-0.90, "x"),
    "skinny_min_ratio": (-0.7, "x"),
    "mlp_step_vs_torch": (1.3, "x"),
    "transformer_step_vs_torch": (2.0, "x"),
    "commit_overhead_percent": (2.0, "%"),
    "trace_over_step": (4.0, "x"),
    "memory_over_bound": (1.2, "x"),
    "digits_accuracy": (-0.97, ""),
    "char_loss_vs_torch": (1.02, "x"),
}
# Part -> its script, the arguments of a whole run, and of a quick one. What a script prints is one part's figures, or
# several parts by name.
SCRIPTS: dict[str, tuple[str, list[str], list[str]]] = {
    "matmul": ("exact_matmul.py", [], ["--seconds", "0.05"]),
    "training": ("exact_training.py", ["--json"], ["--json", "--quick"]),
    "commitments": ("exact_commitments.py", ["--json"], ["--json", "--quick"]),
}


def run(parts: Sequence[str], quick: bool) -> dict[str, Any]:
    """The figures, by part."""
    figures: dict[str, Any] = {}
    for name in parts:
        script, whole, short = SCRIPTS[name]
        path = ROOT / "benchmarks" / script
        if not path.exists():
            print(f"{name}: no script", file=sys.stderr)
            continue
        command = [sys.executable, str(path), *(short if quick else whole)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        try:
            found = json.loads(done.stdout)
        except ValueError:
            print(f"{name}: {script} ended with {done.returncode} and no figures", file=sys.stderr)
            continue
        figures |= _parts(name, found)
    return figures


def _parts(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """What a script printed, by part; a script that has an environment of its own keeps it in its parts."""
    if "limits" not in found:
        return {name: found}
    environment = found.get("environment", {})
    parts = {part: figures for part, figures in found.items() if part not in ("environment", "limits")}
    return {part: {**figures, "measured_on": environment} for part, figures in parts.items()}


def _environment() -> dict[str, Any]:
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "gpu": "none took part; see exact-gpu.json",
        "load_before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and keep; returns 1 if a figure misses its limit, 2 if nothing could be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  python benchmarks/exact.py --only matmul --json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON and nothing else")
    parser.add_argument("--quick", action="store_true", help="a small run that checks the scripts, not the programs")
    parser.add_argument("--only", choices=tuple(SCRIPTS), action="append", help="these; the others stay in the file")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (--quick: nowhere)")
    options = parser.parse_args(arguments)
    output = options.output or (None if options.quick else RESULTS)
    environment = _environment()
    figures = run(options.only or tuple(SCRIPTS), options.quick)
    if not figures:
        print("exact: nothing was measured", file=sys.stderr)
        return 2
    if output is not None:
        figures = with_former(figures, output)
    results = {"environment": environment, **figures, "limits": beside_limits(figures, LIMITS)}
    return publish(results, output, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
