# SPDX-License-Identifier: Apache-2.0
"""The Python records are those of the contracts: same fields, same order, same types, same ids."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from gpubond.chain.abi import load_abi
from gpubond.chain.market import (
    Bid,
    Commitment,
    JobTerms,
    Offer,
    Order,
    Request,
    class_bytes,
    class_text,
)
from gpubond.errors import BadInput

PROVIDER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
ESCROW = "0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0"


def struct(function: str, argument: str) -> list[dict[str, Any]]:
    entry = next(item for item in load_abi("JobEscrow") if item.get("name") == function)
    return next(item["components"] for item in entry["inputs"] if item["name"] == argument)


@pytest.mark.parametrize(
    ("record", "function", "argument"),
    [
        (Offer, "post_offer", "offer"),
        (Order, "hire", "order"),
        (Request, "post_request", "request"),
        (Bid, "accept", "bid"),
        (JobTerms, "decline", "terms"),
        (Commitment, "settle", "commitment"),
    ],
)
def test_records_have_the_fields_of_the_abi(record: Any, function: str, argument: str) -> None:
    components = struct(function, argument)
    assert [field.name for field in fields(record)] == [item["name"] for item in components]
    assert list(record.abi_types) == [item["type"] for item in components]


def offer() -> Offer:
    return Offer(
        provider=PROVIDER,
        resource_class=class_bytes("cpu-sim"),
        count=2,
        tiers=1,
        price_per_second=500,
        shortest_run=60,
        longest_run=3600,
        acknowledge_window=900,
        delivery_margin=600,
        challenge_window=3600,
        failure_cap_bps=1000,
        max_fee_bps=500,
        collateral=5_000_000,
        expiry=2_000_000_000,
        arbiter="0x" + "00" * 20,
    )


def test_json_round_trip_keeps_every_field() -> None:
    assert Offer.from_json(offer().to_json()) == offer()


def test_offer_id_hashes_chain_escrow_and_fields() -> None:
    kind = f"(address,bytes32,{'uint256,' * 12}address)"
    expected = keccak(encode(["uint256", "address", kind], [31337, ESCROW, offer().as_tuple()]))
    assert offer().offer_id(31337, ESCROW) == expected
    assert offer().offer_id(1, ESCROW) != expected
    assert offer().offer_id(31337, PROVIDER) != expected


def test_class_names_survive_the_way_to_bytes_and_back() -> None:
    assert class_text(class_bytes("nvidia-h100-80gb-sxm")) == "nvidia-h100-80gb-sxm"


@pytest.mark.parametrize("name", ["", "Upper", "with space", "a" * 32, "naïve"])
def test_a_name_that_the_contract_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="resource class"):
        class_bytes(name)


def test_bytes_that_are_no_text_are_shown_escaped() -> None:
    assert class_text(b"\xffgpu".ljust(32, b"\0")) == "\\xffgpu"
