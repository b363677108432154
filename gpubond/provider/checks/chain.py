# SPDX-License-Identifier: Apache-2.0
"""Checks of what is reached through the node: the chain, its clock, the contracts, gas money."""

from __future__ import annotations

import time

from web3.exceptions import Web3Exception

from gpubond.chain.contracts import Contracts
from gpubond.chain.deployment import load_deployment
from gpubond.chain.node import connect, redact
from gpubond.provider.checks.check import Finding, Subject, failed, ok, warning
from gpubond.provider.gas_money import GAME_GAS, OWNER_CALL_GAS, answers_lack, gas_money
from gpubond.settings import DEVELOPMENT_CHAIN_IDS

# Seconds. Buyers' requests are signed for some minutes, so a clock that is off by more refuses them.
CLOCK_TOLERANCE = 60
# A chain makes blocks at its own pace: the newest may be so many times the usual distance old.
LATE_BLOCKS = 20
_SAMPLE_BLOCKS = 50
# Calls of the owner that should be paid for: closing an offer, allowing, two withdrawals.
_OWNER_CALLS = 4


def deployment_file(subject: Subject) -> Finding:
    """It can be read."""
    subject.deployment = load_deployment(subject.home.resolve(subject.settings.chain.deployment))
    return ok(f"{subject.deployment.name}, chain {subject.deployment.chain_id}")


def node(subject: Subject) -> Finding:
    """It answers, and is not busy catching up."""
    url = subject.settings.chain.rpc_url
    started = time.monotonic()
    subject.node = connect(url)
    head = subject.node.eth.block_number
    took = (time.monotonic() - started) * 1000
    try:
        syncing = subject.node.eth.syncing
    except (Web3Exception, ValueError):
        syncing = False  # some hosted nodes do not know the question
    if syncing:
        return warning(f"{redact(url)} is at block {head} and still catching up", "wait, or use another node")
    return ok(f"{redact(url)} answers in {took:.0f} ms, block {head:,}")


def clock(subject: Subject) -> Finding:
    """This machine's clock and the chain's agree, as far as blocks can tell."""
    eth = subject.node.eth
    newest = eth.get_block("latest")
    ahead = newest["timestamp"] - time.time()
    local_chain = eth.chain_id in DEVELOPMENT_CHAIN_IDS
    if ahead > CLOCK_TOLERANCE:
        words = f"the newest block is {ahead:.0f} s in this machine's future"
        if local_chain:
            return warning(f"{words}; on a local chain somebody may have moved its time", "start the chain anew")
        return failed(words, "set the clock and keep it set: timedatectl set-ntp true")
    older = eth.get_block(max(0, newest["number"] - _SAMPLE_BLOCKS))
    blocks = max(1, newest["number"] - older["number"])
    usual = (newest["timestamp"] - older["timestamp"]) / blocks
    late = max(CLOCK_TOLERANCE, LATE_BLOCKS * usual)
    if -ahead > late and not local_chain:
        return warning(
            f"the newest block is {-ahead:.0f} s old, one comes every {usual:.1f} s: "
            "the node is behind, or this machine's clock ahead",
            "compare `date -u` with a watch: if it is right, use another node; if not, timedatectl set-ntp true",
        )
    return ok(f"the newest block is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'old'}")


def chain_id(subject: Subject) -> Finding:
    """The node serves the deployment's chain."""
    expected, found = subject.deployment.chain_id, int(subject.node.eth.chain_id)
    if found != expected:
        return failed(
            f"the node serves chain {found}, the deployment is on chain {expected}",
            f"set chain.rpc_url to a node of chain {expected}, or chain.deployment to the file of chain {found}",
        )
    return ok(str(found))


def contracts(subject: Subject) -> Finding:
    """The code at the deployment's addresses is what was deployed."""
    subject.deployment.verify_against(subject.node)
    subject.contracts = Contracts(subject.node, subject.deployment)
    return ok(f"{len(subject.deployment.contracts)} contracts and the token are as deployed")


def operator_gas(subject: Subject) -> Finding:
    """The operator can pay for commitments and settlements."""
    money = gas_money(subject.node, subject.operator)
    words = f"{subject.operator} has {money.text}, at today's gas price enough for {money.jobs_text}"
    remedy = f"send {subject.operator} {money.coins_for(100)}, which is enough for 100 jobs"
    if money.jobs == 0:
        return failed(f"{words}: the worker cannot commit, and loses its collateral", remedy)
    if money.jobs < subject.provider.low_gas_jobs:
        return warning(words, remedy)
    return ok(words)


def answer_gas(subject: Subject) -> Finding:
    """The operator can pay for the answers to challenges of EXACT jobs."""
    exact = subject.settings.exact_offer
    if exact is None:
        return ok("no EXACT jobs are offered")
    money = gas_money(subject.node, subject.operator)
    lacking = answers_lack(money, 1)
    remedy = f"send {subject.operator} {money.coins(exact.stake_jobs * GAME_GAS)}, for {exact.stake_jobs} jobs"
    if lacking:
        return failed(f"{lacking}: the worker takes none, and could lose the collateral of those that it has", remedy)
    if money.calls(GAME_GAS) < exact.stake_jobs:
        return warning(
            f"enough for games about {money.calls(GAME_GAS)} of {exact.stake_jobs} backed EXACT jobs", remedy
        )
    return ok(f"enough for games about {exact.stake_jobs} backed EXACT jobs")


def owner_gas(subject: Subject) -> Finding:
    """The owner can pay for what only it may do."""
    owner = subject.provider.address
    money = gas_money(subject.node, owner)
    calls = money.calls(OWNER_CALL_GAS)
    words = f"{owner} has {money.text}"
    if calls < _OWNER_CALLS:
        return warning(
            f"{words}, enough for {calls} calls: `join`, `withdraw` and `leave` may need {_OWNER_CALLS}",
            f"send it the chain's coin before you need them: {money.coins(_OWNER_CALLS * OWNER_CALL_GAS)}",
        )
    return ok(words)
