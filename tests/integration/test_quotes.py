# SPDX-License-Identifier: Apache-2.0
"""Quotes over some hundred offers: in a handful of requests, and each answer the contract's own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from web3.types import RPCEndpoint

from gpubond.buyer.client import Buyer
from gpubond.chain import batch
from gpubond.chain.development import dev_account
from gpubond.chain.market import Offer

from .marketplace import Marketplace

ROOT = Path(__file__).resolve().parents[2]
OFFERS = 250


@pytest.fixture(scope="module")
def market(market: Marketplace) -> Marketplace:
    market.provider("provider", 1, 2)
    market.buyer("buyer", 5)
    post_offers(market)
    return market


def post_offers(market: Marketplace) -> None:
    """Offers of one provider at rising prices; every fifth asks for more collateral than it may lock."""
    with Buyer.open(market.directory / "buyer") as buyer:
        buyer.session.sync()
        first = buyer.session.index.open_offers()[0].offer
    owner = dev_account(1)
    nonce = market.node.eth.get_transaction_count(owner.address)
    hashes = []
    for number in range(1, OFFERS):
        offer = replace(
            first,
            price_per_second=first.price_per_second + number,
            collateral=first.collateral * (1000 if number % 5 == 0 else 1),
        )
        call = market.contracts.post_offer(offer)
        signed = owner.sign_transaction(
            {
                "chainId": 31337,
                "nonce": nonce + number - 1,
                "to": call.to,
                "data": call.data,
                "value": 0,
                "gas": 300_000,
                "maxFeePerGas": 10**10,
                "maxPriorityFeePerGas": 10**9,
            }
        )
        hashes.append(market.node.eth.send_raw_transaction(signed.raw_transaction))
    for tx_hash in hashes:
        assert market.node.eth.wait_for_transaction_receipt(tx_hash, timeout=60)["status"] == 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many HTTP requests of each kind go to the node."""
    from gpubond.chain.node import NodeProvider

    counts: Counter[str] = Counter()
    single, many = NodeProvider.make_request, NodeProvider.make_batch_request

    def make_request(self: Any, method: RPCEndpoint, params: Any) -> Any:
        counts[method] += 1
        return single(self, method, params)

    def make_batch_request(self: Any, batch_requests: Any) -> Any:
        counts["batch"] += 1
        return many(self, batch_requests)

    monkeypatch.setattr(NodeProvider, "make_request", make_request)
    monkeypatch.setattr(NodeProvider, "make_batch_request", make_batch_request)
    return counts


def test_many_offers_need_few_requests_and_no_history(market: Marketplace, asked: Counter[str]) -> None:
    with Buyer.open(market.directory / "buyer") as buyer:
        buyer.session.sync()
        asked.clear()
        quotes = buyer.quote(60)
        # Nothing is new on the chain, so no log is read.
        assert asked["eth_getLogs"] == 0
        assert asked["batch"] == -(-OFFERS // batch.BATCH_SIZE)
        assert asked["eth_call"] <= 2
        assert len(quotes) == OFFERS
        assert sum(quote.available for quote in quotes) == OFFERS - len(range(5, OFFERS, 5))
        prices = [quote.most for quote in quotes if quote.available]
        assert prices == sorted(prices)
        for quote in [*quotes[:3], *quotes[-3:]]:
            expected = buyer.session.contracts.refusal(quote.record.offer, buyer.session.address, 60)
            assert quote.refusal == expected
        assert quotes[-1].refusal == "provider's allowance does not cover the collateral"


@pytest.mark.parametrize("limit", [1, 7])
def test_a_node_that_limits_batches_is_asked_in_smaller_ones(
    market: Marketplace, asked: Counter[str], monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    from gpubond.chain.node import NodeProvider

    many = NodeProvider.make_batch_request

    def limited(self: Any, batch_requests: Any) -> Any:
        if len(batch_requests) > limit:
            return {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "batch too large"}}
        return many(self, batch_requests)

    monkeypatch.setattr(NodeProvider, "make_batch_request", limited)
    contracts = market.contracts
    with Buyer.open(market.directory / "buyer") as buyer:
        buyer.session.sync()
        offers: list[Offer] = [record.offer for record in buyer.session.index.open_offers()][:30]
        address = buyer.session.address
    assert contracts.refusals(offers, address, 60) == [contracts.refusal(offer, address, 60) for offer in offers]


def test_gas_is_shown_in_tokens_where_the_settings_give_its_price(market: Marketplace) -> None:
    home = str(market.directory / "buyer")
    without = market.ok("job", "quote", "--seconds", "60", "--home", home)[0]
    assert (without["gas_in_tokens_estimate"], without["overhead_includes_gas"]) == (None, False)
    ran = market.run(
        "job", "quote", "--seconds", "60", "--home", home, environment={"GPUBOND_CHAIN__COIN_PRICE": "3000"}
    )
    assert ran.code == 0, ran
    quote = ran.document[0]
    # tUSD has 6 decimals, the coin 18; rounded up.
    assert quote["gas_in_tokens_estimate"] == -(-quote["gas_wei_estimate"] * 3000 // 10**12) > 0
    overhead = 100 * (quote["protocol_fee_at_most"] + quote["gas_in_tokens_estimate"]) / quote["most_that_can_be_spent"]
    assert quote["overhead_percent"] == round(overhead, 4)
    assert quote["worst_case_refund"] == (
        quote["most_that_can_be_spent"] + quote["compensation_if_nothing_is_delivered"]
    )
    shown = market.text("job", "quote", "--seconds", "60", "--home", home)
    for words in ("at most", "worst case", "overhead", "record"):
        assert words in shown
