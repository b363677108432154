# SPDX-License-Identifier: Apache-2.0
"""`DataDemands`: what can be read from it, the calls that change it, and the chunks that its answers show.

A call is data for the sender; nothing is sent here. Amounts are token base units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3Exception
from web3.types import RPCEndpoint

from gpubond.chain.contracts import ZERO_ADDRESS, Call, Contracts
from gpubond.chain.market import Commitment, JobTerms

# `DataDemands.vy`: demands of one job that may wait at once, and the seconds in which each is answered.
LANES = 8
ANSWER_WINDOW = 86_400

# `ChunkProof`: chunk, bundle size, manifest size, path.
ProofFields = tuple[bytes, int, int, tuple[bytes, ...]]


def arbiter_kind(contracts: Contracts, arbiter: str) -> str:
    """`none`, `demands` or `game` (this deployment's own DataDemands and DisputeGame), or `unknown`: a contract that
    somebody else chose."""
    if arbiter == ZERO_ADDRESS:
        return "none"
    if arbiter == contracts.game_address:
        return "game"
    return "demands" if arbiter == contracts.demands_address else "unknown"


class DataDemands:
    """Typed access to the contract of one deployment; make it with `data_demands`."""

    def __init__(self, contracts: Contracts, address: str) -> None:
        self._contracts = contracts
        self._node = contracts.node
        self._contract = contracts.at("DataDemands", address)
        self.address = str(self._contract.address)

    @cached_property
    def fee(self) -> int:
        """What a demand costs its buyer, and its answer earns."""
        return int(self._contract.functions.ANSWER_FEE().call())

    def claimable(self, account: str) -> int:
        """Fees that `collect` would move into an account's balance in the escrow."""
        return int(self._contract.functions.claimable(account).call())

    def is_open(self, job: bytes, lane: int) -> bool:
        """Whether a fee is still deposited for the demand in a lane."""
        return bool(self._contract.functions.demand_of(job, lane).call()[0])

    def demand(self, terms: JobTerms, commitment: Commitment, chunks: Sequence[int]) -> Call:
        """Demands chunks of a committed result; by the job's buyer."""
        shown = ", ".join(map(str, chunks))
        fee = self._contracts.token_info.text(self.fee * len(chunks))
        words = f"demand chunk {shown} of the result for {fee}"
        return self._call(words, "demand", terms.as_tuple(), commitment.as_tuple(), list(chunks))

    def answer(self, terms: JobTerms, commitment: Commitment, lane: int, proof: ProofFields) -> Call:
        """Shows the chunk that a lane waits for."""
        return self._call(
            f"answer the demand in lane {lane}", "answer", terms.as_tuple(), commitment.as_tuple(), lane, proof
        )

    def expire(self, terms: JobTerms, commitment: Commitment, lane: int) -> Call:
        """Ends a job whose provider left a demand unanswered."""
        words = "end the job, whose result was withheld: refund, compensation and open fees"
        return self._call(words, "expire", terms.as_tuple(), commitment.as_tuple(), lane)

    def reclaim(self, terms: JobTerms) -> Call:
        """Gives a buyer the fees of open demands back after its job ended otherwise."""
        return self._call("take back the fees of demands that nobody answered", "reclaim", terms.as_tuple())

    def collect(self, account: str) -> Call:
        """Moves an account's fees into its balance in the escrow."""
        return self._call("move the fees of demands into the balance in the escrow", "collect", account)

    def shown_in(self, tx_hash: str, job: bytes, lane: int) -> ProofFields | None:
        """The proof with which a transaction answered a lane; None if this node does not show it.

        A provider may answer through a contract of its own, so that the chunk is in an inner call only; then the
        node must know `debug_traceTransaction`. What comes back is unchecked.
        """
        for data in self._inputs(tx_hash):
            found = self._decode(data, job, lane)
            if found is not None:
                return found
        return None

    def _inputs(self, tx_hash: str) -> Iterator[bytes]:
        try:
            transaction = self._node.eth.get_transaction(tx_hash)  # type: ignore[arg-type]
        except TransactionNotFound:
            return
        if transaction.get("to") == self.address:
            yield bytes(transaction["input"])
            return
        try:
            answer: Any = self._node.provider.make_request(
                RPCEndpoint("debug_traceTransaction"), [tx_hash, {"tracer": "callTracer"}]
            )
        except Web3Exception:
            return
        pending = [answer.get("result")]
        while pending:
            call = pending.pop()
            if not isinstance(call, dict):
                continue
            pending += call.get("calls") or []
            if str(call.get("to", "")).lower() == self.address.lower() and not call.get("error"):
                yield bytes.fromhex(str(call.get("input", "")).removeprefix("0x"))

    def _decode(self, data: bytes, job: bytes, lane: int) -> ProofFields | None:
        try:
            function, given = self._contract.decode_function_input(data)
        except (ValueError, Web3Exception):
            return None
        if function.fn_name != "answer" or given["lane"] != lane:
            return None
        terms = JobTerms.from_json(dict(given["terms"]))
        if terms.job_id(self._contracts.deployment.chain_id, str(self._contracts.escrow.address)) != job:
            return None
        proof = given["proof"]
        path = tuple(bytes(sibling) for sibling in proof["path"])
        return bytes(proof["chunk"]), int(proof["bundle_size"]), int(proof["manifest_size"]), path

    def _call(self, words: str, name: str, *args: Any) -> Call:
        return Call(words, self.address, self._contract.encode_abi(name, args=list(args)))


def data_demands(contracts: Contracts) -> DataDemands | None:
    """The deployment's DataDemands, or None if it has none."""
    address = contracts.demands_address
    return None if address is None else DataDemands(contracts, Web3.to_checksum_address(address))
