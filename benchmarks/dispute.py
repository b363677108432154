# SPDX-License-Identifier: Apache-2.0
"""What a dispute costs: whole games between real players on a real chain, by level and by move, and how that grows.

The gas is that of all transactions of both sides from the opening to the conviction, 21,000 each and calldata included,
on a market in which a job was convicted before. The claim of bond and share, and its withdrawal, are told apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import dispute_digits as digits  # noqa: E402
from benchmarks.dispute_chain import ALL_SOURCES, Court, Played  # noqa: E402
from benchmarks.dispute_chart import draw  # noqa: E402
from benchmarks.dispute_synthetic import Size, Synthetic  # noqa: E402
from benchmarks.exact_gas import CASES, QUICK_CASES, Wrong, measured  # noqa: E402
from benchmarks.gas_chain import CallFailed, compile_contracts, evm_version, start_chain  # noqa: E402
from benchmarks.limits import beside_limits, publish  # noqa: E402
from gpubond.anvil import find_anvil  # noqa: E402
from gpubond.cli.output import progress, table  # noqa: E402
from gpubond.errors import GpuBondError  # noqa: E402
from gpubond.exact.refusal import Refused  # noqa: E402
from tests.exact_contracts.evm import FLOAT32, running  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
PEERS = ROOT / "benchmarks" / "peers.json"
ANVIL_CACHE = ROOT / ".cache" / "anvil"
HARDFORK = "prague"  # the rules under which the peers were measured; calldata is dearest under them

LIMITS = {
    "fma_gas": (1_600, "gas"),
    "digits_gas": (1_000_000, "gas"),
    "synthetic_gas": (1_800_000, "gas"),
    "synthetic_rounds": (16, "rounds"),
    "answer_seconds": (1.0, "s"),
    "largest_contract": (24_576, "bytes"),
}

# One thing grown at a time; sizes that the contracts allow at most are among them.
GROWTH: dict[str, tuple[Callable[[int], Size], tuple[int, ...]]] = {
    "steps": (lambda steps: replace(Size(), steps=steps), (10**2, 10**4, 10**5, 10**6, 10**7, 10**9, 10**12)),
    "ops": (lambda ops: replace(Size(), ops=ops), (10, 10**2, 10**3, 10**4, 65_535)),
    "elements": (lambda elements: replace(Size(), side=round(elements**0.5)), (10**4, 10**6, 10**8, 46_340**2)),
    "interval": (lambda interval: replace(Size(), interval=interval), (10, 10**2, 10**3, 10**4, 10**5, 10**6)),
}
QUICK_POINTS = 2
INTERVALS, GROWTH_STEPS = (8, 32, 128, 512), 1_024
QUICK_INTERVALS, QUICK_GROWTH_STEPS = (8, 32), 64
WARM_UP = Size(steps=1_000, interval=100, ops=10, side=100)

EXAMPLE = """\
example:
  python benchmarks/dispute.py                    everything, into benchmarks/results
  python benchmarks/dispute.py --quick --json     less of it, JSON on standard output, no files
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and keep; returns 1 if a figure misses its limit, 2 if nothing could be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON and nothing else")
    parser.add_argument("--quick", action="store_true", help="fewer operands and points, no long runs")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where dispute.json and dispute_growth.svg go (default: benchmarks/results; with --quick: nowhere)",
    )
    options = parser.parse_args(arguments)
    output = options.output or (None if options.quick else RESULTS)
    try:
        results = run(quick=options.quick)
    except (CallFailed, Wrong, Refused, GpuBondError) as error:
        print(f"dispute: nothing was measured: {error}", file=sys.stderr)
        return 2
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        drawn = draw(results["growth"], results["games"]["synthetic"]["gas"])
        (output / "dispute_growth.svg").write_text(drawn, "utf-8")
    if not options.json:
        show(results)
    return publish(results, None if output is None else output / "dispute.json", as_json=options.json)


