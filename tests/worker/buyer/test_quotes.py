# SPDX-License-Identifier: Apache-2.0
"""Which offer is hired: the cheapest that can be, whose gateway answers, of a provider that was not tried."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from gpubond.buyer.quotes import Quote, choose
from gpubond.chain.index import OfferRecord
from gpubond.chain.market import Offer
from gpubond.errors import NotEnough, Refused, Unreachable

SECONDS = 60


def quote(number: int, *, price: int = 0, refusal: str = "", endpoint: str | None = None) -> Quote:
    """An offer of provider `number`, by default at a price that rises with it."""
    provider = f"0x{number:040x}"
    offer = Offer(provider, b"c" * 32, 1, 1, price or number, 60, 600, 900, 60, 3600, 1000, 500, 5, 2**40, provider)
    record = OfferRecord(f"0x{number:064x}", offer, True, 0)
    most = offer.price_per_second * SECONDS
    return Quote(
        record=record,
        endpoint=f"http://{number}" if endpoint is None else endpoint,
        seconds=SECONDS,
        most=most,
        fee=0,
        gas_wei=1,
        gas_tokens=None,
        compensation=1,
        refusal=refusal,
        jobs_settled=0,
        jobs_declined=0,
        jobs_expired=0,
        arbiter_kind="none",
    )


def chosen(quotes: list[Quote], answering: set[str], **options: object) -> str:
    fields = {"offer_id": None, "provider": None, "max_price": None, "answers": answering.__contains__} | options
    return choose(quotes, **fields).endpoint  # type: ignore[arg-type]


def test_the_cheapest_that_answers() -> None:
    quotes = [quote(number) for number in range(1, 60)]
    assert chosen(quotes, {"http://1", "http://2"}) == "http://1"
    assert chosen(quotes, {"http://40", "http://50"}) == "http://40"
    with pytest.raises(Unreachable) as error:
        chosen(quotes, set())
    assert error.value.field == "gateway"


def test_no_gateway_is_asked_twice_nor_one_that_is_not_needed() -> None:
    asked: Counter[str] = Counter()

    def answers(url: str) -> bool:
        asked[url] += 1
        return url == "http://last"

    quotes = [quote(number, endpoint="http://shared") for number in range(1, 40)]
    assert choose([*quotes, quote(99, endpoint="http://last")], offer_id=None, provider=None, max_price=None,
                  answers=answers).endpoint == "http://last"  # fmt: skip
    assert asked == {"http://shared": 1, "http://last": 1}
    asked.clear()
    first = quote(1, endpoint="http://last")
    choose([first, *quotes], offer_id=None, provider=None, max_price=None, answers=answers)
    assert asked == {"http://last": 1}


def test_providers_that_were_tried_and_prices_above_the_highest_are_left_out() -> None:
    quotes = [quote(1), quote(2), quote(3)]
    up = {item.endpoint for item in quotes}
    tried = frozenset({quotes[0].record.offer.provider})
    assert chosen(quotes, up, without=tried) == "http://2"
    with pytest.raises(NotEnough):
        chosen(quotes, up, without=tried, max_price=quotes[1].most - 1)
    with pytest.raises(Refused, match="was tried"):
        chosen(quotes, up, without=frozenset(item.record.offer.provider for item in quotes))
    busy = replace(quotes[1], refusal="offer fully used")
    assert chosen([quotes[0], busy, quotes[2]], up, without=tried) == "http://3"


def test_who_lacks_what_the_job_needs_is_passed_over_and_it_is_said_if_all_do() -> None:
    quotes = [quote(1), quote(2), quote(3), quote(4)]
    lacking = {"http://1": "torch >=2 (it has none)", "http://3": "torch >=2 (it has 1.0)"}
    asked: list[str] = []

    def lacks(url: str) -> str:
        asked.append(url)
        return lacking.get(url, "")

    up = {"http://1", "http://3", "http://4"}
    assert chosen(quotes, up, lacks=lacks) == "http://4"
    # One that does not answer is not asked what it has.
    assert sorted(asked) == ["http://1", "http://3", "http://4"]
    with pytest.raises(Refused) as error:
        chosen(quotes[:3], up, lacks=lacks)
    assert error.value.field == "python.requires"
    assert "http://1: torch >=2 (it has none); http://3: torch >=2 (it has 1.0)" in str(error.value.value)
    # If nobody answers, that is what is said.
    with pytest.raises(Unreachable):
        chosen(quotes, set(), lacks=lacks)
