# SPDX-License-Identifier: Apache-2.0
"""What demands for data ask of a provider, and what their answers earned: fees wait in DataDemands to be collected."""

from __future__ import annotations

from dataclasses import dataclass

from gpubond.chain.contracts import Call
from gpubond.chain.demands import data_demands
from gpubond.chain.games import dispute_game
from gpubond.chain.session import Session


@dataclass(frozen=True)
class DemandStanding:
    """Chunks that wait to be shown, the first deadline (Unix seconds), and fees to collect (base units)."""

    open: int
    next_deadline: int | None
    fees: int


def demand_standing(session: Session, provider: str) -> DemandStanding:
    """As of the session's last synchronisation; the fees as of now. All none where there is no DataDemands."""
    waiting = session.index.demands.waiting_for(provider)
    return DemandStanding(len(waiting), waiting[0].answer_by if waiting else None, fees_of(session, provider))


def fees_of(session: Session, provider: str) -> int:
    """Fees of answers that nobody has collected, base units."""
    demands = data_demands(session.contracts)
    return 0 if demands is None else demands.claimable(provider)


def collect_call(session: Session, provider: str) -> Call | None:
    """The call that moves them into the provider's balance in the escrow; None where there are none."""
    demands = data_demands(session.contracts)
    if demands is None or not demands.claimable(provider):
        return None
    return demands.collect(provider)


def won_call(session: Session, provider: str, receiver: str) -> Call | None:
    """The call that takes out what challengers' lost games brought a provider; None where there is nothing."""
    game = dispute_game(session.contracts)
    due = 0 if game is None else game.balance_of(provider)
    return None if game is None or not due else game.withdraw(due, receiver)


def is_done(session: Session, provider: str, call: Call) -> bool:
    """Whether a planned collection has become needless: the worker, or anyone, made it meanwhile."""
    return call.to == session.contracts.demands_address and not fees_of(session, provider)
