# SPDX-License-Identifier: Apache-2.0
"""Becoming a provider: the contract calls that bring the chain to what the settings say, and no others.

They are the owner's (cold key): registration, stake, allowance, offer. Doing it again sends nothing; after a
change of the settings it sends just the difference.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gpubond.chain.contracts import ZERO_ADDRESS, Call
from gpubond.chain.games import game_rules
from gpubond.chain.market import BPS, Offer, Tier, class_bytes
from gpubond.chain.outbox import OutboxEntry
from gpubond.chain.session import Session
from gpubond.errors import BadInput, BadSettings, NotEnough
from gpubond.provider.note_key import announced
from gpubond.provider.policy import refuse_contradiction
from gpubond.settings import ExactOfferSettings, OfferSettings

_DAY = 86_400


@dataclass(frozen=True)
class JoinPlan:
    """The calls that are still to be made, in order, and what they come to. Amounts in base units."""

    calls: tuple[Call, ...]
    offers: tuple[Offer, ...]
    stake_needed: int
    stake_added: int

    @property
    def per_job(self) -> int:
        """What a job can cost at most."""
        return max(offer.collateral for offer in self.offers)


def offer_from_settings(session: Session, provider: str, settings: OfferSettings) -> Offer:
    """The offer that the settings describe, valid from the chain's present time.

    Raises:
        BadInput: an amount that the token cannot express, a price of zero, or one beyond the contracts' range.
        BadSettings: it is to answer demands, and the deployment has no contract for them.
    """
    token = session.contracts.token_info
    offer = Offer(
        provider=provider,
        resource_class=class_bytes(settings.resource_class),
        count=settings.count,
        tiers=Tier.BASIC,
        price_per_second=token.units_per_second(settings.price_per_hour, "offer.price_per_hour"),
        shortest_run=settings.shortest_run,
        longest_run=settings.longest_run,
        acknowledge_window=settings.acknowledge_window,
        delivery_margin=settings.delivery_margin,
        challenge_window=settings.challenge_window,
        failure_cap_bps=int(settings.failure_cap_percent * BPS / 100),
        max_fee_bps=int(settings.max_fee_percent * BPS / 100),
        collateral=token.units(settings.collateral, "offer.collateral"),
        expiry=session.contracts.now() + settings.valid_days * _DAY,
        arbiter=_arbiter(session, settings),
    )
    if offer.price_per_second * offer.longest_run >= 2**128:
        raise BadInput(
            "price times longest run overflows the contract's range",
            field="offer.price_per_hour",
            value=str(settings.price_per_hour),
            remedy="lower the price or the longest run",
        )
    return offer


def exact_offer(session: Session, basic: Offer, settings: ExactOfferSettings) -> Offer:
    """The offer of tier EXACT beside a basic one, with the deployment's game as arbiter.

    Raises:
        BadInput: an amount that the token cannot express.
        BadSettings: the deployment has no game, or the game does not take such jobs.
    """
    token, rules = session.contracts.token_info, game_rules(session.contracts)
    if rules is None:
        raise BadSettings(
            "this deployment has no DisputeGame, so no job of tier EXACT can be hired here",
            field="exact_offer",
            remedy="remove the section [exact_offer], or use another deployment",
        )
    price = basic.price_per_second
    if settings.price_per_hour is not None:
        price = token.units_per_second(settings.price_per_hour, "exact_offer.price_per_hour")
    offer = replace(
        basic,
        count=settings.count,
        tiers=Tier.EXACT,
        price_per_second=price,
        challenge_window=settings.challenge_window,
        collateral=token.units(settings.collateral, "exact_offer.collateral"),
        arbiter=rules.address,
    )
    short = rules.shortfall(
        arbiter=offer.arbiter,
        collateral=offer.collateral,
        challenge_window=offer.challenge_window,
        longest_run=offer.longest_run,
        answer_seconds=1,
    )
    if short is not None:
        raise BadSettings(
            f"nobody can hire this offer: {short.words}",
            field=f"exact_offer.{short.field}",
            value=str(short.value),
            remedy=f"correct it in the settings: {short.remedy}",
        )
    return offer


def _arbiter(session: Session, settings: OfferSettings) -> str:
    """Who may hold the offer's jobs: the deployment's DataDemands, unless the settings or its absence forbid."""
    address = session.contracts.demands_address
    if settings.answers_demands and address is None:
        raise BadSettings(
            "this deployment has no DataDemands, so nobody can demand results here",
            field="offer.answers_demands",
            value=True,
            remedy="leave the setting out, or set it to false",
        )
    return ZERO_ADDRESS if address is None or settings.answers_demands is False else address


def plan_join(session: Session, operator: str) -> JoinPlan:
    """What is missing between the chain and the settings.

    Args:
        session: with the owner's key.
        operator: the worker's address.

    Raises:
        BadSettings: the settings have no offer, or one that the policy contradicts; or the key is not the owner's; or
            there is no gateway and no key for buyers' notes.
        NotEnough: the owner's wallet cannot pay the stake.
        BadInput: see `offer_from_settings`.
    """
    settings, contracts = session.settings, session.contracts
    if settings.provider is None or settings.gateway is None or settings.offer is None:
        raise BadSettings(
            "the settings describe no offer",
            field="offer",
            remedy="run `gpubond provider init` in a new folder",
        )
    refuse_contradiction(settings.offer, settings.provider, settings.exact_offer)
    owner = settings.provider.address
    if session.address != owner:
        raise BadSettings(
            f"the owner's key is that of {session.address}, the provider is {owner}",
            field="owner_key",
            value=session.address,
            remedy="name the owner's keystore in [owner_key], or correct provider.address",
        )
    session.sync()
    offer = offer_from_settings(session, owner, settings.offer)
    offers = [offer]
    total = offer.collateral * settings.offer.stake_jobs
    if settings.exact_offer is not None:
        offers.append(exact_offer(session, offer, settings.exact_offer))
        total += offers[-1].collateral * settings.exact_offer.stake_jobs
    per_job = max(each.collateral for each in offers)
    state = contracts.provider(owner)
    endpoint = announced(session.home, settings.gateway)
    calls: list[Call] = []

    known = session.index.provider(owner)
    # Whoever had the former operator's key may have posted offers that nobody here knows of: they end with it, before
    # any stake is allowed.
    replaced = state.registered and state.operator != operator
    if not state.registered:
        calls.append(contracts.register(operator, endpoint))
    else:
        if replaced:
            calls.append(contracts.set_operator(operator))
            calls += [contracts.revoke_offers(arbiter) for arbiter in _arbiters(session)]
        if known is not None and known.endpoint != endpoint:
            calls.append(contracts.set_endpoint(owner, endpoint))

    # What is allocated to other lockers cannot back this escrow.
    reachable = state.free_stake + max(state.allowed, state.locked)
    short = max(0, total - reachable)
    if short:
        wallet = contracts.token_balance(owner)
        if wallet < short:
            raise NotEnough(
                f"the stake lacks {contracts.token_info.text(short)}, the owner's wallet has "
                f"{contracts.token_info.text(wallet)}",
                field="stake",
                value=contracts.token_info.text(wallet),
                remedy=f"add {contracts.token_info.text(short - wallet)} to {owner}"
                + (" (--faucet mints test tokens)" if session.deployment.token.test else "")
                + ", or lower offer.collateral or offer.backed_jobs",
            )
        staking = str(contracts.staking.address)
        if contracts.token_allowance(owner, staking) < short:
            calls.append(contracts.approve(staking, short))
        calls.append(contracts.stake(short, owner))
    if (state.allowed, state.allowed_per_job) != (total, per_job):
        calls.append(contracts.allow(total, per_job))

    approve, revoke = _arbiter_calls(session, owner, offers)
    post = list(map(contracts.post_offer, offers)) if replaced else _offer_calls(session, owner, offers)
    calls += approve + post + revoke
    return JoinPlan(tuple(calls), tuple(offers), total, short)


# What an arbiter is approved for, and what it means when it is revoked.
_DEMANDS_WORDS = (
    "approve DataDemands as arbiter: a buyer may demand chunks of a result on chain, the worker shows each "
    "within a day for a fee, and a demand left unanswered costs that job's collateral",
    "revoke DataDemands as arbiter: new jobs have none, running ones keep it",
)
_GAME_WORDS = (
    "approve DisputeGame as arbiter: anybody may challenge the result of an EXACT job, the worker answers each move in "
    "time, and a wrong result, or silence, costs that job's collateral",
    "revoke DisputeGame as arbiter: no EXACT jobs are taken any more, running ones keep it",
)


def _known_arbiters(session: Session) -> dict[str, tuple[str, str]]:
    """The deployment's contracts that can be arbiters, with what approving and revoking them means."""
    contracts = session.contracts
    named = {contracts.demands_address: _DEMANDS_WORDS, contracts.game_address: _GAME_WORDS}
    return {address: words for address, words in named.items() if address is not None}


