# SPDX-License-Identifier: Apache-2.0
"""The contracts' ids and money arithmetic, written anew in Python from the specification.

Structs are dicts by field name, in the order of the ABI. Amounts are base units, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

Struct = Mapping[str, Any]

BPS = 10_000
MAX_UINT128 = 2**128 - 1
MAX_UINT256 = 2**256 - 1
DISPUTE_TIMEOUT = 90 * 86_400

BASIC, REPLICATED, EXACT, ATTESTED = 1, 2, 4, 8
ACTIVE, COMMITTED, SETTLED, DECLINED, EXPIRED, DISPUTED, CONVICTED = 2, 4, 8, 32, 64, 128, 256
LIVE = ACTIVE | COMMITTED | DISPUTED

OFFER_FIELDS = {
    "provider": "address",
    "resource_class": "bytes32",
    "count": "uint32",
    "tiers": "uint256",
    "price_per_second": "uint128",
    "longest_run": "uint32",
    "acknowledge_window": "uint32",
    "delivery_margin": "uint32",
    "challenge_window": "uint32",
    "failure_cap_bps": "uint16",
    "max_fee_bps": "uint16",
    "collateral": "uint128",
    "expiry": "uint64",
    "arbiter": "address",
}
TERMS_FIELDS = {
    "buyer": "address",
    "provider": "address",
    "offer": "bytes32",
    "spec_hash": "bytes32",
    "tier": "uint256",
    "tasks": "uint32",
    "price": "uint128",
    "price_per_second": "uint128",
    "longest_run": "uint32",
    "collateral": "uint128",
    "fee_bps": "uint16",
    "failure_cap_bps": "uint16",
    "matched_at": "uint64",
    "acknowledge_by": "uint64",
    "deliver_by": "uint64",
    "challenge_window": "uint32",
    "arbiter": "address",
    "exact_terms": "bytes32",
    "audit_fee": "uint128",
    "audit_seal": "bytes32",
    "group": "bytes32",
    "salt": "bytes32",
}
COMMITMENT_FIELDS = {"result_root": "bytes32", "pay": "uint128", "committed_at": "uint64"}


def _tuple_type(fields: Mapping[str, str]) -> str:
    return f"({','.join(fields.values())})"


def _values(fields: Mapping[str, str], struct: Struct) -> tuple[Any, ...]:
    assert set(struct) == set(fields)
    return tuple(struct[name] for name in fields)


def offer_id(chain_id: int, escrow: str, offer: Struct) -> bytes:
    """The id of an offer: keccak of the chain, the escrow and the offer's fields."""
    return keccak(
        encode(
            ["uint256", "address", _tuple_type(OFFER_FIELDS)],
            [chain_id, escrow, _values(OFFER_FIELDS, offer)],
        )
    )


def job_id(chain_id: int, escrow: str, terms: Struct) -> bytes:
    """The id of a job: keccak of the chain, the escrow and the job's terms."""
    return keccak(
        encode(
            ["uint256", "address", _tuple_type(TERMS_FIELDS)],
            [chain_id, escrow, _values(TERMS_FIELDS, terms)],
        )
    )


def digest(commitment: Struct) -> int:
    """The high 200 bits of the hash of a commitment."""
    encoded = encode([_tuple_type(COMMITMENT_FIELDS)], [_values(COMMITMENT_FIELDS, commitment)])
    return int.from_bytes(keccak(encoded), "big") >> 56


def terms_of(
    offer: Struct, order: Struct, *, offer_id: bytes, buyer: str, fee_bps: int, matched_at: int
) -> dict[str, Any]:
    """What a hire makes of an offer and an order in the block of `matched_at` (Unix seconds)."""
    acknowledge_by = matched_at + offer["acknowledge_window"]
    return {
        "buyer": buyer,
        "provider": offer["provider"],
        "offer": offer_id,
        "spec_hash": order["spec_hash"],
        "tier": order["tier"],
        "tasks": order["tasks"],
        "price": 0,
        "price_per_second": offer["price_per_second"],
        "longest_run": order["longest_run"],
        "collateral": offer["collateral"],
        "fee_bps": fee_bps,
        "failure_cap_bps": offer["failure_cap_bps"],
        "matched_at": matched_at,
        "acknowledge_by": acknowledge_by,
        "deliver_by": acknowledge_by + order["longest_run"] + offer["delivery_margin"],
        "challenge_window": offer["challenge_window"],
        "arbiter": offer["arbiter"] if order["tier"] == EXACT else "0x" + "00" * 20,
        "exact_terms": order["exact_terms"],
        "audit_fee": order["audit_fee"],
        "audit_seal": order["audit_seal"],
        "group": order["group"],
        "salt": order["salt"],
    }


def escrowed(terms: Struct) -> int:
    """The highest price of a job."""
    return int(terms["price"] + terms["price_per_second"] * terms["longest_run"])


def pay(terms: Struct, *, now: int, exit_status: int = 0, seconds_used: int = 0, tasks_done: int = 1) -> int:
    """What a commitment at `now` (Unix seconds) earns, fee included."""
    if terms["tier"] == EXACT:
        return escrowed(terms)
    if terms["price_per_second"]:
        seconds = min(seconds_used, now - terms["matched_at"], terms["longest_run"])
        earned = seconds * terms["price_per_second"]
    else:
        earned = terms["price"] * tasks_done // terms["tasks"]
    if exit_status:
        earned = min(earned, escrowed(terms) * terms["failure_cap_bps"] // BPS)
    return int(earned)


def fee(terms: Struct, earned: int) -> int:
    """The protocol's part of what was earned."""
    return int(earned * terms["fee_bps"] // BPS)


def compensation(terms: Struct) -> int:
    """A buyer's part of the collateral when nothing was delivered: a fifth of the price at most."""
    return int(min(terms["collateral"], escrowed(terms) // 5))


def conviction_share(terms: Struct) -> int:
    """A buyer's part of the collateral at a conviction: 35 % and the price at most."""
    return int(min(escrowed(terms), terms["collateral"] * 35 // 100))


def arbiter_cap(terms: Struct) -> int:
    """An arbiter's part of the collateral at a conviction: 15 % at most."""
    return int(terms["collateral"] * 15 // 100)
