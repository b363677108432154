# SPDX-License-Identifier: Apache-2.0
"""What each step of a job costs in gas on a real node, against limits and against other protocols."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gas_chain import CHAIN_ID, Artifact, CallFailed, compile_contracts, evm_version  # noqa: E402
from benchmarks.gas_chart import draw  # noqa: E402
from benchmarks.gas_scenarios import SCALING_TOLERANCE, measure  # noqa: E402
from gpubond.anvil import find_anvil  # noqa: E402
from gpubond.cli.output import progress, table  # noqa: E402
from gpubond.errors import GpuBondError  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
PEERS = ROOT / "benchmarks" / "peers.json"
ANVIL_CACHE = ROOT / ".cache" / "anvil"

HARDFORKS = ("cancun", "prague")
SHOWN = "prague"  # the rules under which the peers were measured
STEPS = (0, 10, 100, 1_000)
QUICK_STEPS = (0, 10, 30)

CODE_LIMIT = 24_576  # bytes, EIP-170
DEPLOYED = ("ProviderStaking", "JobEscrow", "JobEscrowViews", "DataDemands")

# Most gas that each may cost, and what we want it to cost.
LIMITS = {
    "lifecycle": (190_000, 170_000),
    "bag_task": (2_500, 2_000),
    "expire": (60_000, None),
    "onboarding": (260_000, None),
    "scaling": (SCALING_TOLERANCE, None),
}

# Of an offer's jobs the dearest counts; a request is one transaction more and has no limit.
LIMITED_LIVES = ("fee_and_refund", "no_arbiter", "settled_by_provider", "settled_by_keeper")

LIVES = {
    "fee_and_refund": "offer: fee, refund, settled by the buyer",
    "no_arbiter": "the same without arbiter",
    "settled_by_provider": "the same, settled by the provider",
    "settled_by_keeper": "the same, settled by a stranger",
    "no_refund": "the same, whole price earned",
    "fee_zero": "no protocol fee",
    "fee_zero_no_refund": "no protocol fee, whole price earned",
    "with_deposit_and_withdrawal": "with a deposit and a withdrawal of its own",
    "batch_of_10_at_once": "one of 10 hired, committed and settled at once",
    "batch_of_10": "one of 10 settled at once",
    "batch_of_10_buyers": "one of 10 of as many buyers",
    "fixed_price_request": "request at a fixed price, bid below it",
    "fixed_price_request_at_its_price": "request at a fixed price, bid at it",
}

EXAMPLE = """\
example:
  python benchmarks/gas.py                    everything, into benchmarks/results
  python benchmarks/gas.py --quick --json     fewer other jobs, JSON on standard output, no files
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and keep; returns 1 if a limit is exceeded, 2 if nothing could be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON and nothing else")
    parser.add_argument("--quick", action="store_true", help=f"at most {QUICK_STEPS[-1]} other jobs, not {STEPS[-1]:,}")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where gas.json and gas_scaling.svg go (default: benchmarks/results; with --quick: nowhere)",
    )
    options = parser.parse_args(arguments)
    output = options.output or (None if options.quick else RESULTS)

    try:
        results = run(QUICK_STEPS if options.quick else STEPS)
    except (CallFailed, GpuBondError) as error:
        print(f"gas: nothing was measured: {error}", file=sys.stderr)
        return 2

    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "gas.json").write_text(as_json(results), "utf-8")
        scaling = results["hardforks"][SHOWN]["scaling"]
        (output / "gas_scaling.svg").write_text(draw(scaling["others"], scaling["gas"]), "utf-8")
    if options.json:
        print(as_json(results), end="")
    else:
        show(results)
    failed = [limit for limit in results["limits"] if not limit["within_limit"]]
    missed = [limit for limit in results["limits"] if limit["within_target"] is False]
    for kind, found in (("ABOVE THE LIMIT", failed), ("above the target", missed)):
        for limit in found:
            bound = limit["limit" if found is failed else "target"]
            print(f"{kind}: {limit['name']} ({limit['of']}) {limit['value']:,}, not {bound:,}", file=sys.stderr)
    return 1 if failed else 0


def run(steps: Sequence[int]) -> dict[str, Any]:
    """Measure under each hardfork's rules; everything that the results file holds.

    Args:
        steps: how many other jobs there are when growth is measured, ascending.
    """
    progress("compiling")
    compiler, artifacts = compile_contracts()
    anvil = find_anvil(ANVIL_CACHE)
    node = ""
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="gpubond-gas-") as directory:
        for hardfork in HARDFORKS:
            node, figures[hardfork] = measure(artifacts, anvil, Path(directory) / hardfork, hardfork, steps, progress)
    sizes = _sizes(artifacts)
    return {
        "unit": "gas that the sender of each transaction pays for: 21,000 and calldata included, refunds taken off",
        "environment": {
            "node": node,
            "hardforks": list(HARDFORKS),
            "compiler": f"vyper {compiler}",
            "evm_version": evm_version(),
            "chain_id": CHAIN_ID,
        },
        "sizes": sizes,
        "hardforks": figures,
        "limits": _limits(figures, sizes),
    }


def _sizes(artifacts: Mapping[str, Artifact]) -> dict[str, dict[str, int]]:
    sizes = {name: len(artifacts[name].runtime) for name in DEPLOYED}
    return {name: {"bytes": size, "limit": CODE_LIMIT, "spare": CODE_LIMIT - size} for name, size in sizes.items()}


