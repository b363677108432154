# SPDX-License-Identifier: Apache-2.0
"""Transactions that get into trouble: jobs whose commitment is stuck, displaced, or waits for a nonce."""

from __future__ import annotations

from gpubond.chain.development import dev_account

from .world import OPERATOR, Job, WentWrong, World


def stuck_by_price(world: World) -> Job:
    """A job whose commitment offered less than the next block asks for."""
    job = world.hire(1.5)
    world.wait_state(job, "running")
    with world.no_blocks():
        world.wait_state(job, "committing")
        first = world.transaction(f"commit:{job.job}")[0]
        world.rpc("anvil_setNextBlockBaseFeePerGas", hex(2000 * 10**9))
        world.rpc("evm_mine")
        world.wait(lambda: world.transaction(f"commit:{job.job}")[0] != first, "higher fees")
    return job


def nonce_taken(world: World, *, replace: bool) -> Job:
    """A job whose commitment's nonce another machine used, by outbidding it or because the node forgot it."""
    job = world.hire(1.5)
    world.wait_state(job, "running")
    with world.no_blocks():
        world.wait_state(job, "committing")
        tx_hash, nonce = world.transaction(f"commit:{job.job}")
        if not replace:
            world.rpc("anvil_dropTransaction", tx_hash)
        world.foreign(nonce, gas_price=10**13)
    return job


def gap_before(world: World) -> Job:
    """A job whose commitment waits for a nonce that all nodes have forgotten."""
    job = world.hire(1.5)
    world.wait_state(job, "running")
    with world.no_blocks():
        nonce = world.node.eth.get_transaction_count(dev_account(OPERATOR).address)
        other = world.foreign(nonce)
        world.wait_state(job, "committing")
        if world.transaction(f"commit:{job.job}")[1] != nonce + 1:
            raise WentWrong("the commitment did not follow the other transaction")
        world.rpc("anvil_dropTransaction", other)
    return job
