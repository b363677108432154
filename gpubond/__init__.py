# SPDX-License-Identifier: Apache-2.0
"""GpuBond: rent GPU time from strangers and hold them to account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Buyer", "__version__"]

if TYPE_CHECKING:
    from gpubond.buyer.client import Buyer


def __getattr__(name: str) -> Any:
    """`Buyer`, loaded when it is asked for: it brings web3 with it, which takes a second."""
    if name == "Buyer":
        from gpubond.buyer.client import Buyer

        return Buyer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
