# SPDX-License-Identifier: Apache-2.0
"""What a worker takes: each rule alone, on both sides of its bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpubond.chain.market import Tier
from gpubond.chain.money import Token
from gpubond.errors import BadSettings
from gpubond.provider.policy import refusal_of_terms, refuse_contradiction
from gpubond.settings import OfferSettings, ProviderSettings

from .test_earnings import PROVIDER, TERMS

TOKEN = Token("0x" + "11" * 20, "tUSD", 6)
# 3 base units a second are 0.0108 tUSD an hour.
PER_HOUR = "0.0108"


def refusal(terms: Any = TERMS, offered_class: str | None = "cpu-sim", **policy: Any) -> str | None:
    provider = ProviderSettings(address=PROVIDER, **policy)
    return refusal_of_terms(terms, offered_class=offered_class, provider=provider, token=TOKEN)


def test_by_default_what_is_offered_is_taken() -> None:
    assert refusal() is None


@pytest.mark.parametrize("tier", [Tier.REPLICATED, Tier.EXACT, Tier.ATTESTED])
def test_other_tiers_are_given_back(tier: Tier) -> None:
    assert tier.name in (refusal(replace(TERMS, tier=tier)) or "")


def test_a_price_floor_and_what_is_just_on_it() -> None:
    assert refusal(min_price_per_hour=PER_HOUR) is None
    words = refusal(min_price_per_hour="0.0144")
    assert words is not None and "0.0144 tUSD an hour" in words
    # A job that is paid as a whole is measured by the time that it takes at most.
    whole = replace(TERMS, price=180, price_per_second=0)
    assert refusal(whole, min_price_per_hour=PER_HOUR) is None
    assert refusal(replace(whole, price=179), min_price_per_hour=PER_HOUR) is not None


def test_a_longest_run() -> None:
    assert refusal(longest_run=60) is None
    assert "60 s" in (refusal(longest_run=59) or "")


def test_classes() -> None:
    assert refusal(classes=("cpu-sim",)) is None
    assert "cpu-sim" in (refusal(classes=("nvidia-h100",)) or "")
    # An offer that the index does not know is judged by what is known of the job.
    assert refusal(offered_class=None, classes=("nvidia-h100",)) is None


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"classes": ("nvidia-h100",)}, "provider.classes"),
        ({"longest_run": 3599}, "provider.longest_run"),
        ({"min_price_per_hour": "1.81"}, "provider.min_price_per_hour"),
    ],
)
def test_a_policy_against_the_own_offer_is_refused(policy: dict[str, Any], field: str) -> None:
    offer = OfferSettings(**{"class": "cpu-sim"}, price_per_hour="1.80", collateral="5", longest_run=3600)
    with pytest.raises(BadSettings) as refused:
        refuse_contradiction(offer, ProviderSettings(address=PROVIDER, **policy))
    assert refused.value.field == field and refused.value.remedy
    fitting = {"classes": ("cpu-sim",), "longest_run": 3600, "min_price_per_hour": "1.80"}
    refuse_contradiction(offer, ProviderSettings(address=PROVIDER, **fitting))
