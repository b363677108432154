# SPDX-License-Identifier: Apache-2.0
"""What `ape console` knows of GpuBond: contracts, and the market in readable form.

Loaded by Ape when the console starts. The deployment of the connected chain is read from
`deployments/<chain-id>.json`; GPUBOND_DEPLOYMENTS names another directory.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import ape
import click
from ape.contracts import ContractInstance
from ape.exceptions import ContractLogicError, ConversionError
from IPython.core.error import UsageError

from gpubond.chain.deployment import Deployment, load_deployment
from gpubond.chain.market import Bid, JobTerms, Offer, Order, Request, Status, Tier, class_bytes
from gpubond.chain.money import Token
from gpubond.chain.reverts import remedy_of
from gpubond.errors import BadInput, BadSettings, GpuBondError, Refused

ZERO = "0x" + "00" * 20
WORD = 32  # bytes of an id or hash
DAY = 86_400
YEAR = 365 * DAY


class _Facts(dict[str, Any]):
    """Named values, shown one a line."""

    def __repr__(self) -> str:
        width = max(len(name) for name in self)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.items())


@dataclass(frozen=True)
class _PostedOffer:
    """An offer on chain. `offer` is what `escrow.hire`, `post` and `cancel` take."""

    id: str
    offer: Offer
    cells: tuple[str, ...]


@dataclass(frozen=True)
class _PostedRequest:
    """An open request on chain, for `accept` and `cancel`; `request` is what the escrow's own functions take."""

    id: str
    request: Request
    cells: tuple[str, ...]


class _Offers(list[_PostedOffer]):
    """Offers, shown as a table."""

    def __repr__(self) -> str:
        head = ("class", "price", "free", "runs", "tiers", "collateral", "provider", "id")
        return _table("no open offers", head, [(*item.cells, item.offer.provider, item.id) for item in self])


class _Requests(list[_PostedRequest]):
    """Requests, shown as a table."""

    def __repr__(self) -> str:
        head = ("class", "at most", "tasks", "longest run", "tier", "collateral", "until", "for", "buyer", "id")
        return _table("no open requests", head, [(*item.cells, item.request.buyer, item.id) for item in self])


