# SPDX-License-Identifier: Apache-2.0
"""Amounts of the payment token: base units inside, decimal tokens where people read and write.

No floating point touches money.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal, InvalidOperation, localcontext

from gpubond.chain.market import UINT128_MAX
from gpubond.errors import BadInput

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Token:
    """The ERC-20 of a deployment."""

    address: str
    symbol: str
    decimals: int

    def units(self, text: str | Decimal, field: str) -> int:
        """Decimal tokens as base units.

        Raises:
            BadInput: no number, negative, zero, too fine for the token, or beyond uint128.
        """
        try:
            value = Decimal(text)
        except InvalidOperation:
            raise BadInput(
                "this is not an amount", field=field, value=str(text), remedy="give a number such as 12.50"
            ) from None
        if not value.is_finite() or value <= 0:
            raise BadInput(
                "the amount must be greater than zero",
                field=field,
                value=str(text),
                remedy="give a number such as 12.50",
            )
        with localcontext() as context:
            context.prec = 120
            scaled = value.scaleb(self.decimals)
            if scaled != scaled.to_integral_value(rounding=ROUND_DOWN):
                raise BadInput(
                    f"{self.symbol} has {self.decimals} decimals, so this amount cannot be paid",
                    field=field,
                    value=str(text),
                    remedy=f"give at most {self.decimals} digits after the point",
                )
            units = int(scaled)
        if units > UINT128_MAX:
            raise BadInput(
                "the amount is too large for the contracts",
                field=field,
                value=str(text),
                remedy=f"give at most {UINT128_MAX} base units",
            )
        return units

    def units_per_second(self, per_hour: str | Decimal, field: str) -> int:
        """A price per hour in tokens as base units per second, rounded down.

        Raises:
            BadInput: as `units`, or less than one base unit a second.
        """
        try:
            value = Decimal(per_hour)
        except InvalidOperation:
            raise BadInput(
                "this is not a price", field=field, value=str(per_hour), remedy="give a number such as 1.80"
            ) from None
        smallest = Decimal(SECONDS_PER_HOUR).scaleb(-self.decimals)
        if not value.is_finite() or value < smallest:
            raise BadInput(
                "the price is zero, or less than one base unit a second",
                field=field,
                value=str(per_hour),
                remedy=f"ask for at least {smallest.normalize():f} {self.symbol} an hour",
            )
        with localcontext() as context:
            context.prec = 120
            units = int(value.scaleb(self.decimals) / SECONDS_PER_HOUR)
        if units > UINT128_MAX:
            raise BadInput(
                "the price is too large for the contracts",
                field=field,
                value=str(per_hour),
                remedy=f"ask for less; a price per second is at most {UINT128_MAX} base units",
            )
        return units

    def text(self, units: int) -> str:
        """Base units as readable tokens, exact: `1.5 tUSD`."""
        with localcontext() as context:
            context.prec = 120
            value = Decimal(units).scaleb(-self.decimals)
            shown = f"{value:,f}"
        if "." in shown:
            whole, fraction = shown.split(".")
            fraction = fraction.rstrip("0").ljust(2, "0")
            shown = f"{whole}.{fraction}"
        return f"{shown} {self.symbol}"

    def per_hour_text(self, units_per_second: int) -> str:
        """A price per second as readable tokens per hour."""
        return f"{self.text(units_per_second * SECONDS_PER_HOUR)}/h"
