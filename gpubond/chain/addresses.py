# SPDX-License-Identifier: Apache-2.0
"""Addresses in checksum form (EIP-55). The same few come again and again in a long history, and each costs a hash."""

from __future__ import annotations

from functools import lru_cache

from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address


@lru_cache(maxsize=1 << 16)
def checksummed(address: str | bytes) -> ChecksumAddress:
    """An address, as hex or as its 20 bytes, the way EIP-55 writes it.

    Raises:
        ValueError: it is none.
    """
    return to_checksum_address(address)
