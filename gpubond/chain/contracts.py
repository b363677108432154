# SPDX-License-Identifier: Apache-2.0
"""The deployed contracts: what can be read from them, and the calls that change them.

A call is data for the sender; nothing is sent here. Amounts are token base units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from eth_abi.abi import decode
from web3 import Web3
from web3.contract import Contract

from gpubond.chain.abi import load_abi
from gpubond.chain.batch import call_many
from gpubond.chain.deployment import Deployment
from gpubond.chain.market import Commitment, JobTerms, Offer, Order
from gpubond.chain.money import Token
from gpubond.chain.preflight import call_params, run_call

# `JobEscrow.vy`: the low bits of a job's slot are its status.
STATUS_MASK = 0xFFFF

# `JobEscrow.vy`: jobs in one call of `decline_many` or `settle_many`.
MAX_BATCH = 32

ZERO_ADDRESS = "0x" + "00" * 20


@dataclass(frozen=True)
class Call:
    """One contract call: what it does in words, the target and its data."""

    words: str
    to: str
    data: str

    def followed_by(self, trailer: bytes) -> Self:
        """The same call with bytes behind its arguments, which the contract ignores; see `gpubond.chain.trailer`."""
        return replace(self, data=self.data + trailer.hex())


@dataclass(frozen=True)
class ProviderState:
    """A provider as `JobEscrowViews.provider_of` answers."""

    operator: str
    stake: int
    free_stake: int
    allowed: int
    allowed_per_job: int
    locked: int
    balance: int
    declines: int
    fees: int

    @property
    def registered(self) -> bool:
        """Whether the address ever registered."""
        return int(self.operator, 16) != 0


class Contracts:
    """Typed access to one deployment."""

    def __init__(self, node: Web3, deployment: Deployment) -> None:
        self.node = node
        self.deployment = deployment
        self.token_info = Token(deployment.token.address, deployment.token.symbol, deployment.token.decimals)
        self.staking = self.at("ProviderStaking", deployment.address("ProviderStaking"))
        self.escrow = self.at("JobEscrow", deployment.address("JobEscrow"))
        self.views = self.at("JobEscrowViews", deployment.address("JobEscrowViews"))
        self.token = self.at("TestToken", deployment.token.address)
        #: The deployment's DataDemands; None where it was deployed without. See `gpubond.chain.demands`.
        self.demands_address: str | None = None
        if "DataDemands" in deployment.contracts:
            self.demands_address = str(deployment.address("DataDemands"))
        #: The deployment's DisputeGame; None where it was deployed without. See `gpubond.chain.games`.
        self.game_address: str | None = None
        if "DisputeGame" in deployment.contracts:
            self.game_address = str(deployment.address("DisputeGame"))

    def at(self, name: str, address: str) -> Contract:
        """A contract with a packaged ABI at an address."""
        return self.node.eth.contract(address=Web3.to_checksum_address(address), abi=load_abi(name))

    @property
    def watched(self) -> dict[str, list[dict[str, Any]]]:
        """ABI by address of the contracts whose events make the market."""
        watched = {
            str(self.staking.address): load_abi("ProviderStaking"),
            str(self.escrow.address): load_abi("JobEscrow"),
        }
        if self.demands_address is not None:
            watched[self.demands_address] = load_abi("DataDemands")
        if self.game_address is not None:
            watched[self.game_address] = load_abi("DisputeGame")
        return watched

    def now(self) -> int:
        """The latest block's time, by which every deadline is judged (Unix seconds)."""
        return int(self.node.eth.get_block("latest")["timestamp"])

    def provider(self, address: str) -> ProviderState:
        """Stake, allowance and record of a provider."""
        return ProviderState(*self.views.functions.provider_of(address).call())

    def refusal(self, offer: Offer, buyer: str, longest_run: int) -> str:
        """Why a hire would be refused now; empty if nothing stands against it."""
        return str(self.views.functions.refusal(offer.as_tuple(), buyer, longest_run).call())

    def refusals(self, offers: Sequence[Offer], buyer: str, longest_run: int) -> list[str]:
        """`refusal` of many offers, in a request for each hundred of them."""
        calls = [
            bytes.fromhex(self.views.encode_abi("refusal", args=[offer.as_tuple(), buyer, longest_run])[2:])
            for offer in offers
        ]
        return [str(decode(["string"], answer)[0]) for answer in call_many(self.node, str(self.views.address), calls)]

    def burned(self) -> int:
        """What slashes by the escrow took out of use for good, base units."""
        return int(self.staking.functions.burned_by(self.escrow.address).call())

    def fee_bps(self) -> int:
        """The protocol's fee in basis points of what a provider earns."""
        return int(self.escrow.functions.fee_bps().call())

    def escrow_balance(self, account: str) -> int:
        """What an account can spend or withdraw in the escrow."""
        return int(self.escrow.functions.balance_of(account).call())

    def token_balance(self, account: str) -> int:
        """What an account's wallet holds."""
        return int(self.token.functions.balanceOf(account).call())

    def token_allowance(self, owner: str, spender: str) -> int:
        """What a spender may take from an owner's wallet."""
        return int(self.token.functions.allowance(owner, spender).call())

    def job_status(self, job: bytes) -> int:
        """The status bits of a job; 0 if it does not exist."""
        return int(self.escrow.functions.job_slot(job).call()) & STATUS_MASK

    def _call(self, contract: Contract, words: str, name: str, *args: Any) -> Call:
        return Call(words, str(contract.address), contract.encode_abi(name, args=list(args)))

    def approve(self, spender: str, amount: int) -> Call:
        """Lets a contract take tokens from the caller's wallet."""
        names = {str(self.staking.address): "ProviderStaking", self.demands_address: "DataDemands"}
        who = names.get(spender, "JobEscrow")
        words = f"approve {who} to take {self.token_info.text(amount)}"
        return self._call(self.token, words, "approve", spender, amount)

    def faucet(self, amount: int, receiver: str) -> Call:
        """Mints test tokens."""
        words = f"mint {self.token_info.text(amount)} of test tokens"
        return self._call(self.token, words, "faucet", amount, receiver)

    def register(self, operator: str, endpoint: str) -> Call:
        """Makes the caller a provider."""
        words = f"register as a provider with operator {operator} at {endpoint}"
        return self._call(self.staking, words, "register", operator, endpoint)

    def set_operator(self, operator: str) -> Call:
        """Replaces the operator."""
        return self._call(self.staking, f"replace the operator by {operator}", "set_operator", operator)

    def set_endpoint(self, provider: str, endpoint: str) -> Call:
        """Announces another gateway, or the key of a provider without one."""
        words = f"announce the gateway at {endpoint}"
        if not endpoint.startswith("http"):
            words = f"announce no gateway, but the key for buyers' notes {endpoint}"
        return self._call(self.staking, words, "set_endpoint", provider, endpoint)

    def stake(self, amount: int, provider: str) -> Call:
        """Adds to a provider's stake."""
        return self._call(self.staking, f"stake {self.token_info.text(amount)}", "stake", amount, provider)

    def withdraw_stake(self, amount: int, receiver: str) -> Call:
        """Takes free stake of the caller out."""
        words = f"withdraw {self.token_info.text(amount)} of stake to {receiver}"
        return self._call(self.staking, words, "withdraw", amount, receiver)

    def allow(self, total: int, per_job: int) -> Call:
        """Lets the escrow lock stake."""
        text = self.token_info.text
        words = f"allow JobEscrow to lock {text(total)} at most, {text(per_job)} a job"
        if not total:
            words = "take the allowance of JobEscrow back"
        return self._call(self.staking, words, "allow", self.escrow.address, total, per_job)

    def is_arbiter_approved(self, provider: str, arbiter: str) -> bool:
        """Whether a provider's owner lets a contract decide about its new jobs."""
        return bool(self.escrow.functions.is_arbiter_approved(provider, arbiter).call())

    def approve_arbiter(self, arbiter: str, approved: bool, words: str) -> Call:
        """Lets a contract decide about the caller's new jobs, or no longer."""
        return self._call(self.escrow, words, "approve_arbiter", arbiter, approved)

    def revoke_offers(self, arbiter: str) -> Call:
        """Ends all offers that the caller's operators posted so far with this arbiter, or without any (zero)."""
        which = "without an arbiter" if arbiter == ZERO_ADDRESS else f"with the arbiter {arbiter}"
        words = f"end all offers {which} that were posted so far, by whatever key"
        return self._call(self.escrow, words, "revoke_offers", arbiter)

    def post_offer(self, offer: Offer) -> Call:
        """Opens an offer."""
        words = f"offer {offer.class_name} at {self.token_info.per_hour_text(offer.price_per_second)}"
        return self._call(self.escrow, words, "post_offer", offer.as_tuple())

    def close_offer(self, offer: Offer) -> Call:
        """Closes an offer."""
        return self._call(self.escrow, f"close the offer of {offer.class_name}", "close_offer", offer.as_tuple())

    def deposit(self, amount: int, account: str) -> Call:
        """Adds to a balance in the escrow."""
        words = f"deposit {self.token_info.text(amount)} into the escrow"
        return self._call(self.escrow, words, "deposit", amount, account)

    def withdraw(self, amount: int, receiver: str) -> Call:
        """Takes tokens out of the caller's balance in the escrow."""
        words = f"withdraw {self.token_info.text(amount)} to {receiver}"
        return self._call(self.escrow, words, "withdraw", amount, receiver)

    def hire(self, offer: Offer, order: Order) -> Call:
        """Makes a job of an offer."""
        price = self.token_info.text(offer.price_per_second * order.longest_run)
        words = f"hire {offer.class_name} of {offer.provider} for {order.longest_run} s, {price} at most"
        return self._call(self.escrow, words, "hire", offer.as_tuple(), order.as_tuple())

    def decline(self, terms: JobTerms) -> Call:
        """Gives a job back; its offer stays open."""
        return self._call(self.escrow, "decline the job", "decline", terms.as_tuple(), False)

    def commit(
        self,
        terms: JobTerms,
        result_root: bytes,
        *,
        chunks: int,
        exit_status: int,
        seconds_used: int,
        tasks_done: int,
    ) -> Call:
        """Commits to a result, a bundle of `chunks` times 4 KiB."""
        return self._call(
            self.escrow,
            f"commit to the result 0x{result_root.hex()}",
            "commit",
            terms.as_tuple(),
            result_root,
            chunks,
            exit_status,
            seconds_used,
            tasks_done,
        )

    def settle(self, terms: JobTerms, commitment: Commitment) -> Call:
        """Pays the provider and refunds the rest."""
        words = f"pay {self.token_info.text(commitment.pay)} to the provider"
        return self._call(self.escrow, words, "settle", terms.as_tuple(), commitment.as_tuple())

    def decline_many(self, jobs: Sequence[JobTerms]) -> Call:
        """Gives up to `MAX_BATCH` jobs back, and passes over those that cannot be any more."""
        return self._call(
            self.escrow, f"decline {len(jobs)} jobs", "decline_many", [job.as_tuple() for job in jobs], False
        )

    def settle_many(self, jobs: Sequence[tuple[JobTerms, Commitment]]) -> Call:
        """Settles up to `MAX_BATCH` jobs, and passes over those that cannot be."""
        items = [(terms.as_tuple(), commitment.as_tuple()) for terms, commitment in jobs]
        return self._call(self.escrow, f"settle {len(jobs)} jobs", "settle_many", items)

    def effect_of(self, call: Call, sender: str) -> int:
        """For how many of its jobs one of the two calls above would do something now.

        Raises:
            Refused, Unreachable: as a static call does.
        """
        answer = run_call(self.node, call_params(sender, call.to, call.data, 0), call.words)
        return int(decode(["uint256"], answer)[0])

    def expire(self, terms: JobTerms) -> Call:
        """Refunds a job that was not delivered."""
        return self._call(self.escrow, "expire the job: refund and compensation", "expire", terms.as_tuple())
