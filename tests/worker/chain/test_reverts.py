# SPDX-License-Identifier: Apache-2.0
"""What a refusal says: each remedy belongs to a reason that the contracts give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from eth_abi.abi import encode
from web3.exceptions import ContractLogicError

from gpubond.chain.reverts import ERROR_SELECTOR, REMEDIES, is_revert, remedy_of, revert_reason

CONTRACTS = Path(__file__).resolve().parents[3] / "contracts"
REASON = re.compile(r'"((?:escrow|staking|demands): [^"]+)"')


@pytest.fixture(scope="module")
def reasons() -> set[str]:
    sources = [*CONTRACTS.glob("*.vy"), *(CONTRACTS / "modules").glob("*.vy")]
    return {reason for source in sources for reason in REASON.findall(source.read_text("utf-8"))}


def test_every_remedy_is_for_a_reason_of_the_contracts(reasons: set[str]) -> None:
    assert len(reasons) > len(REMEDIES)
    assert set(REMEDIES) - reasons == set()


def test_what_a_contract_refuses_is_read_and_answered() -> None:
    data = "0x" + (ERROR_SELECTOR + encode(["string"], ["escrow: not enough balance"])).hex()
    error = ContractLogicError("execution reverted", data)
    assert is_revert(error)
    assert revert_reason(error) == "escrow: not enough balance"
    assert "escrow.deposit" in (remedy_of(revert_reason(error)) or "")
    assert remedy_of("no reason given") is None
