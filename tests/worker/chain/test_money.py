# SPDX-License-Identifier: Apache-2.0
"""Amounts: exact both ways, and refused where the token or the contracts cannot express them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubond.chain.market import UINT128_MAX
from gpubond.chain.money import Token
from gpubond.errors import BadInput

USD = Token("0x" + "11" * 20, "tUSD", 6)
WEI = Token("0x" + "11" * 20, "WETH", 18)


@given(st.integers(min_value=1, max_value=UINT128_MAX), st.sampled_from([USD, WEI]))
def test_text_and_units_are_inverse(units: int, token: Token) -> None:
    text = token.text(units).removesuffix(f" {token.symbol}").replace(",", "")
    assert token.units(text, "amount") == units


@pytest.mark.parametrize("amount", ["0", "-1", "nan", "Infinity", "1e400", "abc", "", "0.0000001"])
def test_amounts_that_cannot_be_paid_name_their_field(amount: str) -> None:
    with pytest.raises(BadInput) as caught:
        USD.units(amount, "collateral")
    assert caught.value.field == "collateral"
    assert caught.value.remedy


def test_the_largest_amount_fits_and_one_more_does_not() -> None:
    digits = str(UINT128_MAX)
    assert USD.units(f"{digits[:-6]}.{digits[-6:]}", "amount") == UINT128_MAX
    more = str(UINT128_MAX + 1)
    with pytest.raises(BadInput, match="too large"):
        USD.units(f"{more[:-6]}.{more[-6:]}", "amount")


def test_a_price_per_hour_rounds_down_to_base_units_per_second() -> None:
    assert USD.units_per_second("1.80", "price") == 500
    assert USD.units_per_second("1.8035", "price") == 500


@pytest.mark.parametrize("price", ["0", "-3", "0.0035", "nan", "x", f"{10**40}"])
def test_a_price_of_zero_or_beyond_the_contract_is_refused(price: str) -> None:
    with pytest.raises(BadInput) as caught:
        USD.units_per_second(price, "offer.price_per_hour")
    assert caught.value.field == "offer.price_per_hour"
