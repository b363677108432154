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
DISPUTE_TIMEOUT, EXACT_DISPUTE_TIMEOUT = 7 * 86_400, 90 * 86_400

OPEN, CANCELLED = 1, 16
BASIC, REPLICATED, EXACT, ATTESTED = 1, 2, 4, 8
ACTIVE, COMMITTED, SETTLED, DECLINED, EXPIRED, DISPUTED, CONVICTED = 2, 4, 8, 32, 64, 128, 256
LIVE = ACTIVE | COMMITTED | DISPUTED

OFFER_FIELDS = {
    "provider": "address",
    "resource_class": "bytes32",
    "count": "uint256",
    "tiers": "uint256",
    "price_per_second": "uint256",
    "shortest_run": "uint256",
    "longest_run": "uint256",
    "acknowledge_window": "uint256",
    "delivery_margin": "uint256",
    "challenge_window": "uint256",
    "failure_cap_bps": "uint256",
    "max_fee_bps": "uint256",
    "collateral": "uint256",
    "expiry": "uint256",
    "arbiter": "address",
}
TERMS_FIELDS = {
    "buyer": "address",
    "provider": "address",
    "offer": "bytes32",
    "spec_hash": "bytes32",
    "tier": "uint256",
    "tasks": "uint256",
    "price": "uint256",
    "price_per_second": "uint256",
    "longest_run": "uint256",
    "collateral": "uint256",
    "fee_bps": "uint256",
    "failure_cap_bps": "uint256",
    "matched_at": "uint256",
    "acknowledge_by": "uint256",
    "deliver_by": "uint256",
    "challenge_window": "uint256",
    "arbiter": "address",
    "exact_terms": "bytes32",
    "audit_fee": "uint256",
    "audit_seal": "bytes32",
    "group": "bytes32",
    "salt": "bytes32",
}
REQUEST_FIELDS = {
    "buyer": "address",
    "provider": "address",
    "resource_class": "bytes32",
    "spec_hash": "bytes32",
    "tier": "uint256",
    "tasks": "uint256",
    "price": "uint256",
    "price_per_second": "uint256",
    "longest_run": "uint256",
    "acknowledge_window": "uint256",
    "delivery_margin": "uint256",
    "challenge_window": "uint256",
    "failure_cap_bps": "uint256",
    "collateral": "uint256",
    "expiry": "uint256",
    "arbiter": "address",
    "exact_terms": "bytes32",
    "audit_fee": "uint256",
    "audit_seal": "bytes32",
    "group": "bytes32",
    "salt": "bytes32",
}
COMMITMENT_FIELDS = {"result_root": "bytes32", "chunks": "uint256", "pay": "uint256", "committed_at": "uint256"}


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


def request_id(chain_id: int, escrow: str, request: Struct) -> bytes:
    """The id of a request: keccak of the chain, the escrow and the request's fields."""
    return keccak(
        encode(
            ["uint256", "address", _tuple_type(REQUEST_FIELDS)],
            [chain_id, escrow, _values(REQUEST_FIELDS, request)],
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
        "arbiter": offer["arbiter"],
        "exact_terms": order["exact_terms"],
        "audit_fee": order["audit_fee"],
        "audit_seal": order["audit_seal"],
        "group": order["group"],
        "salt": order["salt"],
    }


def accepted_terms(request: Struct, *, provider: str, price: int, fee_bps: int, matched_at: int) -> dict[str, Any]:
    """What an acceptance at `price` makes of a request in the block of `matched_at` (Unix seconds)."""
    acknowledge_by = matched_at + request["acknowledge_window"]
    same = ("buyer", "spec_hash", "tier", "tasks", "longest_run", "collateral", "failure_cap_bps")
    rest = ("challenge_window", "arbiter", "exact_terms", "audit_fee", "audit_seal", "group", "salt")
    terms = {name: request[name] for name in (*same, *rest)} | {
        "provider": provider,
        "offer": bytes(32),
        "price": price if request["price"] else 0,
        "price_per_second": 0 if request["price"] else price,
        "fee_bps": fee_bps,
        "matched_at": matched_at,
        "acknowledge_by": acknowledge_by,
        "deliver_by": acknowledge_by + request["longest_run"] + request["delivery_margin"],
    }
    return {name: terms[name] for name in TERMS_FIELDS}


def highest_price(request: Struct) -> int:
    """What a request escrows."""
    return int(request["price"] + request["price_per_second"] * request["longest_run"])


def escrowed(terms: Struct) -> int:
    """The highest price of a job."""
    return int(terms["price"] + terms["price_per_second"] * terms["longest_run"])


def pay(terms: Struct, *, now: int, exit_status: int = 0, seconds_used: int = 0, tasks_done: int = 1) -> int:
    """What a commitment at `now` (Unix seconds) earns, fee included."""
    if terms["tier"] == EXACT:
        return escrowed(terms)
    earned = escrowed(terms) * tasks_done // terms["tasks"]
    if terms["price_per_second"]:
        seconds = min(seconds_used, now - terms["matched_at"], terms["longest_run"])
        by_time = seconds * terms["price_per_second"]
        earned = by_time if exit_status else min(earned, by_time)
    if exit_status:
        earned = min(earned, escrowed(terms) * terms["failure_cap_bps"] // BPS)
    return int(earned)


def fee(terms: Struct, earned: int) -> int:
    """The protocol's part of what was earned."""
    return int(earned * terms["fee_bps"] // BPS)


def compensation(terms: Struct) -> int:
    """A buyer's part of the collateral when nothing was delivered: a fifth of it, or of the price if less."""
    return int(min(terms["collateral"], escrowed(terms)) // 5)


def conviction_share(terms: Struct) -> int:
    """A buyer's part of the collateral at a conviction: 35 % and the price at most."""
    return int(min(escrowed(terms), terms["collateral"] * 35 // 100))


def arbiter_cap(terms: Struct) -> int:
    """An arbiter's part of the collateral at a conviction: 15 % at most."""
    return int(terms["collateral"] * 15 // 100)
