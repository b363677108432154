# SPDX-License-Identifier: Apache-2.0
"""What the index makes of events about offers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gpubond.chain.index import MarketIndex
from gpubond.chain.market import Offer
from gpubond.chain.watcher import EVENTS, Event
from gpubond.store.database import Database

OWNER, RIVAL, ARBITER, ZERO = ("0x" + f"{byte:02x}" * 20 for byte in (0x11, 0x22, 0x33, 0x00))


class Market:
    """An index that is given events."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._numbers = count()
        self.index = MarketIndex(database)

    def tell(self, name: str, **args: Any) -> None:
        number = next(self._numbers)
        event = Event(number, "0x00", 0, f"0x{number:064x}", ZERO, name, args)
        with self._database.transaction() as tx:
            self.index.apply(tx, [event])

    def post(self, offer_id: str, provider: str, arbiter: str) -> None:
        offer = Offer(provider, b"cpu-sim".ljust(32, b"\0"), 1, 1, 7, 1, 60, 60, 0, 0, 0, 500, 1, 2**40, arbiter)
        self.tell("OfferPosted", offer_id=offer_id, provider=provider, offer=offer.to_json())

    def open(self) -> set[str]:
        return {record.offer_id for record in self.index.open_offers()}


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    with Database(tmp_path / "store.sqlite", [EVENTS]) as database:
        yield Market(database)


def test_revoked_offers_are_those_of_one_provider_with_one_arbiter(market: Market) -> None:
    market.post("0xa1", OWNER, ZERO)
    market.post("0xa2", OWNER, ZERO)
    market.post("0xb", OWNER, ARBITER)
    market.post("0xc", RIVAL, ZERO)
    market.tell("OffersRevoked", provider=OWNER, arbiter=ZERO)
    assert market.open() == {"0xb", "0xc"}
    market.tell("OffersRevoked", provider=OWNER, arbiter=ARBITER)
    assert market.open() == {"0xc"}
    # Posted anew, one is open again.
    market.post("0xa1", OWNER, ZERO)
    assert market.open() == {"0xa1", "0xc"}


def test_closed_and_posted_again(market: Market) -> None:
    market.post("0xa", OWNER, ZERO)
    market.tell("OfferClosed", offer_id="0xa", provider=OWNER)
    assert market.open() == set()
    market.post("0xa", OWNER, ZERO)
    assert market.open() == {"0xa"}
