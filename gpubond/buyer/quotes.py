# SPDX-License-Identifier: Apache-2.0
"""What a job would cost: offers from the local index, each with the most that can be spent and the worst case."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from gpubond.buyer.gateway_client import gateway_power
from gpubond.buyer.orders import NO_TERMS
from gpubond.buyer.reach import PROBES
from gpubond.chain.contracts import Contracts
from gpubond.chain.demands import arbiter_kind
from gpubond.chain.games import Shortfall, game_rules, offer_shortfall
from gpubond.chain.index import MarketIndex, OfferRecord, ProviderRecord
from gpubond.chain.market import BPS, Tier, compensation
from gpubond.errors import BadInput, NotEnough, Refused, Unreachable
from gpubond.jobs.note import is_recipient
from gpubond.jobs.spec import JobSpec

# Gas that a buyer's own transactions use, rounded up from the gas snapshot (hire, and settle to release early).
HIRE_GAS = 120_000
SETTLE_GAS = 90_000
WEI = 10**18
# And what a note's address behind the hire costs: 16 for each of its bytes, of some 500 where it is presigned.
NOTE_GAS = 10_000

# What an offer's arbiter means for its buyer; see `arbiter_kind`.
ARBITERS = {
    "none": "none: a provider that commits and then withholds the result is paid all the same",
    "demands": "DataDemands: a result that is withheld can be demanded on chain, 4 KiB at a time; "
    "what is not shown within a day gets you refund and compensation",
    "game": "DisputeGame: anybody may show that the result is wrong; the provider loses its collateral then, "
    "and you get refund and compensation",
    "unknown": "one that the provider chose: it can hold your refund up until the dispute times out; know it first",
}


class Power(NamedTuple):
    """What a provider's GPUs of a class drew on average (watts), by its own measurement over so many of its jobs.
    Nobody else can check it."""

    average_watts: int
    jobs: int

    @property
    def jobs_text(self) -> str:
        """For people."""
        return f"{self.jobs:,} job{'' if self.jobs == 1 else 's'}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"average_watts": self.average_watts, "jobs": self.jobs, "measured_by": "the provider itself"}


@dataclass(frozen=True)
class Quote:
    """One offer for a job of so many seconds. Amounts in base units, gas in wei.

    `fee` is what the protocol takes out of the provider's pay at most; the buyer pays it as part of `most`.
    `gas_tokens` is the gas in base units of the token, None where the settings give no price of the coin. `obstacle` is
    why this buyer cannot come to the provider. `power` is what the provider claims, None if it was not asked or
    measured nothing. `shortfall` is why a job of tier EXACT must not be hired at it.
    """

    record: OfferRecord
    endpoint: str
    seconds: int
    most: int
    fee: int
    gas_wei: int
    gas_tokens: int | None
    compensation: int
    refusal: str
    jobs_settled: int
    jobs_declined: int
    jobs_expired: int
    arbiter_kind: str
    obstacle: str = ""
    power: Power | None = None
    shortfall: Shortfall | None = None

    @property
    def reached_by(self) -> str:
        """`gateway`, `store` (of the buyer's own), or `nothing` that is known here."""
        if self.endpoint.startswith(("http://", "https://")):
            return "gateway"
        return "store" if is_recipient(self.endpoint) else "nothing"

    @property
    def available(self) -> bool:
        """Whether the offer can be hired now by a buyer with enough balance."""
        return self.refusal in ("", "not enough balance") and self.shortfall is None

    @property
    def collateral_is_low(self) -> bool:
        """Whether the provider would lose less than a fifth of the price by vanishing."""
        return 5 * self.record.offer.collateral < self.most

    @property
    def due_after(self) -> int:
        """Seconds after the hire until which the result may be on its way."""
        offer = self.record.offer
        return offer.acknowledge_window + self.seconds + offer.delivery_margin

    @property
    def fee_percent(self) -> float:
        """The protocol's share of what is paid, in percent."""
        return 100 * self.fee / self.most

    @property
    def overhead_percent(self) -> float:
        """What the protocol costs, fee and (where its price is known) gas, in percent of the price."""
        return 100 * (self.fee + (self.gas_tokens or 0)) / self.most

    @property
    def worst_refund(self) -> int:
        """What comes back in the worst case that the contract knows: nothing is delivered."""
        return self.most + self.compensation

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        offer = self.record.offer
        return {
            "offer": self.record.offer_id,
            "provider": offer.provider,
            "class": offer.class_name,
            "endpoint": self.endpoint,
            "reached_by": self.reached_by,
            "obstacle": self.obstacle or None,
            "price_per_second": offer.price_per_second,
            "seconds": self.seconds,
            "most_that_can_be_spent": self.most,
            "protocol_fee_at_most": self.fee,
            "protocol_fee_percent": round(self.fee_percent, 4),
            "gas_wei_estimate": self.gas_wei,
            "gas_in_tokens_estimate": self.gas_tokens,
            "overhead_percent": round(self.overhead_percent, 4),
            "overhead_includes_gas": self.gas_tokens is not None,
            "refund_if_nothing_is_delivered": self.most,
            "compensation_if_nothing_is_delivered": self.compensation,
            "worst_case_refund": self.worst_refund,
            "pay_at_most_if_the_run_fails": self.most * offer.failure_cap_bps // BPS,
            "collateral": offer.collateral,
            "collateral_is_low": self.collateral_is_low,
            "due_seconds_after_hire": self.due_after,
            "shortest_run_s": offer.shortest_run,
            "longest_run_s": offer.longest_run,
            "acknowledge_window_s": offer.acknowledge_window,
            "challenge_window_s": offer.challenge_window,
            "arbiter": offer.arbiter,
            "arbiter_kind": self.arbiter_kind,
            "arbiter_meaning": ARBITERS[self.arbiter_kind],
            "available": self.available,
            "refusal": self.refusal or (None if self.shortfall is None else self.shortfall.words),
            "power": None if self.power is None else self.power.as_dict(),
            "record": {
                "settled": self.jobs_settled,
                "declined": self.jobs_declined,
                "expired": self.jobs_expired,
            },
        }


@dataclass(frozen=True)
class Prepared:
    """A checked job with the offer it would be hired at; nothing was sent yet.

    `max_price` in base units, if one was given; `pinned` if the offer or provider was named. `recipient` is the
    key to which a note in the buyer's store is sealed, None where the gateway is used. `exact_terms` are what a job of
    tier EXACT is held to, zeros of all others.
    """

    spec: JobSpec
    files: dict[str, Path]
    quote: Quote
    seconds: int
    notes: tuple[str, ...]
    class_name: str | None = None
    max_price: int | None = None
    pinned: bool = False
    recipient: str | None = None
    exact_terms: bytes = NO_TERMS


def quote_all(
    contracts: Contracts,
    index: MarketIndex,
    *,
    buyer: str,
    seconds: int,
    class_name: str | None = None,
    coin_units: int | None = None,
    tier: Tier = Tier.BASIC,
    answer_seconds: int | None = None,
) -> list[Quote]:
    """Every open offer that could run so long, the ones that can be hired now first, cheapest first.

    Args:
        buyer: whose balance would pay.
        seconds: the longest run to pay for.
        class_name: only this resource class.
        coin_units: base units of the token for one coin of the chain, if that is known.
        tier: only offers of this one.
        answer_seconds: of a job of tier EXACT, if they are known.

    Raises:
        BadInput: nobody offers the class, or a run of this length.
        Refused: there is no open offer at all.
    """
    records = [record for record in index.open_offers() if record.offer.tiers & tier]
    if not records:
        raise Refused(
            "nobody offers anything yet" if tier is Tier.BASIC else f"nobody offers the tier {tier.name} yet",
            field="offers" if tier is Tier.BASIC else "tier",
            value=0 if tier is Tier.BASIC else tier.name,
            remedy="ask a provider to run `gpubond provider join`, or check that this is the right deployment",
        )
    if class_name is not None:
        offered = sorted({record.offer.class_name for record in records})
        records = [record for record in records if record.offer.class_name == class_name]
        if not records:
            raise BadInput(
                "nobody offers this class",
                field="class",
                value=class_name,
                remedy=f"classes on offer: {', '.join(offered)}",
            )
    fitting = [record for record in records if _fits(record, seconds)]
    if not fitting:
        runs = sorted({(max(1, record.offer.shortest_run), record.offer.longest_run) for record in records})
        raise BadInput(
            "no offer allows a run of this length",
            field="seconds",
            value=seconds,
            remedy="ask for " + " or ".join(f"{shortest} to {longest}" for shortest, longest in runs[:3]) + " seconds",
        )
    fee_bps = contracts.fee_bps()
    gas_wei = (HIRE_GAS + SETTLE_GAS) * int(contracts.node.eth.gas_price)
    refusals = contracts.refusals([record.offer for record in fitting], buyer, seconds)
    note_wei = NOTE_GAS * gas_wei // (HIRE_GAS + SETTLE_GAS)
    gas = _Gas(gas_wei, note_wei, coin_units)
    providers = index.providers()
    quotes = [
        _quote(contracts, record, providers.get(record.offer.provider), seconds, fee_bps, gas, refusal)
        for record, refusal in zip(fitting, refusals, strict=True)
    ]
    if tier is Tier.EXACT:
        rules = game_rules(contracts)
        quotes = [
            replace(quote, shortfall=offer_shortfall(rules, quote.record.offer, seconds, answer_seconds))
            for quote in quotes
        ]
    return sorted(quotes, key=lambda quote: (not quote.available, quote.most))


class _Gas(NamedTuple):
    """Of hire and settlement, and of a note besides; `coin_units`: base units of the token for one coin."""

    wei: int
    note_wei: int
    coin_units: int | None

    def tokens(self, wei: int) -> int | None:
        return None if self.coin_units is None else -(-wei * self.coin_units // WEI)


def _fits(record: OfferRecord, seconds: int) -> bool:
    return max(1, record.offer.shortest_run) <= seconds <= record.offer.longest_run


def _quote(
    contracts: Contracts,
    record: OfferRecord,
    provider: ProviderRecord | None,
    seconds: int,
    fee_bps: int,
    gas: _Gas,
    refusal: str,
) -> Quote:
    offer = record.offer
    outcomes = {} if provider is None else provider.outcomes
    most = offer.price_per_second * seconds
    endpoint = "" if provider is None else provider.endpoint
    gas_wei = gas.wei + (gas.note_wei if is_recipient(endpoint) else 0)
    return Quote(
        record=record,
        endpoint=endpoint,
        seconds=seconds,
        most=most,
        fee=most * fee_bps // BPS,
        gas_wei=gas_wei,
        gas_tokens=gas.tokens(gas_wei),
        compensation=compensation(most, offer.collateral),
        refusal=refusal,
        jobs_settled=outcomes.get("settled", 0),
        jobs_declined=outcomes.get("declined", 0),
        jobs_expired=outcomes.get("expired", 0),
        arbiter_kind=arbiter_kind(contracts, offer.arbiter),
    )


def choose(
    quotes: list[Quote],
    *,
    offer_id: str | None,
    provider: str | None,
    max_price: int | None,
    answers: Callable[[str], bool],
    lacks: Callable[[str], str] = lambda endpoint: "",
    without: frozenset[str] = frozenset(),
    text: Callable[[int], str] = "{:,} base units".format,
) -> Quote:
    """The offer to hire: of those named, the cheapest that can be hired now and whose gateway answers.

    Args:
        quotes: cheapest first, at least one.
        offer_id: only this offer (0x hex, or the beginning of it).
        provider: only this provider (owner's address).
        max_price: base units that may be spent at most.
        answers: whether the gateway at a URL answers.
        lacks: what the provider behind it says that it lacks for the job; empty for nothing.
        without: providers (owners' addresses) that were tried already.
        text: how an amount is shown.

    Raises:
        BadInput: the named offer is not among them.
        NotEnough: none is within `max_price`.
        Refused: none can be hired now, or those that answer lack something; the reasons are named.
        Unreachable: no gateway of those that could be hired answers.
    """
    seconds = quotes[0].seconds
    if offer_id is not None:
        quotes = [quote for quote in quotes if quote.record.offer_id.startswith(offer_id.lower())]
    if provider is not None:
        quotes = [quote for quote in quotes if quote.record.offer.provider.lower() == provider.lower()]
    if not quotes:
        raise BadInput(
            f"there is no such open offer for a run of {seconds} s",
            field="offer" if offer_id is not None else "provider",
            value=offer_id if offer_id is not None else provider,
            remedy=f"`gpubond job quote --seconds {seconds}` lists those that there are; others have another length",
        )
    quotes = [quote for quote in quotes if quote.record.offer.provider not in without]
    available = [quote for quote in quotes if quote.available and quote.endpoint and not quote.obstacle]
    short = next((quote.shortfall for quote in quotes if quote.shortfall is not None), None)
    if not available and short is not None and all(quote.shortfall is not None for quote in quotes):
        raise Refused(
            f"no offer does for a job of tier EXACT, and nothing was spent: {short.words}",
            field=short.field,
            value=str(short.value),
            remedy=f"{short.remedy}: choose another offer, or pay for a shorter run",
        )
    if not available:
        reasons = sorted({_reason(quote) for quote in quotes})
        reasons = reasons or ["every provider that offers it was tried"]
        raise Refused(
            f"no offer can be hired now: {'; '.join(reasons)}",
            remedy="set [store] in gpubond.toml, as docs/store.md says; or choose another class"
            if any(quote.available and quote.obstacle for quote in quotes)
            else "wait, choose another class or a shorter run",
        )
    affordable = [quote for quote in available if max_price is None or quote.most <= max_price]
    if not affordable:
        raise NotEnough(
            "every offer is above the highest price you allow",
            field="max_price",
            value=None if max_price is None else text(max_price),
            remedy=f"the cheapest can cost {text(available[0].most)}: raise it or run shorter",
        )
    lacking: dict[str, str] = {}
    found = _first_that_answers(affordable, answers, lacks, lacking)
    if found is not None:
        return found
    dearer = "" if len(affordable) == len(available) else ", or raise --max-price to reach other providers"
    if lacking:
        raise Refused(
            "no provider that answers has what the job needs",
            field="python.requires",
            value="; ".join(f"{endpoint}: {what}" for endpoint, what in list(lacking.items())[:3]),
            remedy="nothing was spent: `gpubond job quote --packages` shows what providers have; need less in the job, "
            f"bring it along in an image (runtime container){dearer}",
        )
    raise Unreachable(
        "no gateway of the providers that could be hired answers",
        field="gateway",
        value=", ".join(quote.endpoint for quote in affordable[:3]),
        remedy=f"nothing was spent: try again later{dearer}",
    )


def with_power(quotes: list[Quote]) -> list[Quote]:
    """The quotes with what providers say of their GPUs' power: the first PROBES gateways are asked, all at once."""
    asked = list(
        dict.fromkeys(
            (quote.endpoint, quote.record.offer.class_name)
            for quote in quotes
            if quote.available and quote.reached_by == "gateway"
        )
    )[:PROBES]
    if not asked:
        return quotes
    with ThreadPoolExecutor(PROBES) as pool:
        found = dict(zip(asked, pool.map(lambda each: gateway_power(*each), asked), strict=True))
    claims = [found.get((quote.endpoint, quote.record.offer.class_name)) for quote in quotes]
    return [
        quote if claim is None else replace(quote, power=Power(*claim))
        for quote, claim in zip(quotes, claims, strict=True)
    ]


def _reason(quote: Quote) -> str:
    """Why an offer cannot be hired now by this buyer."""
    hindrance = "" if quote.available else quote.refusal or (quote.shortfall.words if quote.shortfall else "")
    return hindrance or quote.obstacle or "its provider announced no gateway"


def _first_that_answers(
    quotes: list[Quote], answers: Callable[[str], bool], lacks: Callable[[str], str], lacking: dict[str, str]
) -> Quote | None:
    """The first quote whose gateway answers and lacks nothing; what others lack is put into `lacking`, by endpoint.
    The cheapest alone at first; beyond it several are asked at once, so that a crowd of cheap offers with silent
    gateways does not keep a buyer from those behind it."""
    known: dict[str, bool] = {}

    def usable(endpoint: str) -> bool:
        if not answers(endpoint):
            return False
        lacked = lacks(endpoint)
        if lacked:
            lacking[endpoint] = lacked
        return not lacked

    width = 1
    while quotes:
        group, quotes = quotes[:width], quotes[width:]
        width = PROBES
        asked = list(dict.fromkeys(quote.endpoint for quote in group if quote.endpoint not in known))
        with ThreadPoolExecutor(PROBES) as pool:
            known |= dict(zip(asked, pool.map(usable, asked), strict=True))
        for quote in group:
            if known[quote.endpoint]:
                return quote
    return None
