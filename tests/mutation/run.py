# SPDX-License-Identifier: Apache-2.0
"""Runs mutants against the fast suite: `python -m tests.mutation.run --sample 300 --output FILE`.

What is found is kept in .cache/mutation, so a run that was stopped goes on where it was. A mutant that does not
compile is not counted, nor is one whose code is that of the contract. Fails if less than 95 % are killed.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from vyper.exceptions import VyperException, VyperInternalException  # type: ignore[import-untyped]

from tests.unit import reference

from . import episodes, suite
from .chain import CONTRACTS, ROOT, Program, closure, compile_contract, source_hash
from .mutants import Mutant, every, sample
from .world import MOCKS, TARGETS

CACHE = ROOT / ".cache" / "mutation"
ACCEPTED = Path(__file__).parent / "accepted.json"
LEAST = 0.95

# Seconds for the directed suite, which takes less than ten. Who needs more runs wild and is seen by it.
LIMIT = 600

KILLED, SURVIVED, SAME_CODE, NOT_COMPILED = "killed", "survived", "same code", "not compiled"
COUNTED = (KILLED, SURVIVED)

Result = dict[str, Any]

_real: dict[str, Program] = {}


def sources_hash() -> str:
    """Of all contracts and mocks that take part."""
    return hashlib.sha256("".join(map(source_hash, (*TARGETS, *MOCKS))).encode()).hexdigest()[:16]


def real_programs() -> dict[str, Program]:
    """The unchanged contracts and the mocks, compiled once and kept."""
    if not _real:
        kept = CACHE / f"programs-{sources_hash()}.json"
        if not kept.exists():
            compiled = {name: compile_contract(name) for name in (*TARGETS, *MOCKS)}
            CACHE.mkdir(parents=True, exist_ok=True)
            text = json.dumps({name: [program.code.hex(), program.abi] for name, program in compiled.items()})
            written = kept.with_suffix(f".{os.getpid()}")
            written.write_text(text)
            written.replace(kept)
        for name, (code, abi) in json.loads(kept.read_text()).items():
            _real[name] = Program(bytes.fromhex(code), tuple(abi))
    return _real


def _too_long(signum: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {LIMIT} seconds")


def outcome(mutant: Mutant) -> tuple[str, str]:
    """What becomes of a mutant, and why.

    Most fall without the optimizer, which takes half of the compiler's time; what is left is judged as deployed.
    """
    path = CONTRACTS / mutant.file
    source = {path: mutant.apply(path.read_text())}
    names = [name for name in TARGETS if path in closure(CONTRACTS / f"{name}.vy")]
    real = real_programs()
    try:
        quick = {name: compile_contract(name, source, quick=True) for name in names}
        why = suite.failure(real | quick, real, mutant.file)
        if why:
            return KILLED, why
        changed = {name: compile_contract(name, source) for name in names}
    except (VyperException, VyperInternalException) as error:
        return NOT_COMPILED, type(error).__name__
    except (ArithmeticError, AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        # The compiler's own, at what no one would write; `failure` lets no error of the suite through.
        return NOT_COMPILED, f"compiler: {type(error).__name__}"
    if all(program.code == real[name].code for name, program in changed.items()):
        return SAME_CODE, ""
    why = suite.failure(real | changed, real, mutant.file)
    # The views are no part of the model.
    played = [name for name in names if name != "JobEscrowViews"]
    if not why and played:
        signal.alarm(0)
        why = episodes.failure(mutant.file, source[path], played)
    return (KILLED, why) if why else (SURVIVED, "")


def judge(mutant: Mutant) -> Result:
    """The outcome of one mutant, in bounded time."""
    # The collector takes a quarter of the compiler's time: it runs once a mutant.
    gc.disable()
    real_programs()
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LIMIT)
    began = time.monotonic()
    try:
        status, why = outcome(mutant)
    except TimeoutError as error:
        status, why = KILLED, str(error)
    finally:
        signal.alarm(0)
        gc.collect()
    return {"id": mutant.id, "status": status, "why": why, "seconds": round(time.monotonic() - began, 1)}


def _digest(paths: Iterable[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(paths))).hexdigest()[:16]


class Kept:
    """Results of former runs. A kill holds while the contracts are the same; a survival, while the suite is too."""

    def __init__(self) -> None:
        self.sources = sources_hash()
        folders = (Path(__file__).parent, ROOT / "tests" / "stateful")
        self.suite = _digest([*(path for folder in folders for path in folder.glob("*.py")), Path(reference.__file__)])
        self.path = CACHE / "results.jsonl"
        self.results: dict[str, Result] = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                result = json.loads(line)
                if result["sources"] == self.sources and self._holds(result):
                    self.results[result["id"]] = result

    def _holds(self, result: Result) -> bool:
        return bool(result["status"] != SURVIVED or result["suite"] == self.suite)

    def add(self, result: Result) -> None:
        self.results[result["id"]] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(result | {"sources": self.sources, "suite": self.suite}) + "\n")


def run(order: Sequence[Mutant], wanted: int, jobs: int, kept: Kept) -> list[tuple[Mutant, Result]]:
    """Judges mutants in their order until `wanted` of them count."""
    done: list[tuple[Mutant, Result]] = []
    position = counted = 0
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=100) as pool:
        while counted < wanted and position < len(order):
            batch = order[position : position + max(8, wanted - counted)]
            position += len(batch)
            new = [mutant for mutant in batch if mutant.id not in kept.results]
            for number, result in enumerate(_progress(pool.imap_unordered(judge, new), len(new)), 1):
                kept.add(result)
                assert number <= len(new)
            for mutant in batch:
                result = kept.results[mutant.id]
                if counted < wanted:
                    done.append((mutant, result))
                    counted += result["status"] in COUNTED
    return done


def _progress(results: Iterable[Result], total: int) -> Iterator[Result]:
    began, counts = time.monotonic(), Counter[str]()
    for number, result in enumerate(results, 1):
        counts[result["status"]] += 1
        if number % 20 == 0 or number == total:
            words = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
            print(f"{number}/{total} new: {words}; {time.monotonic() - began:.0f} s", flush=True)
        yield result


def _table(done: Sequence[tuple[Mutant, Result]], kind: str) -> dict[str, dict[str, int]]:
    table: dict[str, Counter[str]] = {}
    for mutant, result in done:
        if result["status"] in COUNTED:
            table.setdefault(getattr(mutant, kind), Counter())[result["status"]] += 1
    return {name: {status: counts[status] for status in COUNTED} for name, counts in sorted(table.items())}


def summary(done: Sequence[tuple[Mutant, Result]], accepted: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The figures. Survivors that are proven equivalent are listed and not counted; others count, explained or not."""
    equivalent = [mutant for mutant, result in done if _is_equivalent(mutant, result, accepted)]
    rest = [(mutant, result) for mutant, result in done if mutant not in equivalent]
    counts = Counter(result["status"] for _, result in rest)
    counted = counts[KILLED] + counts[SURVIVED]
    survivors = [
        {
            "id": mutant.id,
            "operator": mutant.operator,
            "diff": mutant.diff((CONTRACTS / mutant.file).read_text()),
            "explanation": accepted.get(mutant.id, {}).get("why", ""),
        }
        for mutant, result in rest
        if result["status"] == SURVIVED
    ]
    return {
        "drawn": len(done),
        "not_compiled": counts[NOT_COMPILED],
        "same_code": counts[SAME_CODE],
        "equivalent": len(equivalent),
        "mutants": counted,
        "killed": counts[KILLED],
        "survived": counts[SURVIVED],
        "score": round(counts[KILLED] / counted, 4) if counted else 0.0,
        "per_operator": _table(rest, "operator"),
        "per_file": _table(rest, "file"),
        "survivors": survivors,
    }


