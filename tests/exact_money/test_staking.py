# SPDX-License-Identifier: Apache-2.0
"""The packed allowance of ProviderStaking against plain integers: every state and step of a small domain, and of
one at the greatest value that a field holds, where a carry would run into the next.
"""

from __future__ import annotations

from itertools import product

import pytest

from tests.mutation.chain import Chain, Deployed, compile_contract

MOST = 2**85 - 1
AMOUNTS = (0, 1, 2, 3, 4, MOST - 1, MOST)
STAKE = 4 * MOST
ADMIN, OWNER, KEEPER = ("0x" + byte * 20 for byte in ("a1", "a2", "a3"))
JOB = b"\x77" * 32

State = tuple[int, int, int, int]  # total, per job, locked, free


class Bench:
    """One staked owner and one locker."""

    def __init__(self) -> None:
        self.chain = Chain()
        self.token = self._deploy("mocks/MisbehavingToken")
        self.staking = self._deploy("ProviderStaking", self.token.address)
        self.locker = self._deploy("mocks/MockLocker", self.staking.address)
        self.send(self.token, "mint", OWNER, STAKE)
        self.send(self.token, "approve", self.staking.address, STAKE, by=OWNER)
        self.send(self.staking, "stake", STAKE, by=OWNER)

    def _deploy(self, name: str, *args: str) -> Deployed:
        program = compile_contract(name)
        return self.chain.deploy(name, program, program.abi, ADMIN, *args)

    def send(self, contract: Deployed, function: str, *args: object, by: str = ADMIN) -> None:
        receipt = self.chain.call(contract, function, *args, sender=by)
        assert receipt.ok, receipt.reason

    def reach(self, total: int, per_job: int, locked: int) -> State:
        """Locks under an allowance that suffices, then sets the one that is wanted."""
        if locked:
            self.send(self.staking, "allow", self.locker.address, locked, locked, by=OWNER)
            self.send(self.locker, "lock", OWNER, locked, by=KEEPER)
        self.send(self.staking, "allow", self.locker.address, total, per_job, by=OWNER)
        return total, per_job, locked, STAKE - max(total, locked)

    def state(self) -> State:
        allowance = self.chain.read(self.staking, "allowance", OWNER, self.locker.address)
        free = self.chain.read(self.staking, "free_stake_of", OWNER)
        return allowance["total"], allowance["per_job"], allowance["locked"], free

    def slashed(self) -> tuple[int, int]:
        locker = self.locker.address
        return self.chain.read(self.staking, "owed_to", locker), self.chain.read(self.staking, "burned_by", locker)

    def step(self, contract: Deployed, function: str, *args: object, by: str, reason: str, after: State) -> None:
        """A step from here: refused for the reason, or done with the state that it leaves. It is taken back."""
        with self.chain.branch():
            receipt = self.chain.call(contract, function, *args, sender=by)
            assert receipt.ok is not bool(reason), (after, function, args, receipt.reason)
            if reason:
                assert receipt.reason == f"staking: {reason}"
            else:
                assert self.state() == after, (function, args)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def lock_refusal(state: State, amount: int) -> str:
    total, per_job, locked, _ = state
    if amount == 0:
        return "amount is zero"
    if amount > per_job:
        return "above allowance per job"
    return "above allowance" if locked + amount > total else ""


@pytest.mark.parametrize("locked", AMOUNTS)
def test_every_step_from_every_state(bench: Bench, locked: int) -> None:
    for total, per_job in product(AMOUNTS, AMOUNTS):
        if per_job > total:
            continue
        with bench.chain.branch():
            state = bench.reach(total, per_job, locked)
            assert bench.state() == state
            free = state[3]
            for amount in (*AMOUNTS, MOST + 1):
                left = locked - amount
                bench.step(
                    bench.locker, "lock", OWNER, amount, by=KEEPER,
                    reason=lock_refusal(state, amount), after=(total, per_job, locked + amount, free),
                )  # fmt: skip
                bench.step(
                    bench.locker, "unlock", OWNER, amount, by=KEEPER,
                    reason="not locked" if left < 0 else "",
                    after=(total, per_job, left, STAKE - max(total, left)),
                )  # fmt: skip
                zero = "amount is zero" if amount == 0 else ""
                bench.step(
                    bench.locker, "slash", OWNER, JOB, amount, amount // 3, amount // 5, by=KEEPER,
                    reason=zero or ("not locked" if left < 0 else ""),
                    after=(total - min(total, amount), per_job, left, free),
                )  # fmt: skip


@pytest.mark.parametrize("locked", AMOUNTS)
def test_every_allowance_after_every_other(bench: Bench, locked: int) -> None:
    for total in AMOUNTS:
        with bench.chain.branch():
            bench.reach(total, total, locked)
            for new, per_job in product((*AMOUNTS, MOST + 1), (0, 1, MOST, MOST + 1)):
                reason = "per job above total" if per_job > new else "amount too large" if new > MOST else ""
                bench.step(
                    bench.staking, "allow", bench.locker.address, new, per_job, by=OWNER,
                    reason=reason, after=(new, per_job, locked, STAKE - max(new, locked)),
                )  # fmt: skip


def test_every_split_of_a_slash(bench: Bench) -> None:
    with bench.chain.branch():
        bench.reach(MOST, MOST, MOST)
        for amount in (1, 2, 3, 4, MOST - 1, MOST):
            parts = sorted({0, 1, 2, amount // 2, amount - 1, amount, amount + 1})
            for to_buyer, to_challenger in product(parts, parts):
                with bench.chain.branch():
                    receipt = bench.chain.call(
                        bench.locker, "slash", OWNER, JOB, amount, to_buyer, to_challenger, sender=KEEPER
                    )
                    paid = to_buyer + to_challenger
                    assert receipt.ok is (paid <= amount), (amount, to_buyer, to_challenger, receipt.reason)
                    if receipt.ok:
                        assert bench.slashed() == (paid, amount - paid)
                        assert bench.state() == (MOST - amount, MOST, MOST - amount, STAKE - MOST)
                    else:
                        assert receipt.reason == "staking: shares above lock"
                        assert bench.slashed() == (0, 0)
