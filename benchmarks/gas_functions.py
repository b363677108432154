# SPDX-License-Identifier: Apache-2.0
"""Gas of every function that changes state: at the first use by accounts that are new, and in steady state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data

from benchmarks.gas_chain import CHAIN_ID, CallFailed, Contract, account, digest
from benchmarks.gas_market import (
    BALANCE,
    BASIC,
    CHUNKS,
    COLLATERAL,
    DAY,
    ENDPOINT,
    EXACT,
    FEE_BPS,
    STAKE,
    USD,
    Job,
    Market,
    Provider,
)
from gpubond.chain.development import dev_account
from gpubond.jobs.manifest import TAG
from gpubond.jobs.merkle import CHUNK_BYTES, fold, leaf_hash

MEASURED = ("ProviderStaking", "JobEscrow", "DataDemands")
BATCH = 10  # jobs of hire_many, decline_many, commit_many and settle_many

Figures = dict[str, dict[str, dict[str, int | None]]]


class Rounds:
    """The same people go through every function, twice; what the second round costs is the steady state."""

    def __init__(self, market: Market, provider: Provider, buyer: str) -> None:
        self._market = market
        self._chain = market.chain
        self._provider = provider
        self._buyer = buyer
        self._heir = account("next admin")
        self._signer = dev_account(0)
        self._gas: dict[tuple[str, str], int] = {}

    def run(self) -> Figures:
        """All figures, in gas, by contract and function.

        Raises:
            CallFailed: a function of a contract was not measured.
        """
        self._prepare()
        rounds = []
        for number in (1, 2):
            self._gas = {}
            self._staking(number)
            self._escrow_alone(number)
            self._jobs()
            self._disputes()
            self._admin(number)
            self._data()
            rounds.append(self._gas)
        first, steady = rounds
        figures: Figures = {}
        for contract in (self._market.staking, self._market.escrow, self._market.demands):
            name = contract.artifact.name
            known = {function for of, function in first if of == name}
            missing = contract.artifact.functions() ^ known
            if missing:
                raise CallFailed(f"{name}: measured and existing functions differ by {sorted(missing)}")
            figures[name] = {
                function: {"first": first[name, function], "steady": steady.get((name, function))}
                for function in sorted(known)
            }
        return figures

    def _do(self, sender: str, contract: Contract, function: str, *arguments: Any) -> None:
        """Send, and keep what it cost."""
        self._keep(contract, function, self._chain.send(sender, contract, function, *arguments).gas)

    def _keep(self, contract: Contract, function: str, gas: int) -> None:
        self._gas.setdefault((contract.artifact.name, function), gas)

    def _prepare(self) -> None:
        market = self._market
        market.fund(self._provider.owner, market.staking, market.escrow)
        market.fund(self._buyer, market.escrow, market.demands)
        market.fund(self._signer.address)

    def _staking(self, number: int) -> None:
        market, owner, operator = self._market, self._provider.owner, self._provider.operator
        staking = market.staking
        if number == 1:
            self._do(owner, staking, "register", operator, ENDPOINT)
        self._do(owner, staking, "set_operator", account("other operator"))
        self._chain.send(owner, staking, "set_operator", operator)
        self._do(operator, staking, "set_endpoint", owner, ENDPOINT)
        self._do(owner, staking, "stake", STAKE)
        self._do(owner, staking, "withdraw", STAKE // 100)
        # Each round allows more, so that the second changes something.
        self._do(owner, staking, "allow", market.escrow, STAKE // 4 * number, STAKE // 40 * number)

        # A locker that is no escrow, as the escrow itself calls these within other functions.
        locker = market.locker.address
        self._chain.send(owner, staking, "allow", market.locker, STAKE // 10, STAKE // 10)
        self._do(locker, staking, "lock", owner, 2 * COLLATERAL)
        self._do(locker, staking, "unlock", owner, COLLATERAL)
        job = digest("job of the locker")
        self._do(locker, staking, "slash", owner, job, COLLATERAL, COLLATERAL // 5, COLLATERAL // 10)
        self._do(locker, staking, "collect")

    def _escrow_alone(self, number: int) -> None:
        market, owner, buyer = self._market, self._provider.owner, self._buyer
        escrow = market.escrow
        self._do(buyer, escrow, "deposit", BALANCE // 2)
        self._do(buyer, escrow, "withdraw", USD)
        self._do(self._signer.address, escrow, "deposit_with_permit", USD, *self._permit(number - 1, USD))
        self._do(owner, escrow, "approve_arbiter", market.demands, True)
        self._chain.send(owner, escrow, "approve_arbiter", market.locker, True)
        self._do(owner, escrow, "revoke_offers", market.locker)

    def _jobs(self) -> None:
        market, provider, buyer = self._market, self._provider, self._buyer
        escrow = market.escrow
        offer = self._offer()
        self._do(provider.operator, escrow, "post_offer", offer)
        self._do(provider.operator, escrow, "close_offer", offer)
        market.post(provider, offer)

        job = market.hire(provider, offer, buyer)
        self._keep(escrow, "hire", job.gas["hire"])
        self._keep(escrow, "commit", market.commit(job))
        self._keep(escrow, "settle", market.settle(job))

        self._do(provider.operator, escrow, "decline", market.hire(provider, offer, buyer).terms, False)
        batch, _ = market.hire_many(provider, offer, buyer, BATCH)
        self._do(provider.operator, escrow, "decline_many", [job.terms for job in batch], False)
        self._keep(escrow, "expire", market.expire(market.hire(provider, offer, buyer)))

        request = market.request(buyer, arbiter=market.demands.address)
        self._do(buyer, escrow, "post_request", request)
        self._do(buyer, escrow, "cancel_request", request)
        self._keep(
            escrow, "accept", market.post_and_accept(provider, buyer, arbiter=market.demands.address).gas["accept"]
        )

        batch, gas = market.hire_many(provider, offer, buyer, BATCH)
        self._keep(escrow, "hire_many", gas)
        self._keep(escrow, "commit_many", market.commit_many(batch))
        self._keep(escrow, "settle_many", market.settle_many(batch, provider.operator))

    def _disputes(self) -> None:
        """An arbiter that is no game, as a game calls these within other functions."""
        market, provider = self._market, self._provider
        escrow, arbiter = market.escrow, market.locker.address
        offer = market.offer(provider, tiers=BASIC | EXACT, arbiter=arbiter)
        market.post(provider, offer)
        job = market.hire(provider, offer, self._buyer, tier=EXACT, exact_terms=digest("exact terms"))
        market.commit(job)
        self._do(arbiter, escrow, "hold", job.terms, job.commitment)
        self._do(arbiter, escrow, "release", job.terms)
        self._chain.send(arbiter, escrow, "hold", job.terms, job.commitment)
        self._do(arbiter, escrow, "convict", job.terms, job.commitment, COLLATERAL // 10)
        self._do(market.keeper, escrow, "collect_slashes")

    def _admin(self, number: int) -> None:
        market, escrow = self._market, self._market.escrow
        admin = market.admin
        self._do(admin, escrow, "set_paused", True)
        self._chain.send(admin, escrow, "set_paused", False)
        self._do(admin, escrow, "set_fee", FEE_BPS + number)
        self._chain.send(admin, escrow, "set_fee", FEE_BPS)
        self._do(admin, escrow, "collect_fees", [self._provider.owner], account("treasury"))
        self._do(admin, escrow, "transfer_ownership", self._heir)
        self._do(self._heir, escrow, "accept_ownership")
        self._chain.send(self._heir, escrow, "transfer_ownership", admin)
        self._chain.send(admin, escrow, "accept_ownership")

    def _data(self) -> None:
        market, buyer = self._market, self._buyer
        demands = market.demands
        offer = self._offer()
        market.post(self._provider, offer)
        root, proof = _bundle()

        answered = self._committed(offer, root)
        self._do(buyer, demands, "demand", answered.terms, answered.commitment, [0])
        self._do(self._provider.operator, demands, "answer", answered.terms, answered.commitment, 0, proof)
        market.settle(answered)

        withheld = self._committed(offer, root)
        self._chain.send(buyer, demands, "demand", withheld.terms, withheld.commitment, [0])
        market.wait_for(self._chain.now() + 2 * DAY)
        self._do(market.keeper, demands, "expire", withheld.terms, withheld.commitment, 0)

        forgotten = self._committed(offer, root)
        self._chain.send(buyer, demands, "demand", forgotten.terms, forgotten.commitment, [0])
        market.wait_for(self._chain.now() + 91 * DAY)
        self._chain.send(market.keeper, market.escrow, "settle", forgotten.terms, forgotten.commitment)
        self._do(buyer, demands, "reclaim", forgotten.terms)
        self._do(buyer, demands, "collect", buyer)

    def _offer(self) -> dict[str, Any]:
        return self._market.offer(self._provider, arbiter=self._market.demands.address)

    def _committed(self, offer: Mapping[str, Any], root: bytes) -> Job:
        job = self._market.hire(self._provider, offer, self._buyer)
        self._market.commit(job, root=root)
        return job

    def _permit(self, nonce: int, amount: int) -> tuple[int, int, bytes, bytes]:
        """Deadline and signature of an EIP-2612 permit of the signer for the escrow."""
        deadline = self._chain.now() + DAY
        fields = {"owner": "address", "spender": "address", "value": "uint256", "nonce": "uint256"}
        message = encode_typed_data(
            {
                "name": "GpuBond Test USD",
                "version": "1",
                "chainId": CHAIN_ID,
                "verifyingContract": self._market.token.address,
            },
            {"Permit": [{"name": name, "type": kind} for name, kind in (fields | {"deadline": "uint256"}).items()]},
            {
                "owner": self._signer.address,
                "spender": self._market.escrow.address,
                "value": amount,
                "nonce": nonce,
                "deadline": deadline,
            },
        )
        signed = Account.sign_message(message, self._signer.key)
        return deadline, signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")


def _bundle() -> tuple[bytes, dict[str, Any]]:
    """Result root of a bundle of 1 MiB, and the proof of its first chunk, which has no zero byte."""
    chunk = b"".join(digest(f"data {number}") for number in range(CHUNK_BYTES // 32))
    root, path = fold((leaf_hash(chunk) for _ in range(CHUNKS)), CHUNKS, 0)
    size, manifest_size = CHUNKS * CHUNK_BYTES, 1_000
    proof = {"chunk": chunk, "bundle_size": size, "manifest_size": manifest_size, "path": path}
    header = TAG + size.to_bytes(8, "big") + manifest_size.to_bytes(8, "big")
    return hashlib.sha256(header + root).digest(), proof