def _table(nothing: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Numbered rows; the last column is an id, of which the beginning is shown."""
    if not rows:
        return nothing
    shown = [("#", *head)] + [(str(index), *row[:-1], f"{row[-1][:10]}…") for index, row in enumerate(rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in shown)
    return "\n".join(line.rstrip() for line in lines)


@dataclass(frozen=True, repr=False)
class _Job:
    """A job on chain. `terms` is what `escrow.settle`, `expire` and the others take."""

    id: str
    status: Status
    terms: JobTerms
    facts: _Facts

    def __repr__(self) -> str:
        return repr(self.facts)


class _Market:
    """One deployment, as the console reads it."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.money = Token(deployment.token.address, deployment.token.symbol, deployment.token.decimals)
        self.staking = self._contract("ProviderStaking", deployment.address("ProviderStaking"))
        self.escrow = self._contract("JobEscrow", deployment.address("JobEscrow"))
        self.views = self._contract("JobEscrowViews", deployment.address("JobEscrowViews"))
        self.token = self._contract("TestToken", deployment.token.address)
        self.demands = self._contract("DataDemands", deployment.address("DataDemands"))
        self.game = self._contract("DisputeGame", deployment.address("DisputeGame"))

    def _contract(self, name: str, address: str) -> ContractInstance:
        if not bytes(ape.networks.provider.get_code(address)):
            raise BadSettings(
                f"{name} has no code at {address} on chain {self.deployment.chain_id}",
                field="deployment",
                value=str(self.deployment.file),
                remedy="a local chain that was started anew forgets all: deploy again (ape run deploy)",
            )
        kind = ape.project.contracts[name].contract_type
        if name == "TestToken" and not self.deployment.token.test:
            real = [entry for entry in kind.abi if "faucet" not in getattr(entry, "name", "").lower()]
            kind = kind.model_copy(update={"abi": real})
        return ape.Contract(address, contract_type=kind)

    def offers(self) -> _Offers:
        """The offers that are open and have not expired, cheapest first."""
        logs = self.escrow.OfferPosted.range(self.deployment.block, ape.chain.blocks.height + 1)
        # An offer that was posted anew has several events of one id.
        posted = {bytes(log.offer_id): _record(Offer, log.offer) for log in logs}
        found = _Offers()
        for offer_id, offer in posted.items():
            state = self.views.offer_state(offer_id)
            epoch = self.escrow.offer_epoch(offer.provider, offer.arbiter)
            if state.is_open and state.epoch == epoch and offer.expiry > ape.chain.pending_timestamp:
                cells = (
                    offer.class_name,
                    self.money.per_hour_text(offer.price_per_second),
                    f"{max(offer.count - state.active, 0)} of {offer.count}",
                    f"{max(1, offer.shortest_run)} to {offer.longest_run} s",
                    "+".join(tier.name for tier in Tier if tier & offer.tiers),
                    self.money.text(offer.collateral),
                )
                found.append(_PostedOffer("0x" + offer_id.hex(), offer, cells))
        found.sort(key=lambda entry: (entry.offer.price_per_second, entry.id))
        return found

    def requests(self) -> _Requests:
        """The requests that can be accepted now, the dearest first."""
        logs = self.escrow.RequestPosted.range(self.deployment.block, ape.chain.blocks.height + 1)
        found = _Requests()
        for log in logs:
            request_id, request = bytes(log.request_id), _record(Request, log.request)
            status = Status(int(self.views.request_state(request_id).status))
            if status is not Status.OPEN or request.expiry <= ape.chain.pending_timestamp:
                continue
            by_time = request.price_per_second
            cells = (
                request.class_name,
                self.money.per_hour_text(by_time) if by_time else self.money.text(request.price),
                str(request.tasks),
                f"{request.longest_run} s",
                Tier(request.tier).name,
                self.money.text(request.collateral),
                _time(request.expiry),
                "anyone" if request.provider == ZERO else request.provider,
            )
            found.append(_PostedRequest("0x" + request_id.hex(), request, cells))
        found.sort(key=lambda entry: (-entry.request.highest_price, entry.id))
        return found

    def job(self, job_id: str | bytes) -> _Job:
        """A job's state, terms, deadlines and money; found by one query of a single block."""
        raw = _word(job_id, "job")
        shown = "0x" + raw.hex()
        state = self.views.job_state(raw)
        status = Status(int(state.status))
        if status is Status.UNKNOWN:
            raise UsageError(f"there is no job {shown} on the escrow {self.escrow.address}")
        block = state.created_block
        logs = self.escrow.JobMatched.range(block, block + 1, search_topics={"job": raw})
        terms = next((_record(JobTerms, log.terms) for log in logs), None)
        if terms is None:
            raise UsageError(f"the node does not serve the events of block {block}: use an archive node")
        money = self.money.text
        facts = _Facts(
            job=shown,
            status=f"{status.name}: {_next_step(status, terms, ape.chain.pending_timestamp)}",
            buyer=terms.buyer,
            provider=terms.provider,
            tier=Tier(terms.tier).name,
            price=f"at most {money(terms.escrowed)}, for {terms.longest_run} s",
            collateral=f"{money(terms.collateral)}; without delivery {money(terms.compensation)} "
            "of it go to the buyer and the rest is burned",
            matched=f"{_time(terms.matched_at)} in block {block}",
            acknowledge_by=_time(terms.acknowledge_by),
            deliver_by=_time(terms.deliver_by),
            specification="0x" + terms.spec_hash.hex(),
        )
        return _Job(shown, status, terms, facts)

    def provider(self, account: Any) -> _Facts:
        """A provider's stake, allowance and record on this escrow."""
        address = _address(account)
        found = self.views.provider_of(address)
        if found.operator == ZERO:
            raise UsageError(f"{address} never registered as a provider (staking.register)")
        money = self.money.text
        return _Facts(
            provider=address,
            operator=found.operator,
            stake=money(found.stake),
            free_stake=money(found.free_stake),
            allowed=f"{money(found.allowed)}, at most {money(found.allowed_per_job)} a job",
            locked=money(found.locked),
            earned=money(found.balance),
            declines=found.declines,
        )

    def balance(self, account: Any) -> _Facts:
        """What an account has in the escrow (to spend or withdraw) and in its wallet."""
        address = _address(account)
        return _Facts(
            account=address,
            escrow=self.money.text(self.escrow.balance_of(address)),
            wallet=self.money.text(self.token.balanceOf(address)),
        )

    def units(self, amount: str | int) -> int:
        """Whole tokens as base units: units("1.50")."""
        return self.money.units(str(amount), "amount")

    def new_offer(
        self, provider: Any, resource_class: str, price_per_hour: str, collateral: str, **changes: Any
    ) -> Offer:
        """An offer for `escrow.post_offer`; money in whole tokens, `changes` are fields of it."""
        offer = Offer(
            provider=_address(provider),
            resource_class=class_bytes(resource_class),
            count=1,
            tiers=Tier.BASIC,
            price_per_second=self.money.units_per_second(price_per_hour, "price_per_hour"),
            shortest_run=60,
            longest_run=3600,
            acknowledge_window=900,
            delivery_margin=600,
            challenge_window=3600,
            failure_cap_bps=1000,
            max_fee_bps=500,
            collateral=self.money.units(collateral, "collateral"),
            expiry=ape.chain.pending_timestamp + YEAR,
            arbiter=ZERO,
        )
        return replace(offer, **changes)

    def new_request(
        self,
        buyer: Any,
        resource_class: str,
        spec_hash: str | bytes,
        price: str,
        collateral: str,
        longest_run: int,
        **changes: Any,
    ) -> Request:
        """A request for `escrow.post_request`: at most `price` for all tasks; money in whole tokens, times in seconds.

        `changes` are fields of it, for instance tasks=100 or expiry (Unix seconds; a day from now if not given).
        """
        request = Request(
            buyer=_address(buyer),
            provider=ZERO,
            resource_class=class_bytes(resource_class),
            spec_hash=_word(spec_hash, "spec_hash"),
            tier=Tier.BASIC,
            tasks=1,
            price=self.money.units(price, "price"),
            price_per_second=0,
            longest_run=longest_run,
            acknowledge_window=900,
            delivery_margin=600,
            challenge_window=3600,
            failure_cap_bps=1000,
            collateral=self.money.units(collateral, "collateral"),
            expiry=ape.chain.pending_timestamp + DAY,
            arbiter=ZERO,
            exact_terms=bytes(WORD),
            audit_fee=0,
            audit_seal=bytes(WORD),
            group=bytes(WORD),
            salt=os.urandom(WORD),
        )
        return replace(request, **changes)

    def new_bid(self, provider: Any, price: str, **changes: Any) -> Bid:
        """A bid for `escrow.accept`; `price` in whole tokens for all tasks, `changes` are fields of it."""
        bid = Bid(_address(provider), self.money.units(price, "price"), max_fee_bps=500)
        return replace(bid, **changes)

    def new_order(self, spec_hash: str | bytes, longest_run: int, **changes: Any) -> Order:
        """An order for `escrow.hire`; `longest_run` in seconds, `changes` are fields of it."""
        spec, none, salt = _word(spec_hash, "spec_hash"), bytes(WORD), os.urandom(WORD)
        return replace(Order(spec, Tier.BASIC, 1, longest_run, none, 0, none, none, salt), **changes)

    def post(self, posted: Any, sender: Any) -> Any:
        """Posts an offer (as its provider) or a request (as its buyer)."""
        thing = _content(posted)
        if isinstance(thing, Offer):
            return self.escrow.post_offer(thing, sender=sender)
        return self.escrow.post_request(thing, sender=sender)

    def cancel(self, posted: Any, sender: Any) -> Any:
        """Closes an offer, or cancels a request: its money comes back to the buyer's balance."""
        thing = _content(posted)
        if isinstance(thing, Offer):
            return self.escrow.close_offer(thing, sender=sender)
        return self.escrow.cancel_request(thing, sender=sender)

    def hire(self, offer: Any, order: Order, sender: Any) -> _Job:
        """Makes a job of an offer, paid from the sender's balance."""
        return self._made(self.escrow.hire(_content(offer, Offer), order, sender=sender))

    def accept(self, request: Any, bid: Bid, sender: Any) -> _Job:
        """Makes a job of a request, as the owner or operator of the bid's provider."""
        return self._made(self.escrow.accept(_content(request, Request), bid, sender=sender))

    def _made(self, receipt: Any) -> _Job:
        return self.job(next(log.job for log in receipt.events if log.event_name == "JobMatched"))


def _content(posted: Any, *kinds: type) -> Any:
    """The offer or request of a row of `offers()` or `requests()`, or what `new_offer` or `new_request` made."""
    thing = getattr(posted, "offer", None) or getattr(posted, "request", None) or posted
    kinds = kinds or (Offer, Request)
    if not isinstance(thing, kinds):
        names = " or ".join(kind.__name__.lower() for kind in kinds)
        raise UsageError(f"{posted!r} is no {names}: take one of {names}s(), or make one with new_{names}")
    return thing


def _record(kind: Any, struct: Any) -> Any:
    # Ape hands over a struct of an event as a list, one of a call as an object.
    names = [field.name for field in fields(kind)]
    values = struct if isinstance(struct, list | tuple) else [getattr(struct, name) for name in names]
    return kind.from_json(dict(zip(names, values, strict=True)))


def _word(value: str | bytes, field: str) -> bytes:
    try:
        raw = bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)
    except ValueError:
        raw = b""
    if len(raw) != WORD:
        raise BadInput("this is not 32 bytes", field=field, value=value, remedy="give 0x and 64 hex digits")
    return raw