def _limits(figures: Mapping[str, Any], sizes: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Each limited figure beside its limit and target."""
    limits = []

    def add(name: str, of: str, value: int, limit: int, target: int | None) -> None:
        limits.append(
            {
                "name": name,
                "of": of,
                "value": value,
                "limit": limit,
                "target": target,
                "within_limit": value <= limit,
                "within_target": None if target is None else value <= target,
            }
        )

    for hardfork, found in figures.items():
        values = {
            "lifecycle": max(found["lifecycle"][life]["total"] for life in LIMITED_LIVES),
            "bag_task": found["bag_task"]["by_offer"],
            "expire": found["expire"],
            "onboarding": found["onboarding"]["provider"]["total"],
            "scaling": found["scaling"]["largest_deviation"],
        }
        for name, (limit, target) in LIMITS.items():
            add(name, hardfork, values[name], limit, target)
    for name, size in sizes.items():
        add("code size", name, size["bytes"], size["limit"], None)
    return limits


def as_json(results: Mapping[str, Any]) -> str:
    """The results file's text."""
    return json.dumps(results, indent=2) + "\n"


def show(results: Mapping[str, Any]) -> None:
    """Tables for people."""
    environment = results["environment"]
    figures = results["hardforks"]
    print(
        f"Gas on {environment['node']}, contracts by {environment['compiler']} for {environment['evm_version']}; "
        "21,000 and calldata included.\n"
    )
    table(*_against_peers(figures[SHOWN], json.loads(PEERS.read_text("utf-8"))), "A job, from match to payment")

    columns = [*HARDFORKS]
    of = [figures[hardfork] for hardfork in HARDFORKS]
    rows = [(label, *(f"{found['lifecycle'][life]['total']:,}" for found in of)) for life, label in LIVES.items()]
    rows += [
        (f"task of a bag of 100, {way.replace('_', ' ')}", *(f"{found['bag_task'][way]:,}" for found in of))
        for way in ("by_offer", "by_request")
    ]
    rows += [("expire", *(f"{found['expire']:,}" for found in of))]
    table(["GpuBond, whole jobs", *columns], rows)

    rows = [
        (f"{who}: {step.replace('_', ' ')}", *(f"{found['onboarding'][who][step]:,}" for found in of))
        for who, steps in of[0]["onboarding"].items()
        for step in steps
    ]
    table(["joining", *columns], rows)

    rows = []
    for contract, functions in figures[SHOWN]["functions"].items():
        for function in functions:
            row = [f"{contract}.{function}"]
            for found in of:
                used = found["functions"][contract][function]
                row += [f"{used['first']:,}", "-" if used["steady"] is None else f"{used['steady']:,}"]
            rows.append(tuple(row))
    table(["function", *(f"{hardfork} {use}" for hardfork in HARDFORKS for use in ("first", "steady"))], rows)

    scaling = figures[SHOWN]["scaling"]
    rows = [
        (name, *(f"{gas:,}" for gas in values), str(scaling["deviation"][name]))
        for name, values in scaling["gas"].items()
    ]
    table([f"{SHOWN}, other jobs:", *(f"{step:,}" for step in scaling["others"]), "deviation"], rows)

    rows = [
        (
            limit["name"],
            limit["of"],
            f"{limit['value']:,}",
            f"{limit['limit']:,}",
            "-" if limit["target"] is None else f"{limit['target']:,}",
            "above the limit" if not limit["within_limit"] else "missed" if limit["within_target"] is False else "ok",
        )
        for limit in results["limits"]
    ]
    table(["limited", "of", "value", "limit", "target", ""], rows)


def _against_peers(
    found: Mapping[str, Any], peers: Mapping[str, Any]
) -> tuple[list[str], list[tuple[str, str, str, str, str, str]]]:
    """Columns and rows; cheapest first, those without a job on chain last."""
    own = found["lifecycle"]["fee_and_refund"]["total"]
    alone = found["lifecycle"]["with_deposit_and_withdrawal"]["total"]
    batch = found["lifecycle"]["batch_of_10_at_once"]["total"]
    rows = [
        ("GpuBond", f"{own:,}", "1.0", f"{batch:,}", "yes", "fee, refund, window; ERC-20 deposited before"),
        (
            "GpuBond, deposit and withdrawal for it",
            f"{alone:,}",
            f"{alone / own:.1f}",
            "-",
            "yes",
            "moves ERC-20 twice",
        ),
        ("GpuBond, task of a bag of 100", f"{found['bag_task']['by_offer']:,}", "-", "-", "yes", "100 tasks, one job"),
    ]
    for name, peer in sorted(peers["peers"].items(), key=lambda item: item[1].get("lifecycle", sys.maxsize)):
        lifecycle = peer.get("lifecycle")
        per_job = peer.get("per_job_in_batch_of_10") or peer.get("per_job_in_bag_of_10")
        rows.append(
            (
                name,
                f"{lifecycle:,}" if lifecycle else "-",
                f"{lifecycle / own:.1f}" if lifecycle else "-",
                f"{per_job:,}" if per_job else "-",
                "yes" if peer["bonded"] else "no",
                peer["differs"]["in_short"],
            )
        )
    return ["protocol", "gas", "times", "one of 10", "bonded", "what differs"], rows


if __name__ == "__main__":
    sys.exit(main())