def _is_equivalent(mutant: Mutant, result: Result, accepted: dict[str, dict[str, str]]) -> bool:
    return result["status"] == SURVIVED and accepted.get(mutant.id, {}).get("kind") == "equivalent"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--sample", type=int, help="number of mutants that count")
    size.add_argument("--all", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    real = real_programs()
    broken = suite.failure(real, real)
    if broken:
        print(f"The suite fails on the contracts themselves: {broken}", file=sys.stderr)
        return 2
    mutants = every()
    order = list(sample(mutants, len(mutants), options.seed))
    wanted = len(mutants) if options.all else options.sample
    kept = Kept()
    done = run(order, wanted, options.jobs, kept)
    accepted = json.loads(ACCEPTED.read_text())
    figures = summary(done, accepted)
    for survivor in figures["survivors"]:
        print(f"survived {survivor['id']} ({survivor['operator']}): {survivor['diff']}")
        print(f"    {survivor['explanation'] or 'NOT EXPLAINED'}")
    head = {"seed": options.seed, "sample": "all" if options.all else options.sample, "of": len(mutants)}
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(head | figures, indent=2) + "\n")
    words = "{mutants} mutants, {killed} killed, {survived} survived, {equivalent} equivalent; {score:.1%}"
    print(words.format(**figures))
    return 0 if figures["score"] >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