def _address(account: Any) -> str:
    try:
        return str(ape.convert(getattr(account, "address", account), ape.types.AddressType))
    except ConversionError:
        raise UsageError(f"{account!r} is neither an account nor an address") from None


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _next_step(status: Status, terms: JobTerms, now: int) -> str:
    if status is Status.ACTIVE:
        late = now > terms.deliver_by
        return "overdue, anyone may call escrow.expire" if late else "the provider works on it"
    if status is Status.COMMITTED:
        return f"the buyer may settle, anyone {terms.challenge_window} s after the commitment"
    return "the arbiter decides" if status is Status.DISPUTED else "final"


def _in_words(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with errors that the console shows without a traceback."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except GpuBondError as error:
            raise UsageError(str(error)) from None
        except ContractLogicError as error:
            reason = str(error.revert_message or error)
            refused = Refused(f"the contract refuses: {reason}", remedy=remedy_of(reason))
            raise UsageError(str(refused)) from None

    return wrapper


def _refuser(reason: str) -> Callable[..., Any]:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise UsageError(reason)

    return refuse


def ape_init_extras() -> dict[str, Any]:
    """The names that the console gets; without a deployment the functions say why they cannot work."""
    folder = Path(os.environ.get("GPUBOND_DEPLOYMENTS") or ape.project.path / "deployments")
    chain_id = ape.networks.provider.chain_id
    functions = (
        *("offers", "requests", "job", "provider", "balance", "units"),
        *("new_offer", "new_order", "new_request", "new_bid"),
        *("post", "hire", "accept", "cancel"),
    )
    try:
        market = _Market(load_deployment(chain_id, folder))
    except GpuBondError as error:
        reason = f"GpuBond: {error}"
        click.echo(reason)
        return dict.fromkeys(functions, _refuser(reason))
    contracts = {name: getattr(market, name) for name in ("staking", "escrow", "views", "token", "demands", "game")}
    click.echo(f"GpuBond on chain {chain_id}: {', '.join(contracts)}, {', '.join(functions)}")
    return contracts | {name: _in_words(getattr(market, name)) for name in functions}
