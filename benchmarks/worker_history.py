# SPDX-License-Identifier: Apache-2.0
"""Catching up: a new home folder reads the whole history of a busy market. `python -m benchmarks.worker_history HOME`
is the process that is measured, so that its memory is its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.gas_chain import Chain, Contract, compile_contracts, event, events
from benchmarks.worker_market import ROOT, Place, note
from demo.processes import command
from gpubond.chain.deployment import load_deployment
from gpubond.chain.development import dev_account
from gpubond.chain.session import open_session

BATCH = 32
EVENTS_A_JOB = 3  # matched, committed, settled


def history(place: Place, wanted: int) -> dict[str, Any]:
    """Makes at least so many events of real jobs on the chain, and lets a new buyer catch up on them."""
    made = _make(place, wanted)
    home = place.directory / "newcomer"
    command("account", "init", "--home", str(home), *place.chain_options, "--dev-account", "7", echo=False)
    note("catching up")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.worker_history", str(home)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if found["events"] < made:
        raise RuntimeError(f"{made} events were made, {found['events']} found")
    return found


def _make(place: Place, wanted: int) -> int:
    """Jobs from hire to settlement, 32 to a transaction."""
    _, artifacts = compile_contracts()
    deployed = load_deployment(place.deployment)
    escrow = Contract(artifacts["JobEscrow"], deployed.address("JobEscrow"))
    staking = Contract(artifacts["ProviderStaking"], deployed.address("ProviderStaking"))
    token = Contract(artifacts["TestToken"], deployed.token.address)
    chain = Chain(place.devnet.url, chain_time=True)
    owner, buyer = str(dev_account(8).address), str(dev_account(9).address)
    for who, spender in ((owner, staking), (buyer, escrow)):
        chain.send(who, token, "faucet", 10**11, who)
        chain.send(who, token, "approve", spender, 2**256 - 1)
    chain.send(owner, staking, "register", owner, "")
    chain.send(owner, staking, "stake", 10**9, owner)
    chain.send(owner, staking, "allow", escrow, 10**9, 10**9)
    chain.send(buyer, escrow, "deposit", 10**10, buyer)
    offer = {
        "provider": owner,
        "resource_class": b"history".ljust(32, b"\0"),
        "count": BATCH,
        "tiers": 1,
        "price_per_second": 1,
        "shortest_run": 1,
        "longest_run": 60,
        "acknowledge_window": 86_400,
        "delivery_margin": 86_400,
        "challenge_window": 1,
        "failure_cap_bps": 0,
        "max_fee_bps": 500,
        "collateral": 1,
        "expiry": 2**40,
        "arbiter": "0x" + "00" * 20,
    }
    chain.send(owner, escrow, "post_offer", offer)
    made, salt, began = 0, 0, time.monotonic()
    while made < wanted:
        orders = []
        for _ in range(BATCH):
            salt += 1
            orders.append(
                {
                    "spec_hash": salt.to_bytes(32, "big"),
                    "tier": 1,
                    "tasks": 1,
                    "longest_run": 1,
                    "exact_terms": bytes(32),
                    "audit_fee": 0,
                    "audit_seal": bytes(32),
                    "group": bytes(32),
                    "salt": salt.to_bytes(32, "big"),
                }
            )
        hired = chain.send(buyer, escrow, "hire_many", offer, orders)
        terms = [each["terms"] for each in events(escrow, "JobMatched", hired)]
        claim = {"result_root": b"\1" * 32, "chunks": 1, "exit_status": 0, "seconds_used": 1, "tasks_done": 1}
        committed = chain.send(owner, escrow, "commit_many", [{"terms": each} | claim for each in terms])
        commitment = [each["commitment"] for each in events(escrow, "JobCommitted", committed)]
        items = [{"terms": each, "commitment": done} for each, done in zip(terms, commitment, strict=True)]
        settled = chain.send(buyer, escrow, "settle_many", items)
        event(escrow, "JobSettled", settled)
        made += EVENTS_A_JOB * BATCH
        if (made // (EVENTS_A_JOB * BATCH)) % 100 == 0:
            note(f"{made:,} of {wanted:,} events made, {time.monotonic() - began:.0f} s")
    return made


def main() -> None:
    """Catches up and prints what it took."""
    home = Path(sys.argv[1])
    process = psutil.Process()
    with open_session(home, with_key=False) as session:
        started_rss = process.memory_info().rss
        began, found = time.monotonic(), 0
        while new := session.sync():
            found += new
        seconds = time.monotonic() - began
        jobs = len(session.index.jobs())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps(
            {
                "events": found,
                "jobs": jobs,
                "seconds": round(seconds, 2),
                "catchup_events_per_s": round(found / seconds),
                "rss_before_mib": round(started_rss / 2**20, 1),
                "rss_after_catchup_mib": round(process.memory_info().rss / 2**20, 1),
                "peak_rss_mib": round(peak / 2**20, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