def run(*, quick: bool) -> dict[str, Any]:
    """Everything that the results file holds."""
    progress("compiling")
    compiler, artifacts = compile_contracts(ALL_SOURCES)
    with tempfile.TemporaryDirectory(prefix="gpubond-dispute-") as name:
        folder = Path(name)
        progress("fma")
        with running(folder / "evm.log") as evm:
            evm.add(FLOAT32)
            fma = measured(evm, "fma", QUICK_CASES if quick else CASES)
        with start_chain(folder / "chain", find_anvil(ANVIL_CACHE), HARDFORK) as chain:
            court = Court(chain, artifacts)
            node, sizes = chain.version, court.sizes
            progress("a first conviction")
            _synthetic(court, WARM_UP)
            progress("the digits MLP")
            steps = digits.QUICK_STEPS if quick else digits.STEPS
            runs = digits.Runs(folder / "digits", digits.task(steps))
            sides = runs.convicted()
            of_digits = _convicted(court.play(sides.terms, sides.run_root, sides.asserter, sides.challenger))
            answers = digits.answers(runs, digits.INTERVAL)
            progress("the synthetic run")
            of_synthetic = _synthetic(court, Size())
            together = _synthetic(court, Size(), together=True)
            growth = _growth(court, quick=quick)
        progress("answers")
        intervals = (QUICK_INTERVALS, QUICK_GROWTH_STEPS) if quick else (INTERVALS, GROWTH_STEPS)
        answers["growth"] = digits.growth(folder / "answers", *intervals)
    figures = {
        "fma_gas": fma["mean"],
        "digits_gas": of_digits.gas,
        "digits_rounds": of_digits.rounds,
        "synthetic_gas": of_synthetic.gas,
        "synthetic_rounds": of_synthetic.rounds,
        "answer_seconds": answers["most"],
        "largest_contract": max(sizes.values()),
    }
    return {
        "unit": "gas that the sender of each transaction pays for: 21,000 and calldata included, refunds taken off",
        "rounds": "how often the turn goes over to the other side and back: pairs of moves, one of each side, "
        "rounded up; the opening is a move, the conviction, for which nobody waits, is not",
        "environment": {
            "node": node,
            "hardfork": HARDFORK,
            "compiler": f"vyper {compiler}",
            "evm_version": evm_version(),
            "digits": f"784-512-10, batch {digits.BATCH}, {steps} steps, a checkpoint each {digits.INTERVAL}",
            "synthetic": "10^6 steps, 10^3 operations, tensors of 10^8 elements, a checkpoint each 10^4 steps",
        },
        "figures": figures,
        "games": {"digits": of_digits.figures(), "synthetic": of_synthetic.figures()},
        "together": {
            "what": "the synthetic game with the conviction and the claim in one transaction",
            "gas": together.gas,
            "gas_apart": of_synthetic.gas + of_synthetic.claim_gas,
        },
        "fma": fma,
        "answers": answers,
        "growth": growth,
        "sizes": sizes,
        "peers": against_peers(figures, json.loads(PEERS.read_text("utf-8"))),
        "limits": beside_limits({"figures": figures}, LIMITS),
    }


def _convicted(played: Played) -> Played:
    if not played.convicted:
        raise CallFailed("a liar was acquitted")
    return played


def _synthetic(court: Court, size: Size, *, together: bool = False) -> Played:
    both = Synthetic(size)
    return _convicted(court.play(both.terms, both.run_root, both.asserter, both.challenger, together=together))


def _growth(court: Court, *, quick: bool) -> dict[str, list[dict[str, int]]]:
    found: dict[str, list[dict[str, int]]] = {}
    for name, (size_of, sizes) in GROWTH.items():
        progress(f"growth with {name}")
        found[name] = []
        for size in sizes[-QUICK_POINTS:] if quick else sizes:
            played = _synthetic(court, size_of(size))
            found[name].append({"size": size, "gas": played.gas, "rounds": played.rounds})
    return found


def against_peers(figures: Mapping[str, Any], peers: Mapping[str, Any]) -> dict[str, Any]:
    """What others pay, and how many times our whole game of the synthetic run that is."""
    cartesi = peers["peers"]["Cartesi PRT"]
    replicated = peers["peers"]["iExec PoCo replicated x5, one wrong"]
    ours = figures["synthetic_gas"]
    return {
        "GpuBond, a whole game about the synthetic run": {"gas": ours, "paid_for": "a job that is challenged"},
        "Cartesi PRT, one leaf step alone": {
            "gas": cartesi["dispute_leaf_step"],
            "worst": cartesi["dispute_leaf_step_worst"],
            "paid_for": "a job that is challenged, beside its bisection",
            "source": cartesi["source"],
        },
        "iExec, replicated five times": {
            "gas": replicated["lifecycle"],
            "times": round(replicated["lifecycle"] / ours, 2),
            "paid_for": "every job, guilty or not",
            "source": replicated["source"],
        },
    }


def show(results: Mapping[str, Any]) -> None:
    """Tables for people."""
    environment = results["environment"]
    print(f"Gas on {environment['node']} ({environment['hardfork']}), contracts by {environment['compiler']}.\n")
    for name, game in results["games"].items():
        rows = [
            (level, str(entry["transactions"]), f"{entry['gas']:,}", f"{entry['gas_without_intrinsic']:,}")
            for level, entry in game["levels"].items()
        ]
        rows.append(("whole", str(game["transactions"]), f"{game['gas']:,}", f"{game['gas_without_intrinsic']:,}"))
        table((f"{name}, {game['rounds']} rounds", "transactions", "gas", "without 21,000 each"), rows)
    for name, points in results["growth"].items():
        table((name, "gas", "rounds"), [(f"{at['size']:,}", f"{at['gas']:,}", str(at["rounds"])) for at in points])
    table(
        ("checkpoint interval", "longest answer"),
        [(f"{at['interval']} steps", f"{at['most']:.3f} s") for at in results["answers"]["growth"]],
    )
    table(("contract", "bytes"), [(name, f"{size:,}") for name, size in results["sizes"].items()])
    table(
        ("who", "gas", "paid for"),
        [(name, f"{entry['gas']:,}", entry["paid_for"]) for name, entry in results["peers"].items()],
    )


if __name__ == "__main__":
    sys.exit(main())
