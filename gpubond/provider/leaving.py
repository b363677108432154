# SPDX-License-Identifier: Apache-2.0
"""Taking money out, and ceasing to be a provider: the owner's calls, planned from what the chain holds now.

Nothing is remembered between two calls of a plan: whoever is interrupted plans again and sends what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpubond.chain.contracts import Call
from gpubond.chain.index import JobRecord
from gpubond.chain.session import Session
from gpubond.errors import BadInput, BadSettings, NotEnough
from gpubond.provider.fees import collect_call, fees_of, won_call
from gpubond.provider.offers import my_offers


@dataclass(frozen=True)
class LeavePlan:
    """The calls that can be made now, in order, and what keeps the rest from being made. Amounts in base units; `fees`
    are those of answers to demands, before they are collected."""

    calls: tuple[Call, ...]
    live_jobs: tuple[JobRecord, ...]
    locked: int
    stake: int
    balance: int
    fees: int

    @property
    def complete(self) -> bool:
        """Whether all is out once the calls are made."""
        return not self.live_jobs and not self.locked


@dataclass(frozen=True)
class Withdrawal:
    """The calls, in order, and the fees of answers to demands (base units) that they leave in DataDemands."""

    calls: tuple[Call, ...]
    fees_left: int


def plan_withdrawal(session: Session, amount: str | None, receiver: str, *, stake: bool) -> Withdrawal:
    """The calls that take earnings, or free stake, out.

    Fees of answers are collected before, if they are worth it by `provider.collect_fees_from`, or needed.

    Args:
        amount: tokens; None for all there is.
        receiver: who gets them.
        stake: free stake in place of earnings.

    Raises:
        BadSettings: the key is not the owner's.
        BadInput: not an amount.
        NotEnough: there is less than that, or nothing.
    """
    owner, contracts = _owner(session), session.contracts
    state = contracts.provider(owner)
    token = contracts.token_info
    collect, fees = (None, 0) if stake else (collect_call(session, owner), fees_of(session, owner))
    has = state.free_stake if stake else state.balance
    # What lost games brought lies in the game: it goes along with all there is.
    won = None if stake or amount is not None else won_call(session, owner, receiver)
    if won is not None and not has and collect is None:
        return Withdrawal((won,), fees)
    if collect is not None and _collects(session, amount, has, fees):
        has, fees = has + fees, 0
    else:
        collect = None
    wanted = has if amount is None else token.units(amount, "amount")
    kind = "free stake" if stake else "earnings in the escrow"
    if wanted > has or not has:
        remedy = f"ask for at most {token.text(has)}" if has else "wait until jobs are settled"
        if stake and state.stake > has:
            remedy = (
                f"{token.text(state.stake - has)} are allowed to the escrow: lower offer.backed_jobs and run "
                "`gpubond provider join` to free some, or `gpubond provider leave` to free all"
            )
        raise NotEnough(
            f"there are {token.text(has)} of {kind}" + (f", not {token.text(wanted)}" if wanted > has else ""),
            field="amount",
            value=amount,
            remedy=remedy,
        )
    call = contracts.withdraw_stake(wanted, receiver) if stake else contracts.withdraw(wanted, receiver)
    return Withdrawal((*([] if collect is None else [collect]), call, *([] if won is None else [won])), fees)


def _collects(session: Session, amount: str | None, has: int, fees: int) -> bool:
    """Whether fees are collected for a withdrawal: what is not worth its gas stays, unless it is asked for."""
    provider, token = session.settings.provider, session.contracts.token_info
    assert provider is not None  # noqa: S101  # by `_owner`
    if amount is not None:
        return token.units(amount, "amount") > has
    return fees >= token.units(provider.collect_fees_from, "provider.collect_fees_from") or not has


def plan_leave(session: Session, receiver: str) -> LeavePlan:
    """What can be done now: close offers; and when no job is open any more, take the allowance back and all money out.

    Raises:
        BadSettings: the key is not the owner's.
    """
    owner, contracts = _owner(session), session.contracts
    session.sync()
    state = contracts.provider(owner)
    live = tuple(session.index.jobs(provider=owner, live_only=True))
    calls = [contracts.close_offer(item.offer) for item in my_offers(session, owner) if not item.expired]
    # Closed first and confirmed: else a hire could come between and lock what is to be taken out.
    if not live and not state.locked:
        if state.allowed or state.allowed_per_job:
            calls.append(contracts.allow(0, 0))
        if state.stake:
            calls.append(contracts.withdraw_stake(state.stake, receiver))
        collect, fees = collect_call(session, owner), fees_of(session, owner)
        if collect is not None:
            calls.append(collect)
        if state.balance + fees:
            calls.append(contracts.withdraw(state.balance + fees, receiver))
        won = won_call(session, owner, receiver)
        if won is not None:
            calls.append(won)
    return LeavePlan(tuple(calls), live, state.locked, state.stake, state.balance, fees_of(session, owner))


def _owner(session: Session) -> str:
    provider = session.settings.provider
    if provider is None:
        raise BadSettings(
            "the settings have no section [provider]",
            field="provider",
            remedy="name the provider's home folder with --home, or make one with `gpubond provider init`",
        )
    if session.address != provider.address:
        raise BadSettings(
            f"the owner's key is that of {session.address}, the provider is {provider.address}",
            field="owner_key",
            value=session.address,
            remedy="name the owner's keystore in [owner_key], or correct provider.address",
        )
    return provider.address


def require_still_possible(session: Session, plan: LeavePlan, done: int) -> None:
    """After the first `done` calls: whether a hire came before the offers were closed.

    Raises:
        BadInput: it did; planning again shows what is possible now.
    """
    if done and plan.complete and session.contracts.provider(_owner(session)).locked:
        raise BadInput(
            "a job was hired while the offers were being closed",
            field="jobs",
            remedy="keep the worker running until it is paid, then run `gpubond provider leave` again",
        )