def _arbiters(session: Session) -> list[str]:
    """Those that an offer of this worker can have."""
    return [ZERO_ADDRESS, *_known_arbiters(session)]


def _arbiter_calls(session: Session, owner: str, offers: Sequence[Offer]) -> tuple[list[Call], list[Call]]:
    """What approves the offers' arbiters before they are posted, and what revokes those that no offer has any more."""
    contracts = session.contracts
    wanted = {offer.arbiter for offer in offers}
    approve, revoke = [], []
    for arbiter, words in _known_arbiters(session).items():
        approved = contracts.is_arbiter_approved(owner, arbiter)
        if arbiter in wanted and not approved:
            approve.append(contracts.approve_arbiter(arbiter, True, words[0]))
        elif arbiter not in wanted and approved:
            revoke.append(contracts.approve_arbiter(arbiter, False, words[1]))
    return approve, revoke


def _offer_calls(session: Session, owner: str, offers: Sequence[Offer]) -> list[Call]:
    contracts, now = session.contracts, session.contracts.now()
    mine = [record for record in session.index.open_offers(offers[0].class_name) if record.offer.provider == owner]
    standing = {
        record.offer_id: offer
        for record in mine
        for offer in offers
        if replace(record.offer, expiry=offer.expiry) == offer
        and record.offer.expiry > now + 7 * _DAY
        # Expired jobs keep their places of an offer; another offer has all of its own.
        and not session.index.lost_places(record.offer_id)
    }
    calls = [contracts.close_offer(record.offer) for record in mine if record.offer_id not in standing]
    return calls + [contracts.post_offer(offer) for offer in offers if offer not in standing.values()]


def join(session: Session, plan: JoinPlan, on_done: Callable[[Call, OutboxEntry], None]) -> None:
    """Makes the calls of a plan, one after the other; each is confirmed before the next is sent.

    If it is interrupted, plan again: what was done is not done twice.
    """
    tag = secrets.token_hex(8)
    for number, call in enumerate(plan.calls):
        on_done(call, session.send(call, f"join:{tag}:{number}"))
