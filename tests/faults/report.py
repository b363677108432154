# SPDX-License-Identifier: Apache-2.0
"""What a run of the schedule found, as JSON, and as the page docs/reliability.md that is made of it."""

from __future__ import annotations

import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .schedule import Fault, Loss

COMMAND = "make test-faults"
INTRODUCTION = """
A real worker, a real chain (anvil), a real sandbox and a buyer, while things go wrong. After every fault each job
that met it must come to its right end: one commitment and one payment on chain (or the one decline or expiry that is
due), the worker's record and its kept result equal to the chain's, no process left of a dead worker. At the end no
collateral is locked, no transaction open, and the store passes SQLite's integrity check.
""".strip().splitlines()
HOW_COUNTED = """
Recovery is counted from the fault's end. For faults of the node: until the worker follows the chain again, up to the
block that was the newest then. For a SIGKILL in a chain of them: from the death until the worker, started anew, has
come to the next boundary in the job. For all others: until the job's end on chain, with what was left of its run, the
commitment, a challenge window of 2 s and the settlement. The chain makes a block a second; the worker polls each 0.4 s.
""".strip().splitlines()
ABOUT_ROWS = """
The boundaries are those of `gpubond/store/boundaries.py`. For a row that stands for several of them p50 is the median
of theirs and p95 the highest.
""".strip().splitlines()
GROUPS = ("SIGKILL", "worker", "node", "reorg", "transaction", "machine", "gateway peer")


def at_the_end(unit: str, seed: int, why: str) -> Loss:
    """What was wrong after the last fault of a world."""
    return Loss(unit, seed, why.splitlines()[0])


def machine() -> str:
    """Processor, cores and memory; no names."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB"


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _row(faults: Iterable[Fault]) -> dict[str, Any]:
    times = [fault.recovery for fault in faults]
    return {
        "faults": len(times),
        "recovery_p50_s": round(statistics.median(times), 1),
        "recovery_p95_s": round(_quantile(times, 0.95), 1),
    }


def results(
    faults: list[Fault],
    losses: list[Loss],
    *,
    seed: int,
    units: int,
    worker_starts: int,
    chains_broken: int,
    seconds: float,
    lanes: int,
    skipped: str | None,
    note: str,
    planned: int,
) -> dict[str, Any]:
    """All that is published, ready for JSON."""
    by_kind: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        by_kind[fault.kind].append(fault)
    doubled = [loss for loss in losses if loss.doubled]
    return {
        "command": COMMAND,
        "seed": seed,
        "machine": machine(),
        "note": note,
        "seconds": round(seconds),
        "worlds_at_once": lanes,
        "worker_starts": worker_starts,
        "chains_broken_by_anvil": chains_broken,
        "skipped": skipped,
        "faults": len(faults),
        "faults_planned": planned,
        "units": units,
        "lost": len(losses) - len(doubled),
        "doubled": len(doubled),
        "wrong": [{"unit": loss.unit, "seed": loss.seed, "why": loss.why} for loss in losses],
        "all": _row(faults) if faults else {},
        "kinds": {
            kind: {"group": some[0].group, "words": some[0].words, **_row(some)}
            for kind, some in sorted(by_kind.items())
        },
        "groups": {
            group: _row(some) for group in GROUPS if (some := [fault for fault in faults if fault.group == group])
        },
    }


def page(found: dict[str, Any]) -> str:
    """docs/reliability.md."""
    planned, minutes = found["faults_planned"], found["seconds"] // 60
    short = f" of {planned} planned: the run was cut off" if found["faults"] < planned else ""
    lines = [
        "# Reliability",
        "",
        *INTRODUCTION,
        "",
        "| | |",
        "|---|---|",
        f"| faults | {found['faults']}{short} |",
        f"| jobs lost | {found['lost']} |",
        f"| jobs committed or paid twice | {found['doubled']} |",
        f"| starts of a worker, in the last session | {found['worker_starts']} |",
        f"| recovery, all kinds | p50 {found['all']['recovery_p50_s']} s, p95 {found['all']['recovery_p95_s']} s |",
        f"| schedule | seed {found['seed']}, {found['worlds_at_once']} worlds at once, {minutes} min at last |",
        f"| machine | {found['machine']}{'; ' + found['note'] if found['note'] else ''} |",
        f"| command | `{found['command']}`; it writes this page and [the figures](../benchmarks/results/faults.json) |",
        "",
    ]
    if found["chains_broken_by_anvil"]:
        lines += [f"anvil lost a chain {found['chains_broken_by_anvil']} times; what ran on it was played anew.", ""]
    if found["skipped"]:
        lines += [f"Skipped: {found['skipped']}.", ""]
    for loss in found["wrong"]:
        lines += [f"**Wrong:** {loss['unit']}: {loss['why']}", ""]
    lines += [
        *HOW_COUNTED,
        "",
        "| kind | what goes wrong | faults | p50, s | p95, s |",
        "|---|---|---|---|---|",
    ]
    families: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = {}
    for kind, row in found["kinds"].items():
        shown = ":".join(kind.split(":")[:3])
        families.setdefault((row["group"], shown), []).append((row["faults"], row))
    for group in GROUPS:
        for (of, shown), rows in families.items():
            if of != group:
                continue
            count = sum(number for number, _ in rows)
            p50 = statistics.median([row["recovery_p50_s"] for _, row in rows])
            p95 = max(row["recovery_p95_s"] for _, row in rows)
            lines.append(f"| `{shown}` | {rows[0][1]['words']} | {count} | {p50:.1f} | {p95:.1f} |")
    lines += [
        "",
        *ABOUT_ROWS,
        "",
    ]
    return "\n".join(lines)
