# SPDX-License-Identifier: Apache-2.0
"""Checks of what the contracts hold of this provider: registration, stake, allowance, offer."""

from __future__ import annotations

from gpubond.chain.games import game_rules
from gpubond.chain.market import Tier
from gpubond.chain.session import Session
from gpubond.provider.checks.check import Finding, Subject, failed, ok, warning
from gpubond.provider.note_key import announced
from gpubond.provider.offers import my_offers

_JOIN = "run `gpubond provider join`"
_SOON = 7 * 86_400


def registered(subject: Subject) -> Finding:
    """The provider is registered, with the operator whose key is here."""
    state = subject.contracts.provider(subject.provider.address)
    if not state.registered:
        return failed(f"{subject.provider.address} is not registered", _JOIN)
    if subject.operator not in (state.operator, subject.provider.address):
        return failed(
            f"its operator is {state.operator}, the key here is that of {subject.operator}",
            f"{_JOIN} to replace the operator, or name the right key file in [key]",
        )
    return ok(f"{subject.provider.address}, operator {state.operator}")


def endpoint(subject: Subject) -> Finding:
    """What buyers read on chain is what the settings say."""
    wanted = announced(subject.home, subject.gateway)
    with Session(subject.home, subject.settings) as session:
        session.sync()
        known = session.index.provider(subject.provider.address)
    if known is None or known.endpoint != wanted:
        shown = "nothing" if known is None else repr(known.endpoint)
        words = f"{shown} is announced, the settings say {wanted!r}"
        # Notes that are sealed to another key cannot be read; an older address may still lead here.
        return warning(words, _JOIN) if subject.gateway.listen else failed(words, _JOIN)
    return ok(wanted)


def stake(subject: Subject) -> Finding:
    """The stake covers the jobs that the settings want backed."""
    state = subject.contracts.provider(subject.provider.address)
    token = subject.contracts.token_info
    collateral = token.units(subject.offer.collateral, "offer.collateral")
    wanted = collateral * subject.offer.stake_jobs
    words = f"{token.text(state.stake)} staked"
    if state.stake < collateral:
        wallet = subject.contracts.token_balance(subject.provider.address)
        missing = wanted - state.stake - wallet
        pay = f"send {token.text(missing)} to {subject.provider.address}, then " if missing > 0 else ""
        return failed(f"{words}; a single job needs a collateral of {token.text(collateral)}", pay + _JOIN)
    if state.stake < wanted:
        return warning(
            f"{words}, enough for {state.stake // collateral} jobs at once, running or not settled yet; "
            f"the settings want {subject.offer.stake_jobs}",
            f"{_JOIN} to stake {token.text(wanted - state.stake)} more, or lower offer.backed_jobs",
        )
    return ok(f"{words}, {token.text(wanted)} wanted")


def allowance(subject: Subject) -> Finding:
    """The escrow may lock the collateral."""
    state = subject.contracts.provider(subject.provider.address)
    token = subject.contracts.token_info
    collateral = token.units(subject.offer.collateral, "offer.collateral")
    wanted = collateral * subject.offer.stake_jobs
    words = f"{token.text(state.allowed)} allowed, {token.text(state.allowed_per_job)} a job"
    if state.allowed_per_job < collateral or state.allowed < collateral:
        return failed(f"{words}; a job of this offer locks {token.text(collateral)}", _JOIN)
    if state.allowed < wanted:
        return warning(f"{words}; the settings want {token.text(wanted)}", _JOIN)
    if state.allowed - state.locked < collateral:
        return warning(
            f"{words}, all of it locked by jobs that are not settled: no new hire until one is",
            "raise offer.backed_jobs and run `gpubond provider join`, or wait",
        )
    return ok(f"{words}, {token.text(state.locked)} locked by jobs")


def exact_offer(subject: Subject) -> Finding:
    """What the settings offer of tier EXACT can be hired: collateral, window and arbiter are what the game asks for."""
    exact = subject.settings.exact_offer
    if exact is None:
        return ok("none is offered")
    rules = game_rules(subject.contracts)
    if rules is None:
        return failed("this deployment has no DisputeGame", "remove [exact_offer] from the settings")
    token = subject.contracts.token_info
    collateral = token.units(exact.collateral, "exact_offer.collateral")
    short = rules.shortfall(
        arbiter=rules.address,
        collateral=collateral,
        challenge_window=exact.challenge_window,
        longest_run=subject.offer.longest_run,
        answer_seconds=1,
    )
    per_job = subject.contracts.provider(subject.provider.address).allowed_per_job
    if short is not None or per_job < collateral:
        allowed = f"{token.text(per_job)} are allowed a job, and it locks {token.text(collateral)}"
        words = allowed if short is None else short.words
        return failed(f"nobody can hire it: {words}", f"correct [exact_offer] and {_JOIN}")
    with Session(subject.home, subject.settings) as session:
        session.sync()
        mine = my_offers(session, subject.provider.address)
        games = len(session.index.games.of_provider(subject.provider.address))
    if not any(item.offer.tiers & Tier.EXACT and not item.expired for item in mine):
        return warning("no offer of tier EXACT is open", _JOIN)
    if games:
        return warning(f"open, and {games} games about its jobs are open", "keep the worker running: it answers")
    return ok(f"open; all its jobs together may need {rules.answer_seconds} s for one answer each")


def offer(subject: Subject) -> Finding:  # noqa: PLR0911  # one for each thing that can be found
    """An offer stands open, has places, and nothing bars hires."""
    escrow = subject.contracts.escrow.functions
    with Session(subject.home, subject.settings) as session:
        session.sync()
        mine = my_offers(session, subject.provider.address)
    standing = [item for item in mine if not item.expired]
    if not mine:
        return failed("no offer is open, so nobody can hire this machine", _JOIN)
    if not standing:
        return failed("every offer has expired, so nobody can hire this machine", f"{_JOIN} to post it anew")
    lost = sum(item.lost_places for item in standing)
    if all(item.lost_places >= item.offer.count for item in standing):
        return failed("expired jobs keep every place of the offer", f"{_JOIN} to post it anew")
    fee = int(escrow.fee_bps().call())
    if all(fee > item.offer.max_fee_bps for item in standing):
        return failed(
            f"the protocol's fee, {fee / 100:g} %, is above what the offer works under",
            f"raise offer.max_fee_percent to {fee / 100:g} and {_JOIN}, or leave",
        )
    if lost:
        return warning(f"expired jobs keep {lost} places of the offer", f"{_JOIN} to post it anew")
    if bool(escrow.is_paused().call()):
        return warning("new jobs are paused by the protocol's admin", "wait; running jobs go on and are paid")
    last = max(item.offer.expiry for item in standing)
    if last - subject.contracts.now() < _SOON:
        return warning(f"the offer expires within {_SOON // 86_400} days", f"{_JOIN} to post it anew")
    if not any(item.offer.class_name == subject.offer.resource_class for item in standing):
        return warning(f"no open offer is of class {subject.offer.resource_class}", _JOIN)
    taken = sum(item.running for item in standing)
    return ok(f"{len(standing)} open, {taken} of {sum(item.offer.count for item in standing)} places taken")
