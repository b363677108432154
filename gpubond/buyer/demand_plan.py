# SPDX-License-Identifier: Apache-2.0
"""What can be demanded of a committed result, what it costs, and what has been shown so far. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpubond.chain.contracts import Contracts
from gpubond.chain.demand_index import Demand, DemandState
from gpubond.chain.demands import ANSWER_WINDOW, LANES, DataDemands, arbiter_kind, data_demands
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Status
from gpubond.errors import BadInput, NotEnough, Refused

# Gas of a demand for one chunk and for each further one, rounded up from benchmarks/results/gas.json.
DEMAND_GAS = 130_000
FURTHER_CHUNK_GAS = 30_000
# Chunks that are demanded of one result at most, a MiB: by then the gas has cost more than another run.
MAX_CHUNKS = 256


@dataclass(frozen=True)
class DemandView:
    """What was demanded of a job's result. `now` is the chain's time, Unix seconds."""

    record: JobRecord
    demands: tuple[Demand, ...]
    now: int

    @property
    def shown(self) -> list[int]:
        """Chunks that the provider has shown on chain."""
        return sorted({demand.chunk for demand in self.demands if demand.state is DemandState.ANSWERED})

    @property
    def open(self) -> list[Demand]:
        """Demands that hold the job, the most urgent first; none once it has ended."""
        if self.record.status != Status.DISPUTED:
            return []
        waiting = [demand for demand in self.demands if demand.state is DemandState.OPEN]
        return sorted(waiting, key=lambda demand: (demand.answer_by, demand.chunk))

    @property
    def overdue(self) -> Demand | None:
        """A demand that was not answered in time, with which the job can be ended."""
        return next((demand for demand in self.open if self.now > demand.answer_by), None)

    @property
    def missing(self) -> list[int]:
        """Chunks of the result that were neither shown nor demanded and wait."""
        if self.record.commitment is None:
            return []
        known = {*self.shown, *(demand.chunk for demand in self.open)}
        return [index for index in range(self.record.commitment.chunks) if index not in known]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        commitment = self.record.commitment
        return {
            "job": self.record.job,
            "status": self.record.status.name.lower(),
            "chunks": None if commitment is None else commitment.chunks,
            "shown": self.shown,
            "open": [{"chunk": demand.chunk, "answer_by": demand.answer_by} for demand in self.open],
            "overdue": self.overdue is not None,
            "outcome": self.record.outcome,
        }


@dataclass(frozen=True)
class DemandPlan:
    """Chunks that can be demanded now, and what that costs. Amounts in base units, gas in wei.

    `demand_until` is the last second in which anything can be demanded, `answer_by` the earliest by which the
    first chunks must be shown, both Unix seconds. `gateway` says what the provider's gateway does meanwhile.
    """

    view: DemandView
    chunks: tuple[int, ...]
    fee: int
    gas_wei: int
    demand_until: int
    answer_by: int
    gateway: str

    @property
    def fees(self) -> int:
        """What the answers to all of them earn; what is not answered comes back."""
        return self.fee * len(self.chunks)

    @property
    def rounds(self) -> int:
        """How many transactions it takes: a job has eight lanes, each free again once it is answered."""
        return -(-len(self.chunks) // LANES)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **self.view.as_dict(),
            "to_demand": list(self.chunks),
            "fee_each": self.fee,
            "fees": self.fees,
            "rounds": self.rounds,
            "gas_wei_estimate": self.gas_wei,
            "demand_until": self.demand_until,
            "answer_by": self.answer_by,
            "refund_if_withheld": self.view.record.terms.escrowed,
            "compensation_if_withheld": self.view.record.terms.compensation,
            "gateway": self.gateway,
        }


def require_demandable(contracts: Contracts, record: JobRecord) -> DataDemands:
    """The contract at which a job's data can be demanded.

    Raises:
        Refused: the job has no arbiter, another one, or the deployment has no such contract; it says what is
            possible instead.
    """
    contract = data_demands(contracts)
    kind = arbiter_kind(contracts, record.terms.arbiter)
    if contract is not None and kind == "demands":
        return contract
    if kind == "none":
        message = "this job has no arbiter: nobody can make its provider show the result on chain"
        remedy = (
            "`gpubond job fetch` asks its gateway again, as often as you like; the payment is held until the challenge "
            "window ends, and then anyone can settle. `gpubond job quote` shows which offers let a buyer demand data"
        )
    else:
        message = f"this job's arbiter {record.terms.arbiter} is not this deployment's DataDemands"
        remedy = (
            "its provider chose it: only that contract's own documentation says what it can do; "
            "`gpubond job fetch` asks the gateway again"
        )
    raise Refused(message, field="job", value=record.job, remedy=remedy)


def plan_demand(
    contracts: Contracts, buyer: str, view: DemandView, chunks: Sequence[int] | None, gateway: str
) -> DemandPlan:
    """What a demand for chunks would send; None means all that were neither shown nor demanded.

    Raises:
        BadInput: no such chunk, too many, or the job is another buyer's.
        Refused: nothing can be demanded of the job, or no longer.
        NotEnough: the wallet does not hold the fees.
    """
    record = view.record
    contract = require_demandable(contracts, record)
    if record.terms.buyer != buyer:
        raise BadInput(
            "only the job's buyer can demand its result",
            field="job",
            value=record.job,
            remedy=f"use the home folder of {record.terms.buyer}",
        )
    commitment = record.commitment
    if commitment is None or record.status not in (Status.COMMITTED, Status.DISPUTED):
        raise Refused(
            f"there is no result to demand: the job is {record.status.name.lower()}",
            field="job",
            value=record.job,
            remedy="data is demanded once a result is committed and before the job ends: see `gpubond job status`",
        )
    window_end = commitment.committed_at + record.terms.challenge_window
    wanted = _wanted(view, chunks, commitment.chunks)
    if wanted and view.now >= window_end:
        raise Refused(
            "the challenge window is over, so nothing more can be demanded",
            field="job",
            value=record.job,
            remedy="what was demanded before must still be answered: see `gpubond job status`",
        )
    plan = DemandPlan(
        view=view,
        chunks=tuple(wanted),
        fee=contract.fee,
        gas_wei=_gas(len(wanted)) * int(contracts.node.eth.gas_price),
        demand_until=window_end - 1,
        answer_by=view.now + ANSWER_WINDOW,
        gateway=gateway,
    )
    wallet = contracts.token_balance(buyer)
    if wallet < plan.fees:
        text = contracts.token_info.text
        raise NotEnough(
            f"{len(wanted)} demands cost {text(plan.fees)}, your wallet has {text(wallet)}",
            field="wallet",
            value=wallet,
            remedy=f"add {text(plan.fees - wallet)} to {buyer} (`gpubond account withdraw` takes it out of the "
            "escrow), or demand fewer chunks",
        )
    return plan


def _wanted(view: DemandView, chunks: Sequence[int] | None, count: int) -> list[int]:
    wanted = view.missing if chunks is None else sorted(set(chunks))
    beyond = [index for index in wanted if not 0 <= index < count]
    if beyond:
        raise BadInput(
            "the result has no such chunk",
            field="chunk",
            value=beyond[0],
            remedy=f"it has {count}, of 4 KiB each: give 0 to {count - 1}",
        )
    if len(wanted) > MAX_CHUNKS:
        raise BadInput(
            f"{len(wanted)} chunks are too many to fetch through the chain",
            field="chunks",
            value=len(wanted),
            remedy=f"at most {MAX_CHUNKS}, which is a MiB: demand a few by --chunk; who cannot show one of them "
            "loses the collateral all the same",
        )
    waiting = {demand.chunk for demand in view.open}
    return [index for index in wanted if index not in waiting and index not in view.shown]


def _gas(chunks: int) -> int:
    rounds = -(-chunks // LANES)
    return rounds * DEMAND_GAS + (chunks - rounds) * FURTHER_CHUNK_GAS
